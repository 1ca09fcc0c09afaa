"""Output folders: arrays written block by block, resumed, refused, and whole or not there."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.scripts import ROOT

from higan import __version__, files
from higan.errors import HiganError
from higan.files import TEMPORARY, is_file, write_atomic
from higan.logs import open_log
from higan.runs import folders
from higan.runs import run as runs
from higan.runs.folders import Lock, output_folder
from higan.runs.run import BLOCK_FOLDER, RUN_FILE, Array, Run, read_array, read_run, versions

ARRAYS = {
    "z.npy": Array((3,), np.dtype(np.float32)),
    "score.npy": Array((), np.dtype([("warm", "<f4"), ("cold light", "<f4")])),
}


def make_run(folder: Path, num: int = 10, **settings: Any) -> Run:
    return Run(folder, {"seed": 0, **settings}, ARRAYS, num, block_size=4)


def fill(run: Run, blocks: list[int]) -> None:
    for block in blocks:
        rows = run.rows(block)
        run.write("z.npy", rows.start, np.array([[row, row + 0.5, -row] for row in rows]))
        run.write("score.npy", rows.start, np.array([[row, 2 * row] for row in rows], np.float32))
        run.finish(block)
    run.drain()


def test_arrays_are_plain_and_whole(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        assert run.begin() == [0, 1, 2]
        fill(run, [2, 0, 1])
        run.complete()
    z = np.load(tmp_path / "z.npy", allow_pickle=False)
    assert z.shape == (10, 3) and z[7].tolist() == [7, 7.5, -7]
    scores = np.load(tmp_path / "score.npy", mmap_mode="r")
    assert scores["cold light"].tolist() == [2.0 * row for row in range(10)]
    assert read_array(tmp_path / "z.npy")[8:20].shape == (2, 3)
    assert read_array(tmp_path / "z.npy").shape == (10, 3)


def test_unfinished_blocks_come_back(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
        fill(run, [1])
        assert run.num_done() == 4
    with pytest.raises(HiganError, match="not finished"):
        read_array(tmp_path / "z.npy")
    (tmp_path / f".z.npy.abc{TEMPORARY}").write_bytes(b"left by a kill")
    with make_run(tmp_path) as run:
        assert run.begin() == [0, 2]
        assert not list(tmp_path.glob(f".*{TEMPORARY}"))
        with pytest.raises(HiganError, match="2 blocks"):
            run.complete()
        fill(run, [0, 2])
        run.complete()
    with make_run(tmp_path) as run:
        assert run.begin() == [] and run.num_done() == 10


class Killed(Exception):
    """What stands for the end of a process."""


@pytest.mark.parametrize("kill", range(6))
@pytest.mark.parametrize(("first", "finished"), [(6, True), (8, True), (6, False)])
def test_a_run_is_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, finished: bool, kill: int
) -> None:
    """What it becomes are the bytes of a run of that many rows, also where extending it was killed on the way."""
    for folder, num in (("extended", first), ("whole", 10)):
        with make_run(tmp_path / folder, num) as run:
            blocks = run.begin()
            fill(run, blocks if finished else [1])
            if finished:
                run.complete()
    left = [kill]

    def counted(work: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return work(*arguments, **named)

        return call

    with monkeypatch.context() as patches:
        for name in ("touch", "unlink", "replace"):
            patches.setattr(Path, name, counted(getattr(Path, name)))
        run = make_run(tmp_path / "extended", 10)
        with contextlib.suppress(Killed):
            run.begin()
    run.close()
    with make_run(tmp_path / "extended", 10) as run:
        pending = run.begin()
        assert 1 not in pending or first == 6, "whole blocks stay"
        assert run.undone(0, 1) == range(4) and run.undone(2, 1) == range(8, 10)
        assert run.undone(1, 4) == range(4, 8)
        assert run.undone(1, 1) in ([range(6, 8)] if first == 6 and finished else [range(4, 8), range(6, 8)])
        assert read_run(tmp_path / "extended")["num"] == 10
        with pytest.raises(HiganError, match="not finished"):
            read_array(tmp_path / "extended" / "z.npy")
        fill(run, pending)
        run.complete()
    if not finished:
        with make_run(tmp_path / "whole", 10) as run:
            fill(run, run.begin())
            run.complete()
    for name in ("z.npy", "score.npy", RUN_FILE):
        assert (tmp_path / "extended" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("damage", [None, np.zeros((3, 3))])
def test_a_run_is_not_extended_without_its_rows(tmp_path: Path, damage: np.ndarray | None) -> None:
    """Its only block is smaller than the new one, whose first rows would be zeros, or bytes of another type."""
    with make_run(tmp_path, 3) as run:
        fill(run, run.begin())
        run.complete()
    (tmp_path / "z.npy").unlink()
    if damage is not None:
        np.save(tmp_path / "z.npy", damage)
    with (
        pytest.raises(HiganError, match="is gone" if damage is None else "holds float64"),
        make_run(tmp_path, 4) as run,
    ):
        run.begin()


def test_a_kill_before_the_arrays_were_made(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
    (tmp_path / "z.npy").unlink()
    shutil.rmtree(tmp_path / BLOCK_FOLDER)
    with make_run(tmp_path) as run:
        assert run.begin() == [0, 1, 2]
        assert np.load(tmp_path / "z.npy").shape == (10, 3)


def test_a_lost_or_damaged_array_is_noticed(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
        fill(run, [0])
    whole = (tmp_path / "z.npy").read_bytes()
    for damage in (whole[:-3], whole[:20]):
        (tmp_path / "z.npy").write_bytes(damage)
        with pytest.raises(HiganError, match="truncated"), make_run(tmp_path) as run:
            run.begin()
    (tmp_path / "z.npy").unlink()
    with pytest.raises(HiganError, match="gone"), make_run(tmp_path) as run:
        run.begin()
    with make_run(tmp_path) as run:
        assert run.begin(overwrite=True) == [0, 1, 2]


def test_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    with make_run(tmp_path, truncation_psi=0.5) as run:
        run.begin()
    message = r"seed was 0, now 3; .*num was 10, now 11"
    with pytest.raises(HiganError, match=message), make_run(tmp_path, 11, seed=3) as run:
        run.begin()
    with pytest.raises(HiganError, match=r"truncation_psi was 0\.5, now null"), make_run(tmp_path) as run:
        run.begin()


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "z.npy").write_bytes(b"precious")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(HiganError, match="--overwrite"), make_run(tmp_path) as run:
        run.begin()
    assert (tmp_path / "z.npy").read_bytes() == b"precious" and not (tmp_path / RUN_FILE).exists()
    with make_run(tmp_path) as run:
        run.begin(overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"{", b"[1]", b"{}", b"\xff\xfe"])
def test_a_foreign_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(HiganError, match=r"run\.json"):
        read_run(tmp_path)


def test_lock_refuses_a_second_process(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    with pytest.raises(HiganError, match="another process works in"):
        Lock(tmp_path)
    rank = Lock(tmp_path, rank=1)
    first.release()
    with pytest.raises(HiganError, match="another process works in"):
        Lock(tmp_path)
    rank.release()
    Lock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_lock_dies_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from higan.runs.folders import Lock\n"
        "locks = [Lock(Path(sys.argv[1]), rank) for rank in (0, 1)]; os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / folders.LOCK_FILE).exists()
    Lock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(HiganError, match="are free"), make_run(tmp_path, 1000) as run:
        run.begin()
    assert not (tmp_path / "z.npy").exists() and not (tmp_path / RUN_FILE).exists()


def test_a_full_disk_leaves_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with make_run(tmp_path) as run:
        run.begin()
        fill(run, [0])
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full)
            with pytest.raises(HiganError, match="full; make room"):
                fill(run, [1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(HiganError, match="full; make room"):
                fill(run, [1])
    with make_run(tmp_path) as run:
        assert run.begin() == [1, 2]
        fill(run, [1, 2])
        run.complete()
    assert np.load(tmp_path / "z.npy")[:, 0].tolist() == list(range(10))


def test_images_are_written_behind(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    with Run(tmp_path, {}, {}, 10, 4, image_format="png", resolution=8) as run:
        for block in run.begin():
            rows = run.rows(block)
            run.write_images(rows.start, images[rows.start : rows.stop])
            run.finish(block)
        run.drain()
        run.complete()
    from PIL import Image

    for index in range(10):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{index:06d}.png")), images[index])


def test_another_rank_takes_the_record_that_the_first_found(tmp_path: Path) -> None:
    with make_run(tmp_path, 6) as run:
        fill(run, run.begin())
        run.complete()
    record = json.loads((tmp_path / RUN_FILE).read_text())
    del record["image_folder"]  # as version 0.1 wrote it
    (tmp_path / RUN_FILE).write_text(json.dumps(record))
    with make_run(tmp_path, 10) as first, make_run(tmp_path, 10) as other:
        assert first.begin() == [1, 2]
        other.join(1)
        assert other.undone(1, 1) == first.undone(1, 1) == range(6, 8)
        assert other.image_folder == first.image_folder == tmp_path / "images"


def test_a_run_of_version_0_1_goes_on_in_its_folder_of_images(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    (tmp_path / "000009.png").write_bytes(b"a picture of the user's")
    with Run(tmp_path, {"image_format": "png"}, {}, 4, 4, image_format="png", resolution=8) as run:
        run.begin()
    record = json.loads((tmp_path / RUN_FILE).read_text())
    (tmp_path / RUN_FILE).write_text(json.dumps({key: value for key, value in record.items() if key != "image_folder"}))
    with Run(tmp_path, {"image_format": "png"}, {}, 4, 4, image_format="png", resolution=8) as run:
        assert run.begin() == [0]
        run.write_images(0, images)
        run.finish(0)
        run.drain()
        run.complete()
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [f"{i:06d}.png" for i in range(4)]
    with Run(tmp_path, {"image_format": "png"}, {}, 4, 4, image_format="png", resolution=8) as run:
        assert run.begin(overwrite=True) == [0]
    assert not list((tmp_path / "images").iterdir()) and (tmp_path / "000009.png").exists()
    (tmp_path / RUN_FILE).unlink()
    (tmp_path / "000000.png").touch()
    with (
        Run(tmp_path, {}, {}, 4, 4, image_format="png", resolution=8) as run,
        pytest.raises(HiganError, match=r"has 000000\.png but no run\.json"),
    ):
        run.begin()


def test_write_atomic_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    write_atomic(tmp_path / "deep" / "a.txt", "old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HiganError, match="broken"):
        write_atomic(tmp_path / "deep" / "a.txt", b"new")
    with pytest.raises(HiganError, match=r"is gone; .*run the same command again"):
        write_atomic(tmp_path / "missing" / "a.txt", b"new")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "old"


def test_a_stop_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler runs as soon as the temporary file is there, before anything is written."""
    path_open = Path.open

    def stopped(path: Path, mode: str) -> None:
        path_open(path, mode).close()
        assert [found.name for found in tmp_path.iterdir()] == [path.name]
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "new")
    assert not list(tmp_path.iterdir())


def test_many_names_fit_into_plain_numpy(tmp_path: Path) -> None:
    names = [f"scene_category_{index:03d}" for index in range(365)]
    arrays = {"category.npy": Array((), np.dtype([(name, "<f4") for name in names]))}
    with Run(tmp_path, {}, arrays, 3, 4) as run:
        run.begin()
        run.write("category.npy", 0, np.ones((3, 365), np.float32))
        run.finish(0)
        run.drain()
        run.complete()
    assert read_array(tmp_path / "category.npy")["scene_category_364"].tolist() == [1, 1, 1]


def test_a_stop_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a.txt", "old")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_that_is_removed_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(HiganError, match="was removed or replaced"), output_folder(tmp_path / "out") as folder:
        shutil.rmtree(folder)


def test_names_that_no_file_can_have_are_no_files() -> None:
    assert not is_file("a" * 10_000) and not is_file("a\0b")


def test_a_record_that_is_no_small_regular_file(tmp_path: Path) -> None:
    record = tmp_path / runs.RUN_FILE
    os.mkfifo(record)
    with pytest.raises(HiganError, match="no regular file"):
        read_run(tmp_path)
    record.unlink()
    record.touch()
    os.truncate(record, files.SMALL_FILE + 1)
    with pytest.raises(HiganError, match="more than 17 MB"):
        read_run(tmp_path)


def test_a_record_with_parts_of_another_kind(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
    record = json.loads((tmp_path / runs.RUN_FILE).read_text())
    for key, value in {"complete": "yes", "num": True, "settings": [], "versions": None, "kept": "all"}.items():
        write_atomic(tmp_path / runs.RUN_FILE, json.dumps(record | {key: value}))
        with pytest.raises(HiganError, match=f"{key} is .*expected a run's own record"):
            read_run(tmp_path)


def test_other_versions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with make_run(tmp_path) as run:
        run.begin()
    record = json.loads((tmp_path / runs.RUN_FILE).read_text())
    record["versions"]["torch"] = "0.1"
    write_atomic(tmp_path / runs.RUN_FILE, json.dumps(record))
    open_log()
    with make_run(tmp_path) as run:
        assert run.begin() == [0, 1, 2]
    assert 'versions differ from when this run began: torch was "0.1", now' in capsys.readouterr().out


def test_versions_are_those_of_what_computes_the_numbers() -> None:
    found = versions()
    torch = importlib.metadata.version("torch")
    assert found.pop("torch").startswith(torch), "a build with CUDA adds its own, as in 2.6.0+cu124"
    assert found == {
        "higan": __version__,
        "python": sys.version.split()[0],
        **{name: importlib.metadata.version(name) for name in ("numpy", "pillow")},
    }


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
        fill(run, [0])
    np.save(tmp_path / "z.npy", np.zeros((9, 3), np.float32))
    with pytest.raises(HiganError, match=r"holds float32 \[9, 3\], not this run's array"), make_run(tmp_path) as run:
        run.begin()


def test_files_in_the_place_of_folders_and_the_other_way_round(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.begin()
    shutil.rmtree(tmp_path / runs.BLOCK_FOLDER)
    (tmp_path / runs.BLOCK_FOLDER).write_text("in the way")
    with pytest.raises(HiganError, match="cannot write in"), make_run(tmp_path) as run:
        run.begin()
    (tmp_path / "z.npy").unlink()
    (tmp_path / "z.npy").mkdir()
    with pytest.raises(HiganError, match="cannot write in"), make_run(tmp_path) as run:
        run.begin(overwrite=True)
    assert (tmp_path / "z.npy").is_dir()


def test_a_foreign_record_can_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / runs.RUN_FILE).write_text("{")
    (tmp_path / "z.npy").write_bytes(b"of something else")
    with make_run(tmp_path) as run:
        assert run.begin(overwrite=True) == [0, 1, 2]
    assert np.load(tmp_path / "z.npy").shape == (10, 3)


def test_a_lock_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / folders.LOCK_FILE).mkdir()
    with pytest.raises(HiganError, match=r"cannot write in .*Is a directory"):
        Lock(tmp_path)


def test_a_lock_leaves_that_of_a_folder_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    lock = Lock(folder)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    other = Lock(folder)
    assert not lock.holds() and other.holds()
    lock.release()
    assert other.holds()
    other.release()


def test_images_are_flushed_before_their_block_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: marked.append((tmp_path / runs.BLOCK_FOLDER / "000000").exists()))
    with Run(tmp_path, {}, {}, 2, 4, image_format="png", resolution=8) as run:
        run.begin()
        run.write_images(0, np.zeros((2, 8, 8, 3), np.uint8))
        run.finish(0)
        run.drain()
        run.complete()
    assert marked == [False]
