"""Moving latent codes: which layers, how far, along which direction; and the pictures of the moved codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.devices import require_memory, within_memory
from higan.errors import HiganError
from higan.files import read_rows
from higan.generators.generator import NotFiniteError
from higan.generators.layer_sets import parse_layers
from higan.generators.layers import to_sphere
from higan.runs.run import check_codes

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary
    from higan.generators import Generator

MOST_STEPS = 10_001
MOST_DISTANCE = 1e6  # a code's norm is some tens; far beyond, activations overflow

Codes = TypeVar("Codes", NDArray[Any], Tensor)


def manipulate(
    codes: Codes,
    boundary: Boundary | NDArray[Any] | Tensor,
    distances: Sequence[float] | NDArray[Any],
    layers: str | int | Sequence[int] | NDArray[Any] | None = None,
    strength: Sequence[float] | NDArray[Any] | Tensor | None = None,
) -> Codes:
    """Move codes along a boundary's direction, once for every distance.

    Parameters
    ----------
    codes
        [N, D], or layer-wise [N, L, D]; an array or a tensor, which the result is too, of the same dtype.
    boundary
        A `Boundary`, or a unit direction [1, D] or [1, L, D].
    distances
        [S] signed distances.
    layers
        The layers to move, as in `parse_layers`; layer-wise codes only. Default: the boundary's own, else all.
    strength
        [L] factors on the distance, such as `Generator.psi`; layer-wise codes only. Default: 1.

    Returns
    -------
    Codes
        [N, S, D] or [N, S, L, D]; layers that are not moved hold the very numbers of `codes`.

    Raises
    ------
    HiganError
        Shapes that do not fit, no distance, a distance that is no number, unknown layers.
    """
    origin = torch.as_tensor(codes)
    distance = _as_float64(distances)
    if distance.ndim != 1 or distance.numel() == 0 or not bool((distance.abs() <= MOST_DISTANCE).all()):
        raise HiganError(f"distances must be one or more numbers from -{MOST_DISTANCE:g} to {MOST_DISTANCE:g}")
    require_memory(8 * origin.numel() * distance.numel(), f"{len(origin)} samples at {distance.numel()} steps")
    if layers is None and origin.ndim == 3:
        layers = getattr(boundary, "layers", None)
    direction = _as_float64(getattr(boundary, "direction", boundary))
    step = _displacement(direction, tuple(origin.shape), layers, strength)  # [D] or [L, D]
    shifts = distance.reshape(-1, *[1] * step.ndim) * step  # [S, D] or [S, L, D]
    moved = origin[:, None] + shifts.to(origin)[None]
    return moved if isinstance(codes, Tensor) else moved.numpy()


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
    chosen = list(range(num_layers)) if layers is None else _require_layers(layers, num_layers)
    mixed = contents[None].repeat(styles.shape[0], 1, 1, 1)
    mixed[:, :, chosen] = styles[:, None, chosen]
    return mixed if isinstance(style, Tensor) else mixed.numpy()


def spaced_distances(start: float, end: float, steps: int) -> NDArray[np.float64]:
    """Return `steps` distances from `start` to `end`, evenly spaced; an even number of steps is raised by one.

    Raises HiganError for steps or distances out of range.
    """
    if steps < 1:
        raise HiganError(f"the number of steps is {steps}; expected at least 1")
    if steps > MOST_STEPS:
        raise HiganError(f"the number of steps is {steps}; expected {MOST_STEPS} at most")
    if not (abs(start) <= MOST_DISTANCE and abs(end) <= MOST_DISTANCE):
        raise HiganError(
            f"distances from {start} to {end}: expected finite numbers from -{MOST_DISTANCE:g} to {MOST_DISTANCE:g}"
        )
    return np.linspace(start, end, steps + (steps + 1) % 2)


def scaled_distances(distances: NDArray[np.float64], end: float) -> NDArray[np.float64]:
    """Return `distances` [S] in proportion, so that the last one is `end`; raise HiganError if it is 0."""
    if distances[-1] == 0:
        raise HiganError(f"a list asks for the distance {end:g} at the last step; give an --end_distance other than 0")
    return distances * (end / distances[-1])


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


def choose_layers(
    boundary: Boundary, num_layers: int, asked: str | Sequence[int] | None = None, otherwise: str = ""
) -> tuple[list[int], str]:
    """Return the layers to move and, in words, who chose them.

    In this order: those `asked` for, those of the boundary (verified by re-scoring, or in its file), those `otherwise`
    (either as in `parse_layers`), all. Raises HiganError for layers that the model does not have.
    """
    if asked:
        return parse_layers(asked, num_layers), "asked for"
    if boundary.layers:
        verified = boundary.info.get("layers_from") == "rescoring"
        return parse_layers(boundary.layers, num_layers), "verified by re-scoring" if verified else "from its file"
    if otherwise:
        return parse_layers(otherwise, num_layers), f"the {otherwise} group"
    return list(range(num_layers)), "all"


def move_codes(
    generator: Generator,
    codes: Mapping[str, Tensor],
    boundary: Boundary,
    distances: Sequence[float] | NDArray[Any],
    layers: Sequence[int] | None = None,
    keep_pace: bool = True,
) -> tuple[Tensor, str]:
    """Return codes moved along a boundary, [N, S, ...], and their space.

    Parameters
    ----------
    codes
        By space, as `draw_codes` returns them.
    layers
        Layers to move, in w+; None moves the code as a whole, in the boundary's own space.
    keep_pace
        Scale the step of a w boundary at each layer by the truncation there, as the codes are.

    Raises
    ------
    HiganError
        The model or the codes lack the space, or it has no layers; and as `manipulate`.
    """
    space = boundary.space if layers is None else "wp"
    if layers is not None and boundary.space == "z":
        raise HiganError(f"boundary {boundary.name} is of space z, which has no layers; leave the layers out")
    if space not in generator.spaces:
        raise HiganError(f"boundary {boundary.name} is of space {space}; {generator.family} has none")
    if space not in codes:
        raise HiganError(
            f"boundary {boundary.name} needs codes of space {space}, found {', '.join(codes)}; "
            "give codes of that space, or move layers (--layerwise_manipulation)"
        )
    if space != "wp":
        return manipulate(codes[space], boundary.direction, distances), space
    strength = generator.psi() if keep_pace and boundary.space == "w" else None
    return manipulate(codes["wp"], boundary.direction, distances, layers, strength), space


def synthesize_steps(generator: Generator, codes: Tensor, space: str = "wp") -> Iterator[NDArray[np.uint8]]:
    """Yield, for each of N samples, the pictures of its S codes: uint8 [S, H, W, 3].

    `codes` is [N, S, D], or [N, S, L, D] in the space "wp". The layers before the first one at which the codes of a
    batch differ are computed once per sample, not once per step.

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
                partial(_synthesize_batch, generator, codes[start:], space), generator.batch_size
            )
        except NotFiniteError as error:
            raise error.after(start) from None
        start += len(images)
        yield from images.cpu().numpy()


def _synthesize_batch(generator: Generator, codes: Tensor, space: str, size: int) -> Tensor:
    """Return uint8 [size, S, H, W, 3] of the first `size` of codes [N, S, ...], at most N."""
    codes = codes[:size].to(generator.device)
    num, steps = codes.shape[:2]
    if "wp" not in generator.spaces:
        return torch.stack([generator.synthesize(codes[:, step], space) for step in range(steps)], dim=1)
    wp = generator.to_wp(codes.flatten(0, 1), space).unflatten(0, (num, steps))  # [N, S, L, W]
    differs = (wp != wp[:, :1]).any(dim=3).any(dim=1).any(dim=0).tolist()
    shared = differs.index(True) if True in differs else generator.num_layers
    trunk = generator.advance(generator.initial(num), wp[:, 0], 0, shared)
    images = [
        generator.image(generator.advance(trunk, wp[:, step], shared, generator.num_layers)) for step in range(steps)
    ]
    return torch.stack(images, dim=1)


def _require_layers(layers: str | int | Sequence[int] | NDArray[Any], num_layers: int) -> list[int]:
    chosen = parse_layers(layers, num_layers)
    if not chosen:
        raise HiganError("no layers were given; leave the argument out to take all of them")
    return chosen


def _displacement(
    direction: Tensor,
    codes_shape: tuple[int, ...],
    layers: str | int | Sequence[int] | NDArray[Any] | None,
    strength: Sequence[float] | NDArray[Any] | Tensor | None,
) -> Tensor:
    """Return how a code moves per unit of distance: float64 [D] for codes [N, D], [L, D] for codes [N, L, D]."""
    if len(codes_shape) not in (2, 3):
        raise HiganError(f"codes must be [N, D] or [N, L, D], found {codes_shape}")
    if tuple(direction.shape) not in ((1, codes_shape[-1]), (1, *codes_shape[1:])):
        raise HiganError(f"a boundary of shape {tuple(direction.shape)} does not fit codes of shape {codes_shape}")
    if len(codes_shape) == 2:
        if layers is not None or strength is not None:
            raise HiganError("layers and their strength need layer-wise codes [N, L, D]: see Generator.to_wp")
        return direction[0]
    num_layers = codes_shape[1]
    scale = torch.ones(num_layers, dtype=torch.float64) if strength is None else _as_float64(strength)
    if scale.shape != (num_layers,):
        raise HiganError(f"strength must hold {num_layers} numbers, one per layer, found shape {tuple(scale.shape)}")
    if layers is not None:
        moves = torch.zeros(num_layers, dtype=torch.float64)
        moves[_require_layers(layers, num_layers)] = 1
        scale = scale * moves
    return scale[:, None] * direction[0]


def _as_float64(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.as_tensor(np.asarray(values, dtype=np.float64))
