"""Processes that share a run: one of them is this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.processes import free_port, rank_environment

from higan.errors import HiganError
from higan.runs.ranks import Ranks


def refuse() -> None:
    raise HiganError("the folder holds another run")


def take_part(rank: int, port: int, dies: bool) -> None:
    """Be one of two ranks that find out whether a folder can be used, and wait for each other."""
    os.environ.update(rank_environment(rank, 2, port))
    with Ranks() as ranks:
        try:
            ranks.first(refuse if not dies else lambda: 3)
        except HiganError:
            sys.exit(17)  # where the error came from
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start the other of two ranks: other(rank, dies) returns its process."""
    processes = []

    def start(rank: int, dies: bool) -> Any:
        port = free_port()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["higan.synthesis", "torch.distributed"])
        processes.append(context.Process(target=take_part, args=(rank, port, dies)))
        processes[-1].start()
        for name, value in rank_environment(1 - rank, 2, port).items():
            monkeypatch.setenv(name, value)
        return processes[-1]

    yield start
    for process in processes:
        process.join(60)
        process.kill()


def test_bad_input_found_here_ends_the_other_rank(other: Any) -> None:
    process = other(1, dies=False)
    with Ranks() as ranks, pytest.raises(HiganError, match="another run"):
        ranks.first(refuse)
    process.join(60)
    assert process.exitcode == 2


def test_bad_input_found_by_the_first_rank_ends_this_one(other: Any) -> None:
    process = other(0, dies=False)
    with Ranks() as ranks, pytest.raises(SystemExit) as stop:
        ranks.first(refuse)
    assert stop.value.code == 2
    process.join(60)
    assert process.exitcode == 17


def test_a_rank_that_dies_is_noticed(other: Any) -> None:
    process = other(1, dies=True)
    with Ranks() as ranks:
        assert ranks.first(lambda: 3) == 3
        assert [ranks.next(), ranks.next()] == [0, 1]
        with pytest.raises(HiganError, match="another rank has died; the same command goes on from here"):
            ranks.wait()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Ranks().device("auto") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [Ranks().device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:3", "cuda:3", "cuda:0", "cpu"]
