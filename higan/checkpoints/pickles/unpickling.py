"""Weight files to plain values and stored tensors, without running anything that is in the file.

The pickles in them are read by an interpreter of the project's own (`interpreter.py`). Only the names in an exact table
(`allowed.py`) mean anything to it.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from higan.checkpoints.pickles.allowed import GLOBALS
from higan.checkpoints.pickles.interpreter import Limits, Unpickler
from higan.checkpoints.pickles.stored import StoredTensor
from higan.checkpoints.pickles.torch_files import STREAM_START, ZIP_START, read_torch_stream, read_torch_zip
from higan.checkpoints.safetensors_files import is_safetensors, read_safetensors
from higan.errors import CheckpointError
from higan.files import open_file


def read_objects(path: Path) -> Any:
    """Return what a weight file holds: plain values, `Record`s and `StoredTensor`s that lie in the mapped file.

    Raises
    ------
    CheckpointError
        The bytes are no PyTorch file (zip or the older stream), pickle or safetensors, or damaged; the message does
        not name the file.
    OSError
        The file cannot be read.
    """
    data = map_file(path)
    start = bytes(data[:64])
    if start.startswith(ZIP_START):
        return read_torch_zip(path, data, GLOBALS)
    if start.startswith(STREAM_START):
        return read_torch_stream(data, Limits(len(data)), GLOBALS)
    if is_safetensors(data):
        return read_safetensors(data)
    if start[0] == 0x80 and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Unpickler(data, Limits(len(data)), GLOBALS).load()
    raise CheckpointError(f"{describe_bytes(start)}; expected a PyTorch file, a network pickle (.pkl) or .safetensors")


def read_numpy_object(path: Path, start: int) -> Any:
    """Return the object, or the list of objects, of an .npy file whose pickle begins at byte `start`.

    Arrays come as `StoredTensor`s. Raises CheckpointError, whose message does not name the file, like `read_objects`.
    """
    data = map_file(path)
    content = Unpickler(data, Limits(len(data)), GLOBALS, start).load()
    if isinstance(content, StoredTensor) and content.objects is not None:
        return content.objects[0] if content.shape == () and content.objects else content.objects
    return content


def map_file(path: Path) -> memoryview:
    """Return the bytes of a regular file, memory-mapped; raise CheckpointError if there are none."""
    with open_file(path) as file:
        if not file.seek(0, 2):
            raise CheckpointError("the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def describe_bytes(start: bytes) -> str:
    """Return what a file that begins so is likely to be."""
    known = {
        b"\x93NUMPY": "a numpy array",
        b"\x89HDF": "an HDF5 file",
        b"\x1f\x8b": "a gzip archive: unpack it first",
        b"BZh": "a bzip2 archive: unpack it first",
        b"\xfd7zXZ": "an xz archive: unpack it first",
        b"version https://git-lfs": "a Git LFS pointer: fetch the file that it points to",
        b"\x89PNG": "an image",
        b"\xff\xd8\xff": "an image",
        b"PK": "an empty or split zip archive",
        b"<": "a web page, probably of a download that failed: fetch the file again",
        b"{": "a text file",
        b"\0" * 16: "a run of zeros, probably of a download that failed: fetch the file again",
    }
    for prefix, description in known.items():
        if start.lstrip().startswith(prefix) or start.startswith(prefix):
            return description
    if start[:1] == b"\x80":
        return f"a pickle of protocol {start[1]}" if len(start) > 1 else "a single byte"
    return f"a file of unknown kind (it begins with {start[:8].hex(' ')})"
