"""How far a code moves, once for editing and re-scoring: along which direction, at which layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.devices import require_memory
from higan.errors import HiganError
from higan.generators.layer_sets import parse_layers
from higan.generators.network import layered, per_layer

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary
    from higan.generators import Generator

MOST_STEPS = 10_001
MOST_DISTANCE = 1e6  # a code's norm is some tens; far beyond, activations overflow

DISTANCE = 3.0  # of the last step, where nothing is known of a boundary
CLEAR = 3.0  # standard deviations of a score, from the middle of its samples to the end
SPAN = 3.0  # standard deviations of the codes along a direction, likewise
REACH_DISTANCE = 2.0  # the distance that a stored reach is of
MOST_CLEAR = 10.0  # a direction that hardly moves its score is not followed further

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

    >>> wp = generator.to_wp(generator.sample(2, seed=0), "z")  # [2, L, D]
    >>> moved = higan.manipulate(wp, boundary, [-3, 0, 3], layers="2-5", strength=generator.psi())
    >>> moved.shape == (2, 3, *wp.shape[1:])
    True
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


def choose_layers(
    boundary: Boundary, num_layers: int, asked: str | Sequence[int] | None = None, otherwise: str = ""
) -> tuple[list[int], str]:
    """Return the layers to move and, in words, who chose them.

    In this order: those `asked` for, those of the boundary (verified by re-scoring, or in its file), the candidates of
    a re-scoring that could not tell, those `otherwise` (either as in `parse_layers`), all. Raises HiganError for layers
    that the model does not have.
    """
    if asked:
        return parse_layers(asked, num_layers), "asked for"
    if boundary.layers:
        verified = boundary.info.get("layers_from") == "rescoring"
        return parse_layers(boundary.layers, num_layers), "verified by re-scoring" if verified else "from its file"
    found = stored_rescoring(boundary)
    verdict, layers = found.get("verdict"), found.get("layers")
    if verdict == "could not tell" and isinstance(layers, list) and layers:
        return parse_layers(layers, num_layers), "candidates: re-scoring could not tell them from chance"
    remark = "; re-scoring found none where it is obeyed" if verdict == "none" else ""
    if otherwise:
        return parse_layers(otherwise, num_layers), f"the {otherwise} group{remark}"
    return list(range(num_layers)), f"all{remark}"


def telling_distance(boundary: Boundary) -> tuple[float, str]:
    """Return the distance at which an edit is clear and still a picture, and in words why it is that one.

    It is where re-scoring expects the score to have changed by `CLEAR` standard deviations, or where the step takes an
    average code to the end of the samples (`SPAN` standard deviations along it; see `train_boundary.py`), whichever
    comes first; `DISTANCE` where neither is known.

    >>> telling_distance(Boundary("wood", np.eye(1, 8, dtype=np.float32)))
    (3.0, '')
    """
    found = stored_rescoring(boundary)
    effect, reach = found.get("effect"), boundary.info.get("reach")
    risen = _positive(effect[0]) if isinstance(effect, list) and effect and found.get("verdict") != "none" else 0.0
    distance = _positive(found.get("distance"))
    widest = max((_positive(value) for value in (reach if isinstance(reach, list) else [reach])), default=0.0)
    reasons = []
    if risen and distance:
        reasons.append((CLEAR * distance / risen, f"the score changes by about {CLEAR:g} standard deviations"))
    if widest:
        why = "an average code reaches the end of the samples; further on pictures leave the data"
        reasons.append((SPAN * REACH_DISTANCE / widest, why))
    if not reasons:
        return DISTANCE, ""
    value, why = min(reasons)
    return min(max(round(2 * value) / 2, 0.5), MOST_CLEAR), why


def stored_rescoring(boundary: Boundary) -> dict[str, Any]:
    """Return what `rescore.py --write_layers` stored in a boundary's file, {} if nothing."""
    found = boundary.info.get("rescoring")
    return found if isinstance(found, dict) else {}


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
        By space, as `Codes.follow` returns them.
    layers
        Layers to move, in w+; None moves the code as a whole, in the boundary's own space.
    keep_pace
        Scale the step of a w boundary at each layer by the truncation there, as the codes are.

    Raises
    ------
    HiganError
        The model or the codes lack the space, or it has no layers; and as `manipulate`.
    """
    space = boundary.space if layers is None else generator.entry
    if layers is not None and not layered(boundary.space):
        raise HiganError(
            f"boundary {boundary.name} is of space {boundary.space}, which has no layers; leave the layers out"
        )
    if space not in generator.spaces:
        raise HiganError(f"boundary {boundary.name} is of space {space}; {generator.family} has none")
    if space not in codes:
        raise HiganError(
            f"boundary {boundary.name} needs codes of space {space}, found {', '.join(codes)}; "
            "give codes of that space, or move layers (--layerwise_manipulation)"
        )
    if not per_layer(space):
        return manipulate(codes[space], boundary.direction, distances), space
    strength = generator.strength(boundary.space) if keep_pace else None
    return manipulate(codes[space], boundary.direction, distances, layers, strength), space


def require_layers(layers: str | int | Sequence[int] | NDArray[Any], num_layers: int) -> list[int]:
    """Return layers as `parse_layers` does; raise HiganError if there are none."""
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
        moves[require_layers(layers, num_layers)] = 1
        scale = scale * moves
    return scale[:, None] * direction[0]


def _as_float64(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


def _positive(value: Any) -> float:
    """Return `value` if it is a number of use as a distance or an effect, else 0."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST_DISTANCE
    return float(value) if usable else 0.0
