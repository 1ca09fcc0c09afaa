"""The five scripts on the embedded model, started so that they can meet trouble, and what has to hold afterwards."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import HiganError
from higan.runs.run import BLOCK_FOLDER, RUN_FILE, read_array, read_run

ROOT = Path(__file__).resolve().parents[2]
CPU = ("--device=cpu",)
ROOMS = "stylegan2_rooms"
# What each script is given, in a folder that `write_workplace` has filled; its output folder stands in OUTPUT.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "synthesize": (
        ROOMS, "-N", "72", "--generate_prediction", "--save_raw_synthesis", "--generate_html", "--batch_size=8",
        "-o", "out", *CPU,
    ),
    "train_boundary": ("made/w.npy", "made/attribute.npy", "--score_name", "all", "-N", "24", "-o", "out"),
    "rescore": (
        ROOMS, "list.txt", "-N", "2", "--layerwise_rescoring", "--layer_swap", "--control=2", "--write_layers",
        "-o", "out", *CPU,
    ),
    "manipulate": (
        ROOMS, "list.txt", "-N", "3", "-S", "3", "--layerwise_manipulation", "--save_raw_synthesis",
        "--generate_html", "--generate_video", "-o", "out", *CPU,
    ),
    "simple_manipulate": (ROOMS, "window", "-N", "3", "-S", "3", *CPU),
}  # fmt: skip
OUTPUT = dict.fromkeys(ARGUMENTS, "out") | {"simple_manipulate": "manipulation_results"}
PRELOADED = [
    "bad_days", "av", "higan.directions.training", "higan.editing.files", "higan.predictors.rooms", "higan.report",
    "higan.rescoring.rescore", "higan.synthesis", "higan.report.video", "PIL.JpegImagePlugin",
    "scipy.optimize", "scipy.special", "threadpoolctl", "torch.distributed", "filelock", "tqdm.auto",
]  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIMIT = 300  # seconds until a run counts as hung


@dataclass(frozen=True)
class Trouble:
    """What happens to a run from inside, the `at`-th time it gets to a certain point (counted from 1).

    Attributes
    ----------
    kind
        When a file is flushed: "kill", "pause", "vanish" or "replace" (its output folder, by nothing or by a file),
        "full" (this and all later ones). When the network, or the predictor, works: "image" or "score" (row `row` of
        what it gives becomes NaN). From the start: "memory" (none for more than `at` samples at once, anywhere),
        "small_files" (of `at` bytes at most), "nobody_reads" and "full_output" (of standard output),
        "clock" (goes back by a minute whenever it is looked at), "no_check" (free space is not asked for).
    """

    kind: str
    at: int = 1
    row: int = 0


@dataclass
class Running:
    """A script that runs in another process, and what it was asked to do."""

    process: Any
    script: str
    folder: Path
    begun: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> Path:
        return self.folder / OUTPUT[self.script]

    @property
    def said(self) -> str:
        """What is on its standard error."""
        return notes(self.folder, self.process.pid).read_text()

    def wait(self) -> int:
        """Return its exit status, -N for signal N."""
        self.process.join(LIMIT)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"{self.script} hangs in {self.folder}")
        return int(self.process.exitcode)

    def stop_after(self, seconds: float, number: int) -> None:
        """Send a signal `seconds` after the script has taken charge of signals, unless it has ended by then."""
        while self.process.exitcode is None and not catches(self.process.pid, signal.SIGTERM):
            time.sleep(0.001)
        self.process.join(seconds)
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def wait_for_pause(self) -> None:
        """Wait until the script has stopped itself."""
        end = time.monotonic() + LIMIT
        while state(self.process.pid) != "T":
            if self.process.exitcode is not None or time.monotonic() > end:
                raise TimeoutError(f"{self.script} did not pause: {self.process.exitcode}, {self.said}")
            time.sleep(0.002)


def start(script: str, folder: Path, *more: str, trouble: tuple[Trouble, ...] = (), **environment: str) -> Running:
    """Start a script in a folder of its own, in a process forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=become, args=(script, folder, more, trouble, environment))
    process.start()
    return Running(process, script, folder)


def run(script: str, folder: Path, *more: str, trouble: tuple[Trouble, ...] = ()) -> tuple[int, str]:
    """Run a script to its end; return its exit status and what it said on standard error."""
    running = start(script, folder, *more, trouble=trouble)
    return running.wait(), running.said


def become(
    script: str, folder: Path, more: tuple[str, ...], trouble: tuple[Trouble, ...], environment: dict[str, str]
) -> None:
    """Turn this process into a script's."""
    import torch

    from higan import synthesis

    for descriptor, path in ((0, Path(os.devnull)), (1, Path(os.devnull)), (2, notes(folder, os.getpid()))):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    synthesis.BLOCK_BATCHES = 2  # small blocks: 5 of them
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(ROOT / f"{script}.py"), *ARGUMENTS[script], *more]
    for one in trouble:
        prepare(one, folder / OUTPUT[script])
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    runpy.run_path(sys.argv[0], run_name="__main__")


def notes(folder: Path, process: int) -> Path:
    """Return where a process in `folder` writes its standard error: beside the folder."""
    return folder.parent / f"{folder.name}.{process}.stderr"


def prepare(trouble: Trouble, output: Path) -> None:
    """Let `trouble` come over this process."""
    kind = trouble.kind
    if kind in ("kill", "pause", "vanish", "replace", "full"):
        os.fsync = on_call(os.fsync, trouble.at, lambda: strike(kind, output), kind == "full")
    elif kind == "small_files":
        resource.setrlimit(resource.RLIMIT_FSIZE, (trouble.at, trouble.at))
    elif kind == "nobody_reads":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    elif kind == "full_output":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif kind == "clock":
        past = iter(range(10**9, 0, -60))
        time.time = lambda: float(next(past))
        import tqdm.std

        tqdm.std.time = time.time
    elif kind == "no_check":
        from higan.runs.run import Run

        Run._require_space = lambda self, blocks: None  # type: ignore[method-assign]
    elif kind == "memory":
        from higan.generators.stylegan2 import StyleGAN2
        from higan.predictors.rooms import RoomsPredictor

        StyleGAN2.layer = limited(StyleGAN2.layer, trouble.at, 2)  # type: ignore[method-assign]
        RoomsPredictor.forward = limited(RoomsPredictor.forward, trouble.at, 0)  # type: ignore[method-assign]
    elif kind == "image":
        from higan.generators.stylegan2 import StyleGAN2

        StyleGAN2.image = spoiled(StyleGAN2.image, trouble)  # type: ignore[method-assign]
    elif kind == "score":
        from higan.predictors.rooms import RoomsPredictor

        RoomsPredictor.forward = spoiled(RoomsPredictor.forward, trouble)  # type: ignore[method-assign]
    else:
        raise ValueError(kind)


def on_call(function: Callable[..., Any], at: int, act: Callable[[], None], later: bool = False) -> Callable[..., Any]:
    """Return `function` that calls `act` first, at its `at`-th call (and, if asked for, at all later ones)."""
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at or (later and calls > at):
            act()
        return function(*arguments)

    return call


def strike(kind: str, output: Path) -> None:
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if kind in ("vanish", "replace"):
        output.rename(output.with_name("moved"))
        if kind == "replace":
            output.write_text("a file")
        return
    os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGSTOP)


def limited(function: Callable[..., Any], most: int, argument: int) -> Callable[..., Any]:
    """Return a network's method that lacks memory for more than `most` samples."""
    import torch

    def call(self: Any, *arguments: Any) -> Any:
        if len(arguments[argument]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return function(self, *arguments)

    return call


def spoiled(function: Callable[..., Any], trouble: Trouble) -> Callable[..., Any]:
    """Return a network's method that gives NaN in one row, once."""
    calls = 0

    def call(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        values = function(self, *arguments)
        if calls == trouble.at:
            values[trouble.row, ..., 0] = float("nan")
        return values

    return call


def write_workplace(folder: Path) -> None:
    """Write what the scripts read: made/ (codes and scores of step 1), mine/ (boundaries of one's own), list.txt."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    (folder / "made").mkdir()
    codes = random.standard_normal((96, 512)).astype(np.float32)
    np.save(folder / "made" / "w.npy", codes)
    names = [f"score_{index:02d}" for index in range(12)]
    scores = np.zeros(len(codes), [(name, "<f4") for name in names])
    for index, name in enumerate(names):
        scores[name] = codes[:, index] + 0.1 * random.standard_normal(len(codes))
    np.save(folder / "made" / "attribute.npy", scores)
    (folder / "mine").mkdir()
    for name in ("window", "indoor_lighting"):
        for suffix in (".npy", ".json"):
            shutil.copy(ROOT / "boundaries" / ROOMS / f"{name}_boundary{suffix}", folder / "mine")
    lines = (f"({name}, w): mine/{name}_boundary.npy\n" for name in ("window", "indoor_lighting"))
    (folder / "list.txt").write_text("".join(lines))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder, hidden ones as well, but not of logs."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "log.txt" and path.suffix != ".log"
    }


def check_interrupted(folder: Path, script: str, before: dict[str, str], expected: Path) -> None:
    """Assert that a script which was stopped left nothing under a final name that is not whole and right.

    `before` are the digests of the folder at first, `expected` is a folder in which the same command was not disturbed.
    """
    output = folder / OUTPUT[script]
    right = digests(expected)
    record = read_run(output) if (output / RUN_FILE).exists() else None
    open_run = record is not None and not record["complete"]
    for name, digest in digests(folder).items():
        path = Path(name)
        if path.name.startswith(".") or "measured" in path.parts or digest in (before.get(name), right.get(name)):
            continue
        if not open_run or path.parts[0] != output.name:
            raise AssertionError(f"{name} is not what an undisturbed run writes")
        if path.name == RUN_FILE or path.parent.name == BLOCK_FOLDER:
            continue
        if path.name not in record["arrays"]:
            raise AssertionError(f"{name} of an open run is neither whole nor known to it")
        check_blocks(folder / name, expected / name, record)


def check_blocks(path: Path, expected: Path, record: dict[str, Any]) -> None:
    """Assert that an array of an open run is refused, has its final shape, and is right where a block is done."""
    with contextlib.suppress(HiganError):
        read_array(path)
        raise AssertionError(f"{path} can be read before it is finished")
    found, right = np.load(path, mmap_mode="r"), np.load(expected, mmap_mode="r")
    if found.shape != right.shape or found.dtype != right.dtype:
        raise AssertionError(f"{path} is {found.dtype} {found.shape}")
    for mark in (path.parent / BLOCK_FOLDER).glob("[0-9]*"):
        start = int(mark.name) * record["block_size"]
        rows = slice(start, start + record["block_size"])
        if found[rows].tobytes() != right[rows].tobytes():
            raise AssertionError(f"{path}: block {mark.name} counts as done and is wrong")


def check_ending(script: str, status: int, said: str, number: int) -> None:
    """Assert that a script that got the signal `number` ended as it should."""
    lines = said.splitlines()
    if number == signal.SIGKILL:
        if status != -number or lines:
            raise AssertionError(f"{script} ended with {status} after a SIGKILL: {said}")
        return
    name = signal.Signals(number).name
    good = len(lines) == 1 and f"{script}.py: stopped by {name}; " in lines[0] and "same command" in lines[0]
    if status != 128 + number or not good:
        raise AssertionError(f"{script} ended with {status} after a {name}: {said}")


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    return bool(int(field_of(process, "SigCgt") or "0", 16) >> (number - 1) & 1)


def state(process: int) -> str:
    """Return the state of a process in a letter, such as T for stopped."""
    return field_of(process, "State")[:1]


def field_of(process: int, name: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.split(":", 1)[1].strip()
    return ""


def mount_small_disk(folder: Path, size: str) -> bool:
    """Mount a disk of `size` in memory at `folder`; False where this process may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def fill(folder: Path, free: int) -> Path:
    """Write a file into `folder` that leaves `free` bytes of its disk; return its path."""
    ballast = folder / "ballast"
    left = shutil.disk_usage(folder).free - free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left)
    return ballast
