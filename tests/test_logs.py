"""The log of a run: where it goes, and what happens when that takes nothing any more."""

from __future__ import annotations

import errno
import importlib.machinery
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from higan import logs
from higan.errors import HiganError
from higan.logs import command_line, open_log, progress


@pytest.fixture(autouse=True)
def closed_afterwards() -> Iterator[None]:
    yield
    logger = logging.getLogger("higan")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.mark.parametrize("name", ["a/b.txt", "z.npy", "run.json", ".."])
def test_a_log_is_a_file_of_its_own_in_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(HiganError, match="log"):
        open_log(tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.txt")
    with pytest.raises(HiganError, match="no regular file; remove it"):
        open_log(tmp_path)


def test_a_log_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(HiganError, match=r"cannot write the log .*No such file"):
        open_log(tmp_path / "nowhere")


def test_a_message_is_one_printable_line_in_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_log(tmp_path).info("loading %s", "a\nb\x1b[31m")
    said = capsys.readouterr().out
    assert said == (tmp_path / "log.txt").read_text() and said.endswith("loading a\\nb\\x1b[31m\n")


@pytest.mark.parametrize(
    ("module", "called", "typed"),
    [
        (None, ["rescore.py", "a b", "-N", "3"], "python rescore.py 'a b' -N 3"),
        (None, ["/home/me/higan/rescore.py"], "python /home/me/higan/rescore.py"),
        (None, ["/usr/bin/higan-rescore", "model"], "higan-rescore model"),
        (None, ["C:/higan-rescore.exe", "model"], "higan-rescore model"),
        ("pytest.__main__", ["rescore.py"], "python rescore.py"),
        ("higan.inversion", ["/a/higan/inversion.py", "x.jpg"], "python -m higan.inversion x.jpg"),
        ("higan.directions.__main__", ["/a/higan/directions/__main__.py"], "python -m higan.directions"),
    ],
)
def test_a_command_is_said_as_it_is_typed(
    module: str | None, called: list[str], typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = None if module is None else importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", called)
    assert command_line() == typed


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    (file,) = (handler for handler in log.handlers if isinstance(handler, logging.FileHandler))
    with monkeypatch.context() as patch:
        patch.setattr(file, "stream", Full())
        with pytest.raises(HiganError, match=f"the disk of {tmp_path} is full"):
            log.info("half of it is done")


def test_an_output_that_nobody_reads_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w"))
    log = open_log(tmp_path)
    for step in range(3):
        log.info("step %d", step)
    assert [line[-6:] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["step 0", "step 1", "step 2"]


def test_a_mistake_in_a_message_is_shown_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = open_log(tmp_path)
    log.info("%d samples", "many")
    log.info("done")
    assert capsys.readouterr().err.count("--- Logging error ---") == 2  # of each place
    assert (tmp_path / "log.txt").read_text().endswith("done\n")


def test_progress_is_a_line_of_the_log_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "PROGRESS_SECONDS", 0.01)
    open_log(tmp_path)
    with progress(total=3, unit="img") as bar:
        for _ in range(3):
            time.sleep(0.02)
            bar.update()
    said, error = capsys.readouterr()
    assert error == "" and "] 2 of 3, " in said and "img/s" in said and said == (tmp_path / "log.txt").read_text()


def test_what_is_done_soon_leaves_no_line_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    open_log()
    with progress(total=3) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_progress_is_a_bar_on_a_terminal_and_in_a_notebook(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if place == "terminal":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    else:
        monkeypatch.setitem(sys.modules, "ipykernel", None)
    with progress(total=3) as bar:
        bar.update(3)
    assert "3/3" in capsys.readouterr().err
