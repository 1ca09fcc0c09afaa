"""What hardware there is, and what is done where memory is short."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import pytest
import torch

from higan import devices
from higan.devices import choose_device, choose_precision, free_memory, keep_freed_memory, require_memory, within_memory
from higan.errors import HiganError


@pytest.mark.parametrize(
    ("name", "words"), [("tpu", "unknown device 'tpu'"), ("meta", "not supported"), ("cuda:4096", "is not there")]
)
def test_other_devices_are_refused(name: str, words: str) -> None:
    with pytest.raises(HiganError, match=words):
        choose_device(name)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == torch.device("cuda" if there else "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(HiganError, match="2 CUDA devices found"):
        choose_device("cuda:2")


def test_float32_is_not_rounded_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert choose_precision("bf16", torch.device("cuda")) == torch.bfloat16
    assert choose_precision("fp32", torch.device("cpu")) == torch.float32
    assert torch.backends.cudnn.allow_tf32
    assert choose_precision("fp32", torch.device("cuda")) == torch.float32
    assert not torch.backends.cudnn.allow_tf32


def test_a_cpu_s_lack_of_memory_halves_the_size() -> None:
    def call(size: int) -> int:
        return len(torch.empty(2**60 if size > 2 else size, dtype=torch.uint8))  # an exbibyte, which no machine has

    assert within_memory(call, 8) == (2, 2)


def test_other_errors_of_pytorch_pass() -> None:
    def call(size: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        within_memory(call, 8)


def test_more_memory_than_is_free_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(devices, "Path", lambda _: meminfo)
    meminfo.write_text("MemTotal:       9000000 kB\nMemAvailable:   2000000 kB\n")
    assert free_memory() == 2_000_000 * 1024
    require_memory(2e9, "10 samples")
    with pytest.raises(HiganError, match=r"11 samples need 2\.1 GB of memory, 2\.05 GB are free; ask for fewer"):
        require_memory(2.1e9, "11 samples")


def test_a_system_that_does_not_tell_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(devices, "Path", lambda _: meminfo)
    assert free_memory() == math.inf
    meminfo.write_text("MemTotal:       9000000 kB\n")
    assert free_memory() == math.inf
    require_memory(1e30, "samples")


def test_the_allocator_is_left_alone_where_it_is_not_glibc_s(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(name: str) -> object:
        asked.append(name)
        if len(asked) == 1:
            raise OSError("no such library")
        return object()

    monkeypatch.setattr(ctypes, "CDLL", load)
    for _ in range(2):
        keep_freed_memory()
    assert asked == ["libc.so.6"] * 2
