"""The page of samples: many pictures in a grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higan.report.page import describe_encoding, encode_rows, reduction_notes, to_base64, write_page

# More pictures than this make a page that no one scrolls through and phones cannot open.
GRID_LIMIT = 2000


@dataclass(frozen=True)
class Picture:
    """One picture: its name and its JPEG as base64."""

    name: str
    data: str


def grid_size(total: int, rows: int = 0, columns: int = 0) -> tuple[int, int]:
    """Return how many of `total` pictures a page of `rows` and `columns` shows, and its columns; 0 leaves one open."""
    if rows and not columns:
        columns = -(-min(total, GRID_LIMIT) // rows)
    return min(total, GRID_LIMIT, rows * columns or GRID_LIMIT), columns


def write_grid_page(
    path: str | Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    num: int,
    title: str,
    summary: str = "",
    names: Sequence[str] | None = None,
    columns: int = 0,
    size: int = 0,
    total: int = 0,
    stem: str = "",
    details: Mapping[str, str] | None = None,
) -> None:
    """Write the page of `num` pictures; give at most `GRID_LIMIT` of them.

    Parameters
    ----------
    images
        `num` arrays uint8 [H, W, C], read once and not kept, or one array [N, H, W, C].
    title, summary
        Heading and the line under it.
    names
        What stands under each picture. Default: "00000" and so on.
    columns
        Pictures in a row; 0 for as many as fit the window.
    size
        Height of the pictures on the page; 0 for their own. They are reduced where the page would pass 25 MB.
    total
        How many samples there are, where the page shows the first `num` of more.
    stem
        How the names of saved pictures begin. Default: the page's own name.
    details
        What made the pictures: names and values in the foot of the page.
    """
    shape = (0, 0)

    def rows() -> Iterable[NDArray[np.uint8]]:
        nonlocal shape
        for image in images:
            shape = image.shape[:2]
            yield image[None]

    files, encoding, (height, width) = encode_rows(rows(), num, size)
    names = [f"{index:05d}" for index in range(len(files))] if names is None else names
    asked = (size, round(shape[1] * size / shape[0])) if size else shape
    notes = reduction_notes(asked, (height, width))
    if total > len(files):
        notes.insert(0, f"The first {len(files)} of {total} samples.")
    write_page(
        path,
        "grid.html",
        title=title,
        summary=summary,
        notes=notes,
        details={**(details or {}), "Pictures": describe_encoding(encoding, height, width)},
        pictures=[Picture(name, to_base64(file)) for name, file in zip(names, files, strict=True)],
        columns=columns,
        stem=stem or Path(path).stem,
        height=height,
        width=width,
    )
