"""Pictures of the user's own: read from any file, cropped and resized as a model's training pictures were."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from higan.errors import HiganError
from higan.files import open_file

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # looked for in a folder
LEAST_SIDE = 16
MOST_PIXELS = 2**28  # more than the largest camera gives; a small file can claim far more
MASK_LEVELS = 12.0  # grey levels of change at which `blend` takes the edit whole


@dataclass
class Picture:
    """A picture as a model takes it.

    Attributes
    ----------
    name
        The file's name without its ending.
    image
        uint8 [H, W, C], of the model's size and channels.
    photo
        uint8 [h, w, C]: the same part at the resolution of the file.
    """

    name: str
    image: NDArray[np.uint8]
    photo: NDArray[np.uint8]


def find_pictures(places: Sequence[str | Path]) -> list[Path]:
    """Return the picture files that are named, or lie in the folders that are named (sorted, not below them).

    Raises HiganError where there is none, or a name is none.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            shown = (path for path in place.iterdir() if not path.name.startswith("."))  # macOS leaves ._NAME.jpg
            inside = sorted(path for path in shown if path.suffix.lower() in SUFFIXES and path.is_file())
            if not inside:
                raise HiganError(
                    f"the folder {place} holds no picture; expected files that end in {', '.join(SUFFIXES)}"
                )
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise HiganError(f"there is no picture {place}; give files or folders of them")
    return found


def read_picture(
    path: str | Path, size: tuple[int, int], crop: str = "center", photo_side: int = 0, channels: int = 3
) -> Picture:
    """Read a picture, turn it as its EXIF says, cut out the part of the model's aspect, and resize it.

    Grey, CMYK and 16-bit pictures become 8-bit RGB, and transparent parts white, unless the model draws otherwise.

    Parameters
    ----------
    size
        Height and width of the model's pictures.
    crop
        "center": the largest part in the middle with the model's aspect. "stretch": all of it. "X,Y,W,H": this part,
        in pixels, stretched to the model's aspect.
    photo_side
        Longest side of the `photo`, which is reduced to it; 0 keeps the resolution of the file.
    channels
        1: grey. 3: RGB. 4: RGBA, which keeps what is transparent.

    Raises
    ------
    HiganError
        The file is missing, damaged, no picture, too small, too large, or the crop lies outside of it.
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            return decode_picture(file, str(path), size, crop, photo_side, channels)
    except OSError as error:
        raise HiganError(f"{path} cannot be read: {error.strerror or error}") from None


def decode_picture(
    file: BinaryIO, name: str, size: tuple[int, int], crop: str = "center", photo_side: int = 0, channels: int = 3
) -> Picture:
    """Return the picture in an open file, which errors call `name`; otherwise as `read_picture`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise HiganError(
                        f"{name} is {opened.width} x {opened.height} pixels; expected {MOST_PIXELS} in all at most: "
                        "make it smaller"
                    )
                picture = convert(ImageOps.exif_transpose(opened), channels)
    except Image.DecompressionBombError as error:
        raise HiganError(f"{name} claims too many pixels ({error}); make it smaller") from None
    except UnidentifiedImageError:
        raise HiganError(f"{name} is no picture that can be read; expected one of {', '.join(SUFFIXES)}") from None
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise HiganError(f"{name} is damaged or cannot be read: {error}") from None
    if min(picture.size) < LEAST_SIDE:
        raise HiganError(f"{name} is {picture.width} x {picture.height} pixels; expected {LEAST_SIDE} a side at least")
    part = picture.crop(crop_box(picture.size, size, crop, name))
    height, width = size
    small = part.resize((width, height), Image.Resampling.LANCZOS)
    if photo_side and max(part.size) > photo_side:
        part.thumbnail((photo_side, photo_side), Image.Resampling.LANCZOS)
    values = [np.asarray(image) for image in (small, part)]
    return Picture(Path(name).stem, *(value[..., None] if channels == 1 else value for value in values))


def convert(picture: Image.Image, channels: int) -> Image.Image:
    """Return a picture of any mode as 8-bit grey (1 channel), RGB (3) or RGBA (4), the first two on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture).astype(np.float64)
        most = 65535.0 if picture.mode.startswith("I") and values.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((values / most * 255 + 0.5).clip(0, 255).astype(np.uint8))
    if channels == 4:
        return picture.convert("RGBA")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("L" if channels == 1 else "RGB")


def crop_box(have: tuple[int, int], size: tuple[int, int], crop: str, name: str) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the part of a picture, `have` wide and high, that `crop` asks for."""
    width, height = have
    if crop == "stretch":
        return 0, 0, width, height
    if crop == "center":
        scale = min(width / size[1], height / size[0])
        wide, high = max(1, round(size[1] * scale)), max(1, round(size[0] * scale))
        left, top = (width - wide) // 2, (height - high) // 2
        return left, top, left + wide, top + high
    if not (found := re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", crop)):
        raise HiganError(f"--crop is {crop!r}; expected center, stretch, or X,Y,W,H in pixels")
    left, top, wide, high = map(int, found.groups())
    if min(wide, high) < LEAST_SIDE or left + wide > width or top + high > height:
        raise HiganError(f"--crop {crop} lies outside of {name}, {width} x {height} pixels, or is too small")
    return left, top, left + wide, top + high


def blend(photo: NDArray[np.uint8], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a photo [h, w, C] with what an edit changed in its reconstruction, where the edit acts.

    The change, after - before (uint8 [H, W, C] each), is brought to the photo's size and added, weighted by how large
    it is nearby: where nothing changes, the photo stays as it is to the last bit.
    """
    from scipy.ndimage import gaussian_filter  # not above: half a second that other pictures do not need

    change = after.astype(np.float32) - before.astype(np.float32)
    amount = gaussian_filter(np.abs(change).max(axis=2), sigma=max(1.0, len(before) / 64))
    change *= (amount / MASK_LEVELS).clip(0, 1)[..., None]
    height, width = photo.shape[:2]
    resized = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC))
        for channel in change.transpose(2, 0, 1)
    ]
    return (photo + np.stack(resized, axis=2) + 0.5).clip(0, 255).astype(np.uint8)


def blended(
    rows: Iterable[NDArray[np.uint8]], photo: NDArray[np.uint8], before: NDArray[np.uint8]
) -> Iterator[NDArray[np.uint8]]:
    """Yield, for each of some rows of edited pictures [S, H, W, C], what `blend` makes of them: [S, h, w, C]."""
    for row in rows:
        yield np.stack([blend(photo, before, after) for after in row])
