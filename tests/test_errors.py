"""How a script ends on a bad day: its status, its one line, and who answers signals."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable

import pytest

from higan.errors import LINE, HiganError, one_line, run_script


def end(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `main` as a script; return its exit status and what it says on standard error."""
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


def fail(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (HiganError("there is no file x"), "error: there is no file x\n"),
        (OSError(errno.EIO, "Input/output error", "x.npy"), "Input/output error: 'x.npy'; once that is mended"),
        (MemoryError(), "there is too little memory; once that is mended, run the command again"),
    ],
)
def test_a_bad_day_is_one_line(error: Exception, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = end(fail(error), capsys)
    assert status == 2 and words in said and said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    status, said = end(main, capsys)
    assert status == 128 + number and said.count("\n") == 1
    assert f"stopped by {number.name}; run the same command again" in said
    assert signal.getsignal(number) == signal.SIG_DFL  # the next one ends the process at once


def test_an_interrupt_of_a_library_s_is_sigint(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = end(fail(KeyboardInterrupt()), capsys)
    assert status == 130 and "stopped by SIGINT" in said


def test_what_is_printed_is_one_printable_line() -> None:
    assert one_line("no\x1b[31m\n  file \u202e x") == "no\\x1b[31m file \\u202e x"
    long = one_line("a" * 5000 + "end")
    assert len(long) <= LINE and long.startswith("aaa") and long.endswith("aend")
