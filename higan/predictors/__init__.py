"""Predictors: image -> scores. `load_predictor` finds one by name, or makes the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from higan.devices import choose_device
from higan.errors import HiganError
from higan.predictors.predictor import Predictor

__all__ = ["Predictor", "available_predictors", "load_predictor"]

NAMES = ("rooms", "scene", "colors")
FORMS = {  # what is reserved before a colon, and how it goes on
    "text": "text:PHRASES",
    "torchvision": "torchvision:ARCH=FILE",
    "timm": "timm:ARCH=FILE",
}
KNOWN = (*NAMES, *FORMS.values(), "package.module:callable of your own")


def load_predictor(name: str, device: str | torch.device = "auto", **options: Any) -> Predictor:
    """Return the predictor called `name`, or the one that a callable of the user's own returns.

    Parameters
    ----------
    name
        - "rooms", "scene", "colors";
        - "text:PHRASES" or "text=FOLDER:PHRASES": `higan.predictors.text.load_text`;
        - "torchvision:ARCH=FILE", "timm:ARCH=FILE": `higan.predictors.classifiers.load_classifier`;
        - "package.module:callable". The callable gets `device` (a torch.device) and `options` by name and returns an
          object with `names` ({group: [name, ...]}) and `predict(images)`: uint8 images [N, H, W, 3] on the device ->
          {group: tensor or array [N, K]}; `levels` ({name: level}) is optional. Where `predict` takes float images from
          0 to 255 too and keeps their gradients, the scores can be differentiated.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    options
        Handed to the predictor: `path` (rooms); `folder` and `resize` (scene); `folder` (text).

    Examples
    --------
    >>> higan.load_predictor("rooms")
    <Predictor rooms: scores ... of attribute, ...>

    Raises
    ------
    HiganError
        The name is unknown, its files are missing, or the callable or what it returns is not as above.
    """
    device = choose_device(str(device))
    kind, _, rest = name.partition(":")
    kind, _, folder = kind.partition("=")
    if kind == "text":
        from higan.predictors.text import load_text

        return load_text(rest, device=device, name=name, **({"folder": folder} if folder else {}), **options)
    if kind in FORMS and not folder:
        from higan.predictors.classifiers import load_classifier

        return load_classifier(kind, rest, device=device, name=name, **options)
    if names_code(name):
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
    raise HiganError(f"unknown predictor {name!r}; known: {', '.join(KNOWN)}")


def names_code(name: str) -> bool:
    """Whether `name` is a module's callable, which `load_predictor` imports and calls."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind.partition("=")[0] not in FORMS


def available_predictors() -> list[str]:
    """Return what `load_predictor` takes here: the names whose files are in place, and the forms that a package allows.

    >>> higan.available_predictors()
    ['rooms', ...'colors'...]
    """
    return [FORMS.get(name, name) for name in (*NAMES, *FORMS) if not why_not(name)]


def why_not(name: str) -> str:
    """Return why the predictor or form `name` cannot be used, "" if it can."""
    package, extra = ("transformers", "text") if name == "text" else (name, "classifiers")
    if name in FORMS and importlib.util.find_spec(package) is None:
        return f"the package {package} is missing: pip install 'higan[{extra}]'"
    try:
        if name == "text":
            from higan.predictors.text import find_model, find_models

            find_models() or find_model(None)
        elif name not in FORMS:
            load_predictor(name, device="cpu")
    except HiganError as error:
        return str(error)
    return ""


def call_own(name: str, what: str, **options: Any) -> Any:
    """Return what the callable that `name`, "package.module:callable", points to makes of `options`.

    Raises HiganError, which begins with `what` it is to make, if the module cannot be imported or the call fails.
    """
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a module beside the user, as with `python -m`
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise HiganError(
            f"{what} {name!r}: cannot import {module_name!r} ({reason}); expected package.module:callable"
        ) from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise HiganError(f"{what} {name!r}: {module_name} has no callable {attribute!r}")
    try:
        return make(**options)
    except Exception as error:
        raise HiganError(f"{what} {name!r}: the call failed ({type(error).__name__}: {error})") from error


def load_own(name: str, device: torch.device, **options: Any) -> Predictor:
    """Return the predictor made by the callable that `name`, "package.module:callable", points to."""
    made = call_own(name, "predictor", device=device, **options)
    if isinstance(made, Predictor):
        return made
    members = {"names": "{group: [name, ...]}", "predict": "uint8 images [N, H, W, 3] -> {group: [N, K]}"}
    for member, meaning in members.items():
        if not hasattr(made, member):
            raise HiganError(f"predictor {name!r} returned a {type(made).__name__} without .{member} ({meaning})")
    return Predictor(name, made.names, made.predict, device, getattr(made, "levels", None))
