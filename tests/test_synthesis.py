"""Synthesis from Python: what synthesize.py does not reach without a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from higan.synthesis import to_host


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
