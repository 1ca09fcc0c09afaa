"""Runs programs of the project one after the other, each in a process of its own with limits, fast: by fork.

Started as a program, it imports once what the programs import, then answers requests, a line of JSON each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20  # of processor time; a program that sleeps as long is killed after WAIT
WAIT = 60
MEMORY = 2**30  # above a process that has imported everything and does nothing
ADDRESSES = 24 * 2**30  # so that a test that fails does not take the machine with it
PRELOADED = (
    "av",
    "higan.directions.training",
    "higan.checkpoints",
    "higan.editing.files",
    "higan.predictors.places",
    "higan.predictors.rooms",
    "higan.report",
    "higan.rescoring.rescore",
    "higan.synthesis",
    "higan.report.video",
    "PIL.JpegImagePlugin",
    "scipy.optimize",
    "scipy.special",
    "sklearn.svm",
    "threadpoolctl",
    "torch.distributed",
    "filelock",
    "tqdm.auto",
)
# audit events of the interpreter that stand for a program started, a connection opened, or code made of text
EVENTS = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "socket.connect",
    "subprocess.Popen",
    "urllib.Request",
    "webbrowser.open",
)


@dataclass
class Outcome:
    """How a program ended.

    Attributes
    ----------
    status
        Exit status; -N for signal N; None where it was killed for its time or memory.
    stdout, stderr
        What it said, undecodable bytes as surrogates.
    seconds, memory
        Processor time, and peak resident bytes.
    events
        Names of the `EVENTS` that occurred.
    """

    status: int | None
    stdout: str
    stderr: str
    seconds: float
    memory: int
    events: list[str]


class Runner:
    """A context that runs programs. `idle` is the peak memory of a program that does nothing, in bytes."""

    def __enter__(self) -> Runner:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # beside a predictor of the user's
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.idle = 0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.kill()
        self.server.communicate()

    def run(
        self,
        program: str,
        arguments: list[str],
        folder: Path,
        notes: Path,
        environment: dict[str, str] | None = None,
        models: Path | None = None,
    ) -> Outcome:
        """Run `program` (a script's name, or a module as `python -m` takes it; "" does nothing) in `folder`.

        `notes` is a folder for what it says; `models` takes the place of the project's models/.
        """
        request = {
            "program": program,
            "arguments": arguments,
            "folder": str(folder),
            "notes": str(notes),
            "environment": environment or {},
            "models": models and str(models),
            "memory": self.idle + MEMORY if self.idle else None,
        }
        assert self.server.stdin is not None and self.server.stdout is not None
        print(json.dumps(request), file=self.server.stdin, flush=True)
        reply = json.loads(self.server.stdout.readline())
        said = {name: (notes / name).read_bytes().decode(errors="surrogateescape") for name in ("stdout", "stderr")}
        events = (notes / "events").read_text().split()
        return Outcome(reply["status"], said["stdout"], said["stderr"], reply["seconds"], reply["memory"], events)


def serve() -> None:
    """Answer requests until there are no more."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            become(request)
        print(json.dumps(watch(child, request["memory"])), flush=True)


def watch(child: int, limit: int | None) -> dict[str, Any]:
    """Wait for a process, kill it at its limits, and return how it ended."""
    end = time.monotonic() + WAIT
    killed = False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return {
                "status": None if killed else os.waitstatus_to_exitcode(status),
                "seconds": usage.ru_utime + usage.ru_stime,
                "memory": usage.ru_maxrss * 1024,
            }
        if not killed and (time.monotonic() > end or memory_of(child) > (limit or ADDRESSES)):
            os.kill(child, signal.SIGKILL)
            killed = True
        time.sleep(0.004)


def memory_of(process: int) -> int:
    """Return the resident bytes of a process, 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def become(request: dict[str, Any]) -> None:
    """Turn this process, a fork of the server, into the program asked for; does not return."""
    status = 70
    try:
        notes = Path(request["notes"])
        for descriptor, path in ((0, Path(os.devnull)), (1, notes / "stdout"), (2, notes / "stderr")):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, descriptor)
            os.close(file)
        sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        resource.setrlimit(resource.RLIMIT_DATA, (ADDRESSES, ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        record_events(notes / "events")
        if request["models"]:
            replace_models(Path(request["models"]))
        status = execute(request["program"], request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(status)


def execute(program: str, arguments: list[str]) -> int:
    """Run a program in this process and return its exit status; what it raises is printed, as the interpreter does."""
    if not program:
        return 0
    script = ROOT / f"{program}.py"
    sys.argv = [str(script), *arguments]
    try:
        if "." in program:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def record_events(path: Path) -> None:
    """Write the name of every audit event of `EVENTS` into a file, from now on."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def note(event: str, _: tuple[object, ...]) -> None:
        if event in EVENTS:
            os.write(file, f"{event}\n".encode())

    sys.addaudithook(note)


def replace_models(folder: Path) -> None:
    """Let the project's models/ be `folder`."""
    from higan.generators import zoo

    zoo.MODELS = folder


if __name__ == "__main__":
    serve()
