"""A small model and a predictor that measures colours, for the tests of the analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts import run
from torch import Tensor

from higan.checkpoints import write_checkpoint
from higan.directions.boundaries import Boundary
from higan.generators.generator import Generator
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors import Predictor

SETTINGS: dict[str, Any] = {"resolution": 8, "channels": {4: 8, 8: 8}, "z_dim": 32, "w_dim": 64, "mapping_layers": 2}
NAMES = ["brightness", "red", "warmth"]
LEVELS = {"brightness": "attribute", "warmth": "color"}


def make_network() -> StyleGAN2:
    torch.manual_seed(3)
    network = StyleGAN2(**SETTINGS)
    network.w_avg.normal_(0, 0.1)
    return network


def make_generator() -> Generator:
    """A StyleGAN2 of 8x8 and 4 layers with random weights, truncated by 0.7 on layers 0 and 1."""
    return Generator(make_network(), "tiny", truncation_psi=0.7, truncation_layers=2)


def measure(images: Tensor) -> dict[str, Tensor]:
    """Mean of all channels, of red, and red less blue."""
    means = images.double().mean(dim=(1, 2)) / 255
    return {"attribute": torch.stack([means.mean(dim=1), means[:, 0], means[:, 0] - means[:, 2]], dim=1)}


def make_predictor(device: torch.device | None = None) -> Predictor:
    """The predictor; `analysis_helpers:make_predictor` on the command line."""
    return Predictor("colours", {"attribute": NAMES}, measure, device or torch.device("cpu"), LEVELS)


def make_boundary(name: str, shape: tuple[int, ...], space: str = "w", seed: int = 0) -> Boundary:
    """A random unit direction."""
    values = np.random.default_rng([seed, *name.encode()]).standard_normal(shape)
    return Boundary(name, (values / np.linalg.norm(values)).astype(np.float32), space)


def write_model(path: Path) -> Path:
    write_checkpoint(path, "stylegan2", make_network().state_dict(), SETTINGS)
    return path


def assert_refused(capsys: pytest.CaptureFixture[str], expected: str, script: str, *arguments: object) -> None:
    """The script exits with 2 and says why in one line."""
    capsys.readouterr()
    assert run(script, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert expected in lines[0]
