"""Processes that share a script's work: they answer to it alone, and end when it does, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection, resource_tracker
from typing import Any, NoReturn, TypeVar

from higan.errors import HiganError
from higan.stops import Stopped, stops_held

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task], Iterable[Result]], tasks: Iterable[Task], jobs: int
) -> Generator[Result, None, None]:
    """Yield what `work` yields for every task, in the order of the tasks.

    The processes are spawned: nothing of this one is copied, neither its threads nor its locks of folders. However
    the generator ends, they are gone by then; where this process is killed, they end at once.

    Parameters
    ----------
    work
        Called with one task at a time. It, the tasks and the results can be pickled, and none of them is None.
    tasks
        Asked for the next one when a process has nothing to do.
    jobs
        Number of processes, 1 at least.

    Raises
    ------
    HiganError, OSError, MemoryError
        `work` raised it in place of a result. HiganError also where a process was killed.
    Stopped
        A process was ended by SIGTERM, as its whole group may be: so is this one to end.
    """
    remaining = iter(tasks)
    given: deque[_Answer] = deque()  # oldest first
    workers: list[_Worker] = []
    try:
        with stops_held():
            for _ in range(jobs):
                workers.append(_Worker(work))
        while True:
            for worker in workers:
                if worker.answer.complete and (task := next(remaining, None)) is not None:
                    given.append(worker.give(task))
            if not given:
                return
            first = given[0]
            busy = {worker.link: worker for worker in workers if not worker.answer.complete}
            for link in connection.wait(list(busy), 0 if first.results or first.complete else None):
                busy[link].receive()  # type: ignore[index]
            if first.results:  # one at a time: nobody waits for a task while the caller is busy with many
                result = first.results.popleft()
                if isinstance(result, Exception):
                    raise result
                yield result
            elif first.complete:
                given.popleft()
    finally:
        with stops_held():
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                worker.process.join()
                worker.link.close()


class _Answer:
    """What has come back of a task so far."""

    def __init__(self, complete: bool = False) -> None:
        self.results: deque[Any] = deque()
        self.complete = complete


class _Worker:
    """A process that does a task at a time, seen from the one that started it."""

    def __init__(self, work: Callable[[Any], Iterable[Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.answer = _Answer(complete=True)
        self.link, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work), daemon=True)
        resource_tracker.ensure_running()  # otherwise started below, and SIGINT no longer blocked afterwards
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()  # Ctrl-C goes to all processes of a terminal: in this one, it stays blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            other.close()

    def give(self, task: Any) -> _Answer:
        """Send a task to a process that has none."""
        try:
            self.link.send(task)
        except ConnectionError:
            self._report()
        self.answer = _Answer()
        return self.answer

    def receive(self) -> None:
        """Wait for a result, or for the news that the task is done."""
        try:
            result = self.link.recv()
        except (EOFError, ConnectionError):
            self._report()
        if result is None:
            self.answer.complete = True
        else:
            self.answer.results.append(result)

    def _report(self) -> NoReturn:
        """Raise what the end of the process means."""
        self.process.join()
        status = self.process.exitcode
        if status == -signal.SIGTERM:
            raise Stopped(signal.SIGTERM)
        if status == -signal.SIGKILL:
            raise HiganError(
                "a process that --jobs asks for was killed, as the system does when memory is short; "
                "run the command again with fewer --jobs"
            )
        raise RuntimeError(f"a process ended with status {status}")


def _serve(link: connection.Connection, work: Callable[[Any], Iterable[Any]]) -> None:
    """Do the tasks that come over `link`, in a process of its own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
        while True:
            for result in _results(work, link.recv()):
                link.send(result)
            link.send(None)


def _results(work: Callable[[Any], Iterable[Any]], task: Any) -> Iterator[Any]:
    """Yield the results of a task, the last of them the error that ended it, if one did that a user can mend."""
    try:
        yield from work(task)
    except (HiganError, OSError, MemoryError) as error:
        yield error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
