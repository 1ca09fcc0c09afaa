"""An edit as a notebook has it: samples moved along one boundary, which show themselves and can be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higan.directions.move import choose_layers
from higan.editing.edits import synthesize_steps
from higan.editing.files import write_boundaries, write_edit
from higan.editing.manipulation import Edited, Move, along_boundary
from higan.errors import HiganError
from higan.files import write_atomic
from higan.generators.network import layered
from higan.report.manipulation import manipulation_page
from higan.report.page import describe_origin, in_frame
from higan.runs.folders import output_folder

if TYPE_CHECKING:
    from torch import Tensor

    from higan.directions.boundaries import Boundary
    from higan.generators import Generator

STEPS = tuple(np.linspace(-3, 3, 7).tolist())


@dataclass(repr=False)
class Edit:
    """Samples moved along a boundary: shown by a notebook with a slider for each.

    Attributes
    ----------
    generator
        What draws them.
    edited
        Their codes [N, S, ...], and how to speak of them.

    >>> edit = higan.edit(generator, boundary, num=1)
    >>> edit.images.shape[:2]
    (1, 7)
    >>> edit.write(folder).name
    'indoor_lighting_w.html'
    """

    generator: Generator
    edited: Edited

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """The pictures, uint8 [N, S, H, W, C]."""
        made = synthesize_steps(self.generator, self.edited.codes, self.edited.space, self.edited.labels)
        return np.stack(list(made))

    def __repr__(self) -> str:
        headings = self.edited.headings
        return f"<Edit at {len(headings)} steps, {headings[0]} to {headings[-1]}: {self.edited.summary}>"

    def page(self) -> str:
        """Return the page of the edit, one self-contained .html."""
        edited = self.edited
        return manipulation_page(
            self.images,
            edited.headings,
            num=len(self.images),
            title=edited.title,
            summary=edited.summary,
            origin=edited.origin,
            stem=edited.prefix,
            details={**edited.details, **describe_origin(self.generator)},
        )

    def _repr_html_(self) -> str:
        return in_frame(self.page())

    def write(self, folder: str | Path) -> Path:
        """Write the moved codes, the boundary and the page, and return the page's path.

        Raises HiganError if the folder is used by another process or a file cannot be written.
        """
        with output_folder(folder) as place:
            write_edit(self.edited, place, self.edited.prefix, self.generator)
            write_boundaries(self.edited, place)
            path = place / f"{self.edited.prefix}.html"
            write_atomic(path, self.page())
        return path


def edit(
    generator: Generator,
    boundary: Boundary,
    num: int = 4,
    distances: Sequence[float] | NDArray[Any] = STEPS,
    layers: str | Sequence[int] | None = None,
    seed: int = 0,
    codes: NDArray[Any] | Tensor | None = None,
    space: str = "z",
) -> Edit:
    """Return samples moved along a boundary, at every distance.

    Parameters
    ----------
    num, seed
        Samples to draw, without `codes`.
    distances
        [S] signed distances; one near 0 is what the others are compared with.
    layers
        As in `parse_layers`; default: those of the boundary, verified ones first, else all.
    codes, space
        Codes to move instead of drawn ones, in "z", "w" or "wp".

    Raises
    ------
    HiganError
        Codes, boundary, layers or distances that do not fit the model.

    >>> higan.edit(generator, boundary, num=2, distances=[-3, 0, 3])
    <Edit at 3 steps, −3 to +3: 2 samples of stylegan2_rooms, moved at ... along the boundary indoor_lighting.>
    """
    if num < 1:
        raise HiganError(f"num is {num}; expected 1 or more")
    drawn = codes is None
    codes = generator.sample(num, seed) if codes is None else codes
    labels = None if layered(space) else generator.labels(len(codes))
    found = generator.follow(codes, space, labels) | ({} if labels is None else {"labels": labels})
    where, chosen = None, ""
    if layered(boundary.space):
        where, chosen = choose_layers(boundary, generator.num_layers, layers)
    elif layers is not None:
        raise HiganError(f"boundary {boundary.name} is of space {boundary.space}, which has no layers; leave them out")
    steps = np.asarray(distances, np.float64)
    edited = along_boundary(generator, found, Move(boundary, steps, where, chosen))
    edited.details["Codes"] = f"drawn in z from seed {seed}" if drawn else f"given, in {space}"
    return Edit(generator, edited)
