"""Processes that share a script's work: order, errors, and that none of them is left behind."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path

import numpy as np
import pytest
from bad_days import LIMIT, ROOT, catches, check_ending, digests

from higan import workers as program
from higan.errors import HiganError
from higan.stops import Stopped
from higan.workers import in_processes


def count(task: tuple[int, float]) -> Iterator[tuple[int, int]]:
    """Yield (task, 0), (task, 1), ..., the later the more seconds the task asks for."""
    number, seconds = task
    for index in range(number):
        time.sleep(seconds)
        yield number, index


def fail(number: int) -> Iterator[int]:
    """Yield a number, unless it is negative: the disk is full then; from 100, the process ends by that signal."""
    if number < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if number >= 100:
        os.kill(os.getpid(), number - 100)
    yield number


def workers() -> list[int]:
    """Return the processes that `in_processes` has started and that have not ended."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [int(number) for path in found for number in path.read_text().split()]
    return [number for number in children if b"higan.workers" in Path(f"/proc/{number}/cmdline").read_bytes()]


def test_results_come_in_order() -> None:
    tasks = [(3, 0.2), (0, 0.0), (1, 0.0), (4, 0.05), (2, 0.0)]
    results = in_processes(count, tasks, 3)
    found = [next(results)]
    assert len(workers()) == 3
    found += results
    assert found == [result for task in tasks for result in count((task[0], 0))]
    assert not workers()


def test_what_was_done_before_an_error_is_not_lost() -> None:
    results = in_processes(fail, [5, 6, -1, 7], 2)
    assert [next(results), next(results)] == [5, 6]
    with pytest.raises(OSError, match="No space left"):
        next(results)
    assert not workers()


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGKILL, HiganError, "fewer --jobs"),
        (signal.SIGTERM, Stopped, "stopped by SIGTERM"),
        (signal.SIGABRT, RuntimeError, "ended with status -6"),
    ],
)
def test_a_process_that_is_ended_from_outside(number: int, error: type[BaseException], message: str) -> None:
    with pytest.raises(error, match=message):
        list(in_processes(fail, [1, 100 + number, 2], 2))
    assert not workers()


def test_nothing_goes_on_where_the_results_are_no_longer_wanted() -> None:
    results = in_processes(count, [(1, 0.0), (2, 60.0)], 2)
    assert next(results) == (1, 0)
    results.close()
    assert not workers()


def test_a_process_ends_at_once_with_the_one_that_started_it() -> None:
    code = "import test_workers as t; [print(x, flush=True) for x in t.in_processes(t.count, [(1, 0.0), (1, 60.0)], 2)]"
    begun = time.monotonic()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    script = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    assert script.stdout.readline() == "(1, 0)\n"
    script.kill()
    script.communicate(timeout=LIMIT)  # the end of standard output, which the processes share
    assert time.monotonic() - begun < 50


def test_a_process_says_nothing_where_the_script_is_killed_as_it_starts(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, test_workers as t; start = subprocess.Popen\n"
        "def killed(*a, **k): start(*a, **k); os.kill(os.getpid(), signal.SIGKILL)\n"
        "subprocess.Popen = killed; next(t.in_processes(t.count, [(1, 0.0)], 1))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def test_a_process_starts_without_the_networks() -> None:
    code = "import sys, higan.directions.training, higan.workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made/: codes and the scores score_00 to score_19, of which score_05 cannot be trained on."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    codes = generator.standard_normal((4000, 64)).astype(np.float32)
    scores = np.zeros(len(codes), [(f"score_{index:02d}", "<f4") for index in range(20)])
    for index, name in enumerate(scores.dtype.names or ()):
        scores[name] = 0 if index == 5 else codes[:, index] + generator.standard_normal(len(codes))
    (folder / "made").mkdir()
    np.save(folder / "made" / "w.npy", codes)
    np.save(folder / "made" / "attribute.npy", scores)
    table = {name: np.ascontiguousarray(scores[name]) for name in scores.dtype.names or ()}
    np.save(folder / "made" / "pickled.npy", np.array(table, dtype=object))  # written, never read, by numpy
    return folder


def command(source: Path, out: str, *more: str, scores: str = "attribute") -> subprocess.Popen[str]:
    """Start train_boundary.py on all scores, in a group of processes of its own."""
    files = ["made/w.npy", f"made/{scores}.npy", "--score_name", "all", "-N", "1000", "-o", out]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_boundary.py"), *files, *more],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines(said: str) -> list[str]:
    """Return the log without what differs from run to run: times, the command, and the folder's name."""
    return [Path(line.split("] ", 1)[1]).name for line in said.splitlines()[1:]]


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[str, str]:
    """What one job writes."""
    assert command(source, "expected").communicate(timeout=LIMIT)[1] == ""
    return digests(source / "expected")


def test_jobs_change_nothing_but_the_time(source: Path) -> None:
    said = {}
    for jobs in ("1", "2"):
        out, error = command(source, f"jobs{jobs}", "--jobs", jobs, "--condition", "score_00").communicate(
            timeout=LIMIT
        )
        assert error == ""
        said[jobs] = lines(out)
    assert said["1"] == said["2"]
    assert "score_05 is left out" in " ".join(said["1"])
    assert digests(source / "jobs1") == digests(source / "jobs2")
    assert len(digests(source / "jobs1")) == 2 * 19


def test_jobs_on_scores_that_lie_in_memory(source: Path) -> None:
    for jobs in ("1", "2"):
        assert command(source, f"pickled{jobs}", "--jobs", jobs, scores="pickled").communicate(timeout=LIMIT)[1] == ""
    assert digests(source / "pickled1") == digests(source / "pickled2")


def test_jobs_import_nothing_from_the_current_folder(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "made", tmp_path / "made")
    for name in ("higan", "multiprocessing", "numpy", "pickle", "scipy", "signal", "subprocess", "threading"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')\n")
    script = command(tmp_path, "out", "--jobs", "2")
    assert script.communicate(timeout=LIMIT)[1] == "" and script.returncode == 0
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("begun", [False, True], ids=["at first", "at work"])
@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGKILL, os.kill), (signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg), (signal.SIGINT, os.killpg)],
    ids=["kill the script", "end the script", "end its group", "Ctrl-C"],
)
def test_no_process_outlives_the_script(
    number: signal.Signals, send: Callable[[int, int], None], begun: bool, source: Path, expected: dict[str, str]
) -> None:
    name = f"{number.name}{send.__name__}{begun}"
    script = command(source, name, "--jobs", "2")
    said = script.stdout
    assert said is not None
    while not catches(script.pid, signal.SIGTERM):
        time.sleep(0.001)
    if begun:
        while "written" not in said.readline():
            pass
    else:
        time.sleep(random.Random(name).uniform(0, 0.1))  # before the first boundary, which takes several times as long
    send(script.pid, number)
    _, error = script.communicate(timeout=LIMIT)  # it returns when all processes have closed their ends
    check_ending("train_boundary", script.returncode, error, number)
    for file, digest in digests(source / name).items():
        assert file.startswith(".") or digest == expected[file]


def test_a_process_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda _: ended.set())
    link, other = connection.Pipe()
    alive, ours = connection.Pipe(duplex=False)
    ends = os.dup(other.fileno()), os.dup(alive.fileno())
    for end in (other, alive):
        end.close()
    served = threading.Thread(target=program.serve, args=ends)
    served.start()
    for thing in (fail, 5, -1):
        link.send(thing)
    assert [link.recv(), link.recv()] == [5, None]
    assert isinstance(link.recv(), OSError) and link.recv() is None
    link.close()
    served.join(LIMIT)
    assert not served.is_alive() and not ended.is_set()
    ours.close()
    assert ended.wait(LIMIT)


def test_a_task_for_a_process_that_was_killed() -> None:
    worker = program._Worker()
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(HiganError, match="fewer --jobs"):
        worker.send(count)
