"""A tiny model, a predictor of the user's own, and ways to run synthesize.py in this process or in others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from scripts import run

from higan.checkpoints import write_checkpoint
from higan.generators.stylegan2 import StyleGAN2

SETTINGS: dict[str, Any] = {
    "resolution": 16,
    "channels": {4: 8, 8: 8, 16: 8},
    "z_dim": 16,
    "w_dim": 16,
    "mapping_layers": 2,
}
NAMES = ["brightness", "warmth"]


def write_tiny_model(folder: Path) -> Path:
    """Write a StyleGAN2 of 16x16 with random weights and return its path."""
    torch.manual_seed(7)
    path = folder / "tiny.pth"
    write_checkpoint(path, "stylegan2", StyleGAN2(**SETTINGS).state_dict(), SETTINGS)
    return path


class OwnPredictor:
    """What a user would write: brightness and warmth of uint8 images [N, H, W, 3]."""

    def __init__(self, names: dict[str, list[str]] | None = None) -> None:
        self.names = names or {"attribute": NAMES}
        self.levels = {"brightness": "attribute"}

    def predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        means = images.float().mean(dim=(1, 2)) / 255
        return {"attribute": torch.stack([means.mean(dim=1), means[:, 0] - means[:, 2]], dim=1)}


def make_predictor(device: torch.device) -> OwnPredictor:
    """Return the predictor; `synthesis_helpers:make_predictor` on the command line."""
    return OwnPredictor()


def synthesize(*arguments: object) -> int:
    """Run synthesize.py with `arguments` in this process and return its exit status."""
    return run("synthesize", *arguments)


def run_in_child(arguments: list[str], environment: dict[str, str]) -> None:
    """Run synthesize.py in a process that was started for it, without a word."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    sys.exit(synthesize(*arguments))


def start(*arguments: object, **environment: str) -> Any:
    """Start synthesize.py in another process, which is forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["synthesis_helpers", "higan.synthesis", "torch.distributed", "PIL.Image", "tqdm"])
    process = context.Process(target=run_in_child, args=([str(argument) for argument in arguments], environment))
    process.start()
    return process


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the variables that make a process one of `ranks` that meet at a port of this machine."""
    numbers = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
