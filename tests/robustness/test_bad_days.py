"""A bad disk and a bad day: whatever comes over a script, nothing is lost and nothing wrong is left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_days import (
    ARGUMENTS,
    OUTPUT,
    SIGNALS,
    Trouble,
    check_ending,
    check_interrupted,
    digests,
    fill,
    mount_small_disk,
    run,
    start,
    write_workplace,
)
from numpy.lib.recfunctions import structured_to_unstructured
from PIL import Image
from support.processes import free_port, rank_environment

from higan.directions.boundaries import read_boundary
from higan.errors import HiganError
from higan.rescoring.statistics import chance_limit

KILLS = 4  # of each script
SCRIPTS = list(ARGUMENTS)
LIMITS = ("control_high", "_limit")  # how the names of tables of them end
FULL = "is full; make room and run the same command again"


class Undisturbed:
    """Where each script has run once without trouble, and the seconds it took."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "template"
        write_workplace(self.template)
        self.before = digests(self.template)
        self.made: dict[str, tuple[Path, float]] = {}

    def __getitem__(self, script: str) -> tuple[Path, float]:
        if script not in self.made:
            folder = self.template.with_name(script)
            shutil.copytree(self.template, folder)
            running = start(script, folder)
            assert (running.wait(), running.said) == (0, "")
            self.made[script] = folder, time.monotonic() - running.begun
        return self.made[script]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def place(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """A folder with what the scripts read."""
    return Path(shutil.copytree(undisturbed.template, tmp_path / "place"))


def assert_refused(outcome: tuple[int, str], *expected: str) -> None:
    """A script ended with 2 and one line that says all that is expected."""
    status, said = outcome
    assert status == 2, said
    assert len(said.splitlines()) == 1, said
    for words in expected:
        assert words in said


def assert_alike(folder: Path, expected: Path) -> None:
    """Two folders hold the same, up to what the rounding of convolutions makes of batches of different sizes."""
    assert list(digests(folder)) == list(digests(expected))
    for path in folder.rglob("*.npy"):
        found, right = np.load(path), np.load(expected / path.relative_to(folder))
        assert found.dtype == right.dtype
        if found.dtype.names:
            found, right = (structured_to_unstructured(array) for array in (found, right))
        # a rise is the difference of two scores, whose rounding goes with their size
        scores = [path.with_name(f"rescore_base_{name}.npy") for name in ("mean", "std")]
        of_scores = path.name.startswith("rescore_") and scores[0].exists()
        scale = sum(abs(np.load(score)) for score in scores).clip(min=1) if of_scores else np.ones(1)
        error = np.abs(found.astype(np.float64) - right) - 0.01 * np.abs(right)
        # a limit of chance is Student's t times the effects of two random directions
        factor = float(chance_limit(np.ones(2))) if path.stem.endswith(LIMITS) else 1
        near = 2e-3 * factor * (scale if error.shape[-1:] == scale.shape else np.ones(1))
        if path.stem.endswith("risen"):
            # the ends of the interval are the two samples' rises: one that rounding turns around counts or does not
            ends = (np.load(path.with_name(path.name.replace("risen", f"signed_{end}"))) for end in ("low", "high"))
            near = np.where(np.minimum(*map(np.abs, ends)) < near, 0.5, near)
        assert not (error > near).any(), path.name
    for path in folder.rglob("*.jpg"):
        found, right = (np.asarray(Image.open(file), int) for file in (path, expected / path.relative_to(folder)))
        assert np.abs(found - right).mean() < 0.5


def assert_recovers(script: str, place: Path, undisturbed: Undisturbed) -> None:
    """The same command once more gives, byte for byte and without strays, what an undisturbed run gives."""
    assert run(script, place) == (0, "")
    assert digests(place) == digests(undisturbed[script][0])


@pytest.mark.parametrize(
    ("script", "more"), [*((script, ()) for script in SCRIPTS), ("train_boundary", ("--jobs=2",))], ids=str
)
def test_stopped_at_any_moment(script: str, more: tuple[str, ...], undisturbed: Undisturbed, tmp_path: Path) -> None:
    expected, seconds = undisturbed[script]
    moments = random.Random(script)
    folder, kills, early = tmp_path / "0", 0, 0
    shutil.copytree(undisturbed.template, folder)
    while kills < KILLS:
        assert early < 4 * KILLS, "signals come too late or are not answered"
        number = (*SIGNALS, signal.SIGKILL)[kills]
        running = start(script, folder, *more)
        running.stop_after(moments.uniform(0, 0.8) * seconds, number)
        status = running.wait()
        if status == 0:  # it was quicker than last time
            assert digests(folder) == digests(expected)
            seconds, early = seconds * 0.7, early + 1
            folder = Path(shutil.copytree(undisturbed.template, folder.with_name(f"{folder.name}0")))
            continue
        kills += 1
        check_ending(script, status, running.said, number)
        check_interrupted(folder, script, undisturbed.before, expected)
    assert_recovers(script, folder, undisturbed)


@pytest.fixture
def small_disk(undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Path]:
    """The same folder on a disk of its own, which is small; where none can be mounted, on the common one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = mount_small_disk(disk, "16m")
    try:
        yield Path(shutil.copytree(undisturbed.template, disk, dirs_exist_ok=True))
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_disk_full(script: str, small_disk: Path, undisturbed: Undisturbed) -> None:
    expected, _ = undisturbed[script]
    for room, at in ((8_000, 1), (60_000, 5)):
        if small_disk.is_mount():
            ballast = fill(small_disk, room)
            outcome = run(script, small_disk, trouble=(Trouble("no_check"),))
            ballast.unlink()
        else:
            outcome = run(script, small_disk, trouble=(Trouble("no_check"), Trouble("full", at)))
        assert_refused(outcome, FULL)
        check_interrupted(small_disk, script, undisturbed.before, expected)
    assert run(script, small_disk, trouble=(Trouble("no_check"),)) == (0, "")
    assert digests(small_disk) == digests(expected)


@pytest.mark.parametrize("script", ["synthesize", "train_boundary"])
def test_no_file_may_be_large(script: str, place: Path, undisturbed: Undisturbed) -> None:
    assert_refused(run(script, place, trouble=(Trouble("small_files", 1500),)), "File too large", "the same command")
    check_interrupted(place, script, undisturbed.before, undisturbed[script][0])
    assert_recovers(script, place, undisturbed)


@pytest.fixture(params=["read-only", "file"])
def locked(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], None]]:
    """Make an output folder that cannot be written, or a file in its place."""
    made: list[Path] = []

    def lock(path: Path) -> None:
        path.mkdir()
        if request.param == "read-only":
            # the superuser may write where the mode forbids it, but not where the file system does
            command = ["chattr", "+i"] if os.geteuid() == 0 else ["chmod", "a-w"]
            if subprocess.run([*command, str(path)], capture_output=True, check=False).returncode == 0:
                made.append(path)
                return
        path.rmdir()
        path.write_text("in the way")

    yield lock
    for path in made:
        command = ["chattr", "-i"] if os.geteuid() == 0 else ["chmod", "u+w"]
        subprocess.run([*command, str(path)], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_folder_that_cannot_be_written(script: str, place: Path, locked: Callable[[Path], None]) -> None:
    locked(place / OUTPUT[script])
    before = digests(place)
    assert_refused(run(script, place), "cannot write in", "choose another")
    assert digests(place) == before


@pytest.mark.parametrize(
    ("script", "kind"),
    [*((script, "vanish") for script in SCRIPTS), ("synthesize", "replace"), ("train_boundary", "replace")],
)
def test_folder_that_is_gone(script: str, kind: str, place: Path, undisturbed: Undisturbed) -> None:
    output = place / OUTPUT[script]
    assert_refused(run(script, place, trouble=(Trouble(kind, 6),)), "run the same command again")
    assert output.is_file() if kind == "replace" else not output.exists(), "a part of a run is no run"
    shutil.rmtree(output.with_name("moved"))
    output.unlink(missing_ok=True)
    if kind == "replace":
        assert_recovers(script, place, undisturbed)


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_writers(script: str, place: Path, undisturbed: Undisturbed) -> None:
    first = start(script, place, trouble=(Trouble("pause", 5),))
    first.wait_for_pause()
    try:
        others = {script, *(["train_boundary", "manipulate"] if script == "synthesize" else [])}
        for running in [start(other, place) for other in others]:
            assert_refused((running.wait(), running.said), "another process works in", "wait for it")
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert (first.wait(), first.said) == (0, "")
    assert digests(place) == digests(undisturbed[script][0])


def test_a_boundary_and_its_description_belong_together(place: Path, undisturbed: Undisturbed) -> None:
    assert run("train_boundary", place, "--seed=1") == (0, "")
    status, _ = run("train_boundary", place, trouble=(Trouble("kill", 2),))
    assert status == -signal.SIGKILL
    with pytest.raises(HiganError, match="describes another direction"):
        read_boundary(place / "out" / "score_00_boundary.npy")
    assert_recovers("train_boundary", place, undisturbed)
    read_boundary(place / "out" / "score_00_boundary.npy")


def test_tables_of_two_rescorings_are_not_described_as_one(place: Path, undisturbed: Undisturbed) -> None:
    assert run("rescore", place, "--seed=1") == (0, "")
    status, _ = run("rescore", place, trouble=(Trouble("kill", 30),))
    assert status == -signal.SIGKILL
    assert not (place / "out" / "rescore.json").exists()
    assert run("rescore", place) == (0, "")
    assert digests(place / "out") == digests(undisturbed["rescore"][0] / "out")


def test_injected_disk_full(place: Path, undisturbed: Undisturbed) -> None:
    for at in (1, 3, 9):
        assert_refused(run("synthesize", place, trouble=(Trouble("full", at),)), FULL)
        check_interrupted(place, "synthesize", undisturbed.before, undisturbed["synthesize"][0])
    assert_recovers("synthesize", place, undisturbed)


@pytest.mark.parametrize("kind", ["nobody_reads", "full_output"])
def test_standard_output_that_takes_nothing(kind: str, place: Path, undisturbed: Undisturbed) -> None:
    assert run("train_boundary", place, trouble=(Trouble(kind),)) == (0, "")
    assert digests(place) == digests(undisturbed["train_boundary"][0])


def test_two_writers_of_one_boundary(place: Path, undisturbed: Undisturbed) -> None:
    first = start("train_boundary", place, "-o", "mine", trouble=(Trouble("pause", 5),))
    first.wait_for_pause()
    try:
        assert_refused(run("rescore", place), "another process works in mine")
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert first.wait() == 0
    written = ("mine/score", "mine/boundary_list")
    others = {name: digest for name, digest in digests(place).items() if not name.startswith(written)}
    assert others == undisturbed.before


@pytest.mark.parametrize("script", ["synthesize", "train_boundary", "simple_manipulate"])
def test_clock_set_back(script: str, place: Path, undisturbed: Undisturbed) -> None:
    back = Trouble("clock")
    status, _ = run(script, place, trouble=(back, Trouble("kill", 6)))
    assert status == -signal.SIGKILL
    tomorrow = time.time() + 86400
    for path in place.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    assert run(script, place, trouble=(back,)) == (0, "")
    assert digests(place) == digests(undisturbed[script][0])


@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_dies(dead: int, place: Path, undisturbed: Undisturbed) -> None:
    port = free_port()
    kill = (Trouble("kill", 6),)
    ranks = [
        start("synthesize", place, trouble=kill if rank == dead else (), **rank_environment(rank, 2, port))
        for rank in range(2)
    ]
    endings = [rank.wait() for rank in ranks]
    assert endings[dead] == -signal.SIGKILL
    assert_refused((endings[1 - dead], ranks[1 - dead].said), "another rank has died", "the same command")
    check_interrupted(place, "synthesize", undisturbed.before, undisturbed["synthesize"][0])
    assert_recovers("synthesize", place, undisturbed)


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "train_boundary"])
def test_lack_of_memory(script: str, place: Path, undisturbed: Undisturbed) -> None:
    assert_refused(run(script, place, trouble=(Trouble("memory", 0),)), "memory does not suffice", "the same command")
    check_interrupted(place, script, undisturbed.before, undisturbed[script][0])
    assert run(script, place, trouble=(Trouble("memory", 1),)) == (0, "")
    assert_alike(place, undisturbed[script][0])


@pytest.mark.parametrize(
    ("script", "trouble", "expected"),
    [
        ("synthesize", Trouble("image", 5, 3), "sample 35;"),
        ("synthesize", Trouble("score", 6, 2), "sample 42;"),
        ("rescore", Trouble("image", 1, 1), "sample 1;"),
        ("rescore", Trouble("image", 7, 1), "sample 1;"),
        ("rescore", Trouble("score", 1, 1), "sample 1;"),
        ("rescore", Trouble("score", 7, 1), "sample 1;"),
        ("manipulate", Trouble("image", 2, 2), "sample 2;"),
        ("simple_manipulate", Trouble("image", 1, 1), "sample 1;"),
    ],
)
def test_nan(script: str, trouble: Trouble, expected: str, place: Path, undisturbed: Undisturbed) -> None:
    assert_refused(run(script, place, trouble=(trouble,)), expected, "nan" if trouble.kind == "score" else "NaN")
    check_interrupted(place, script, undisturbed.before, undisturbed[script][0])
    if trouble.at > 1:
        assert_recovers(script, place, undisturbed)
