"""Synthesis from Python: what synthesize.py does not reach without a GPU."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.model import SETTINGS, write_smaller_model
from support.scripts import run

from higan.generators.generator import Generator
from higan.generators.stylegan2 import StyleGAN2
from higan.synthesis import Synthesis, to_host


class OnDevice(torch.Tensor):
    """Says that it lies on the second GPU."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    device = property(lambda self: torch.device("cuda", 1))  # type: ignore[assignment]


def test_copies_are_awaited_on_the_device_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --device cuda:1, or in the second of several processes, the current device is still the first GPU."""
    done: list[Any] = []

    class Event:
        def record(self, stream: object = "that of the current device") -> None:
            done.append(stream)

        def synchronize(self) -> None:
            done.append("awaited")

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype, pin_memory: empty(*shape, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"that of {device}")
    scores = torch.arange(3.0)
    collect = to_host({"z": torch.ones(3), "score": scores.clone().as_subclass(OnDevice)})
    assert done == ["that of cuda:1"]
    found = collect()
    assert done == ["that of cuda:1", "awaited"]
    assert found["z"].tolist() == [1, 1, 1] and found["score"].tolist() == [0, 1, 2]


def test_nothing_is_copied_on_the_cpu() -> None:
    scores = torch.arange(3.0)
    found = to_host({"score": scores})()
    assert np.shares_memory(found["score"], scores.numpy())


def test_a_gpu_takes_the_batch_that_is_asked_for() -> None:
    """On a CPU groups of eight come one after the other; there all go at once, also where memory would do for fewer."""
    for device, expected in (("cpu", 5), ("cuda", 24)):
        generator = Generator(StyleGAN2(**SETTINGS), "tiny")
        generator.device, generator.batch_size = torch.device(device), 5
        synthesis = Synthesis(generator, 100, images=True, batch_size=20)
        assert (synthesis.batch_size, generator.batch_size) == (24, expected)
        assert Synthesis(generator, 100, images=True).batch_size == (8 if device == "cpu" else 24)


def test_a_stop_says_that_the_block_is_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compute, calls = Synthesis.compute, []

    def stopped(self: Synthesis, start: int, stop: int, render: bool = True) -> dict[str, torch.Tensor]:
        calls.append(start)
        if start == 16:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(self, start, stop, render)

    monkeypatch.setattr(Synthesis, "compute", stopped)
    arguments = write_smaller_model(tmp_path / "tiny.pth"), "-N", 200, "--batch_size", 8, "-o", tmp_path / "run"
    assert run("synthesize", *arguments) == 130
    assert max(calls) == 120, "the 16 batches of the first block"
    said = capsys.readouterr()
    assert said.out.count("stopping after this block") == 1
    assert said.err == "python synthesize.py: stopped by SIGINT; run the same command again\n"
    assert [path.name for path in (tmp_path / "run" / "blocks").iterdir()] == ["000000"]
