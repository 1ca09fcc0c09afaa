"""safetensors files: as the reference package writes and reads them, in any layout, and damaged ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.golden import GOLDEN, further_tensors, read_case

from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.checkpoints.formats import nvlabs
from higan.checkpoints.pickles.stored import Record
from higan.checkpoints.pickles.unpickling import read_objects
from higan.errors import CheckpointError
from higan.generators.loading import build_network, read_network

TENSORS = {
    "f32": torch.arange(6.0).reshape(2, 3),
    "f64": torch.tensor([0.1], dtype=torch.float64),
    "f16": torch.tensor([1.5], dtype=torch.float16),
    "bf16": torch.tensor([2.5], dtype=torch.bfloat16),
    "i64": torch.tensor([-3]),
    "u8": torch.tensor([200], dtype=torch.uint8),
    "flag": torch.tensor([True, False]),
    "number": torch.tensor(7.0),
    "empty": torch.zeros(0, 3),
}


def made(header: Any, data: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes}


def test_files_of_the_reference_package(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "file.safetensors", {"format": "pt"})
    found = read_objects(tmp_path / "file.safetensors")
    assert found.pop("__metadata__") == {"format": "pt"}
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert torch.equal(found[name].load(), value.float()), name


def test_a_network_of_another_layout(tmp_path: Path) -> None:
    state = further_tensors(read_case("sg3sg2_r16")[0])
    safetensors.torch.save_file({f"G_ema.{name}": value for name, value in state.items()}, tmp_path / "file.bin")
    checkpoint = read_checkpoint(tmp_path / "file.bin")
    assert checkpoint.format == "nvlabs"
    expected, _ = nvlabs.convert_tensors(state, {})
    assert all(torch.equal(value, checkpoint.state_dict[name]) for name, value in expected.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_own_format(dtype: torch.dtype, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(GOLDEN / "sg2ada_synthetic.pkl")
    build_network(checkpoint)
    state = {name: value.to(dtype) for name, value in checkpoint.state_dict.items()}
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, checkpoint.family, state, checkpoint.settings)
    theirs = safetensors.torch.load_file(path)
    assert all(torch.equal(value, theirs[name]) and value.dtype == theirs[name].dtype for name, value in state.items())
    found = read_checkpoint(path)
    assert (found.format, found.family) == ("native", checkpoint.family)
    assert all(torch.equal(value.float(), found.state_dict[name]) for name, value in state.items())
    build_network(found)
    assert found.settings == checkpoint.settings


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["sg3t_r16_c3.pkl", "bigdeep_tiny32", "biggan_aj_tiny32.pth", "tf_pggan_tiny16.pkl"])
def test_every_family_comes_back(name: str, suffix: str, tmp_path: Path) -> None:
    """With the settings that no tensor tells."""
    checkpoint, network = read_network(GOLDEN / name)
    write_checkpoint(tmp_path / f"own{suffix}", checkpoint.family, checkpoint.state_dict, checkpoint.settings)
    found, again = read_network(tmp_path / f"own{suffix}")
    assert found.settings == checkpoint.settings
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


REFUSED: dict[str, tuple[bytes, str]] = {
    "a header that is not whole": (made(entry())[:40], "its header is not whole"),
    "a header that is no JSON": (made(b"{'a'}"), "no JSON"),
    "a header of ten thousand lists": (made(b'{"a":' + b"[" * 100_000), "no JSON"),
    "no tensor": (made({"a": 3}), "does not say what 'a' is"),
    "no shape": (made(entry(shape=4)), "does not say what 'a' is"),
    "a negative shape": (made(entry(shape=[-4])), "a shape that is none"),
    "fractions": (made(entry(shape=[4.0])), "a shape that is none"),
    "no place": (made(entry(data_offsets=None)), "the numbers of 'a' are not there"),
    "a place beyond the end": (made(entry(data_offsets=[0, 17])), "the numbers of 'a' are not there"),
    "a place that runs backwards": (made(entry(data_offsets=[16, 0])), "the numbers of 'a' are not there"),
    "a shape of an exabyte": (made(entry(shape=[2**60])), "comes with 16 bytes"),
    "no generator": (made(entry()), "it holds 1 tensors: a"),
    "own format, no settings": (
        made({"__metadata__": {"format": "higan", "version": "1"}} | entry()),
        "lacks its family",
    ),
    "own format, settings that are no JSON": (
        made({"__metadata__": {"format": "higan", "version": "1", "family": "pggan", "settings": "{"}} | entry()),
        "the settings are no JSON",
    ),
    "own format of the future": (made({"__metadata__": {"format": "higan", "version": "2"}} | entry()), "version 2 of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "file.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / "file.safetensors")


def test_types_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "file.safetensors").write_bytes(made(entry(dtype="F8_E4M3")))
    assert isinstance(read_objects(tmp_path / "file.safetensors")["a"], Record)
