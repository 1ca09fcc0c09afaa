"""What a weight file holds, before a number of it is read: tensors that still lie in the file, and plain records."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

# numbers as files hold them, and the bytes of each
DTYPES = {"f2": 2, "f4": 4, "f8": 8, "bf16": 2, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "b1": 1}
MAX_DIMENSIONS = 8


class Damaged(CheckpointError):
    """The bytes are no pickle that a weight file could hold."""


@dataclass(eq=False, repr=False, slots=True)
class Record:
    """Stands for an object, a class or a call of a program that is not imported: inert, only what the file says of it.

    Attributes
    ----------
    kind
        Name of its class or function, such as "argparse.Namespace".
    state
        Its attributes by name, where the file gives them in a dictionary.
    arguments
        What it is made of.
    entries
        What it holds if it is a kind of dictionary.
    """

    kind: str
    state: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class StoredTensor:
    """A tensor that still lies in the file: values of `dtype` (a key of DTYPES), little endian, in `storage.data`.

    A numpy array of Python objects has these in `objects`, row by row, and no numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    objects: list[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the values in the file's own type."""
        return math.prod(self.shape) * DTYPES[self.storage.dtype]

    def load(self) -> Tensor:
        """Return a copy, float32 and contiguous."""
        import torch

        if self.objects is not None:
            raise CheckpointError("an array of Python objects; expected one of numbers")
        dtype = self.storage.dtype
        flat = np.frombuffer(self.storage.data, "<i2" if dtype == "bf16" else "?" if dtype == "b1" else f"<{dtype}")
        size = flat.itemsize
        values = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, tuple(step * size for step in self.stride), writeable=False
        )
        if dtype == "bf16":
            tensor = torch.from_numpy(values.copy()).view(torch.bfloat16).float()
        else:
            with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found there
                tensor = torch.from_numpy(np.array(values, np.float32, order="C"))
        if isinstance(mapped := self.storage.data.obj, mmap.mmap) and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)  # the pages of the file; they come back when they are read again
        return tensor

    def number(self) -> bool | int | float:
        """Return the only value, exactly as the file has it (float32 for bfloat16)."""
        if math.prod(self.shape) != 1 or self.objects is not None:
            raise CheckpointError(f"a tensor of shape {list(self.shape)}; expected a single number")
        if self.storage.dtype == "bf16":
            return self.load().item()
        dtype = "?" if self.storage.dtype == "b1" else f"<{self.storage.dtype}"
        value: bool | int | float = np.frombuffer(self.storage.data, dtype)[self.offset].item()
        return value


@dataclass(eq=False, repr=False)
class Storage:
    """A run of `count` values of one type; `data` may follow later in the file."""

    dtype: str
    count: int
    data: memoryview = field(default_factory=lambda: memoryview(b""))


@dataclass(eq=False)
class Dtype:
    """Stands for a numpy dtype: a key of DTYPES, "O" for Python objects, or a type that is not read (texts, fields)."""

    code: str


def array(shape: Any, dtype: Any, data: Any, fortran: bool) -> StoredTensor:
    """Return a numpy array's values, which fill `data` in C or Fortran order."""
    if isinstance(data, str):  # as Python 2 wrote it
        data = memoryview(data.encode("latin-1"))
    if not isinstance(dtype, Dtype):
        raise Damaged("an array is not made of a type and bytes")
    shape = dimensions(shape)
    if dtype.code not in DTYPES:
        objects = data if type(data) is list and len(data) == math.prod(shape) else []
        return StoredTensor(Storage("f4", 0), 0, shape, contiguous(shape), objects)
    if not isinstance(data, memoryview):
        raise Damaged("an array is not made of a type and bytes")
    storage = Storage(dtype.code, len(data) // DTYPES[dtype.code], data)
    stride = contiguous(shape[::-1])[::-1] if fortran else contiguous(shape)
    if math.prod(shape) * DTYPES[dtype.code] != len(data):
        raise Damaged(f"an array of shape {list(shape)} comes with {len(data)} bytes")
    return StoredTensor(storage, 0, shape, stride)


def dimensions(values: Any) -> tuple[int, ...]:
    """Return a shape or strides, checked to be a few natural numbers."""
    if type(values) is not tuple or len(values) > MAX_DIMENSIONS or not all(type(v) is int and v >= 0 for v in values):
        raise Damaged("a shape that is none")
    return values


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of values that fill `shape` in order, the last dimension fastest."""
    strides = [1]
    for size in shape[:0:-1]:
        strides.append(strides[-1] * size)
    return tuple(strides[::-1])[: len(shape)]
