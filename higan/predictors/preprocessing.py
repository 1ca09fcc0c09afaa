"""From pictures to a network's input: resized, cropped and normalised on their device, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")
MOST_PIXELS = 4096  # of a side
CHUNKS = {"cpu": 16, "cuda": 64}  # pictures at a time: a ViT-L/14 of 336² keeps about 0.1 GB of each


@dataclass(frozen=True)
class Preprocessing:
    """How a network was shown its pictures.

    Attributes
    ----------
    resize
        Length of the shorter side, the other following, or (height, width); None: as they are. Antialiased, as Pillow
        resizes.
    crop
        (height, width) of the middle that is kept, with black around it where there is less; None: everything.
    interpolation
        "bilinear" or "bicubic".
    mean, std
        Of red, green and blue, subtracted and divided by, for values from 0 to 255 times `scale`.
    """

    resize: int | tuple[int, int] | None = 224
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 1 / 255

    def __call__(self, images: Tensor) -> Tensor:
        """Return images [N, H, W, 3], uint8 or float from 0 to 255, as the network's input, float32 [N, 3, h, w].

        Nothing is rounded on the way, so that both kinds give the same: Pillow's results differ by up to half a grey
        level, and by one where it rounds between its two passes.
        """
        x = images.permute(0, 3, 1, 2).float()
        if self.resize is not None and (size := self.resized(x.shape[2], x.shape[3])) != tuple(x.shape[2:]):
            x = F.interpolate(x, size, mode=self.interpolation, antialias=True, align_corners=False).clamp(0, 255)
        if self.crop is not None:
            height, width = x.shape[2:]
            top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
            x = F.pad(x, (-left, self.crop[1] - width + left, -top, self.crop[0] - height + top))
        mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (self.mean, self.std))
        return (x * self.scale - mean) / std

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing."""
        if isinstance(self.resize, tuple):
            return self.resize
        short = min(height, width)
        size = self.resize or short
        return (size, size * width // short) if height <= width else (size * height // short, size)


def in_chunks(call: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return what `call` gives for a few images at a time, so that memory does not grow with their number."""
    return torch.cat([call(part) for part in images.split(CHUNKS[images.device.type])])


def read_resize(value: Any) -> int | tuple[int, int]:
    """Return `Preprocessing.resize` of what a description says; raise ValueError if it is none.

    >>> read_resize({"shortest_edge": 224}), read_resize(224), read_resize([224, 336])
    (224, 224, (224, 336))
    """
    if isinstance(value, dict) and "shortest_edge" in value:
        value = value["shortest_edge"]
    return read_side(value) if isinstance(value, int) else read_sides(value)


def read_sides(value: Any) -> tuple[int, int]:
    """Return (height, width) of 224, [224, 336] or {"height": 224, "width": 336}; raise ValueError if it is none."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise ValueError(f"a size of {str(value)[:40]}; expected height and width")
    return read_side(sides[0]), read_side(sides[1])


def read_side(value: Any) -> int:
    """Return a number of pixels; raise ValueError if it is none that a network could see."""
    if type(value) is not int or not 0 < value <= MOST_PIXELS:
        raise ValueError(f"a size of {str(value)[:40]}; expected 1 to {MOST_PIXELS}")
    return value


def read_colors(value: Any, least: float = -math.inf) -> tuple[float, ...]:
    """Return three numbers, for red, green and blue, above `least`; raise ValueError if it is something else."""
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(
        isinstance(number, int | float) and least < number < math.inf for number in numbers
    ):
        raise ValueError(f"{str(value)[:60]} for red, green and blue; expected three numbers")
    return tuple(map(float, numbers))
