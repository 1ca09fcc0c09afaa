"""Ways to run synthesize.py in other processes, as one of several ranks too."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch

from support.scripts import run


def run_in_child(arguments: list[str], environment: dict[str, str]) -> None:
    """Run synthesize.py in a process that was started for it, without a word."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    sys.exit(run("synthesize", *arguments))


def start(*arguments: object, **environment: str) -> Any:
    """Start synthesize.py in another process."""
    return start_child(run_in_child, [str(argument) for argument in arguments], environment)


def start_child(target: Callable[..., None], *arguments: object) -> Any:
    """Call `target` in another process, which is forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    preloaded = ["support.processes", "higan.synthesis", "torch.distributed", "PIL.Image", "tqdm.auto", "filelock"]
    context.set_forkserver_preload(preloaded)
    process = context.Process(target=target, args=arguments)
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
