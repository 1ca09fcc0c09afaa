"""Ctrl-C and SIGTERM while a run is written: the current block is finished first."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopFlag:
    """A context in which a first Ctrl-C (SIGINT), or SIGTERM, sets `stopped` and takes effect at the end.

    A second one takes effect at once. `stopped` is the signal's number, 0 while there was none.
    """

    def __init__(self) -> None:
        self.stopped = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.stopped and error is None:
            signal.raise_signal(self.stopped)

    def _stop(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, self.before[number])
        self.stopped = number
