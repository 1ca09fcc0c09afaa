"""Features of images, whose distance says how much two pictures look alike: for losses, hence differentiable."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from higan.errors import HiganError
from higan.predictors import call_own

Features = Callable[[Tensor], list[Tensor]]


def load_features(name: str | None, otherwise: str, device: torch.device) -> tuple[str, Features | None]:
    """Return the name of a network and the function that gives its features, None for "none".

    Parameters
    ----------
    name
        "rooms", "none", or "module:callable" of the user's own, which gets `device` and returns a function:
        float images [N, 3, H, W] in [-1, 1] -> list of maps [N, C, h, w], differentiable. None: `otherwise` if it is
        one of these with its files in place, else "none".

    Raises
    ------
    HiganError
        The name is none of these, or the network's files are missing.
    """
    if name is None:
        try:
            return load_features(otherwise if otherwise in KNOWN else "none", "", device)
        except HiganError:
            return "none", None
    if name == "none":
        return name, None
    if name in KNOWN:
        return name, KNOWN[name](device)
    if ":" not in name:
        raise HiganError(f"unknown features {name!r}; known: {', '.join(KNOWN)}, none, or module:callable of your own")
    return name, call_own(name, "features", device=device)


def rooms_features(device: torch.device) -> Features:
    """Return the last maps of each size of the predictor `rooms`."""
    from higan.predictors.rooms import find_rooms, read_rooms

    network = read_rooms(find_rooms())[0].fold().requires_grad_(False).to(device)

    def features(images: Tensor) -> list[Tensor]:
        size = (network.resolution, network.resolution)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        maps, x = [], images
        for stage in network.stages:
            x = stage(x)
            maps.append(x)
        return maps

    return features


KNOWN: dict[str, Callable[[torch.device], Features]] = {"rooms": rooms_features}
