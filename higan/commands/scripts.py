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
    stops: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stops.append(number)
        raise KeyboardInterrupt

    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        handle_signals(stop)
        main()
        sys.stdout.flush()
    except HiganError as error:
        status, line = 2, f"error: {error}"
    except BrokenPipeError:
        status = 141  # 128 + SIGPIPE, as a shell reports it
    except (OSError, MemoryError) as error:
        reason = str(error) or "there is too little memory"
        status, line = 2, f"error: {reason}; once that is mended, run the command again"
    except (KeyboardInterrupt, Exception) as error:  # C code that imports a module makes another error of a stop
        if not stops and not isinstance(error, KeyboardInterrupt):
            raise
        number = signal.Signals(stops[0] if stops else signal.SIGINT)
        status, line = 128 + number, f"stopped by {number.name}; run the same command again"
    finally:  # a signal from now on ends what failed, whatever its threads do, and changes nothing else
        handle_signals(signal.SIG_DFL if status else signal.SIG_IGN)
    if status:
        from higan.logs import one_line, program, silence  # not above: --help is to cost no time

        if line:
            with contextlib.suppress(OSError):
                print(one_line(f"{program()}: {line}"), file=sys.stderr, flush=True)
        try:
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)
        sys.exit(status)


def handle_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Let `handler` answer Ctrl-C and SIGTERM where they are not ignored, as Ctrl-C is for what runs behind a shell."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def open_streams() -> None:
    """Open the null device in place of closed standard streams; else the next file opened would take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for good
