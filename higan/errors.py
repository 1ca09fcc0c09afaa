"""Errors that tell a user what was found, what was expected and what to do next; how a script ends on a bad day."""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

LINE = 1000  # characters of an error; a name may have ten thousand
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handlers = dict[int, Any]


class HiganError(Exception):
    """Bad input: its message is one line that names what was found, what was expected and what to do."""


class CheckpointError(HiganError):
    """A weight file that cannot be read, is not of a supported family, or holds unusable numbers."""


class Stopped(KeyboardInterrupt):
    """SIGINT (Ctrl-C) or SIGTERM came; `number` is the signal's, `advice` says what the user can do next."""

    def __init__(self, number: int, advice: str = "run the same command again") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {advice}")
        self.number = number


class ArgumentParser(argparse.ArgumentParser):
    """A parser of a script's arguments whose `description` is the manual as it stands; its errors are HiganErrors."""

    def __init__(self, description: str | None, prog: str | None = None) -> None:
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raise the HiganError of a command line that cannot be parsed."""
        raise HiganError(f"{message}; --help lists the arguments")


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main` and exit.

    The status is 0 when it returns, 2 with one line on bad input, a bad disk or lack of memory, 130 or 143 with one
    line on SIGINT (Ctrl-C) or SIGTERM.
    """
    status, line = 0, ""
    before: Handlers = {}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        before = handle_stops(_raise_stopped)
        try:
            main()
        finally:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
    except HiganError as error:
        status, line = 2, f"error: {error}"
    except (OSError, MemoryError) as error:
        reason = str(error) or "there is too little memory"
        status, line = 2, f"error: {reason}; once that is mended, run the command again"
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        status, line = 128 + stopped.number, str(stopped)
        for number in before:
            signal.signal(number, signal.SIG_DFL)  # where threads have to end first, the next signal ends them
    if line:
        with contextlib.suppress(OSError):
            print(one_line(f"{sys.argv[0]}: {line}"), file=sys.stderr, flush=True)
    if status:
        sys.exit(status)


def one_line(text: str) -> str:
    """Return `text` as one line of printable characters, which a terminal takes for nothing else, not too long."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= LINE else f"{text[: LINE * 2 // 3]} [...] {text[-LINE // 4 :]}"


def printable(text: str) -> str:
    """Return `text` with control characters, and whatever else is not seen as it stands, as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def handle_stops(handler: Callable[[int, FrameType | None], None]) -> Handlers:
    """Let `handler` answer SIGINT and SIGTERM unless they are ignored; return {number: handler before}."""
    before: Handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    return before


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)
