"""HiGAN: how semantics are laid out over the layers of image generators, and how to move along them.

The names below are imported on first use, so that `import higan` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

SOURCES = {
    "CheckpointError": "higan.errors",
    "HiganError": "higan.errors",
    "Generator": "higan.generators",
    "load_generator": "higan.generators",
    "Predictor": "higan.predictors",
    "load_predictor": "higan.predictors",
    "Boundary": "higan.boundaries",
    "read_boundary": "higan.boundaries",
    "write_boundary": "higan.boundaries",
    "train_boundary": "higan.boundary_training",
    "interpolate": "higan.editing",
    "manipulate": "higan.editing",
    "mix_styles": "higan.editing",
    "parse_layers": "higan.layer_sets",
    "rescore": "higan.rescoring",
}

__all__ = sorted(SOURCES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(SOURCES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *SOURCES]
