"""Pickles by hand: what the interpreter makes of every operation and every allowed global, and what it refuses."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_files import bytes_call, saved, stored, torch_stream, torch_zip

from higan.checkpoints import read_checkpoint
from higan.checkpoints.pickles.unpickling import read_objects
from higan.directions.boundaries import read_boundary
from higan.errors import CheckpointError

NETWORK = "cdnnlib.tflib.network\nNetwork\n"
DTYPE = "cnumpy\ndtype\nX\2\0\0\0f4\x85R"
PERSISTENT = "ctorch_utils.persistence\n_reconstruct_persistent_obj\n"


def pickled(*parts: str | bytes, protocol: int = 2) -> bytes:
    """A pickle of those operations."""
    start = bytes([0x80, protocol])
    return start + b"".join(part if isinstance(part, bytes) else part.encode("latin-1") for part in parts) + b"."


def text(value: str) -> bytes:
    """The operation that pushes a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(count: int, kind: str = "FloatStorage", name: str = "0") -> bytes:
    """The operations that push a storage of a PyTorch zip file."""
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(name) + text("cpu") + number(count) + b"tQ"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(shape: bytes, stride: bytes, of: bytes, offset: int = 0) -> bytes:
    """The operations that make a tensor of a storage."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + of + number(offset) + shape + stride + b"\x89}tR"


def in_zip(*operations: bytes) -> bytes:
    """A PyTorch file of three values whose pickle is those operations."""
    return torch_zip({"a": torch.arange(3.0)}, pickled(*operations))


def without(part: str) -> bytes:
    """A PyTorch file that lacks a part of its archive."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(3)}))) as source, zipfile.ZipFile(result, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(part):
                target.writestr(entry.filename, source.read(entry))
    return result.getvalue()


def big_endian() -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(3)}))) as source, zipfile.ZipFile(result, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, b"big" if entry.filename.endswith("byteorder") else source.read(entry))
    return result.getvalue()


def moved_part() -> bytes:
    """A PyTorch file in which something else lies where the directory says that the values are."""
    content = bytearray(saved({"a": torch.zeros(3)}))
    start = content.index(b"archive/data/0") - 30
    content[start : start + 4] = b"PK\3\5"
    return bytes(content)


def renamed_storage() -> bytes:
    """A PyTorch stream whose last pickle names another storage than its tensor does."""
    last = rb"\d+(?=q\x01a\.)"
    return re.sub(last, lambda name: b"x" * len(name[0]), torch_stream({"a": torch.zeros(3)}))


def many_parts(count: int) -> bytes:
    """A zip archive whose directory lists the same small part again and again."""
    part = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(entry), len(part), 0)
    return part + entry * count + end


def array_state(shape: bytes, data: bytes, kind: str = DTYPE) -> tuple[str | bytes, ...]:
    """The operations that make a numpy array."""
    empty = "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    return empty, "(K\1", shape, kind, "\x89", data, "tb"


REFUSED: dict[str, tuple[bytes, str]] = {
    "a global without an end": (pickled("c" + "a" * 300), "name of a global does not end"),
    "a tuple without a mark": (pickled("t"), "finds no mark"),
    "nothing on the stack": (pickled("0"), "finds nothing on its stack"),
    "an object that is not there": (pickled("h\7"), "object 7, which is not there"),
    "items appended to a dictionary": (pickled("}Na"), "items are appended to a dict"),
    "a call of a number": (pickled("K\1)R"), "calls something that is no function"),
    "a call of a class": (pickled(NETWORK, ")R"), "network without its list of variables"),
    "a global without a name": (pickled("K\1K\2\x93"), "a global whose name is no text"),
    "a global of a name that does not end": (pickled(text("a" * 600), text("b"), "\x93"), "one that no program has"),
    "a call without arguments": (pickled("ccollections\nOrderedDict\nNR"), "or without arguments"),
    "a call with one argument too many": (pickled("ccollections\nOrderedDict\nK\1K\2\x86R"), "do not fit"),
    "an object of a number": (pickled("K\1)\x81"), "something that is no class"),
    "an object with a number for arguments": (pickled(NETWORK, "K\1\x81"), "or without arguments"),
    "an object with arguments": (pickled(NETWORK, "K\1\x85\x81"), "network without its list of variables"),
    "an object with arguments by name": (pickled(NETWORK, ")}\x92"), "network without its list of variables"),
    "the state of a number": (pickled("K\1}b"), "state of something that has none"),
    "an array of big-endian numbers": (pickle.dumps(np.zeros(3, ">f4"), protocol=2), "big-endian"),
    "something outside of it": (pickled("K\1Q"), "something outside of it"),
    "a set of nested tuples": (stored({((1,),)}), "a set is made of something else"),
    "a frozen set of them": (stored(frozenset([((1,),)])), "a set is made of something else"),
    "a set of them, as protocol 2 writes it": (pickle.dumps({((1,),)}, protocol=2), "a set is made of something else"),
    "an ordered dictionary of triples": (pickled("ccollections\nOrderedDict\n]K\1K\1K\1\x87a\x85R"), "pairs"),
    "bytes in another encoding": (pickled("c_codecs\nencode\n", text("a"), text("utf-16"), "\x86R"), "encoding"),
    "an object of protocol 1 of no class": (
        pickled("ccopy_reg\n_reconstructor\nK\1c__builtin__\nobject\nN\x87R"),
        "something that is no class",
    ),
    "an array of no type": (pickled(*array_state(b"K\3\x85", b"C\14" + bytes(12), "N")), "type and bytes"),
    "an array of too many bytes": (pickled(*array_state(b"K\3\x85", b"C\15" + bytes(13))), r"\[3\] comes with 13"),
    "an array whose shape is a list": (pickled(*array_state(b"]", b"C\4" + bytes(4))), "a shape that is none"),
    "a tensor of a number": (in_zip(tensor(b"K\3\x85", b"K\1\x85", b"K\1")), "a storage, an offset"),
    "a tensor beyond its storage": (in_zip(tensor(b"K\3\x85", b"K\1\x85", storage(3), 1)), "does not fit"),
    "a tensor of nine dimensions": (in_zip(tensor(b"(" + b"K\1" * 9 + b"t", b")", storage(3))), "a shape that is none"),
    "a tensor of a negative size": (in_zip(tensor(number(-3) + b"\x85", b"K\1\x85", storage(3))), "a shape that is"),
    "a parameter of a number": (in_zip(b"ctorch._utils\n_rebuild_parameter\nK\1\x89}\x87R"), "not made of a tensor"),
    "an embedded stream of a dictionary": (
        bytes_call("torch.storage", "_load_from_bytes", torch_stream({"a": torch.zeros(3)})),
        "hold something else",
    ),
    "a network without a state": (pickled(PERSISTENT, "}\x85R"), "without its class or state"),
    "a part that is not there": (without("data/0"), "lacks its part data/0"),
    "big-endian numbers": (big_endian(), "big-endian"),
    "a part that is somewhere else": (moved_part(), "data/0 is not where its directory says"),
    "a hundred thousand parts": (many_parts(100_001), "100001 parts"),
    "a storage of too few bytes": (in_zip(tensor(b"K\4\x85", b"K\1\x85", storage(4))), "4 values comes with 12 bytes"),
    "a persistent number": (in_zip(b"K\1Q"), "names no storage"),
    "a storage of an unknown type": (in_zip(storage(3, "Net").replace(b"ctorch\nNet\n", b"N")), "of an unknown type"),
    "a storage of a negative size": (in_zip(storage(-3)), "without a name or a size"),
    "a stream of another version": (torch_stream({}).replace(b"M\xe9\x03.", b"M\xea\x03."), "unknown version"),
    "a stream of other storages": (renamed_storage(), "not the ones its tensors need"),
    "a stream of complex numbers": (torch_stream(torch.zeros(3).cfloat()), "a type that is not read"),
    "a stream without its storages": (torch_stream({"a": torch.zeros(3)})[:-12], "too early"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as error:
        read_checkpoint(tmp_path / "weights")
    assert not re.search(
        "is damaged: [A-Z]", str(error.value)
    )  # found by what looks for it, not by an error of Python's


def test_plain_values_of_every_protocol(tmp_path: Path) -> None:
    values = {
        "numbers": [0, -1, 255, 65535, 2**31, -(2**80), 1.5],
        "texts": ["", "ü", "a" * 300],
        "bytes": (b"", b"abc", bytes(300)),
        "constants": (None, True, False),
        "sets": [set(), {"a", 1}],
        1: {},
    }
    for protocol in (2, 3, 4, 5):
        (tmp_path / "values.pkl").write_bytes(pickle.dumps(values, protocol=protocol))
        found = read_objects(tmp_path / "values.pkl")
        assert tuple(map(bytes, found.pop("bytes"))) == values["bytes"]
        assert found == {key: value for key, value in values.items() if key != "bytes"}, protocol


def test_objects_of_the_old_protocols(tmp_path: Path) -> None:
    """Classes that Python 2 wrote by copy_reg, or by their names alone."""
    by_copy_reg = "ccopy_reg\n_reconstructor\n" + NETWORK + "c__builtin__\nobject\nN\x87R}U\1aK\1sb"
    (tmp_path / "network.pkl").write_bytes(pickled(by_copy_reg))
    record = read_objects(tmp_path / "network.pkl")
    assert (record.kind, record.state) == ("dnnlib.tflib.network.Network", {"a": 1})
    by_copy_reg = "ccopy_reg\n_reconstructor\ncdnnlib\nEasyDict\nc__builtin__\ndict\n}U\1aK\1s\x87R"
    (tmp_path / "network.pkl").write_bytes(pickled(by_copy_reg))
    assert read_objects(tmp_path / "network.pkl") == {"a": 1}
    (tmp_path / "network.pkl").write_bytes(pickled(by_copy_reg.replace("cdnnlib\nEasyDict", "cbox\nBox")))
    assert read_objects(tmp_path / "network.pkl").entries == {"a": 1}
    (tmp_path / "network.pkl").write_bytes(pickled("cdnnlib.util\nEasyDict\n)\x81U\1aK\1s"))
    assert read_objects(tmp_path / "network.pkl") == {"a": 1}


def test_arrays_that_python_2_wrote(tmp_path: Path) -> None:
    direction = np.array([[0.6, -0.8]], np.float32)
    data = b"U" + bytes([direction.nbytes]) + direction.tobytes()
    items = (b"}" + text("boundary"), *array_state(b"K\1K\2\x86", data), "s")
    whole = array_state(b")", pickled("]", *items, "a")[2:-1], "cnumpy\ndtype\nX\2\0\0\0O8\x85R")
    path = tmp_path / "old_boundary.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickled(*whole))
    assert np.array_equal(read_boundary(path).direction, direction)


def test_numbers_are_exact(tmp_path: Path) -> None:
    values = {
        "f": np.float64(0.1),
        "i": np.int64(-3),
        "b": np.bool_(True),
        "t": torch.tensor(1.5, dtype=torch.bfloat16),
    }
    torch.save(values, tmp_path / "numbers.pt")
    found = read_objects(tmp_path / "numbers.pt")
    assert [found[name].number() for name in "fibt"] == [0.1, -3, True, 1.5]
    torch.save({"a": torch.zeros(2)}, tmp_path / "numbers.pt")
    with pytest.raises(CheckpointError, match=r"shape \[2\]; expected a single number"):
        read_objects(tmp_path / "numbers.pt")["a"].number()
    (tmp_path / "numbers.pt").write_bytes(pickle.dumps(np.array([{}, "x"], dtype=object)))
    with pytest.raises(CheckpointError, match="an array of Python objects; expected one of numbers"):
        read_objects(tmp_path / "numbers.pt").load()


def test_what_python_refuses_is_damage(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(pickled(b"X\2\0\0\0\xff\xfe"))
    with pytest.raises(CheckpointError, match="is damaged: UnicodeDecodeError"):
        read_checkpoint(tmp_path / "weights")
