"""How a script runs and ends: its exit status, its one line of error, and what signals do."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from higan.errors import HiganError


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main` and exit.

    The exit status is 0 when `main` returns. It is 2 after bad input, a bad disk or lack of memory, 130 after Ctrl-C
    (SIGINT) and 143 after SIGTERM, each with one line on standard error. It is 141 when nobody reads the output any
    more, as with `| head`.
    """
    status, line = 0, ""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        handle_signals(signal.SIGTERM, interrupt)
        main()
        sys.stdout.flush()
    except HiganError as error:
        status, line = 2, f"error: {error}"
    except BrokenPipeError:
        status = 141  # 128 + SIGPIPE, as a shell reports it
    except (OSError, MemoryError) as error:
        reason = str(error) or "there is too little memory"
        status, line = 2, f"error: {reason}; once that is mended, run the command again"
    except KeyboardInterrupt as error:
        number = signal.SIGTERM if error.args == (signal.SIGTERM,) else signal.SIGINT
        status, line = 128 + number, f"stopped by {number.name}; run the same command again"
    finally:  # what comes later changes nothing any more, or ends the process whatever its threads do
        for number in (signal.SIGINT, signal.SIGTERM):
            handle_signals(number, signal.SIG_DFL if status else signal.SIG_IGN)
    if status:
        from higan.logs import one_line, silence  # not above: --help is to cost no time

        if line:
            with contextlib.suppress(OSError):
                print(one_line(f"{sys.argv[0]}: {line}"), file=sys.stderr, flush=True)
        try:
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        sys.exit(status)


def interrupt(number: int, _: FrameType | None) -> None:
    """Answer SIGTERM as Python answers Ctrl-C."""
    raise KeyboardInterrupt(number)


def handle_signals(number: int, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Let `handler` answer a signal, unless it is ignored: a shell ignores Ctrl-C for what runs in the background."""
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def open_streams() -> None:
    """Open the null device in place of closed standard streams; else the next file opened would take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for good
