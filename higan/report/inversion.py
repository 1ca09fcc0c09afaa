"""The page of inverted pictures: before, after and difference of each, and how the loss fell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higan.report.page import describe_encoding, encode_rows, to_base64, write_page

CURVE_WIDTH, CURVE_HEIGHT = 640, 120


@dataclass(frozen=True)
class PictureRow:
    """One picture: its name, how near the found one is ("31.2 dB"), a remark, and its strip as base64 JPEG."""

    name: str
    psnr: str
    remark: str
    data: str = ""


def write_inversion_page(
    path: str | Path,
    strips: Iterable[NDArray[np.uint8]],
    rows: Sequence[PictureRow],
    *,
    losses: NDArray[np.float32],
    title: str,
    summary: str,
    total: int,
    details: Mapping[str, str] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    strips
        Per row uint8 [3, H, W, 3]: before, after, difference.
    losses
        [T]: the mean loss at every step.
    total
        How many pictures there are, where the page shows the first of more.
    """
    encoded, encoding, (height, width) = encode_rows(strips, len(rows))
    write_page(
        path,
        "inversion.html",
        title=title,
        summary=summary,
        notes=[f"The first {len(rows)} of {total} pictures."] if total > len(rows) else [],
        details={**(details or {}), "Pictures": describe_encoding(encoding, height, width)},
        rows=[replace(row, data=to_base64(strip)) for row, strip in zip(rows, encoded, strict=True)],
        height=height,
        width=width,
        curve=curve_points(losses),
        curve_width=CURVE_WIDTH,
        curve_height=CURVE_HEIGHT,
        first=f"{losses[0]:.3g}",
        last=f"{losses[-1]:.3g}",
        steps=len(losses),
    )


def curve_points(losses: NDArray[np.float32]) -> str:
    """Return the points of a polyline of log10 losses [T], as SVG writes them."""
    values = np.log10(np.maximum(losses.astype(np.float64), 1e-6))
    spread = max(float(values.max() - values.min()), 1e-9)
    x = np.linspace(0, CURVE_WIDTH, len(values))
    y = (values.max() - values) / spread * CURVE_HEIGHT
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
