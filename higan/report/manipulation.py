"""The page of moved codes: per sample a large picture, a slider over the steps and the row of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higan.files import write_atomic
from higan.report.page import describe_encoding, encode_rows, fill_page, reduction_notes, to_base64


@dataclass(frozen=True)
class Sample:
    """One row: name and number, its JPEG as base64, and how much its steps differ from the origin (grey levels)."""

    name: str
    number: int
    data: str
    change: float


@dataclass(frozen=True)
class Axis:
    """One of the two boundaries of a pad: its name, what stands over each of its steps, and which is the origin."""

    name: str
    headings: Sequence[str]
    origin: int


def pad_headings(across: Axis, down: Axis) -> tuple[list[str], int]:
    """Return what stands over each picture of a pad, row by row, and the index of the origin.

    >>> pad_headings(Axis("a", ["Origin", "+1"], 0), Axis("b", ["Origin"], 0))
    (['Origin', 'a +1, b 0'], 0)
    """
    steps = [["0" if heading == "Origin" else heading for heading in axis.headings] for axis in (across, down)]
    headings = [f"{across.name} {first}, {down.name} {second}" for second in steps[1] for first in steps[0]]
    origin = down.origin * len(across.headings) + across.origin
    if across.headings[across.origin] == down.headings[down.origin] == "Origin":
        headings[origin] = "Origin"
    return headings, origin


def write_manipulation_page(
    path: str | Path, rows: Iterable[NDArray[np.uint8]], headings: Sequence[str], *, stem: str = "", **values: Any
) -> None:
    """Write the page that `manipulation_page` returns of the same values; the default of `stem` is its own name."""
    write_atomic(path, manipulation_page(rows, headings, stem=stem or Path(path).stem, **values))


def manipulation_page(
    rows: Iterable[NDArray[np.uint8]],
    headings: Sequence[str],
    *,
    num: int,
    title: str,
    origin: int,
    summary: str = "",
    names: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
    size: int = 0,
    stem: str = "edit",
    details: Mapping[str, str] | None = None,
    pad: tuple[Axis, Axis] | None = None,
) -> str:
    """Return the page of `num` samples, each at every step.

    Parameters
    ----------
    rows
        `num` arrays uint8 [S, H, W, C], read once and not kept, so that they may be made while the page is.
    headings
        What stands over each of the S steps.
    origin
        The step that the others are compared with.
    names
        Names of the samples. Default: "Sample 00000" and so on.
    numbers
        Their numbers, as `--samples` of the scripts takes them. Default: 0 and so on.
    size
        Height of the pictures on the page; 0 for their own. They are reduced where the page would pass 25 MB.
    stem
        How the names of saved pictures begin: {stem}_{sample:05d}_{step:03d}.png.
    details
        What made the pictures: names and values in the foot of the page.
    pad
        Two boundaries whose steps are all combined: the S pictures of a row are those of the first boundary's steps
        at the first step of the second, and so on (`pad_headings`). Each has a slider of its own.
    """
    axes = pad or (Axis("at", headings, origin),)
    ways = zip(axes, ("to the right", "down") if pad else (f"{len(headings)} steps",), strict=True)
    caption = "; ".join(f"{axis.name} {way}, from {axis.headings[0]} to {axis.headings[-1]}" for axis, way in ways)
    columns = len(axes[0].headings)
    changes: list[float] = []
    shape = (0, 0)

    def measured() -> Iterator[NDArray[np.uint8]]:
        nonlocal shape
        for row in rows:
            shape = row.shape[1:3]
            changes.append(mean_change(row, origin))
            yield row

    strips, encoding, (height, width) = encode_rows(measured(), num, size, columns=columns)
    numbers = range(len(strips)) if numbers is None else numbers
    names = [f"Sample {number:05d}" for number in numbers] if names is None else names
    asked = (size, round(shape[1] * size / shape[0])) if size else shape
    return fill_page(
        "manipulation.html",
        title=title,
        summary=summary,
        notes=reduction_notes(asked, (height, width)),
        details={**(details or {}), "Pictures": describe_encoding(encoding, height, width)},
        samples=[
            Sample(name, number, to_base64(strip), change)
            for name, number, strip, change in zip(names, numbers, strips, changes, strict=True)
        ],
        headings=headings,
        origin=origin,
        caption=f"Every sample {caption}.",
        columns=columns,
        axes=axes if pad else (),
        stem=stem,
        height=height,
        width=width,
    )


def step_headings(distances: Sequence[float] | NDArray[np.float64]) -> tuple[list[str], int]:
    """Return what stands over each distance, and the index of the origin: the step nearest to distance 0."""
    values = np.asarray(distances, dtype=np.float64)
    origin = int(np.abs(values).argmin())
    labels = [format_signed(value) for value in values]
    if abs(values[origin]) < 1e-9:
        labels[origin] = "Origin"
    return labels, origin


def format_signed(value: float) -> str:
    """Return a number with its sign, at most two decimals: +1.5, −3, 0."""
    text = f"{value:+.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("+0", "-0") else text.replace("-", "−")


def mean_change(row: NDArray[np.uint8], origin: int) -> float:
    """Return the mean absolute difference of the pictures [S, H, W, C] from the one at `origin`, in grey levels."""
    if len(row) < 2:
        return 0.0
    differences = np.abs(row.astype(np.int16) - row[origin].astype(np.int16))
    return float(differences.mean() * len(row) / (len(row) - 1))
