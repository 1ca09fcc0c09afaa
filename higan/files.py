"""Files are written whole or not at all, and read only if they are regular files. Arrays are plain .npy files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from higan.errors import HiganError

TEMPORARY = ".tmp"  # ending of files that are not whole yet; their names begin with a dot
SMALL_FILE = 2**24  # bytes; descriptions, lists and the like are a thousandth of it
HEADER_BYTES = 2**20  # of an .npy file; numpy's own limit is too near to 365 named fields
DIGEST_BLOCK = 2**24
CHECKER = 8  # pixels of a square of the checkerboard behind transparent pictures
IMAGE_FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95},
    "png": {"format": "PNG", "compress_level": 3},
    "webp": {"format": "WEBP", "quality": 90, "method": 2},
}


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file that is either whole or not there.

    Raises
    ------
    HiganError
        The disk is full, or the folder cannot be written or is gone.
    """
    try:
        with whole_file(path) as file:
            file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
    except OSError as error:
        raise disk_error(Path(path).parent, error) from None


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; at the end it is flushed and renamed to `path`.

    After an error it is removed, and what was at `path` is still there. OSErrors pass through.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:  # around the opening too: a signal may raise as soon as the file is there
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array, of one dimension or more, as a plain .npy file; errors as `write_atomic`."""
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array), allow_pickle=False)
    write_atomic(path, content.getvalue())


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """Return an image, uint8 [H, W, C], as a file of `image_format`, one of `IMAGE_FORMATS`.

    Grey stays grey. JPEG has no transparency: there it is laid on a checkerboard.
    """
    from PIL import Image

    content = io.BytesIO()
    image = to_rgb(image) if image.shape[2] == 4 and image_format == "jpg" else image
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(content, **IMAGE_FORMATS[image_format])
    return content.getvalue()


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Return images, uint8 [..., H, W, C], as they are shown, uint8 [..., H, W, 3].

    Grey is repeated; what is transparent shows a checkerboard of `CHECKER` pixels, as editors show it.
    """
    height, width, channels = images.shape[-3:]
    if channels == 1:
        return images.repeat(3, axis=-1)
    if channels == 3:
        return images
    squares = np.add.outer(np.arange(height) // CHECKER, np.arange(width) // CHECKER) % 2
    board = np.where(squares, 204, 255)[:, :, None]
    opacity = images[..., 3:] / np.float32(255)
    return np.rint(images[..., :3] * opacity + board * (1 - opacity)).astype(np.uint8)


def is_file(path: str | Path) -> bool:
    """Whether `path` is a regular file. A name that no file can have is not."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file to read. Raise OSError if there is none, also for pipes and devices, which may never end."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.open("rb")


def read_small(path: str | Path) -> bytes:
    """Return the content of a regular file; OSError unless it can be read and has at most `SMALL_FILE` bytes."""
    with open_file(path) as file:
        content = file.read(SMALL_FILE + 1)
    if len(content) > SMALL_FILE:
        raise OSError(errno.EFBIG, f"it has more than {format_size(SMALL_FILE)}")
    return content


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the object in a small JSON file; OSError if it cannot be read, ValueError if it holds something else."""
    try:
        content = json.loads(read_small(path))
    except RecursionError:
        raise ValueError("lists in lists, too deep to be read") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}; expected an object {{...}}")
    return content


def digest(*paths: Path) -> str:
    """Return the SHA-256 of files one after the other, in hexadecimal; OSError where one cannot be read."""
    value = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(DIGEST_BLOCK):
                value.update(block)
    return value.hexdigest()


def map_array(path: str | Path) -> np.memmap:
    """Return the array in an .npy file, memory-mapped, read only.

    Raises
    ------
    HiganError
        The file cannot be read, is truncated, not .npy, or holds Python objects.
    """
    with _header_checked(path):
        return np.lib.format.open_memmap(path, mode="r", max_header_size=HEADER_BYTES)


def read_rows(path: str | Path, start: int, stop: int) -> np.ndarray:
    """Return a copy of rows `start` to `stop` of an .npy file; nothing else of it stays in memory.

    Raises HiganError like `map_array`.
    """
    return np.array(map_array(path)[start:stop])


def read_header(path: str | Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, dtype and the position of the first value of an .npy file; raise HiganError if it is not one."""
    with _header_checked(path), open_file(path) as file:
        shape, _, dtype = parse_header(file)
        return shape, dtype, file.tell()


def parse_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether in Fortran's order, and dtype of an .npy file that is open at its start; errors are any."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file, max_header_size=HEADER_BYTES)


@contextmanager
def _header_checked(path: str | Path) -> Iterator[None]:
    """Turn whatever numpy raises about a file's header into a HiganError, and hide its warnings about old headers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise HiganError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the header is an expression that numpy evaluates: its errors are of any kind
        raise HiganError(f"{path} is truncated or not a plain .npy array ({error})") from None


def disk_error(folder: Path, error: OSError) -> HiganError:
    """Return what to tell the user of an `error` that came while a file in `folder` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HiganError(f"the disk of {folder} is full; make room and run the same command again")
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is gone"
        return HiganError(f"{folder} {what}; once that is mended, run the same command again")
    return HiganError(f"cannot write in {folder}: {error}; once that is mended, run the same command again")


def format_size(count: float) -> str:
    """Return a number of bytes in words, as in "2.1 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
