"""Predictors: image -> scores. `load_predictor` finds one by name, or makes the user's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from higan.devices import choose_device
from higan.errors import HiganError
from higan.predictors.predictor import Predictor

__all__ = ["Predictor", "load_predictor"]

NAMES = ("rooms", "scene", "colors")


def load_predictor(name: str, device: str | torch.device = "auto", **options: Any) -> Predictor:
    """Return the predictor called `name`, or the one that a callable of the user's own returns.

    Parameters
    ----------
    name
        "rooms", "scene", "colors", or "package.module:callable". The callable gets `device` (a torch.device) and
        `options` by name and returns an object with `names` ({group: [name, ...]}) and `predict(images)`: uint8 images
        [N, H, W, 3] on the device -> {group: tensor or array [N, K]}; `levels` ({name: level}) is optional.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    options
        Handed to the predictor: `path` (rooms); `folder` and `resize` (scene).

    Raises
    ------
    HiganError
        The name is unknown, its files are missing, or the callable or what it returns is not as above.
    """
    device = choose_device(str(device))
    if ":" in name:
        return load_own(name, device, **options)
    if name == "rooms":
        from higan.predictors.rooms import load_rooms

        return load_rooms(device=device, **options)
    if name == "scene":
        from higan.predictors.places import load_places

        return load_places(device=device, **options)
    if name == "colors":
        from higan.predictors.colors import load_colors

        return load_colors(device=device, **options)
    raise HiganError(f"unknown predictor {name!r}; known: {', '.join(NAMES)}, or package.module:callable of your own")


def load_own(name: str, device: torch.device, **options: Any) -> Predictor:
    """Return the predictor made by the callable that `name`, "package.module:callable", points to."""
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a module beside the user, as with `python -m`
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise HiganError(
            f"predictor {name!r}: cannot import {module_name!r} ({reason}); expected package.module:callable"
        ) from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise HiganError(f"predictor {name!r}: {module_name} has no callable {attribute!r}")
    try:
        made = make(device=device, **options)
    except Exception as error:
        raise HiganError(f"predictor {name!r}: the call failed ({type(error).__name__}: {error})") from error
    if isinstance(made, Predictor):
        return made
    members = {"names": "{group: [name, ...]}", "predict": "uint8 images [N, H, W, 3] -> {group: [N, K]}"}
    for member, meaning in members.items():
        if not hasattr(made, member):
            raise HiganError(f"predictor {name!r} returned a {type(made).__name__} without .{member} ({meaning})")

    def score(images: torch.Tensor) -> Any:
        try:
            return made.predict(images)
        except (MemoryError, RuntimeError):  # lack of memory among them, which a smaller batch may mend
            raise
        except Exception as error:
            raise HiganError(f"predictor {name!r} failed ({type(error).__name__}: {error})") from error

    return Predictor(name, made.names, score, device, getattr(made, "levels", None))
