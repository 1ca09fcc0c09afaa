"""Arrays as any tool writes them: .npy, plain or pickled, .npz, and PyTorch files; nothing in a file is run."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from higan.checkpoints.networks import describe
from higan.checkpoints.pickles.stored import StoredTensor
from higan.checkpoints.pickles.unpickling import read_numpy_object, read_objects
from higan.devices import require_memory
from higan.errors import CheckpointError, HiganError
from higan.files import is_file, open_file, parse_header, read_header
from higan.runs.run import read_array

NPY_START, ZIP_START = b"\x93NUMPY", b"PK\3\4"
MAX_RATIO = 100  # of what .npz unpacks to and its file; codes hardly shrink
MAX_DEPTH = 4  # of dictionaries in dictionaries
MAX_OBJECTS = 100_000
KINDS = ".npy, .npz or PyTorch (.pt)"


def read_arrays(path: str | Path) -> np.ndarray | dict[str, Any]:
    """Return what a file of arrays holds: one array, or arrays (and other plain values) by name.

    The kind of file is recognised by its content. A plain .npy is memory-mapped, other arrays are read into memory;
    those of pickles and PyTorch files become float32.

    Examples
    --------
    >>> read_arrays("projected_w.npz")["w"].shape
    (1, 14, 512)

    Raises
    ------
    HiganError
        The file is missing, damaged, of another kind, or belongs to a run that is not finished.
    """
    path = Path(path)
    if not is_file(path):
        raise HiganError(f"there is no file {path}; expected {KINDS}")
    try:
        with open_file(path) as file:
            start, size = file.read(len(NPY_START)), path.stat().st_size
        if start.startswith(NPY_START):
            _, dtype, first = read_header(path)
            return plain(read_numpy_object(path, first), size) if dtype.hasobject else read_array(path)
        if start.startswith(ZIP_START) and (members := npz_members(path)):
            return read_npz(path, members)
        return plain(read_objects(path), size)
    except CheckpointError as error:
        raise HiganError(f"{path} is truncated or not an array ({error}); expected {KINDS}") from None
    except OSError as error:
        raise HiganError(f"{path} cannot be read: {error.strerror or error}") from None


def npz_members(path: Path) -> list[zipfile.ZipInfo]:
    """Return the arrays in an .npz, [] if it is another zip file; raise CheckpointError if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(str(error)) from None
    return members if all(member.filename.endswith(".npy") for member in members) else []


def read_npz(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz by name; raise CheckpointError if one is damaged or holds Python objects."""
    size = sum(member.file_size for member in members)
    if size > MAX_RATIO * path.stat().st_size:
        raise CheckpointError(f"its arrays would take {size} bytes, more than {MAX_RATIO} times what the file has")
    require_memory(size, f"the arrays in {path}")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, fortran, dtype = parse_header(file)
                    data = file.read()
                if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
                    raise CheckpointError(f"its {name!r} is no plain array of {dtype} {list(shape)}")
                arrays[name] = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        raise CheckpointError(str(error)) from None
    return arrays


def plain(content: Any, size: int) -> Any:
    """Return what a file of `size` bytes holds with its tensors as float32 arrays; CheckpointError if it holds none.

    A list of tensors of one shape becomes one array. Dictionaries in others are followed a few deep.
    """
    left, visited = size, 0

    def load(value: Any, depth: int) -> Any:
        nonlocal left, visited
        visited += 1
        if isinstance(value, StoredTensor) and value.objects is None:
            left -= value.nbytes
            if left < 0:
                raise CheckpointError("its arrays claim more numbers than the file holds")
            return value.load().numpy()
        if depth == MAX_DEPTH or visited > MAX_OBJECTS:
            return None
        if isinstance(value, StoredTensor):
            return load(value.objects[0], depth + 1) if value.shape == () and value.objects else None
        if isinstance(value, Mapping):
            return {key: load(item, depth + 1) for key, item in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple) and value and all(isinstance(item, StoredTensor) for item in value):
            arrays = [load(item, depth + 1) for item in value]
            return np.stack(arrays) if len({np.shape(array) for array in arrays}) == 1 else arrays
        return value

    found = load(content, 0)
    if isinstance(found, np.ndarray) or (isinstance(found, dict) and found):
        return found
    raise CheckpointError(f"it holds {describe(content)} without arrays")
