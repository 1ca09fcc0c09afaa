"""What the file formats share on the way to the networks' layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from higan.errors import CheckpointError

Tensors = dict[str, Tensor]
Converted = tuple[str, Tensors, dict[str, Any]]  # family, state dict in the network's layout, settings


def require_arguments(network: str, arguments: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise CheckpointError, which calls it "a `network`", if it was made with another value than those supported."""
    for name, allowed in supported.items():
        if name in arguments and arguments[name] not in allowed:
            raise CheckpointError(f"a {network} trained with {name} {arguments[name]!r}; supported: {allowed[0]!r}")


def architecture(state_dict: Tensors) -> str:
    """Return StyleGAN2's architecture, and number the only RGB output of "orig" and "resnet" 0."""
    outputs = [name for name in state_dict if name.startswith("outputs.")]
    blocks = {name.split(".")[1] for name in outputs}
    if len(blocks) != 1:
        return "skip"
    for name in outputs:
        state_dict[re.sub(r"^outputs\.\d+", "outputs.0", name)] = state_dict.pop(name)
    return "resnet" if any(name.startswith("skips.") for name in state_dict) else "orig"


def whole(number: float) -> float:
    """Return a whole number as an int, any other as it is."""
    return int(number) if float(number).is_integer() else number


def find_rule(rules: Sequence[tuple[str, ...]], name: str, what: str) -> tuple[Any, ...]:
    """Return the match of the first rule whose pattern fits a tensor's name, then the rest of that rule.

    Raises CheckpointError, which begins with `what` the tensor is of, if there is none.
    """
    for pattern, *rest in rules:
        if match := re.fullmatch(pattern, name):
            return match, *rest
    raise CheckpointError(f"{what} with an unknown tensor {name[:80]!r}")


def add_missing_noise(state_dict: Tensors) -> bool:
    """Give layers of a StyleGAN2 without a noise image one of zeros; return whether there were any."""
    layers = [name.removesuffix(".bias") for name in state_dict if re.fullmatch(r"layers\.\d+\.bias", name)]
    missing = [layer for layer in layers if f"{layer}.noise" not in state_dict]
    for layer in missing:
        height, width = (side * 2 ** ((int(layer.split(".")[1]) + 1) // 2) for side in state_dict["const"].shape[2:])
        state_dict[f"{layer}.noise"] = torch.zeros(1, 1, height, width)
        state_dict.setdefault(f"{layer}.noise_strength", torch.zeros([]))
    return bool(missing)
