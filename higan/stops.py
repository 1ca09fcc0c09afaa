"""SIGINT (Ctrl-C) and SIGTERM: raised as an exception, held until a block is done, never lost."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SOON = 1e-3  # seconds
Handlers = dict[int, Any]
_raised: list[int] = []  # signals whose Stopped was raised
_dropped: list[int] = []  # signals to be sent again


class Stopped(KeyboardInterrupt):
    """SIGINT (Ctrl-C) or SIGTERM came; `number` is the signal's, `advice` says what the user can do next."""

    def __init__(self, number: int, advice: str = "run the same command again") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {advice}")
        self.number = number


@contextlib.contextmanager
def stops_raised() -> Iterator[None]:
    """Raise Stopped in the block when a signal comes, also where Python would drop the exception.

    Where it is caught or another error takes its place, as C code does that imports a module, the block ends with it.
    After the block signals are ignored, so that the program ends in peace; after one has stopped it, the next kills,
    where threads have to end first.
    """
    before: Handlers = {}
    unraisable = sys.unraisablehook
    after = signal.SIG_IGN
    try:
        sys.unraisablehook = _report_unraisable
        _raised.clear()
        before = handle_stops(_raise_stopped)
        try:
            yield
            while _dropped:
                time.sleep(SOON)  # until it is sent again
            if _raised:
                raise Stopped(_raised[0])
        except Exception as error:
            if _raised:
                raise Stopped(_raised[0]) from error
            raise
        finally:
            if _dropped:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _dropped.clear()
            for number in before:
                signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        after = signal.SIG_DFL
        raise
    finally:
        sys.unraisablehook = unraisable
        for number in before:
            signal.signal(number, after)


def handle_stops(handler: Callable[[int, FrameType | None], None]) -> Handlers:
    """Let `handler` answer SIGINT and SIGTERM unless they are ignored; return {number: handler before}."""
    before: Handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    return before


class StopSignal:
    """A context in which SIGINT (Ctrl-C) and SIGTERM only set `received`, so that a block gets done.

    A second Ctrl-C ends it.
    """

    def __init__(self) -> None:
        self.received = 0
        self.before: Handlers = {}

    def __enter__(self) -> StopSignal:
        self.before = handle_stops(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Raise Stopped if a signal came."""
        if self.received:
            raise Stopped(self.received, "the same command goes on from here")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise Stopped(number, "the same command goes on from here")
        self.received = number


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is done."""
    received: list[int] = []
    before = handle_stops(lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    if _reports(frame):
        _send_later(number)
    else:
        _raised.append(number)
        raise Stopped(number)


def _report_unraisable(unraisable: Any) -> None:
    """Send the signal again whose Stopped Python has just dropped, since it came in __del__ or a callback of gc."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _send_later(getattr(unraisable.exc_value, "number", signal.SIGINT))
    else:
        sys.__unraisablehook__(unraisable)


def _reports(frame: FrameType | None) -> bool:
    """Whether `frame` runs within `_report_unraisable`, where another exception would be dropped too."""
    while frame is not None and frame.f_code is not _report_unraisable.__code__:
        frame = frame.f_back
    return frame is not None


def _send_later(number: int) -> None:
    """Send the signal `number` to this process once `_report_unraisable` has returned."""
    _dropped.append(number)
    signal.signal(signal.SIGALRM, _send)
    signal.setitimer(signal.ITIMER_REAL, SOON)


def _send(_: int, frame: FrameType | None) -> None:
    if _reports(frame):
        signal.setitimer(signal.ITIMER_REAL, SOON)
    elif _dropped:
        number = _dropped[0]
        _dropped.clear()
        signal.raise_signal(number)
