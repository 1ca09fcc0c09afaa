"""SIGINT and SIGTERM while a run is written: the block under way is finished first."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from higan.runs.stop import StopFlag


def test_a_signal_waits_for_the_end_and_a_second_one_does_not() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), StopFlag() as flag:
        assert not flag.stopped
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.stopped == signal.SIGINT
        done.append("block")
    assert done == ["block"]
    with pytest.raises(KeyboardInterrupt), StopFlag():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("another")
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_an_error_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="x"), StopFlag():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("x")


def test_only_the_main_thread_answers_signals_and_only_where_they_are_not_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with StopFlag() as flag:
        assert list(flag.before) == [signal.SIGINT]
    found: list[object] = []

    def other() -> None:
        with StopFlag() as flag:
            found.append(flag.before)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [{}]
