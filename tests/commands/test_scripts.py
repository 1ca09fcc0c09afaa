"""How a script ends on a bad day: its status, its one line, and who answers signals."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.scripts import ROOT

from higan.commands.scripts import run_script
from higan.errors import HiganError
from higan.logs import LINE, one_line


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


def test_a_signal_of_which_c_code_makes_another_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signalling.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, said = end(lambda: ctypes.pythonapi.PyCapsule_Import(b"signalling.capsule", 0), capsys)
    assert status == 143 and "stopped by SIGTERM; " in said and said.count("\n") == 1


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="later"):
        run_script(lambda: int("later"))


def test_an_interrupt_of_a_library_s_is_sigint(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = end(fail(KeyboardInterrupt()), capsys)
    assert status == 130 and "stopped by SIGINT" in said


def test_what_is_printed_is_one_printable_line() -> None:
    assert one_line("no\x1b[31m\n  file \u202e x") == "no\\x1b[31m file \\u202e x"
    long = one_line("a" * 5000 + "end")
    assert len(long) <= LINE and long.startswith("aaa") and long.endswith("aend")


def test_an_output_that_nobody_wants_ends_the_program_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "stdout", stream)
        run_script(lambda: print("one line"))
    assert stop.value.code == 141 and capfd.readouterr().err == ""


def test_an_output_on_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as stream, monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "stdout", stream)
        run_script(lambda: print("one line"))
    said = capfd.readouterr().err
    assert stop.value.code == 2 and "No space left on device" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_the_null_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, name, None)
        run_script(lambda: None)
        with getattr(sys, name) as stream:
            assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))  # noqa: PTH116
            assert os.get_inheritable(stream.fileno())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_take_no_file_s_place(closed: str, tmp_path: Path) -> None:
    program = (
        "import os, sys; from higan.commands.scripts import run_script\n"
        "def main():\n"
        "    with open('file', 'w') as file:\n"
        "        print('out'); print('error', file=sys.stderr); os.system('echo out; echo error >&2')\n"
        "        file.write(str(file.fileno() > 2 and not sys.stderr.isatty()))\n"
        "run_script(main)"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert (tmp_path / "file").read_text() == "True"
