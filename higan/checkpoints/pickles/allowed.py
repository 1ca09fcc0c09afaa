"""The names that have a meaning in a weight file, and what each of them stands for; every other name stays a name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from higan.checkpoints.pickles.interpreter import DICTIONARIES, Marker, Unpickler, is_key
from higan.checkpoints.pickles.stored import Damaged, Dtype, Record, Storage, StoredTensor, array, dimensions
from higan.checkpoints.pickles.torch_files import STREAM_START, read_torch_stream

# Each function's first argument is the Unpickler that meets the name; the others come from the file.


def dictionary(unpickler: Unpickler, items: Any = ()) -> dict[Any, Any]:
    """A dictionary of pairs."""
    pairs = list(items)
    unpickler.limits.opcode(len(pairs))
    if not all(type(pair) in (list, tuple) and len(pair) == 2 and is_key(pair[0]) for pair in pairs):
        raise Damaged("a dictionary is made of something else than pairs whose keys are texts or numbers")
    return dict(pairs)


def make_set(unpickler: Unpickler, items: Any = ()) -> set[Any]:
    """A set of texts and numbers."""
    values = list(items)
    unpickler.limits.opcode(len(values))
    if not all(map(is_key, values)):
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


def reconstruct_object(_: Unpickler, kind: Marker, base: Any, state: Any) -> Record | dict[Any, Any]:
    """An object as protocols 0 and 1 write it."""
    if not isinstance(kind, Marker):
        raise Damaged("an object is made of something that is no class")
    if kind.name in DICTIONARIES:
        return state if type(state) is dict else {}
    return Record(kind.name, entries=state if type(state) is dict else {})


def numpy_dtype(_: Unpickler, code: str, *__: Any) -> Dtype:
    """The type of an array."""
    code = code.lstrip("<|=") if type(code) is str else ""
    return Dtype("" if code == "bf16" else code)  # which is none of numpy's


def empty_array(_: Unpickler, *__: Any) -> StoredTensor:
    """An array before its state is set."""
    return StoredTensor(Storage("f4", 0), 0, (0,), (1,))


def numpy_scalar(_: Unpickler, dtype: Dtype, data: memoryview) -> StoredTensor:
    """A number of numpy's, as an array of shape ()."""
    return array((), dtype, data, False)


def numpy_buffer(_: Unpickler, data: memoryview, dtype: Dtype, shape: tuple[int, ...], order: str) -> StoredTensor:
    """An array with its values, as protocol 5 writes it."""
    return array(shape, dtype, data, order == "F")


def rebuild_tensor(
    _: Unpickler, storage: Storage | Record, offset: int, shape: Any, stride: Any, *__: Any
) -> StoredTensor | Record:
    """A tensor, once it is sure that it lies within its storage; a record where its type is none that is read."""
    if isinstance(storage, Record):
        return storage
    shape, stride = dimensions(shape), dimensions(stride)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(stride):
        raise Damaged("a tensor is not made of a storage, an offset, a shape and strides")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count and (last >= storage.count or count > storage.count):
        raise Damaged(f"a tensor of shape {list(shape)} does not fit into its storage of {storage.count} values")
    return StoredTensor(storage, offset, shape, stride)


def rebuild_parameter(_: Unpickler, tensor: StoredTensor | Record, *__: Any) -> StoredTensor | Record:
    """A parameter: its tensor."""
    if not isinstance(tensor, StoredTensor | Record):
        raise Damaged("a parameter is not made of a tensor")
    return tensor


def load_from_bytes(unpickler: Unpickler, data: memoryview) -> Storage | Record:
    """A storage as a PyTorch stream of its own inside of a pickle."""
    if not isinstance(data, memoryview) or not bytes(data[: len(STREAM_START)]) == STREAM_START:
        raise Damaged("the bytes of a storage are no PyTorch stream")
    storage = read_torch_stream(data, unpickler.limits, STREAM_GLOBALS)
    if not isinstance(storage, Storage | Record):
        raise Damaged("the bytes of a storage hold something else")
    return storage


def persistent_object(_: Unpickler, meta: dict[str, Any]) -> Record:
    """A network of NVlabs' programs; the source code that comes with it is left alone."""
    if type(meta) is not dict or type(meta.get("class_name")) is not str or type(meta.get("state")) is not dict:
        raise Damaged("a network comes without its class or state")
    return Record(meta["class_name"], meta["state"])


GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("dnnlib.util", "EasyDict"): dictionary,
    ("dnnlib", "EasyDict"): dictionary,
    ("collections", "OrderedDict"): dictionary,
    ("builtins", "set"): make_set,
    ("__builtin__", "set"): make_set,
    ("builtins", "frozenset"): make_set,
    ("__builtin__", "frozenset"): make_set,
    ("copyreg", "_reconstructor"): reconstruct_object,
    ("copy_reg", "_reconstructor"): reconstruct_object,
    ("_codecs", "encode"): encode,
    ("__builtin__", "bytes"): no_bytes,
    ("numpy", "dtype"): numpy_dtype,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent_object,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
}
for package in ("numpy.core", "numpy._core"):
    GLOBALS[f"{package}.multiarray", "_reconstruct"] = empty_array
    GLOBALS[f"{package}.multiarray", "scalar"] = numpy_scalar
    GLOBALS[f"{package}.numeric", "_frombuffer"] = numpy_buffer
STREAM_GLOBALS = {pair: GLOBALS[pair] for pair in GLOBALS if pair[0] != "torch.storage"}  # no stream lies in a stream
