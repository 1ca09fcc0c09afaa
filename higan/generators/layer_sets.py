"""Sets of layers as users write them: numbers, ranges, and the groups of the paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higan.errors import HiganError

MOST_LAYERS = 64  # of any model; StyleGAN2 of 1024x1024 has 18
# Where the paper's groups begin and end, in sevenths of the layers: 0-1, 2-5, 6-11 and 12-13 of 14.
GROUPS: dict[str, tuple[int, int]] = {"bottom": (0, 1), "lower": (1, 3), "upper": (3, 6), "top": (6, 7)}


def parse_layers(layers: str | int | Sequence[int] | NDArray[Any] | None, num_layers: int) -> list[int]:
    """Return the layers that a text or a sequence names, ascending and each once.

    Parameters
    ----------
    layers
        "6-11", "0,2,4-5", a group ("bottom", "lower", "upper", "top"; Yang et al. 2020), any of these
        joined by commas, a number, or a sequence of integers. None and "" name no layer.
    num_layers
        Number L of the model's layers.

    Raises
    ------
    HiganError
        An empty entry, a range that falls, something that is no layer, or a layer outside 0..L-1.

    >>> parse_layers("0,4-6", 14), parse_layers("bottom, top", 14)
    ([0, 4, 5, 6], [0, 1, 12, 13])
    """
    if layers is None or (isinstance(layers, str) and not layers.strip()):
        return []
    if isinstance(layers, str):
        found = [layer for entry in layers.split(",") for layer in _parse_entry(entry, layers, num_layers)]
    else:
        found = [_check_layer(layer, num_layers) for layer in np.atleast_1d(np.asarray(layers)).tolist()]
    return sorted(set(found))


def format_layers(layers: Sequence[int]) -> str:
    """Return ascending `layers` as text, runs as ranges: [0, 2, 3, 4] gives "0,2-4"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def say_layers(layers: Sequence[int]) -> str:
    """Return ascending `layers` as words of a sentence: "layer 5", "layers 5-7"."""
    return f"layer{'s' * (len(layers) != 1)} {format_layers(layers)}"


def group_layers(name: str, num_layers: int) -> list[int]:
    """Return the layers of the group `name`, one of `GROUPS`, of a model of `num_layers`; HiganError if it has none."""
    first, last = (round(seventh * num_layers / 7) for seventh in GROUPS[name])
    if first == last:
        raise HiganError(f"a model of {num_layers} layers has no {name} layers; give their numbers instead")
    return list(range(first, last))


def _parse_entry(entry: str, text: str, num_layers: int) -> list[int]:
    entry = entry.strip()
    if entry in GROUPS:
        return group_layers(entry, num_layers)
    match = re.fullmatch(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", entry, flags=re.ASCII)
    if match is None:
        raise HiganError(
            f"layers {text!r}: {entry!r} is not a layer, a range such as 6-11, or one of {', '.join(GROUPS)}"
        )
    first = _check_layer(int(match[1]), num_layers)
    last = first if match[2] is None else _check_layer(int(match[2]), num_layers)
    if last < first:
        raise HiganError(f"layers {text!r}: the range {entry!r} falls; write {last}-{first}")
    return list(range(first, last + 1))


def _check_layer(layer: Any, num_layers: int) -> int:
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise HiganError(f"layers must be integers, found {layer!r}")
    if not 0 <= layer < num_layers:
        raise HiganError(f"layer {layer} is outside the model's layers 0-{num_layers - 1}")
    return layer
