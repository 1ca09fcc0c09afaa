"""Plain classifiers as predictors: an architecture of torchvision or timm by name, with a state dict of the user's."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higan.errors import CheckpointError, HiganError
from higan.files import digest, is_file
from higan.generators.zoo import folders
from higan.predictors.predictor import Predictor
from higan.predictors.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    Preprocessing,
    in_chunks,
    read_colors,
    read_resize,
    read_sides,
)
from higan.predictors.weights import fill_network, read_settings, read_weights

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
}
KEYS = ("names", "levels", "scores", "resize", "size", "interpolation", "mean", "std")


def load_classifier(library: str, which: str, device: torch.device | None = None, name: str = "") -> Predictor:
    """Return a classifier as a predictor of one group, "attribute".

    Its scores can be differentiated: `Predictor.score` takes float images.

    Parameters
    ----------
    library
        "torchvision" or "timm".
    which
        "ARCH=FILE": a classifier of the library's, and a state dict for it, .pth or .safetensors: a path, or a file in
        $HIGAN_MODELS or models/. FILE with the ending .json says what it was trained for:
        `names`, one per output, is needed; the others may be left out: `levels` {name: level}; `scores` "logits"
        (default), "softmax" or "sigmoid"; `resize` 256, the shorter side, or [height, width] (default: `size`);
        `size` 224, of the square in the middle, or [height, width] (default: 224); `interpolation` "bilinear" (default)
        or "bicubic"; `mean`, `std` of red, green and blue from 0 to 1 (default: ImageNet's).

    Examples
    --------
    >>> load_predictor("torchvision:resnet18=indoor.pth").names  # indoor.json: {"names": ["indoor", "outdoor"]}
    {'attribute': ['indoor', 'outdoor']}

    Raises
    ------
    HiganError
        The library is missing, or does not have the architecture.
    CheckpointError
        A file is missing, damaged, a program, or does not fit the architecture.
    """
    architecture, _, file = which.partition("=")
    if not architecture or not file:
        raise HiganError(f"predictor {library}:{which[:60]} is not complete; expected {library}:ARCH=FILE")
    path = find_weights(file)
    description = path.with_suffix(".json")
    if not is_file(description):
        raise CheckpointError(
            f'there is no {description} beside {path}; expected {{"names": [...]}}, one name per output, in it'
        )
    settings = read_settings(description)
    try:
        preprocess, scores = read_description(settings)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{description}: {error}") from None
    network = make_network(library, architecture, len(settings["names"]))
    tensors = read_weights(path, network)
    fill_network(network, tensors, f"{path}, a {architecture} of {len(settings['names'])} outputs,")
    device = device or torch.device("cpu")
    network = network.eval().requires_grad_(False).to(device)

    def score(images: Tensor) -> dict[str, Tensor]:
        return {"attribute": scores(in_chunks(lambda part: network(preprocess(part)), images))}

    names = {"attribute": settings["names"]}
    return Predictor(name, names, score, device, settings.get("levels"), digest(path, description))


def find_weights(file: str) -> Path:
    """Return the path of a weight file, in the current folder or one of those that hold weights."""
    for path in (Path(file), *(folder / file for folder in folders())):
        if is_file(path):
            return path
    raise CheckpointError(f"there is no weight file {file}; expected a path, or a file in {folders()[0]}")


def make_network(library: str, architecture: str, num_classes: int) -> Any:
    """Return a network without weights; nothing is fetched for it."""
    try:
        found = importlib.import_module({"torchvision": "torchvision.models"}.get(library, library))
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another PyTorch
        raise HiganError(
            f"predictor {library} needs the package of that name: pip install 'higan[classifiers]' ({error})"
        ) from None
    # of torchvision's models the classifiers alone, since others fetch weights; of timm's no address of a model
    known = found.list_models(module=found) if library == "torchvision" else found.list_models()
    if architecture not in known and (library == "torchvision" or architecture.partition(".")[0] not in known):
        close = difflib.get_close_matches(architecture, known, n=3, cutoff=0.5)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise HiganError(f"{library} has no classifier {architecture[:60]!r}{hint}")
    try:
        if library == "torchvision":
            return found.get_model(architecture, weights=None, num_classes=num_classes)
        return found.create_model(architecture, pretrained=False, num_classes=num_classes)
    except Exception as error:  # in the library's words: a tag that timm does not know, too many outputs
        reason = f"{type(error).__name__}: {error}"
        raise HiganError(f"{library} makes no {architecture[:60]} of {num_classes} outputs ({reason})") from None


def read_description(settings: dict[str, Any]) -> tuple[Preprocessing, Callable[[Tensor], Tensor]]:
    """Return preprocessing and the function from logits to scores; raise ValueError, or TypeError, if it is none."""
    if unknown := sorted(settings.keys() - set(KEYS)):
        raise ValueError(f"unknown {unknown[0][:40]!r}; expected {', '.join(KEYS)}")
    if not isinstance(settings.get("names"), list) or not settings["names"]:
        raise ValueError(f"names is {str(settings.get('names'))[:40]}; expected a list of them, one per output")
    interpolation, scores = settings.get("interpolation", "bilinear"), settings.get("scores", "logits")
    for value, allowed in ((interpolation, INTERPOLATIONS), (scores, tuple(SCORES))):
        if value not in allowed:
            raise ValueError(f"{str(value)[:40]!r} is none of {', '.join(allowed)}")
    size = read_sides(settings.get("size", 224))
    preprocess = Preprocessing(
        resize=read_resize(settings["resize"]) if "resize" in settings else size,
        crop=size,
        interpolation=interpolation,
        mean=read_colors(settings.get("mean", list(IMAGENET_MEAN))),
        std=read_colors(settings.get("std", list(IMAGENET_STD)), 0),
    )
    return preprocess, SCORES[scores]
