"""A tiny StyleGAN2 with random weights, predictors that measure colours, and boundaries of any shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.checkpoints import write_checkpoint
from higan.directions.boundaries import Boundary
from higan.generators.generator import Generator
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors import Predictor

LAYERS, WIDTH = 6, 16
SETTINGS: dict[str, Any] = {
    "resolution": 16,
    "channels": {4: 8, 8: 8, 16: 8},
    "z_dim": WIDTH,
    "w_dim": WIDTH,
    "mapping_layers": 2,
}
SMALLER: dict[str, Any] = SETTINGS | {"resolution": 8, "channels": {4: 8, 8: 8}, "z_dim": 32, "w_dim": 64}
NAMES = ["brightness", "warmth"]  # of `OwnPredictor`
COLOURS = ["brightness", "red", "warmth"]  # of `make_predictor`
LEVELS = {"brightness": "attribute", "warmth": "color"}


def write_model(folder: Path) -> Path:
    """Write the model, `SETTINGS`, as tiny.pth and return its path."""
    torch.manual_seed(7)
    path = folder / "tiny.pth"
    write_checkpoint(path, "stylegan2", StyleGAN2(**SETTINGS).state_dict(), SETTINGS)
    return path


def make_generator() -> Generator:
    """Return a model of 8x8 pixels, 4 layers and a w of 64, `SMALLER`, truncated by 0.7 on layers 0 and 1."""
    torch.manual_seed(3)
    network = StyleGAN2(**SMALLER)
    network.w_avg.normal_(0, 0.1)
    return Generator(network, "tiny", truncation_psi=0.7, truncation_layers=2)


def write_smaller_model(path: Path) -> Path:
    """Write the network of `make_generator`."""
    write_checkpoint(path, "stylegan2", make_generator().network.state_dict(), SMALLER)
    return path


class OwnPredictor:
    """What a user would write: brightness and warmth of uint8 images [N, H, W, 3]."""

    def __init__(self, names: dict[str, list[str]] | None = None) -> None:
        self.names = names or {"attribute": NAMES}
        self.levels = {"brightness": "attribute"}

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        means = images.float().mean(dim=(1, 2)) / 255
        return {"attribute": torch.stack([means.mean(dim=1), means[:, 0] - means[:, 2]], dim=1)}


def own_predictor(device: torch.device) -> OwnPredictor:
    """Return the predictor; `support.model:own_predictor` on the command line."""
    return OwnPredictor()


def measure(images: Tensor) -> dict[str, Tensor]:
    """Mean of all channels, of red, and red less blue."""
    means = images.double().mean(dim=(1, 2)) / 255
    return {"attribute": torch.stack([means.mean(dim=1), means[:, 0], means[:, 0] - means[:, 2]], dim=1)}


def make_predictor(device: torch.device | None = None) -> Predictor:
    """Return a predictor of the toolkit's kind; `support.model:make_predictor` on the command line."""
    return Predictor("colours", {"attribute": COLOURS}, measure, device or torch.device("cpu"), LEVELS)


def direction(name: str, shape: tuple[int, ...] = (1, WIDTH)) -> np.ndarray:
    """Return a random unit direction, the same for the same name."""
    return make_boundary(name, shape).direction


def make_boundary(name: str, shape: tuple[int, ...], space: str = "w", seed: int = 0) -> Boundary:
    """Return a random unit direction as a boundary, the same for the same name and seed."""
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape)
    return Boundary(name, (values / np.linalg.norm(values)).astype(np.float32), space)
