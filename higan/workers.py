"""Processes that share a script's work: they answer to it alone, and end when it does, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection
from typing import Any, NoReturn, TypeVar

from higan.errors import HiganError
from higan.stops import Stopped, stops_held

Task = TypeVar("Task")
Result = TypeVar("Result")
# What multiprocessing starts looks for modules in the current folder first, which may be anybody's, and prints a
# traceback where its parent is killed at that moment.
PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from higan.workers import serve; serve(*map(int, sys.argv[1:3]))"


def in_processes(
    work: Callable[[Task], Iterable[Result]], tasks: Iterable[Task], jobs: int
) -> Generator[Result, None, None]:
    """Yield what `work` yields for every task, in the order of the tasks.

    The processes are started anew: nothing of this one is copied, neither its threads nor its locks of folders.
    However the generator ends, they are gone by then; where this process is killed, they end at once.

    Parameters
    ----------
    work
        Called with one task at a time. It, the tasks and the results can be pickled, and none of them is None; it is
        of a module that can be imported.
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
                workers.append(_Worker())
        for worker in workers:
            worker.send(work)
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
                worker.process.wait()
                worker.link.close()
                worker.alive.close()


class _Answer:
    """What has come back of a task so far."""

    def __init__(self, complete: bool = False) -> None:
        self.results: deque[Any] = deque()
        self.complete = complete


class _Worker:
    """A process that does a task at a time, seen from the one that started it."""

    def __init__(self) -> None:
        self.answer = _Answer(complete=True)
        self.link, link = connection.Pipe()
        alive, self.alive = connection.Pipe(duplex=False)
        ends = (link.fileno(), alive.fileno())
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:  # Ctrl-C goes to all processes of a terminal: in this one, it stays blocked
            self.process = subprocess.Popen(
                [sys.executable, *flags, "-c", PROGRAM, *map(str, ends), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=ends,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            link.close()
            alive.close()

    def send(self, thing: Any) -> None:
        """Send what to work with, or a task."""
        try:
            self.link.send(thing)
        except ConnectionError:
            self._report()

    def give(self, task: Any) -> _Answer:
        """Send a task to a process that has none."""
        self.send(task)
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
        status = self.process.wait()
        if status == -signal.SIGTERM:
            raise Stopped(signal.SIGTERM)
        if status == -signal.SIGKILL:
            raise HiganError(
                "a process that --jobs asks for was killed, as the system does when memory is short; "
                "run the command again with fewer --jobs"
            )
        raise RuntimeError(f"a process ended with status {status}")


def serve(link: int, alive: int) -> None:
    """Do the tasks that come over `link`, in a process of its own, while the other end of `alive` is open."""
    threading.Thread(target=_end_with, args=(connection.Connection(alive),), daemon=True).start()
    tasks = connection.Connection(link)
    with suppress(EOFError, ConnectionError):
        work = tasks.recv()
        while True:
            for result in _results(work, tasks.recv()):
                tasks.send(result)
            tasks.send(None)


def _results(work: Callable[[Any], Iterable[Any]], task: Any) -> Iterator[Any]:
    """Yield the results of a task, the last of them the error that ended it, if one did that a user can mend."""
    try:
        yield from work(task)
    except (HiganError, OSError, MemoryError) as error:
        yield error


def _end_with(alive: connection.Connection) -> None:
    connection.wait([alive])
    os._exit(1)
