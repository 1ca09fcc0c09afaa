"""The page of mixed styles: a matrix, whose rows are contents and whose columns are styles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higan.files import to_rgb
from higan.report.page import describe_encoding, encode_rows, encode_strip, reduction_notes, to_base64, write_page


def write_mixing_page(
    path: str | Path,
    rows: Iterable[NDArray[np.uint8]],
    num: int,
    title: str,
    summary: str,
    size: int = 0,
    details: Mapping[str, str] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    rows
        `num` arrays uint8 [1 + num, H, W, C]: a sample, then with layers of each of the samples; read once.
    size
        Height of the pictures on the page; 0 for their own. They are reduced where the page would pass 25 MB.
    details
        What made the pictures: names and values in the foot of the page.
    """
    samples: list[NDArray[np.uint8]] = []

    def kept() -> Iterator[NDArray[np.uint8]]:
        for row in rows:
            samples.append(row[0])
            yield row

    strips, encoding, (height, width) = encode_rows(kept(), num, size)
    asked = (size, round(samples[0].shape[1] * size / samples[0].shape[0])) if size else samples[0].shape[:2]
    write_page(
        path,
        "mixing.html",
        title=title,
        summary=summary,
        notes=reduction_notes(asked, (height, width)),
        details={**(details or {}), "Pictures": describe_encoding(encoding, height, width)},
        styles=to_base64(encode_strip(to_rgb(np.stack(samples)), encoding, height, width)),
        strips=[to_base64(strip) for strip in strips],
        height=height,
        width=width,
    )
