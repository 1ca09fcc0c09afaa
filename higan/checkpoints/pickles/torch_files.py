"""PyTorch's two file formats, the zip archive and the older stream, around the pickles in them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from higan.checkpoints.pickles.interpreter import Limits, Marker, Table, Unpickler
from higan.checkpoints.pickles.stored import DTYPES, Damaged, Record, Storage
from higan.errors import CheckpointError

MAX_ENTRIES = 100_000
MAGIC = 0x1950A86A20F9469CFC6C
STREAM_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
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


def read_torch_zip(path: Path, data: memoryview, table: Table) -> Any:
    """Return what a PyTorch file of the zip format holds; its parts are stored as they are, not compressed.

    Parameters
    ----------
    data
        The bytes of the file `path`.
    table
        The globals that have a meaning in its pickle.

    Raises
    ------
    CheckpointError
        The archive is damaged, of another kind, or asks for something else.
    """
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

    def persistent(key: Any) -> Storage | Record:
        dtype, name, count = storage_id(key)
        if not dtype:
            return Record("a tensor of a type that is not read")
        if name not in storages:
            if f"data/{name}" not in parts:
                raise CheckpointError(f"the PyTorch file lacks its part data/{name[:40]}")
            content = zip_part(data, parts[f"data/{name}"])
            if len(content) < count * DTYPES[dtype]:
                raise Damaged(f"a storage of {count} values comes with {len(content)} bytes")
            storages[name] = Storage(dtype, count, content[: count * DTYPES[dtype]])
        return storages[name]

    return Unpickler(zip_part(data, parts["data.pkl"]), Limits(len(data)), table, 0, persistent).load()


def read_torch_stream(data: memoryview, limits: Limits, table: Table) -> Any:
    """Return what a PyTorch file of the older format holds: four pickles, the storages' names, then their values.

    Parameters and errors as `read_torch_zip`; the limits may be those of the pickle that the stream lies in.
    """
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Any:
        if type(key) is tuple and len(key) == 4 and key[0] == "module":  # a class with its source, which is left alone
            return key[1]
        dtype, name, count = storage_id(key)
        if not dtype:
            raise CheckpointError("a PyTorch stream with tensors of a type that is not read")
        return storages.setdefault(name, Storage(dtype, count))

    position, values = 0, []
    for allowed in ({}, {}, {}, table, {}):
        unpickler = Unpickler(data, limits, allowed, position, persistent if allowed else None)
        values.append(unpickler.load())
        position = unpickler.position
    magic, version, system, content, names = values
    if magic != MAGIC or version != 1001 or type(system) is not dict or system.get("little_endian") is not True:
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


def storage_id(key: Any) -> tuple[str, str, int]:
    """Return type ("": not read), name and number of values of a storage, of the persistent id that stands for it."""
    if type(key) is not tuple or len(key) not in (5, 6) or key[0] != "storage" or key[5:] not in ((), (None,)):
        raise Damaged("a persistent id that names no storage")
    _, kind, name, _, count = key[:5]
    if not isinstance(kind, Marker):
        raise Damaged("a storage of an unknown type")
    if type(name) is not str or type(count) is not int or count < 0:
        raise Damaged("a storage without a name or a size")
    return STORAGES.get(kind.name.removeprefix("torch."), ""), name, count
