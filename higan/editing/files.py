"""What an edit leaves in the output folder: codes, boundaries, pictures, a page, a video."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from higan.directions.boundaries import write_boundary
from higan.editing.edits import pad_codes, synthesize_steps
from higan.editing.manipulation import Edited, Pad
from higan.files import encode_image, write_array, write_atomic
from higan.generators.network import say_space
from higan.logs import progress
from higan.report import describe_origin, write_manipulation_page, write_mixing_page
from higan.report.manipulation import pad_headings
from higan.report.video import Mosaic, write_video
from higan.runs.provenance import describe_making, read_record, write_record
from higan.runs.run import read_run

if TYPE_CHECKING:
    from higan.generators import Generator

PAD_SAMPLES = 8  # whose codes at every two steps are held at a time
Rows = Iterable[NDArray[np.uint8]]  # per sample its pictures, uint8 [S, H, W, C]


@dataclass(frozen=True)
class Views:
    """How the pictures of an edit are shown; every name goes behind the edit's own.

    Attributes
    ----------
    pictures
        Write each, as a JPEG.
    page, video
        Names of a page and of a video; "" for none.
    mosaic, fps
        How the samples are laid out in the video, and its frames per second.
    size
        Height of the page's pictures; 0 for their own.
    """

    pictures: bool
    page: str
    video: str
    mosaic: Mosaic
    fps: int
    size: int


def write_codes(
    codes: Mapping[str, Tensor], folder: Path, generator: Generator, prefix: str = "", program: str = "manipulate"
) -> None:
    """Write the samples' codes, [N, ...] by space, as `{prefix}{space}.npy`, and beside each what it was made with.

    Their classes, "labels", become `{prefix}labels.npy`.
    Codes of a run in the folder, or of another `program`, are left as they are, which is logged.
    """
    run = read_run(folder)
    for space, values in codes.items():
        path = folder / f"{prefix}{space}.npy"
        other = path.exists() and read_record(path.with_suffix(".json")).get("program", "manipulate") != program
        if other or (run and path.name in run["arrays"]):
            logging.getLogger("higan").info("%s is kept: it was there before", path)
            continue
        write_codes_of(path, values, space, generator, program)


def write_edit(edited: Edited, folder: Path, prefix: str, generator: Generator) -> None:
    """Write the moved codes, [N, S, ...], as `{prefix}_manipulated_{space}.npy`, and what they were made with."""
    write_codes_of(folder / f"{prefix}_manipulated_{edited.space}.npy", edited.codes, edited.space, generator)


def write_codes_of(path: Path, codes: Tensor, space: str, generator: Generator, program: str = "manipulate") -> None:
    """Write codes [N, ...] of `space` as `path`, and beside it, as .json, what made them."""
    write_array(path, codes.cpu().numpy())
    write_record(path, {"program": program, "space": space, **describe_making(generator)})


def write_boundaries(edited: Edited, folder: Path) -> None:
    """Write every boundary that was moved along, as `{name}_{space}_boundary.npy` and `.json`."""
    for boundary in edited.boundaries:
        write_boundary(boundary, folder, f"{boundary.name}_{boundary.space}_boundary.npy")


def write_views(edited: Edited, generator: Generator, folder: Path, views: Views, source: str) -> list[Path]:
    """Write what `views` asks for: `{prefix}_{sample}_{step}.jpg`, `{prefix}_{video}` and `{prefix}_{page}`.

    Returns the paths of page and video, those that there are.

    Parameters
    ----------
    source
        Where the samples come from, in words.

    Raises
    ------
    HiganError
        The disk is full, frames too large for a video, or an image is not finite (`NotFiniteError`).
    """
    if not (views.pictures or views.page or views.video):
        return []
    written: list[Path] = []

    def shown(made: Iterator[NDArray[np.uint8]]) -> Rows:
        rows: Rows = progress(iterable=made, total=len(edited.codes), unit="sample", leave=False)
        return rows

    rows: Rows = ()
    if views.pictures or views.video or not edited.pad:
        rows = shown(synthesize_steps(generator, edited.codes, edited.space, edited.labels))
    if views.pictures:
        rows = saved(rows, folder, edited.prefix)
    if views.video:
        rows = list(rows)
        frames = [views.mosaic.frame([row[step] for row in rows]) for step in range(len(rows[0]))]
        written.append(write_video(folder / f"{edited.prefix}_{views.video}", frames, views.fps))
    if views.page:
        written.insert(0, folder / f"{edited.prefix}_{views.page}")
        paged = shown(padded(generator, edited, edited.pad)) if edited.pad else rows
        write_page(written[0], paged, edited, generator, source, views.size, edited.prefix)
    for _ in rows:
        pass
    return written


def write_page(
    path: Path, rows: Rows, edited: Edited, generator: Generator, source: str, size: int = 0, stem: str = ""
) -> None:
    """Write the page of an edit: steps, a pad or a matrix of styles.

    Parameters
    ----------
    rows
        Per sample the pictures of its steps; of a pad those of all its places (see `padded`).
    size, stem
        As `write_manipulation_page`.
    source
        As `write_views`.
    """
    codes = f"{source}; edited in {say_space(edited.space)}"
    details = {**edited.details, "Codes": codes, **describe_origin(generator)}
    num = len(edited.codes)
    if edited.styles:
        write_mixing_page(path, rows, num, edited.title, edited.summary, size, details)
        return
    headings, origin = pad_headings(*edited.pad.axes) if edited.pad else (edited.headings, edited.origin)
    write_manipulation_page(
        path,
        rows,
        headings,
        num=num,
        title=edited.title,
        summary=edited.summary,
        origin=origin,
        names=edited.names,
        numbers=edited.numbers,
        size=size,
        stem=stem,
        details=details,
        pad=edited.pad and edited.pad.axes,
    )


def padded(generator: Generator, edited: Edited, pad: Pad) -> Iterator[NDArray[np.uint8]]:
    """Yield, for each sample, its pictures at every two steps of a pad: uint8 [T * S, H, W, C]."""
    for start in range(0, len(pad.origin), PAD_SAMPLES):
        some = slice(start, start + PAD_SAMPLES)
        codes = pad_codes(pad.origin[some], pad.across[some], pad.down[some])
        labels = None if edited.labels is None else edited.labels[some]
        yield from synthesize_steps(generator, codes, edited.space, labels)


def saved(rows: Rows, folder: Path, prefix: str) -> Iterator[NDArray[np.uint8]]:
    """Pass rows of pictures on, and write each picture."""
    for sample, row in enumerate(rows):
        for step, picture in enumerate(row):
            write_atomic(folder / f"{prefix}_{sample:05d}_{step:03d}.jpg", encode_image(picture, "jpg"))
        yield row
