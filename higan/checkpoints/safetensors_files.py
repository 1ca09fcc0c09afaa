"""Files of the safetensors format: the length of a JSON header, the header, then the numbers of all tensors.

Source: https://huggingface.co/docs/safetensors. The project reads and writes it here, so that tensors stay in the
mapped file, as those of every other format do.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from higan.checkpoints.pickles.stored import DTYPES, Damaged, Record, Storage, StoredTensor, contiguous, dimensions

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 2**24  # bytes; a header has a hundred for each tensor
NAMES = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": "bf16",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "b1",
}
TYPES = {  # of PyTorch
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
}
METADATA = "__metadata__"


def is_safetensors(data: memoryview) -> bool:
    """Whether bytes begin as such a file does."""
    return len(data) > 9 and data[8] == ord("{") and 2 <= struct.unpack("<Q", data[:8])[0] <= MAX_HEADER


def read_safetensors(data: memoryview) -> dict[str, Any]:
    """Return tensors by name, and the texts in the file's metadata by name under `METADATA`; raise Damaged."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    if start > len(data):
        raise Damaged("the file ends too early: its header is not whole")
    try:
        header = json.loads(bytes(data[8:start]))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the header is no JSON ({str(error)[:80]})") from None
    content: dict[str, Any] = {METADATA: header.pop(METADATA, {})}
    for name, entry in header.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
            raise Damaged(f"the header does not say what {name[:80]!r} is")
        offsets = entry.get("data_offsets")
        shape, place = (
            dimensions(tuple(entry["shape"])),
            dimensions(tuple(offsets) if isinstance(offsets, list) else ()),
        )
        if len(place) != 2 or not place[0] <= place[1] <= len(data) - start:
            raise Damaged(f"the file ends too early: the numbers of {name[:80]!r} are not there")
        begin, end = place
        if (dtype := NAMES.get(str(entry.get("dtype")), "")) == "":
            content[name] = Record("a tensor of a type that is not read")
            continue
        count = math.prod(shape)
        if end - begin != count * DTYPES[dtype]:
            raise Damaged(f"the tensor {name[:80]!r} of shape {list(shape)} comes with {end - begin} bytes")
        storage = Storage(dtype, count, data[start + begin : start + end])
        content[name] = StoredTensor(storage, 0, shape, contiguous(shape))
    return content


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of the `TYPES`, contiguous and on the CPU, and texts about them."""
    import torch

    header: dict[str, Any] = {METADATA: dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.nbytes
        header[name] = {"dtype": TYPES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers are aligned
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
