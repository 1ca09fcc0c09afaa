"""HiGAN: how semantics are laid out over the layers of image generators, and how to move along them.

    generator = higan.load_generator("stylegan2_rooms")
    images = generator.synthesize(generator.sample(4, seed=0), "z")  # uint8 [4, 64, 64, 3]

The names below are imported on first use, so that `import higan` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

SOURCES = {
    "CheckpointError": "higan.errors",
    "HiganError": "higan.errors",
    "Generator": "higan.generators",
    "available_models": "higan.generators",
    "load_generator": "higan.generators",
    "Predictor": "higan.predictors",
    "available_predictors": "higan.predictors",
    "load_predictor": "higan.predictors",
    "Boundary": "higan.directions.boundaries",
    "read_boundary": "higan.directions.boundaries",
    "write_boundary": "higan.directions.boundaries",
    "train_boundary": "higan.directions.training",
    "find_directions": "higan.directions.unsupervised",
    "Edit": "higan.editing.edit",
    "Inversion": "higan.editing.inversion",
    "edit": "higan.editing.edit",
    "interpolate": "higan.editing.edits",
    "invert": "higan.editing.inversion",
    "manipulate": "higan.directions.move",
    "mix_styles": "higan.editing.edits",
    "parse_layers": "higan.generators.layer_sets",
    "rescore": "higan.rescoring.rescore",
    "Rescoring": "higan.rescoring.result",
}

__all__ = sorted(SOURCES)
__version__ = "1.0.0"


def __getattr__(name: str) -> Any:
    if name not in SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(SOURCES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *SOURCES]
