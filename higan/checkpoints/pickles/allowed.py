"""The names that a weight file may ask for, and what each of them stands for; every other name is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from higan.checkpoints.pickles.interpreter import CLASSES, Marker, Table, Unpickler
from higan.checkpoints.pickles.stored import DTYPES, Damaged, Dtype, Record, Storage, StoredTensor, array, dimensions
from higan.checkpoints.pickles.torch_files import STORAGES, STREAM_START, read_torch_stream
from higan.errors import CheckpointError

# Each function's first argument is the Unpickler that meets the name; the others come from the file.


def dictionary(_: Unpickler, items: Any = ()) -> dict[Any, Any]:
    """A dictionary of pairs."""
    pairs = list(items)
    if not all(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int) for pair in pairs):
        raise Damaged("a dictionary is made of something else than pairs whose keys are texts or numbers")
    return dict(pairs)


def make_set(_: Unpickler, items: Any = ()) -> set[Any]:
    """A set of texts and numbers."""
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
    """The type of an array of numbers."""
    code = code.lstrip("<|=") if type(code) is str else ""
    if code not in DTYPES or code == "bf16":
        raise CheckpointError(f"an array of type {code[:20]!r}; expected plain numbers")
    return Dtype(code)


def numpy_object_dtype(unpickler: Unpickler, code: str, *rest: Any) -> Dtype:
    """The type of an array of numbers, or of one of objects."""
    return Dtype("O") if code in ("O", "O8", "|O") else numpy_dtype(unpickler, code, *rest)


def empty_array(_: Unpickler, *__: Any) -> StoredTensor:
    """An array before its state is set."""
    return StoredTensor(Storage("f4", 0), 0, (0,), (1,))


def numpy_scalar(_: Unpickler, dtype: Dtype, data: memoryview) -> StoredTensor:
    """A number of numpy's, as an array of shape ()."""
    return array((), dtype, data, False)


def numpy_buffer(_: Unpickler, data: memoryview, dtype: Dtype, shape: tuple[int, ...], order: str) -> StoredTensor:
    """An array with its values, as protocol 5 writes it."""
    return array(shape, dtype, data, order == "F")


def rebuild_tensor(_: Unpickler, storage: Storage, offset: int, shape: Any, stride: Any, *__: Any) -> StoredTensor:
    """A tensor, once it is sure that it lies within its storage."""
    shape, stride = dimensions(shape), dimensions(stride)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(stride):
        raise Damaged("a tensor is not made of a storage, an offset, a shape and strides")
    count = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count and (last >= storage.count or count > storage.count):
        raise Damaged(f"a tensor of shape {list(shape)} does not fit into its storage of {storage.count} values")
    return StoredTensor(storage, offset, shape, stride)


def rebuild_parameter(_: Unpickler, tensor: StoredTensor, *__: Any) -> StoredTensor:
    """A parameter: its tensor."""
    if not isinstance(tensor, StoredTensor):
        raise Damaged("a parameter is not made of a tensor")
    return tensor


def load_from_bytes(unpickler: Unpickler, data: memoryview) -> Storage:
    """A storage as a PyTorch stream of its own inside of a pickle."""
    if not isinstance(data, memoryview) or not bytes(data[: len(STREAM_START)]) == STREAM_START:
        raise Damaged("the bytes of a storage are no PyTorch stream")
    storage = read_torch_stream(data, unpickler.limits, TENSOR_GLOBALS)
    if not isinstance(storage, Storage):
        raise Damaged("the bytes of a storage hold something else")
    return storage


def persistent_object(_: Unpickler, meta: dict[str, Any]) -> Record:
    """A network of NVlabs' programs; the source code that comes with it is left alone."""
    if type(meta) is not dict or type(meta.get("class_name")) is not str or type(meta.get("state")) is not dict:
        raise Damaged("a network comes without its class or state")
    return Record(meta["class_name"], meta["state"])


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
    **{("torch", name): None for name in STORAGES},
}
for package in ("numpy.core", "numpy._core"):
    GLOBALS[f"{package}.multiarray", "_reconstruct"] = empty_array
    GLOBALS[f"{package}.multiarray", "scalar"] = numpy_scalar
    GLOBALS[f"{package}.numeric", "_frombuffer"] = numpy_buffer
# what is left of them in arrays of objects, and in PyTorch's own files
NUMPY_GLOBALS = {pair: GLOBALS[pair] for pair in GLOBALS if pair[0].startswith(("numpy", "collections", "_codecs"))}
NUMPY_GLOBALS["numpy", "dtype"] = numpy_object_dtype
TENSOR_GLOBALS: Table = {pair: GLOBALS[pair] for pair in GLOBALS if pair[0] in ("torch", "torch._utils", "collections")}
