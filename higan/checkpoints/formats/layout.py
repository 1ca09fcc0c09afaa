"""What the file formats share on the way to the networks' layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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


def layer_clamp(network: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"conv_clamp": the one value that all layers of a `network` have}, {} where they have none.

    A default of the constructor (256 in the stylegan3 program) is not among a file's arguments; each layer keeps it.
    Raises CheckpointError where layers differ.
    """
    clamps = {value for name, value in attributes.items() if name.endswith(".conv_clamp")}
    if len(clamps) > 1:
        raise CheckpointError(f"a {network} whose layers have several values of conv_clamp: {sorted(map(str, clamps))}")
    return {"conv_clamp": clamps.pop()} if clamps else {}
