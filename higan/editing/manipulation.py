"""What the last step shows: samples moved along boundaries, edited jointly, interpolated, or with mixed styles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.directions.boundaries import Boundary, read_boundary
from higan.directions.conditioning import condition
from higan.directions.lists import BoundaryEntry, find_boundary_file
from higan.directions.move import choose_layers, move_codes, scaled_distances, stored_rescoring
from higan.editing.edits import combine, interpolate, mix_styles
from higan.errors import HiganError
from higan.generators.layer_sets import format_layers, parse_layers, say_layers
from higan.generators.network import layered
from higan.logs import counted
from higan.report.manipulation import Axis, format_signed, step_headings

if TYPE_CHECKING:
    from higan.generators import Generator


@dataclass(frozen=True)
class Move:
    """How to move along one boundary.

    Attributes
    ----------
    distances
        [S] signed distances.
    layers
        Layers to move, in w+; None moves the code as a whole, in the boundary's own space.
    chosen
        Who chose the layers, in words.
    keep_pace
        Scale the step of a w boundary at each layer by the truncation there, as the codes are.
    """

    boundary: Boundary
    distances: NDArray[np.float64]
    layers: Sequence[int] | None = None
    chosen: str = ""
    keep_pace: bool = True


@dataclass(frozen=True)
class Pad:
    """Codes of N samples, [N, ...], and moved along two boundaries, each alone, [N, S, ...] and [N, T, ...]."""

    origin: Tensor
    across: Tensor
    down: Tensor
    axes: tuple[Axis, Axis]


@dataclass
class Edited:
    """Codes of N samples at S steps, and how to speak of them.

    Attributes
    ----------
    prefix
        How the names of its files begin.
    title, summary
        Heading of its page, and one sentence on what was done.
    codes
        [N, S, D], or [N, S, L, D] where `space` is "wp".
    labels
        Classes of the samples, int64 [N], where `space` is "z" and the model is conditional; else None.
    headings, origin
        What stands over each step, and the step that the others are compared with.
    boundaries
        The boundaries moved along.
    names
        Names of the samples; None numbers them.
    numbers
        Their numbers; None for 0 and so on.
    details
        What made it: names and values.
    pad
        Of two boundaries at once: each alone, which the page combines at every two steps.
    styles
        The first step is the sample, and step 1 + k has layers of sample k: a matrix.
    """

    prefix: str
    title: str
    summary: str
    codes: Tensor
    space: str
    headings: list[str]
    origin: int
    boundaries: list[Boundary] = field(default_factory=list)
    names: list[str] | None = None
    numbers: list[int] | None = None
    details: dict[str, str] = field(default_factory=dict)
    labels: Tensor | None = None
    pad: Pad | None = None
    styles: bool = False


PAD_STEPS = 9  # of either boundary, beyond which a page would hold hundreds of pictures a sample


def plan_moves(
    generator: Generator,
    entries: Sequence[BoundaryEntry],
    distances: NDArray[np.float64],
    *,
    layerwise: bool = False,
    layers: str = "",
    together: bool = False,
    condition_on: Sequence[str] = (),
    keep_pace: bool = True,
) -> list[Move]:
    """Return how to move along each boundary of a list: conditioned, at which layers, how far; and log what is chosen.

    Parameters
    ----------
    distances
        [S]; the distance that a line asks for scales them.
    layerwise
        Move layers of w+ even where none are asked for: those verified, else those of the boundary's file, else all.
    layers
        Layers to move, as in `parse_layers`; those that a line asks for come first.
    together
        The moves are to be one edit, which needs all of them in w+.
    condition_on
        Names of boundaries, of the list or of the folder that a boundary lies in, to make it orthogonal to.
    keep_pace
        As `Move.keep_pace`.

    Raises
    ------
    HiganError
        The model has no layers, there are no such layers or boundaries, or nothing is left of one.
    """
    if layerwise and not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers; leave --layerwise_manipulation out")
    log = logging.getLogger("higan")
    moves = []
    for entry in entries:
        boundary = entry.boundary
        name, space = boundary.name, boundary.space
        asked = entry.layers or layers
        chosen, chooser = None, ""
        if not layered(space):
            if asked or layerwise:
                log.warning("boundary %s is of space %s, which has no layers: the code moves as a whole", name, space)
        elif asked or layerwise or together:
            chosen, chooser = choose_layers(boundary, generator.num_layers, asked)
            log.info("boundary %s: %s (%s)", name, say_layers(chosen), chooser)
        elif boundary.layers:
            log.info(
                "boundary %s: the code moves as a whole; with --layerwise_manipulation it moves at %s",
                name,
                say_layers(boundary.layers),
            )
        elif stored_rescoring(boundary).get("verdict") == "none":
            log.info("boundary %s: re-scoring found no layers at which it is obeyed", name)
        reach = distances if entry.distance is None else scaled_distances(distances, entry.distance)
        known = {other.boundary.name: other.boundary for other in entries if other.boundary.space == space}
        folder = Path(boundary.info["path"]).parent
        others = [
            known.get(other) or read_boundary(find_boundary_file(other, folder, list(known)), space)
            for other in condition_on
            if other != name
        ]
        moves.append(Move(condition(boundary, others), reach, chosen, chooser, keep_pace))
    return moves


def along_boundaries(
    generator: Generator, codes: Mapping[str, Tensor], moves: Sequence[Move], together: bool = False
) -> Iterable[Edited]:
    """Return an edit per move, each made when it is asked for, or one of all of them `together`.

    Every move is tried on one sample first, so that what cannot be done is refused before anything is written.
    """
    one = {space: values[:1] for space, values in codes.items()}
    tried = [along_boundary(generator, one, move) for move in moves]
    if not together:
        return (along_boundary(generator, codes, move) for move in moves)
    jointly(generator, one, tried)
    return [jointly(generator, codes, [along_boundary(generator, codes, move) for move in moves])]


def along_boundary(generator: Generator, codes: Mapping[str, Tensor], move: Move) -> Edited:
    """Move samples, given by space as `Codes.follow` returns them, along one boundary; errors as `move_codes`."""
    boundary, layers = move.boundary, move.layers
    moved, space = move_codes(generator, codes, boundary, move.distances, layers, move.keep_pace)
    where = "as a whole" if layers is None else f"at {say_layers(layers)}"
    details = {"Boundary": f"{boundary.info.get('path', boundary.name)} (space {boundary.space})"}
    if layers is not None:
        details["Layers"] = f"{format_layers(layers)} ({move.chosen})" if move.chosen else format_layers(layers)
    if conditions := boundary.info.get("conditioned_on"):
        details["Conditioned on"] = ", ".join(conditions)
    headings, origin = step_headings(move.distances)
    return Edited(
        prefix=f"{boundary.name}_{boundary.space}",
        title=boundary.name.replace("_", " "),
        summary=f"{counted(len(moved), 'sample')} of {generator.name}, moved {where} along the boundary "
        f"{boundary.name}.",
        codes=moved,
        space=space,
        headings=headings,
        origin=origin,
        boundaries=[boundary],
        details=details,
        labels=None if layered(space) else codes.get("labels"),
    )


def jointly(generator: Generator, codes: Mapping[str, Tensor], edits: Sequence[Edited]) -> Edited:
    """Apply several edits at once: the displacements of the codes add up.

    Raises HiganError for edits of several spaces, or of several numbers of steps.
    """
    if len({edit.space for edit in edits}) != 1:
        found = ", ".join(f"{edit.title} in {edit.space}" for edit in edits)
        raise HiganError(f"edits of several spaces cannot be combined, found {found}; take boundaries of one space")
    first = edits[0]
    details = {
        f"Edit {number}": "; ".join([*edit.details.values(), f"distances {edit.headings[0]} to {edit.headings[-1]}"])
        for number, edit in enumerate(edits, start=1)
    }
    titles, headings = [edit.title for edit in edits], first.headings
    if not all(edit.headings == headings for edit in edits):
        headings = [f"Step {format_signed(step - first.origin)}" for step in range(len(headings))]
        headings[first.origin] = "Origin"
    return Edited(
        prefix="combined",
        title=" + ".join(titles),
        summary=f"{counted(len(first.codes), 'sample')} of {generator.name}, moved at once along "
        f"{' and '.join(filter(None, (', '.join(titles[:-1]), titles[-1])))}.",
        codes=combine(codes[first.space], [edit.codes for edit in edits]),
        space=first.space,
        headings=headings,
        origin=first.origin,
        boundaries=[boundary for edit in edits for boundary in edit.boundaries],
        details=details,
        labels=first.labels,
        pad=as_pad(codes[first.space], *edits) if len(edits) == 2 and len(headings) <= PAD_STEPS else None,
    )


def as_pad(origin: Tensor, across: Edited, down: Edited) -> Pad:
    """Return two edits of the codes `origin` as the sides of a pad."""
    first, second = (Axis(edit.title, edit.headings, edit.origin) for edit in (across, down))
    return Pad(origin, across.codes, down.codes, (first, second))


def between_samples(generator: Generator, codes: Mapping[str, Tensor], space: str, steps: int) -> Edited:
    """Go from each sample to the next on a straight line in `space`; HiganError for a single sample or step."""
    ends = codes[space]
    if len(ends) < 2:
        raise HiganError("an interpolation needs at least 2 samples, found 1; give a larger --num")
    labels = None if layered(space) else codes.get("labels")
    if labels is not None:
        if not torch.equal(labels[1:], labels[:-1]):
            raise HiganError("samples of several classes are interpolated in w; give --latent_space_type=w")
        labels = labels[:-1]
    last = steps - 1
    return Edited(
        prefix=f"interpolation_{space}",
        title="Interpolation",
        summary=f"From each of {len(ends)} samples of {generator.name} to the next, on straight lines in {space}.",
        codes=interpolate(ends[:-1], ends[1:], steps),
        space=space,
        headings=[f"{step / last:.0%}" for step in range(steps)],
        origin=0,
        names=[f"Sample {index:05d} to {index + 1:05d}" for index in range(len(ends) - 1)],
        details={"Interpolated in": space},
        labels=labels,
    )


def with_mixed_styles(generator: Generator, codes: Mapping[str, Tensor], layers: str) -> Edited:
    """Give every sample the `layers` of every other: a row per sample, itself first, then a step per style.

    Raises HiganError if the model has no layers, or not these (as in `parse_layers`).
    """
    if not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers, so no styles to mix")
    contents = codes[generator.entry]
    chosen = parse_layers(layers, generator.num_layers)
    mixed = mix_styles(contents, contents, chosen).transpose(0, 1)  # [content, style, L, D]
    return Edited(
        prefix="style_mixing",
        title="Style mixing",
        summary=f"{counted(len(contents), 'sample')} of {generator.name}. Each row is a content; each column gives it "
        f"{say_layers(chosen)} of its style.",
        codes=torch.cat([contents[:, None], mixed], dim=1),
        space=generator.entry,
        headings=["Content", *(f"Style {index:05d}" for index in range(len(contents)))],
        origin=0,
        details={"Layers of the style": format_layers(chosen)},
        styles=True,
    )
