"""Pickles and PyTorch files to plain values and stored tensors, without running anything that is in the file.

An interpreter of its own executes the few opcodes that weight files use. A global is looked up in an exact table of
(module, name) pairs, each of which stands for a function below; there is no way to an import. Bytes stay where they are
in the mapped file, and every count is bounded, so that a hostile file costs neither time nor memory.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.errors import CheckpointError
from higan.files import open_file

MAX_OPCODES = 200_000  # the largest known files have some 20,000
MAX_TEXT = 2**26  # the largest array of PGGAN's, as text in protocol 2
MAX_ENTRIES = 100_000
MAX_DIMENSIONS = 8

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_STREAM_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
ZIP_START = b"PK\x03\x04"

STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
DTYPES = {"f2": 2, "f4": 4, "f8": 8, "bf16": 2, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "b1": 1}


@dataclass
class StoredTensor:
    """A tensor that still lies in the file: values of `dtype` (a key of DTYPES), little endian, in `storage.data`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the values in the file's own type."""
        return math.prod(self.shape) * DTYPES[self.storage.dtype]

    def load(self) -> Tensor:
        """Return a copy, float32 and contiguous."""
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


@dataclass
class Storage:
    """A run of `count` values of one type; `data` may follow later in the file."""

    dtype: str
    count: int
    data: memoryview = field(default_factory=lambda: memoryview(b""))


@dataclass
class Record:
    """Stands for an object of a class that is not imported: its class's name and what the file says of its state."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Dtype:
    """Stands for a numpy dtype: a key of DTYPES."""

    code: str


@dataclass
class Marker:
    """Stands for a global; calling it in the file means calling `build` here."""

    name: str
    build: Callable[..., Any] | None = None


class Damaged(CheckpointError):
    """The bytes are no pickle that a weight file could hold."""


def read_objects(path: Path) -> Any:
    """Return what a weight file holds: plain values, `Record`s and `StoredTensor`s that lie in the mapped file.

    Raises
    ------
    CheckpointError
        The bytes are neither a PyTorch file (zip or the older stream) nor a pickle, or need something that is not
        allowed; the message does not name the file.
    """
    with open_file(path) as file:
        if not file.seek(0, 2):
            raise CheckpointError("the file is empty")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = bytes(data[:64])
    if start.startswith(ZIP_START):
        return read_torch_zip(path, data)
    if start.startswith(TORCH_STREAM_START):
        return read_torch_stream(data, Limits(len(data)))
    if start[0] == 0x80 and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Unpickler(data, Limits(len(data))).load()
    raise CheckpointError(f"{describe_bytes(start)}; expected a PyTorch .pth file or a network pickle (.pkl)")


def read_numpy_object(path: Path, start: int) -> Any:
    """Return the one object of an .npy file of shape () and dtype object; its pickle begins at byte `start`.

    Arrays come as `StoredTensor`s. Raises CheckpointError, whose message does not name the file, like `read_objects`.
    """
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return Unpickler(data, Limits(len(data)), start, table=NUMPY_GLOBALS).load()


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


class Limits:
    """What the reading of one file may still use up, embedded streams included."""

    def __init__(self, size: int) -> None:
        self.opcodes = MAX_OPCODES
        self.bytes = 2 * size + 2**16

    def opcode(self) -> None:
        self.opcodes -= 1
        if self.opcodes < 0:
            raise CheckpointError(f"more than {MAX_OPCODES} pickle operations; no weight file needs so many")

    def allocate(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise CheckpointError("its objects would take more memory than the file's size allows")


class Unpickler:
    """Interpreter of one pickle that starts at `position` of `data`.

    Parameters
    ----------
    persistent
        Makes an object of a persistent id; without it persistent ids are refused.
    table
        The globals that may occur, by (module, name).
    """

    def __init__(
        self,
        data: memoryview,
        limits: Limits,
        position: int = 0,
        persistent: Callable[[Any], Any] | None = None,
        table: dict[tuple[str, str], Callable[..., Any] | None] | None = None,
    ) -> None:
        self.data, self.limits, self.position, self.persistent = data, limits, position, persistent
        self.table = GLOBALS if table is None else table
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the object; `position` is then behind the pickle."""
        while True:
            self.limits.opcode()
            code = self.byte()
            if code == ord("."):
                return self.pop()
            operation = OPCODES.get(code)
            if operation is None:
                raise Damaged(
                    f"pickle operation {chr(code)!r} at byte {self.position - 1} is none that weight files use"
                )
            operation(self)

    # bytes

    def take(self, count: int) -> memoryview:
        start, self.position = self.position, self.position + count
        if count < 0 or self.position > len(self.data):
            raise Damaged(f"the file ends too early: {count} bytes wanted at byte {start} of {len(self.data)}")
        return self.data[start : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, count: int, encoding: str = "utf-8") -> str:
        if count > MAX_TEXT:
            raise Damaged(f"a text of {count} bytes; no weight file needs one")
        return str(self.take(count), encoding)

    def line(self) -> str:
        end = bytes(self.data[self.position : self.position + 256]).find(b"\n")
        if end < 0:
            raise Damaged("the name of a global does not end")
        text = self.text(end)
        self.position += 1
        return text

    # stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damaged("a pickle operation finds nothing on its stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise Damaged("a pickle operation finds no mark on its stack")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Damaged(f"the pickle refers to object {index}, which is not there")
        self.push(self.memo[index])

    # compound operations

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def make_tuple(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise Damaged(f"items are appended to a {type(target).__name__}")
        target.extend(values)

    def add(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not set or not all(type(value) in (str, int) for value in values):
            raise Damaged("a set is made of something else than texts and numbers")
        target.update(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        keys = values[::2]
        if type(target) is not dict or len(values) % 2 or not all(type(key) in (str, int) for key in keys):
            raise Damaged("a dictionary is filled with something else than pairs whose keys are texts or numbers")
        target.update(zip(keys, values[1::2], strict=True))

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.table:
            raise CheckpointError(
                f"the pickle asks for {str(module)[:80]}.{str(name)[:80]}, which no weights of a PGGAN, StyleGAN or "
                "StyleGAN2 need; nothing was run"
            )
        self.push(Marker(f"{module}.{name}", self.table[module, name]))

    def stack_global(self) -> None:
        name = self.pop()
        self.find(self.pop(), name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Marker) or function.build is None or type(arguments) is not tuple:
            raise Damaged("the pickle calls something that is no function, or without arguments")
        try:
            self.push(function.build(self, *arguments))
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise Damaged(f"the pickle calls {function.name} with arguments that do not fit ({error})") from None

    def new_object(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Marker) or kind.name not in CLASSES or arguments != ():
            raise Damaged("the pickle makes an object of something that is no class, or with arguments")
        self.push({} if kind.name in DICTIONARIES else Record(kind.name))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Record) and type(state) is dict:
            target.state = state
        elif isinstance(target, Dtype) and type(state) is tuple:
            if len(state) < 2 or state[1] not in ("<", "|", "="):
                raise CheckpointError("an array of big-endian numbers; convert the file on the machine that wrote it")
        elif isinstance(target, StoredTensor) and type(state) is tuple and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if isinstance(dtype, Dtype) and dtype.code == "O" and shape == () and type(data) is list and len(data) == 1:
                self.stack[-1] = data[0]
                return
            filled = array(shape, dtype, data, bool(fortran))
            target.storage, target.shape, target.stride = filled.storage, filled.shape, filled.stride
        elif not (type(target) is dict and (state is None or type(state) is dict)):  # PyTorch's _metadata is not used
            raise Damaged("the pickle sets the state of something that has none")

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise Damaged("the pickle refers to something outside of it")
        self.push(self.persistent(self.pop()))


OPCODES: dict[int, Callable[[Unpickler], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda p: p.byte(),
        "\x95": lambda p: p.take(8),  # the length of a frame
        "(": Unpickler.mark,
        "0": Unpickler.pop,
        "1": Unpickler.since_mark,
        "N": lambda p: p.push(None),
        "\x88": lambda p: p.push(True),
        "\x89": lambda p: p.push(False),
        "J": lambda p: p.push(p.number("<i")),
        "K": lambda p: p.push(p.byte()),
        "M": lambda p: p.push(p.number("<H")),
        "\x8a": lambda p: p.push(int.from_bytes(p.take(p.byte()), "little", signed=True)),
        "G": lambda p: p.push(p.number(">d")),
        "X": lambda p: p.push(p.text(p.number("<I"))),
        "\x8c": lambda p: p.push(p.text(p.byte())),
        "\x8d": lambda p: p.push(p.text(p.number("<Q"))),
        "T": lambda p: p.push(p.text(p.number("<i"), "latin-1")),
        "U": lambda p: p.push(p.text(p.byte(), "latin-1")),
        "B": lambda p: p.push(p.take(p.number("<I"))),
        "C": lambda p: p.push(p.take(p.byte())),
        "\x8e": lambda p: p.push(p.take(p.number("<Q"))),
        "\x96": lambda p: p.push(p.take(p.number("<Q"))),
        ")": lambda p: p.push(()),
        "t": lambda p: p.push(tuple(p.since_mark())),
        "\x85": lambda p: p.make_tuple(1),
        "\x86": lambda p: p.make_tuple(2),
        "\x87": lambda p: p.make_tuple(3),
        "]": lambda p: p.push([]),
        "a": lambda p: p.append([p.pop()]),
        "e": lambda p: p.append(p.since_mark()),
        "}": lambda p: p.push({}),
        "s": lambda p: p.set_items([p.pop(), p.pop()][::-1]),
        "u": lambda p: p.set_items(p.since_mark()),
        "\x8f": lambda p: p.push(set()),
        "\x90": lambda p: p.add(p.since_mark()),
        "q": lambda p: p.put(p.byte()),
        "r": lambda p: p.put(p.number("<I")),
        "\x94": lambda p: p.put(len(p.memo)),
        "h": lambda p: p.recall(p.byte()),
        "j": lambda p: p.recall(p.number("<I")),
        "c": lambda p: p.find(p.line(), p.line()),
        "\x93": Unpickler.stack_global,
        "R": Unpickler.reduce,
        "\x81": Unpickler.new_object,
        "b": Unpickler.build,
        "Q": Unpickler.persistent_id,
    }.items()
}


# What the allowed globals stand for; the first argument is the Unpickler that meets them.


def dictionary(_: Unpickler, items: Any = ()) -> dict[Any, Any]:
    pairs = list(items)
    if not all(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int) for pair in pairs):
        raise Damaged("a dictionary is made of something else than pairs whose keys are texts or numbers")
    return dict(pairs)


def make_set(_: Unpickler, items: Any = ()) -> set[Any]:
    values = list(items)
    if not all(type(value) in (str, int) for value in values):
        raise Damaged("a set is made of something else than texts and numbers")
    return set(values)


def encode(unpickler: Unpickler, text: str, encoding: str) -> memoryview:
    """Bytes as protocol 2 writes them."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise Damaged("bytes are written in an unknown encoding")
    unpickler.limits.allocate(len(text))
    return memoryview(text.encode("latin-1"))


def no_bytes(_: Unpickler) -> memoryview:
    """Bytes of length 0 as protocol 2 writes them."""
    return memoryview(b"")


def reconstruct_object(_: Unpickler, kind: Marker, base: Any, state: Any) -> Record:
    """An object as protocols 0 and 1 write it."""
    if not isinstance(kind, Marker) or kind.name not in CLASSES or state is not None:
        raise Damaged("an object is made of something that is no class")
    return Record(kind.name)


def numpy_dtype(_: Unpickler, code: str, *__: Any) -> Dtype:
    code = code.lstrip("<|=") if type(code) is str else ""
    if code not in DTYPES or code == "bf16":
        raise CheckpointError(f"an array of type {code[:20]!r}; expected plain numbers")
    return Dtype(code)


def numpy_object_dtype(unpickler: Unpickler, code: str, *rest: Any) -> Dtype:
    return Dtype("O") if code in ("O", "O8", "|O") else numpy_dtype(unpickler, code, *rest)


def empty_array(_: Unpickler, *__: Any) -> StoredTensor:
    return StoredTensor(Storage("f4", 0), 0, (0,), (1,))


def numpy_scalar(_: Unpickler, dtype: Dtype, data: memoryview) -> StoredTensor:
    return array((), dtype, data, False)


def numpy_buffer(_: Unpickler, data: memoryview, dtype: Dtype, shape: tuple[int, ...], order: str) -> StoredTensor:
    return array(shape, dtype, data, order == "F")


def array(shape: Any, dtype: Any, data: Any, fortran: bool) -> StoredTensor:
    """Return a numpy array's values, which fill `data` in C or Fortran order."""
    if isinstance(data, str):  # as Python 2 wrote it
        data = memoryview(data.encode("latin-1"))
    if not isinstance(dtype, Dtype) or not isinstance(data, memoryview):
        raise Damaged("an array is not made of a type and bytes")
    shape = dimensions(shape)
    storage = Storage(dtype.code, len(data) // DTYPES[dtype.code], data)
    stride = contiguous(shape[::-1])[::-1] if fortran else contiguous(shape)
    if math.prod(shape) * DTYPES[dtype.code] != len(data):
        raise Damaged(f"an array of shape {list(shape)} comes with {len(data)} bytes")
    return StoredTensor(storage, 0, shape, stride)


def rebuild_tensor(_: Unpickler, storage: Storage, offset: int, shape: Any, stride: Any, *__: Any) -> StoredTensor:
    shape, stride = dimensions(shape), dimensions(stride)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(stride):
        raise Damaged("a tensor is not made of a storage, an offset, a shape and strides")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count and (last >= storage.count or count > storage.count):
        raise Damaged(f"a tensor of shape {list(shape)} does not fit into its storage of {storage.count} values")
    return StoredTensor(storage, offset, shape, stride)


def rebuild_parameter(_: Unpickler, tensor: StoredTensor, *__: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise Damaged("a parameter is not made of a tensor")
    return tensor


def load_from_bytes(unpickler: Unpickler, data: memoryview) -> Storage:
    """A storage as a PyTorch stream of its own inside of a pickle."""
    if not isinstance(data, memoryview) or not bytes(data[: len(TORCH_STREAM_START)]) == TORCH_STREAM_START:
        raise Damaged("the bytes of a storage are no PyTorch stream")
    storage = read_torch_stream(data, unpickler.limits)
    if not isinstance(storage, Storage):
        raise Damaged("the bytes of a storage hold something else")
    return storage


def persistent_object(_: Unpickler, meta: dict[str, Any]) -> Record:
    """A network of NVlabs' programs; the source code that comes with it is left alone."""
    if type(meta) is not dict or type(meta.get("class_name")) is not str or type(meta.get("state")) is not dict:
        raise Damaged("a network comes without its class or state")
    return Record(meta["class_name"], meta["state"])


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


NETWORKS = ("tfutil.Network", "dnnlib.tflib.network.Network", "network.Network")
DICTIONARIES = ("dnnlib.util.EasyDict", "dnnlib.EasyDict", "collections.OrderedDict")
CLASSES = NETWORKS + DICTIONARIES

STORAGE_GLOBALS: dict[tuple[str, str], Callable[..., Any] | None] = {("torch", name): None for name in STORAGES}
GLOBALS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("tfutil", "Network"): None,
    ("dnnlib.tflib.network", "Network"): None,
    ("network", "Network"): None,
    ("dnnlib.util", "EasyDict"): dictionary,
    ("dnnlib", "EasyDict"): dictionary,
    ("collections", "OrderedDict"): dictionary,
    ("builtins", "set"): make_set,
    ("__builtin__", "set"): make_set,
    ("builtins", "object"): None,
    ("__builtin__", "object"): None,
    ("copyreg", "_reconstructor"): reconstruct_object,
    ("copy_reg", "_reconstructor"): reconstruct_object,
    ("_codecs", "encode"): encode,
    ("__builtin__", "bytes"): no_bytes,
    ("numpy", "dtype"): numpy_dtype,
    ("numpy", "ndarray"): None,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent_object,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
    **STORAGE_GLOBALS,
}
for package in ("numpy.core", "numpy._core"):
    GLOBALS[f"{package}.multiarray", "_reconstruct"] = empty_array
    GLOBALS[f"{package}.multiarray", "scalar"] = numpy_scalar
    GLOBALS[f"{package}.numeric", "_frombuffer"] = numpy_buffer
NUMPY_GLOBALS = {pair: GLOBALS[pair] for pair in GLOBALS if pair[0].startswith(("numpy", "collections", "_codecs"))}
NUMPY_GLOBALS["numpy", "dtype"] = numpy_object_dtype
TENSOR_GLOBALS = {pair: GLOBALS[pair] for pair in GLOBALS if pair[0] in ("torch", "torch._utils", "collections")}


# PyTorch's two file formats


def read_torch_zip(path: Path, data: memoryview) -> Any:
    """Return what a PyTorch file of the zip format holds; its parts are stored as they are, not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"a zip archive that is cut short or damaged ({error})") from None
    if len(entries) > MAX_ENTRIES:
        raise CheckpointError(f"a zip archive of {len(entries)} parts; expected a PyTorch file")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise CheckpointError("a zip archive with compressed parts; expected a PyTorch file, whose parts are not")
    parts = {entry.filename.partition("/")[2]: entry for entry in entries}
    if "data.pkl" not in parts:
        raise CheckpointError("a zip archive without PyTorch's data.pkl; expected a PyTorch file")
    if "byteorder" in parts and bytes(zip_part(data, parts["byteorder"])) != b"little":
        raise CheckpointError("a PyTorch file of big-endian numbers; convert it on the machine that wrote it")
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Storage:
        dtype, name, count = storage_id(key)
        if name not in storages:
            if f"data/{name}" not in parts:
                raise CheckpointError(f"the PyTorch file lacks its part data/{name[:40]}")
            content = zip_part(data, parts[f"data/{name}"])
            if len(content) < count * DTYPES[dtype]:
                raise Damaged(f"a storage of {count} values comes with {len(content)} bytes")
            storages[name] = Storage(dtype, count, content[: count * DTYPES[dtype]])
        return storages[name]

    return Unpickler(zip_part(data, parts["data.pkl"]), Limits(len(data)), 0, persistent, TENSOR_GLOBALS).load()


def zip_part(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a stored part, checked against its checksum."""
    start = entry.header_offset
    header = data[start : start + 30]
    if len(header) < 30 or bytes(header[:4]) != ZIP_START:
        raise Damaged(f"the zip archive's part {entry.filename[:80]} is not where its directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    start += 30 + name + extra
    content = data[start : start + entry.file_size]
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise Damaged(f"the zip archive's part {entry.filename[:80]} is damaged: its checksum is wrong")
    return content


def read_torch_stream(data: memoryview, limits: Limits) -> Any:
    """Return what a PyTorch file of the older format holds: four pickles, the storages' names, then their values."""
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Storage:
        dtype, name, count = storage_id(key)
        return storages.setdefault(name, Storage(dtype, count))

    position, values = 0, []
    for table in ({}, {}, {}, TENSOR_GLOBALS, {}):
        unpickler = Unpickler(data, limits, position, persistent if table else None, table)
        values.append(unpickler.load())
        position = unpickler.position
    magic, version, system, content, names = values
    if magic != TORCH_MAGIC or version != 1001 or type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError("a PyTorch stream of an unknown version or of big-endian numbers")
    if type(names) is not list or sorted(map(str, names)) != sorted(storages):
        raise Damaged("the storages of a PyTorch stream are not the ones its tensors need")
    for name in names:
        storage = storages[name]
        size = storage.count * DTYPES[storage.dtype]
        if len(data) < position + 8 + size or struct.unpack("<q", data[position : position + 8])[0] != storage.count:
            raise Damaged(f"the file ends too early or is damaged: a storage of {storage.count} values is not there")
        storage.data = data[position + 8 : position + 8 + size]
        position += 8 + size
    return content


def storage_id(key: Any) -> tuple[str, str, int]:
    """Return type, name and number of values of a storage, of the persistent id that stands for it."""
    if type(key) is not tuple or len(key) not in (5, 6) or key[0] != "storage" or key[5:] not in ((), (None,)):
        raise Damaged("a persistent id that names no storage")
    _, kind, name, _, count = key[:5]
    if not isinstance(kind, Marker) or kind.name.removeprefix("torch.") not in STORAGES:
        raise Damaged("a storage of an unknown type")
    if type(name) is not str or type(count) is not int or count < 0:
        raise Damaged("a storage without a name or a size")
    return STORAGES[kind.name.removeprefix("torch.")], name, count
