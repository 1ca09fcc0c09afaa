"""Moving pictures: frames of many samples side by side, as H.264 by PyAV or as animated WebP and GIF."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from higan.errors import HiganError
from higan.files import to_rgb, write_atomic
from higan.report.page import resize

VIDEOS = (".mp4", ".avi", ".mkv", ".mov")
MOST_PIXELS = 16_384  # a side; H.264 and WebP have no more
ANIMATIONS = (".webp", ".gif")
FORMATS = {".mkv": "matroska"} | {suffix: suffix[1:] for suffix in (*VIDEOS, *ANIMATIONS) if suffix != ".mkv"}


@dataclass(frozen=True)
class Mosaic:
    """How pictures are laid out in a frame.

    Attributes
    ----------
    row, col
        Rows and columns; 0: as square as the number of pictures divides.
    row_spacing, col_spacing, border_left, border_right, border_top, border_bottom
        Pixels between and around the pictures.
    white_background
        White behind them rather than black.
    viz_size
        Height of a picture; 0 for its own.
    """

    row: int = 0
    col: int = 0
    row_spacing: int = 0
    col_spacing: int = 0
    border_left: int = 0
    border_right: int = 0
    border_top: int = 0
    border_bottom: int = 0
    white_background: bool = False
    viz_size: int = 0

    def shape(self, num: int) -> tuple[int, int]:
        """Return rows and columns for `num` pictures; the last row may stay open; HiganError if they hold fewer."""
        if self.row and self.col:
            if self.row * self.col < num:
                raise HiganError(f"--row {self.row} times --col {self.col} does not hold {num} samples; give one")
            return self.row, self.col
        if self.row:
            return self.row, math.ceil(num / self.row)
        columns = self.col or next(num // rows for rows in range(math.isqrt(num), 0, -1) if num % rows == 0)
        return math.ceil(num / columns), columns

    def frame(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return one frame, uint8 [H, W, 3], of pictures [h, w, C]; raise HiganError if it is too large for a video."""
        height, width = pictures[0].shape[:2]
        if self.viz_size:
            height, width = self.viz_size, max(1, round(width * self.viz_size / height))
        rows, columns = self.shape(len(pictures))
        down, across = height + self.row_spacing, width + self.col_spacing
        size = (
            rows * down - self.row_spacing + self.border_top + self.border_bottom,
            columns * across - self.col_spacing + self.border_left + self.border_right,
        )
        if max(size) > MOST_PIXELS:
            raise HiganError(f"frames of {size[1]} x {size[0]} pixels; expected {MOST_PIXELS} a side at most")
        frame = np.full((*size, 3), 255 if self.white_background else 0, dtype=np.uint8)
        for index, picture in enumerate(pictures):
            top, left = self.border_top + index // columns * down, self.border_left + index % columns * across
            same = picture.shape[:2] == (height, width)
            shown = to_rgb(picture)
            frame[top : top + height, left : left + width] = shown if same else resize(shown, height, width)
        return frame


def write_video(path: str | Path, frames: Sequence[NDArray[np.uint8]], fps: int = 24) -> Path:
    """Write frames, uint8 [H, W, 3], in the container that the name's ending says; return the file.

    .mp4, .avi, .mkv and .mov hold H.264 and need PyAV; .webp and .gif do not.

    Raises
    ------
    HiganError
        Another ending, no PyAV, a rate that is not positive, or a folder that cannot be written.
    """
    path = Path(path)
    check_video_name(path.name)
    if fps < 1:
        raise HiganError(f"frames per second is {fps}; expected at least 1")
    suffix = path.suffix.lower()
    encode = encode_h264 if suffix in VIDEOS else encode_animation
    write_atomic(path, encode(frames, fps, FORMATS[suffix]))
    return path


def check_video_name(name: str) -> str:
    """Return `name` if its ending is one that can be written, else raise HiganError."""
    if Path(name).suffix.lower() not in VIDEOS + ANIMATIONS:
        raise HiganError(f"video {name!r}: expected a name that ends in {', '.join(VIDEOS + ANIMATIONS)}")
    if Path(name).suffix.lower() in VIDEOS and not has_video():
        raise HiganError(
            f"video {name!r} needs PyAV: pip install -e '.[video]', or give a name in {' or '.join(ANIMATIONS)}"
        )
    return name


def has_video() -> bool:
    """Whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def encode_h264(frames: Sequence[NDArray[np.uint8]], fps: int, container_format: str) -> bytes:
    """Return frames as H.264; odd sizes grow by one pixel, since chroma is stored at half the size."""
    import av

    content = io.BytesIO()
    height, width = (side + side % 2 for side in frames[0].shape[:2])
    with av.open(content, "w", format=container_format) as container:
        # what x264's mbtree decides depends on memory that it has not written
        options = {"crf": "16", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            padding = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.pad(frame, padding, "edge"), format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()


def encode_animation(frames: Sequence[NDArray[np.uint8]], fps: int, image_format: str) -> bytes:
    """Return frames as an animated picture that runs for ever."""
    content = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(content, image_format, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=90)
    return content.getvalue()
