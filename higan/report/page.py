"""What every page shares: templates, one stylesheet and one script inlined, pictures encoded to fit a size."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from higan.errors import HiganError
from higan.files import to_rgb, write_atomic
from higan.generators.layer_sets import GROUPS, format_layers, parse_layers
from higan.logs import command_line
from higan.runs.run import versions

if TYPE_CHECKING:
    from higan.generators import Generator

# Bytes of a page's pictures as they lie in it (base64), so that the whole page stays under 25 MB.
PICTURE_BYTES = 24_000_000
# Browsers draw wider pictures through a reduced copy, which blurs the steps into each other.
MAX_WIDTH = 16_384


@dataclass(frozen=True)
class Encoding:
    """How pictures are stored: side as a share of the original, JPEG quality, chroma subsampling as Pillow names it."""

    share: float
    quality: int
    subsampling: str


# Tried in this order until a page fits: first finer quality goes, then chroma, then size.
ENCODINGS = (
    Encoding(1, 95, "4:4:4"),
    Encoding(1, 90, "4:4:4"),
    Encoding(1, 88, "4:2:0"),
    Encoding(1, 80, "4:2:0"),
    Encoding(1, 72, "4:2:0"),
    *(Encoding(share, 80, "4:2:0") for share in (3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8)),
)


def fill_page(
    template: str,
    *,
    title: str,
    summary: str = "",
    notes: Sequence[str] = (),
    details: Mapping[str, str | Sequence[str]] | None = None,
    **values: Any,
) -> str:
    """Return `template`, filled, as one self-contained .html; every value is text unless it is `Markup`.

    Parameters
    ----------
    title, summary
        Heading and the line under it.
    notes
        Sentences above the foot, such as what was left out.
    details
        What made the page: the foot's names and values; a list of files is folded.
    **values
        What the template itself asks for.
    """
    values = {"title": title, "summary": summary, "notes": notes, "details": details or {}} | values
    return render_page(template, "page.js", "'none'", **values)


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Write the page that `fill_page` returns of the same values."""
    write_atomic(path, fill_page(template, **values))


def in_frame(page: str, height: int = 640) -> str:
    """Return a page as a frame of a notebook's output, `height` pixels high, which reaches nothing outside of it."""
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts allow-downloads" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


def render_page(template: str, script: str, connect: str, **values: Any) -> str:
    """Return `template` filled with `values` and one of the static scripts, which may `connect` to this source."""
    code = read_static(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            stylesheet=Markup(read_static("page.css")),
            script=Markup(code),
            script_digest=f"sha256-{digest}",
            connect=connect,
            **values,
        )
    )


def describe_origin(generator: Generator) -> dict[str, str]:
    """Return the model, its truncation and layers, this process's command line and the versions, for a page's foot."""
    tuned = ", tuned" if generator.tuned_from else ""
    rows = {"Model": f"{generator.name} ({generator.family}, {' × '.join(map(str, generator.image_size))}{tuned})"}
    if generator.sha256:
        rows["Weights (SHA-256)"] = generator.sha256
    if generator.truncates_z:
        rows["Truncation"] = f"z is drawn with psi {generator.truncation_psi:g}"
    elif generator.truncation_layers and generator.truncation_psi != 1:
        rows["Truncation"] = f"psi {generator.truncation_psi:g} on the first {generator.truncation_layers} layers"
    elif generator.has_layers:
        rows["Truncation"] = "none"
    if generator.has_layers:
        rows["Layer groups"] = describe_groups(generator.num_layers)
    rows["Command"] = command_line()
    rows["Versions"] = ", ".join(f"{name} {number}" for name, number in versions().items())
    return rows


def describe_groups(num_layers: int) -> str:
    """Return which layers the names of the paper's groups stand for.

    >>> describe_groups(14)
    'bottom = 0–1, lower = 2–5, upper = 6–11, top = 12–13 of 14 layers'
    """
    found = {group: parse_layers(group, num_layers) for group in GROUPS}
    named = [f"{group} = {format_layers(layers).replace('-', '–')}" for group, layers in found.items() if layers]
    return f"{', '.join(named)} of {num_layers} layers"


def encode_rows(
    rows: Iterable[NDArray[np.uint8]], num: int, size: int = 0, budget: int = PICTURE_BYTES, columns: int = 0
) -> tuple[list[bytes], Encoding, tuple[int, int]]:
    """Encode rows of equally many pictures as one JPEG per row, all in the same way, within `budget` bytes of base64.

    Parameters
    ----------
    rows
        `num` arrays uint8 [S, H, W, C], read once and not kept; shown as `to_rgb` does.
    size
        Height the pictures are resized to; 0 leaves them as they are. Reduced further where the budget asks for it.
    columns
        Pictures side by side in a JPEG, the others below them; 0: all of them.

    Returns
    -------
    tuple
        The JPEG files; how they were encoded; (height, width) of one picture in them.
    """
    rows = iter(rows)
    first = [_check_row(row) for row in islice(rows, 4)]
    if not first:
        raise HiganError("a page needs at least one picture, found none")
    steps, height, width = first[0].shape[:3]
    columns = columns or steps
    if size:
        height, width = size, max(1, round(width * size / height))

    def encode(row: NDArray[np.uint8], encoding: Encoding) -> bytes:
        return encode_strip(row, encoding, *_scaled(height, width, encoding.share), columns)

    choices = [encoding for encoding in ENCODINGS if columns * _scaled(height, width, encoding.share)[1] <= MAX_WIDTH]
    choices = choices or [replace(ENCODINGS[-1], share=MAX_WIDTH / (columns * width))]
    # the first rows stand for all; a margin covers rows that are busier
    chosen = 0
    while chosen < len(choices) - 1:
        typical = max(len(encode(row, choices[chosen])) for row in first) * 4 / 3
        if typical * max(num, len(first)) <= 0.8 * budget:
            break
        chosen += 1
    encoded = [encode(row, choices[chosen]) for row in first]
    encoded += [encode(_check_row(row, first[0].shape), choices[chosen]) for row in rows]
    while sum(map(len, encoded)) * 4 / 3 > budget and chosen < len(choices) - 1:
        chosen += 1
        encoded = [encode(_decode_strip(strip, steps, columns), choices[chosen]) for strip in encoded]
    return encoded, choices[chosen], _scaled(height, width, choices[chosen].share)


def encode_strip(row: NDArray[np.uint8], encoding: Encoding, height: int, width: int, columns: int = 0) -> bytes:
    """Return pictures [S, H, W, 3] as one JPEG file, `columns` (0: all) side by side, each of `height` by `width`."""
    if row.shape[1:3] != (height, width):
        row = np.stack([resize(picture, height, width) for picture in row])
    columns = columns or len(row)
    lines = row.reshape(-1, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    strip = Image.fromarray(np.ascontiguousarray(lines).reshape(-1, columns * width, 3))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=encoding.quality, subsampling=encoding.subsampling, optimize=strip.width < 4096)
    return buffer.getvalue()


def resize(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return `picture` [H, W, 3] resized to [height, width, 3], antialiased."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def describe_encoding(encoding: Encoding, height: int, width: int) -> str:
    """Return one phrase on how the pictures are stored, for the foot of a page."""
    return f"{width} × {height} pixels, JPEG quality {encoding.quality}"


def reduction_notes(asked: tuple[int, int], stored: tuple[int, int]) -> list[str]:
    """Return the sentence that says that pictures were reduced, where they were."""
    if stored[0] >= asked[0]:
        return []
    return [
        f"Pictures were reduced from {asked[1]} × {asked[0]} to {stored[1]} × {stored[0]} pixels "
        f"to keep this page under {round((PICTURE_BYTES + 10**6) / 1e6)} MB."
    ]


def to_base64(data: bytes) -> str:
    """Return `data` as base64 text, as it stands in a data: address."""
    return base64.b64encode(data).decode("ascii")


@cache
def read_static(name: str) -> str:
    """Return the text of one of the files that are inlined into every page."""
    return files("higan.report").joinpath("static", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("higan.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _scaled(height: int, width: int, share: float) -> tuple[int, int]:
    return max(1, int(height * share)), max(1, int(width * share))


def _check_row(row: NDArray[np.uint8], shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    row = np.asarray(row)
    if row.dtype != np.uint8 or row.ndim != 4 or row.shape[0] == 0 or row.shape[3] not in (1, 3, 4):
        raise HiganError(f"a row of pictures must be uint8 [S, H, W, 1, 3 or 4], found {row.dtype} {row.shape}")
    row = to_rgb(row)
    if shape is not None and row.shape != shape:
        raise HiganError(f"rows of a page must have one shape, found {shape} and {row.shape}")
    return row


def _decode_strip(strip: bytes, steps: int, columns: int) -> NDArray[np.uint8]:
    picture = np.asarray(Image.open(io.BytesIO(strip)))
    lines = picture.reshape(steps // columns, picture.shape[0] * columns // steps, columns, -1, 3)
    return lines.transpose(0, 2, 1, 3, 4).reshape(steps, lines.shape[1], -1, 3)
