"""Joint edits, interpolation, mixed styles; and the pictures of moved codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.devices import within_memory
from higan.directions.move import Codes, require_layers
from higan.errors import HiganError
from higan.generators.generator import NotFiniteError

if TYPE_CHECKING:
    from higan.generators import Generator


def combine(codes: Codes, moved: Sequence[Codes]) -> Codes:
    """Return the joint edit of several: codes [N, ...] plus the sum of the displacements of each moved [N, S, ...].

    Raises HiganError if the shapes of the moved differ.
    """
    origin = codes[:, None]
    total = moved[0]
    for other in moved[1:]:
        if other.shape != total.shape:
            raise HiganError(f"edits of shapes {tuple(total.shape)} and {tuple(other.shape)} cannot be combined")
        total = total + (other - origin)
    return total


def interpolate(start: Codes, end: Codes, steps: int = 5) -> Codes:
    """Return codes on the straight lines from `start` to `end`, both [N, ...], ends included: [N, steps, ...].

    Raises HiganError for ends of two shapes, and for fewer than 2 steps.

    >>> higan.interpolate(np.zeros((1, 2)), np.ones((1, 2)), steps=3)[0].tolist()
    [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]
    """
    if start.ndim < 2 or start.shape != end.shape:
        raise HiganError(
            f"codes to interpolate must have one shape [N, ...], found {tuple(start.shape)} and {tuple(end.shape)}"
        )
    if steps < 2:
        raise HiganError(f"an interpolation needs at least 2 steps, found {steps}")
    first, last = torch.as_tensor(start)[:, None], torch.as_tensor(end)[:, None]
    share = torch.linspace(0, 1, steps, dtype=torch.float64).reshape(1, -1, *[1] * (start.ndim - 1)).to(first)
    between = first + share * (last - first)
    return between if isinstance(start, Tensor) else between.numpy()


def mix_styles(style: Codes, content: Codes, layers: str | int | Sequence[int] | NDArray[Any] | None = None) -> Codes:
    """Replace the layers of every content code by those of every style code.

    Parameters
    ----------
    style, content
        [A, L, D] and [B, L, D]; one of them may be [N, D], the same code on every layer.
    layers
        The layers taken from the style, as in `parse_layers`. Default: all, which leaves nothing of the content.

    Returns
    -------
    Codes
        [A, B, L, D]. Karras et al. 2019, section 3.1.

    Raises
    ------
    HiganError
        Codes that are not layer-wise or do not fit each other, unknown layers.

    >>> higan.mix_styles(np.ones((1, 3, 1)), np.zeros((1, 3, 1)), layers="0-1").ravel().tolist()
    [1.0, 1.0, 0.0]
    """
    styles, contents = torch.as_tensor(style), torch.as_tensor(content)
    if styles.ndim == 2 and contents.ndim == 3:
        styles = styles[:, None].expand(-1, contents.shape[1], -1)
    elif contents.ndim == 2 and styles.ndim == 3:
        contents = contents[:, None].expand(-1, styles.shape[1], -1)
    if styles.ndim != 3 or styles.shape[1:] != contents.shape[1:]:
        raise HiganError(
            f"styles and contents must be layer-wise codes [N, L, D] of one L and D, "
            f"found {tuple(style.shape)} and {tuple(content.shape)}"
        )
    num_layers = styles.shape[1]
    chosen = list(range(num_layers)) if layers is None else require_layers(layers, num_layers)
    mixed = contents[None].repeat(styles.shape[0], 1, 1, 1)
    mixed[:, :, chosen] = styles[:, None, chosen]
    return mixed if isinstance(style, Tensor) else mixed.numpy()


def pad_codes(origin: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Return codes [N, T * S, ...] of N samples at every two steps of two edits, [N, S, ...] and [N, T, ...].

    Those of the first step of `down` come first. `origin`, [N, ...], are the samples unmoved.
    """
    return (down[:, :, None] + across[:, None] - origin[:, None, None]).flatten(1, 2)


def synthesize_steps(
    generator: Generator, codes: Tensor, space: str = "wp", labels: Tensor | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yield, for each of N samples, the pictures of its S codes: uint8 [S, H, W, C].

    `codes` is [N, S, D], or [N, S, L, D] in the space "wp". The layers before the first one at which the codes of a
    batch differ are computed once per sample, not once per step. `labels`, int64 [N], are the classes of codes in z.

    Raises
    ------
    NotFiniteError
        A picture holds NaN or infinity.
    HiganError
        Codes do not fit the model, or memory does not suffice for one sample.
    """
    start = 0
    while start < len(codes):
        try:
            images, generator.batch_size = within_memory(
                partial(_synthesize_batch, generator, codes[start:], space, None if labels is None else labels[start:]),
                generator.batch_size,
            )
        except NotFiniteError as error:
            raise error.after(start) from None
        start += len(images)
        yield from images.cpu().numpy()


def _synthesize_batch(generator: Generator, codes: Tensor, space: str, labels: Tensor | None, size: int) -> Tensor:
    """Return uint8 [size, S, H, W, C] of the first `size` of codes [N, S, ...], at most N."""
    codes = codes[:size].to(generator.device)
    num, steps = codes.shape[:2]
    if not generator.has_layers:
        return torch.stack([generator.synthesize(codes[:, step], space) for step in range(steps)], dim=1)
    labels = None if labels is None else labels[:size].repeat_interleave(steps)
    wp = generator.to_wp(codes.flatten(0, 1), space, labels).unflatten(0, (num, steps))  # [N, S, L, W]
    differs = (wp != wp[:, :1]).any(dim=3).any(dim=1).any(dim=0).tolist()
    shared = differs.index(True) if True in differs else generator.num_layers
    trunk = generator.advance(generator.initial(wp[:, 0]), wp[:, 0], 0, shared)
    images = [
        generator.image(generator.advance(trunk, wp[:, step], shared, generator.num_layers)) for step in range(steps)
    ]
    return torch.stack(images, dim=1)
