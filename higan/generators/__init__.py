"""Latent code to image: `load_generator` makes a `Generator` of a known model's name or a weight file.

The names below are imported on first use: codes, layers and the list of models are read without PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higan.generators.loading import Generator, available_models, build_network, load_generator

__all__ = ["Generator", "available_models", "build_network", "load_generator"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("higan.generators.loading"), name)
