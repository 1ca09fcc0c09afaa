"""Latent codes: drawing them, and reading those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from higan.devices import require_memory
from higan.errors import HiganError
from higan.files import read_rows
from higan.generators.layers import to_sphere
from higan.runs.run import check_codes

if TYPE_CHECKING:
    from higan.generators import Generator


def draw_codes(
    generator: Generator,
    space: str = "z",
    num: int = 0,
    seed: int = 0,
    path: str | Path | None = None,
) -> dict[str, Tensor]:
    """Return codes in `space` and in every space that follows from it: {"z": [N, z_dim], "w": ..., "wp": ...}.

    Parameters
    ----------
    num, seed
        How many codes are drawn in z; those of "w" and "wp" follow from them.
    path
        An .npy file of codes in `space` instead; z codes are scaled to the sphere.

    Raises
    ------
    HiganError
        The model lacks the space, the file does not hold codes of it, or `num` is not positive.
    """
    if space not in generator.spaces:
        raise HiganError(f"{generator.name} has no space {space!r}; expected {', '.join(generator.spaces)}")
    if path is None:
        if num < 1:
            raise HiganError(f"the number of samples is {num}; give --num of at least 1, or --latent_codes_path")
        require_memory(4 * num * (2 * generator.z_dim + generator.num_layers * generator.w_dim), f"{num} samples")
        codes = {"z": generator.sample(num, seed)}
    else:
        num = check_codes(path, generator.code_shape(space), space)
        values = torch.from_numpy(read_rows(path, 0, num).astype(np.float32))
        codes = {space: to_sphere(values) if space == "z" else values}
    if "w" in generator.spaces:
        if "z" in codes:
            codes["w"] = generator.map(codes["z"])
        if "w" in codes:
            codes["wp"] = generator.broadcast(codes["w"])
    return codes
