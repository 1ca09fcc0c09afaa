"""Errors that tell a user what was found, what was expected and what to do next; how a script ends on a bad day."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from higan.stops import Stopped, stops_raised

LINE = 1000  # characters of an error; a name may have ten thousand


class HiganError(Exception):
    """Bad input: its message is one line that names what was found, what was expected and what to do."""


class CheckpointError(HiganError):
    """A weight file that cannot be read, is not of a supported family, or holds unusable numbers."""


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main` and exit.

    The status is 0 when it returns, 2 with one line on bad input, a bad disk or lack of memory, 130 or 143 with one
    line on SIGINT (Ctrl-C) or SIGTERM, 141 when whoever reads the output, such as `head`, wants no more of it.
    """
    status, line = 0, ""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        with stops_raised():
            main()
            sys.stdout.flush()
    except HiganError as error:
        status, line = 2, f"error: {error}"
    except BrokenPipeError:
        status = 128 + signal.SIGPIPE
    except (OSError, MemoryError) as error:
        reason = str(error) or "there is too little memory"
        status, line = 2, f"error: {reason}; once that is mended, run the command again"
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        status, line = 128 + stopped.number, str(stopped)
    if line:
        with contextlib.suppress(OSError):
            print(one_line(f"{sys.argv[0]}: {line}"), file=sys.stderr, flush=True)
    if status:
        try:
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        sys.exit(status)


def open_streams() -> None:
    """Open the null device in place of standard streams that are closed: the next file would take their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for good


def silence(stream: TextIO) -> None:
    """Let what `stream` has not written yet, and what comes, go nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def one_line(text: str) -> str:
    """Return `text` as one line of printable characters, which a terminal takes for nothing else, not too long."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= LINE else f"{text[: LINE * 2 // 3]} [...] {text[-LINE // 4 :]}"


def printable(text: str) -> str:
    """Return `text` with control characters, and whatever else is not seen as it stands, as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
