"""How a script ends: the first SIGINT or SIGTERM stops it, even where Python drops the exception."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from higan.errors import HiganError, run_script
from higan.stops import STOP_SIGNALS, Stopped, StopSignal, handle_stops, stops_held


class Dying:
    """Calls something in its last moment."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def __del__(self) -> None:
        self.call()


def in_del(call: Callable[[], None]) -> None:
    Dying(call)


def in_nested_del(call: Callable[[], None]) -> None:
    Dying(lambda: in_del(call))


def in_weakref_callback(call: Callable[[], None]) -> None:
    thing = Dying(lambda: None)
    kept = weakref.ref(thing, lambda _: call())
    del thing
    assert kept() is None


def in_gc_callback(call: Callable[[], None]) -> None:
    def report(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(report)
        call()

    gc.callbacks.append(report)
    gc.collect()


def in_a_report_of_another_error(call: Callable[[], None]) -> None:
    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if not self.getvalue():
                super().write(text)
                call()
                time.sleep(0.02)  # as a slow terminal would
            return len(text)

    with contextlib.redirect_stderr(Screen()):
        Dying(lambda: [].clear(1))  # type: ignore[call-arg]


PLACES = [in_del, in_nested_del, in_weakref_callback, in_gc_callback, in_a_report_of_another_error]


def ending(capsys: pytest.CaptureFixture[str], main: Callable[[], None]) -> tuple[int, str]:
    """Return the exit status of a script and what it said on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        run_script(main)
    return int(exit.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seconds", [0, 20], ids=["at the end", "in the middle"])
def test_a_signal_where_exceptions_are_dropped(
    place: Callable[[Callable[[], None]], None], number: int, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = sys.unraisablehook
    went_on = False

    def main() -> None:
        nonlocal went_on
        place(lambda: signal.raise_signal(number))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        went_on = seconds > 0

    status, said = ending(capsys, main)
    assert status == 128 + number
    assert len(said.splitlines()) == 1
    assert f"stopped by {signal.Signals(number).name}; " in said
    assert not went_on
    assert sys.unraisablehook is hook
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("error", [ImportError("no such module"), HiganError("no such file"), None])
def test_a_signal_in_whose_place_is_another_error(error: Exception | None, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        if error:
            raise error

    status, said = ending(capsys, main)
    assert status == 128 + signal.SIGTERM
    assert said.count("\n") == 1 and "stopped by SIGTERM; " in said
    with pytest.raises(ValueError, match="later"):
        run_script(lambda: int("later"))


def test_a_signal_while_c_code_imports_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signalling.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, said = ending(capsys, lambda: ctypes.pythonapi.PyCapsule_Import(b"signalling.capsule", 0))
    assert status == 128 + signal.SIGINT
    assert said.count("\n") == 1 and "stopped by SIGINT; " in said


def test_an_error_right_after_a_signal_that_python_drops(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        in_del(lambda: signal.raise_signal(signal.SIGTERM))
        raise HiganError("the disk is full")

    assert ending(capsys, main)[0] == 128 + signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_signal_waits_for_the_end_of_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def main() -> None:
        with stops_held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("block")
        done.append("what follows")

    assert ending(capsys, main)[0] == 128 + signal.SIGTERM
    assert done == ["block"]


def test_a_signal_waits_for_the_block_and_a_second_interrupt_does_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        stop.obey()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(Stopped, match="stopped by SIGTERM; the same command goes on from here"):
            stop.obey()
        with pytest.raises(Stopped, match="stopped by SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_the_main_thread_answers_signals_and_only_where_they_are_not_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert list(handle_stops(lambda number, frame: None)) == [signal.SIGINT]
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(handle_stops(lambda number, frame: None)))
    thread.start()
    thread.join()
    assert found == [{}]


def test_stopped_says_what_to_do_next() -> None:
    stopped = Stopped(signal.SIGTERM, "wait")
    assert stopped.number == signal.SIGTERM and str(stopped) == "stopped by SIGTERM; wait"
