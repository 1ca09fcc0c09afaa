"""synthesize.py: what it writes, kills and resuming, several ranks, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_days import Trouble, digests, spoiled
from PIL import Image
from support.golden import GOLDEN
from support.model import NAMES, SETTINGS, write_model
from support.processes import free_port, rank_environment, start
from support.scripts import ROOT, run

from higan import load_generator
from higan.checkpoints import write_checkpoint
from higan.generators.stylegan2 import StyleGAN2
from higan.runs.run import read_run

KILLS = 20
PREDICTION = ("--generate_prediction", "--predictor_name=support.model:own_predictor")
EVERYTHING = (*PREDICTION, "--generate_style", "--save_raw_synthesis", "--save_wp", "--batch_size=8", "--device=cpu")


def synthesize(*arguments: object) -> int:
    """Run synthesize.py with `arguments` in this process and return its exit status."""
    return run("synthesize", *arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run of 640 samples with everything on, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    start("--help").join(300)  # so that the time below is that of the run
    begun = time.monotonic()
    process = start(model, "-N", 640, "-o", folder, *EVERYTHING)
    process.join(300)
    assert process.exitcode == 0
    return folder, time.monotonic() - begun


def test_written_files(undisturbed: tuple[Path, float], model: Path) -> None:
    folder, _ = undisturbed
    generator = load_generator(model, device="cpu")
    z = np.load(folder / "z.npy", mmap_mode="r")
    w = np.load(folder / "w.npy", mmap_mode="r")
    wp = np.load(folder / "wp.npy", mmap_mode="r")
    assert z.shape == w.shape == (640, 16) and z.dtype == w.dtype == np.float32
    np.testing.assert_array_equal(z[500:510], generator.sample(10, seed=0, start=500).numpy())
    np.testing.assert_allclose(wp, generator.broadcast(np.array(w)).numpy(), atol=1e-6)
    styles = generator.styles(torch.from_numpy(np.array(wp)))
    for layer, style in enumerate(styles):
        np.testing.assert_allclose(np.load(folder / f"style{layer:02d}.npy"), style.numpy(), atol=1e-5)

    scores = np.load(folder / "attribute.npy", mmap_mode="r")
    assert scores.dtype.names == tuple(NAMES) and scores.shape == (640,)
    images = generator.synthesize(np.array(wp[:16])).numpy()
    np.testing.assert_allclose(scores["brightness"][:16], images.mean(axis=(1, 2, 3)) / 255, atol=1e-5)

    paths = sorted(folder.glob("0*.jpg"))
    assert [path.name for path in (paths[0], paths[-1])] == ["000000.jpg", "000639.jpg"] and len(paths) == 640
    difference = np.asarray(Image.open(paths[3]), np.float32) - images[3]
    assert np.abs(difference).mean() < 12
    record = json.loads((folder / "run.json").read_text())
    assert record["complete"] and record["settings"]["model_sha256"] == generator.sha256
    assert not (folder / "blocks").exists()


@pytest.mark.parametrize("batch_size", [1, 24, 96])
def test_a_sample_does_not_depend_on_its_batch(
    undisturbed: tuple[Path, float], model: Path, tmp_path: Path, batch_size: int
) -> None:
    arguments = [argument for argument in EVERYTHING if "batch" not in argument]
    assert synthesize(model, "-N", 203, "-o", tmp_path / "run", *arguments, f"--batch_size={batch_size}") == 0
    for path in sorted((tmp_path / "run").glob("*.npy")):
        expected = np.load(undisturbed[0] / path.name, mmap_mode="r")[:203]
        np.testing.assert_array_equal(np.load(path), expected, err_msg=path.name)


def test_kills_leave_no_trace(undisturbed: tuple[Path, float], model: Path, tmp_path: Path) -> None:
    folder, seconds = undisturbed
    moments = random.Random(4)
    kills, attempt = 0, 0
    while kills < KILLS:
        attempt += 1
        other = tmp_path / f"run{attempt}"
        finished = False
        while not finished:
            process = start(model, "-N", 640, "-o", other, *EVERYTHING)
            if kills < KILLS:
                process.join(moments.uniform(0.05, 0.95) * seconds)
                if process.exitcode is None:
                    os.kill(process.pid, signal.SIGKILL)
            process.join(300)
            kills += process.exitcode == -signal.SIGKILL
            finished = process.exitcode == 0
            assert process.exitcode in (0, -signal.SIGKILL)
        assert digests(other) == digests(folder)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_write_the_same_bytes(
    undisturbed: tuple[Path, float], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    """This process is one of them: the first of two, the second of three."""
    here, port = ranks - 2, free_port()
    arguments = (model, "-N", 640, "-o", tmp_path / "run", *EVERYTHING)
    others = [rank for rank in range(ranks) if rank != here]
    processes = [start(*arguments, **rank_environment(rank, ranks, port)) for rank in others]
    for name, value in rank_environment(here, ranks, port).items():
        monkeypatch.setenv(name, value)
    assert synthesize(*arguments) == 0
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * (ranks - 1)
    assert digests(tmp_path / "run") == digests(undisturbed[0])


def test_ranks_go_on_to_more_samples(
    undisturbed: tuple[Path, float], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last block of the earlier run is begun anew in the middle, whichever rank takes it."""
    folder, port = tmp_path / "run", free_port()
    assert synthesize(model, "-N", 140, "-o", folder, *EVERYTHING) == 0
    arguments = (model, "-N", 640, "-o", folder, *EVERYTHING)
    other = start(*arguments, **rank_environment(0, 2, port))
    for name, value in rank_environment(1, 2, port).items():
        monkeypatch.setenv(name, value)
    assert synthesize(*arguments) == 0
    other.join(300)
    assert other.exitcode == 0 and digests(folder) == digests(undisturbed[0])


def test_torchrun(undisturbed: tuple[Path, float], model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [ROOT / "synthesize.py", model, "-N", "640", "-o", tmp_path / "run", *EVERYTHING]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *map(str, arguments)], check=True, env=environment, capture_output=True, timeout=300)
    assert digests(tmp_path / "run") == digests(undisturbed[0])


def test_interrupt_finishes_the_block(undisturbed: tuple[Path, float], model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(model, "-N", 640, "-o", folder, *EVERYTHING)
    while process.is_alive() and not list((folder / "blocks").glob("0*")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    process.join(300)
    record = read_run(folder)
    assert process.exitcode == 130 and record is not None and not record["complete"]
    assert synthesize(model, "-N", 640, "-o", folder, *EVERYTHING) == 0
    assert digests(folder) == digests(undisturbed[0])


def test_changed_arguments_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert synthesize(model, "-N", 8, "-o", folder, "--skip_image") == 0
    before = digests(folder)
    capsys.readouterr()
    assert synthesize(model, "-N", 9, "-o", folder, "--skip_image", "--seed=5") == 2
    message = capsys.readouterr().err
    assert "seed was 0, now 5" in message and "num was 8, now 9" in message and message.count("\n") == 1
    assert digests(folder) == before
    assert synthesize(model, "-N", 9, "-o", folder, "--skip_image", "--seed=5", "--overwrite") == 0
    assert len(np.load(folder / "z.npy")) == 9
    assert synthesize(model, "-N", 9, "-o", folder, "--skip_image", "--seed=5") == 0


def test_more_samples_of_a_run(model: Path, tmp_path: Path) -> None:
    """A finished run goes on to a larger --num, and leaves the bytes that a run of this --num leaves."""
    options = ("--batch_size=8", *EVERYTHING)
    for num, folder in ((140, "extended"), (300, "extended"), (300, "whole")):
        assert synthesize(model, "-N", num, "-o", tmp_path / folder, *options) == 0
    assert digests(tmp_path / "extended") == digests(tmp_path / "whole")
    assert len(np.load(tmp_path / "extended" / "z.npy")) == 300
    assert synthesize(model, "-N", 140, "-o", tmp_path / "extended", *options) == 2


def test_options_that_change_no_byte_can_change(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert synthesize(model, "-N", 8, "-o", first, "--skip_image", "--save_wp") == 0
    before = digests(first)
    assert synthesize(model, "-N", 8, "-o", first, "--save_wp", "--generate_html") == 0
    assert digests(first).items() >= before.items() and (first / "viz.html").exists()
    assert synthesize(model, "-N", 8, "-o", first) == 2
    codes = ("-i", first / "wp.npy", "-s", "wp", "-o", second)
    assert synthesize(model, *codes) == 0
    before = digests(second)
    assert synthesize(model, *codes, "--save_wp", "--skip_image") == 0
    assert digests(second) == before


def test_codes_come_back(model: Path, tmp_path: Path) -> None:
    assert synthesize(model, "-N", 20, "-o", tmp_path / "first", "--save_wp", *PREDICTION) == 0
    expected = np.load(tmp_path / "first" / "attribute.npy")
    for space in ("z", "w", "wp"):
        codes = tmp_path / "first" / f"{space}.npy"
        assert synthesize(model, "-i", codes, "-s", space, "-o", tmp_path / space, *PREDICTION) == 0
        found = np.load(tmp_path / space / "attribute.npy")
        for name in NAMES:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-3)
        assert (tmp_path / space / "w.npy").exists() == (space != "wp")
    z = np.load(tmp_path / "first" / "z.npy")
    np.save(tmp_path / "longer.npy", 7 * z)
    assert synthesize(model, "-i", tmp_path / "longer.npy", "-s", "z", "-o", tmp_path / "scaled", "--skip_image") == 0
    np.testing.assert_allclose(np.load(tmp_path / "scaled" / "z.npy"), z, atol=1e-5)


def test_conditional_models_take_a_class(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS | {"label_dim": 3}
    write_checkpoint(tmp_path / "classes.pth", "stylegan2", StyleGAN2(**settings).state_dict(), settings)
    options = (tmp_path / "classes.pth", "-N", 4, "--skip_image")
    for index in (0, 2):
        assert synthesize(*options, "-o", tmp_path / str(index), f"--class_idx={index}") == 0
    codes = [np.load(tmp_path / index / "w.npy") for index in "02"]
    assert np.abs(codes[0] - codes[1]).max() > 1e-3
    for name, classes in (("words", ("0", "2")), ("commas", ("0,2",))):
        assert synthesize("--class_idx", *classes, *options, "-o", tmp_path / name) == 0
        assert np.load(tmp_path / name / "labels.npy").tolist() == [0, 2, 0, 2]
        found = np.load(tmp_path / name / "w.npy")
        assert np.array_equal(found[::2], codes[0][::2]) and np.array_equal(found[1::2], codes[1][1::2])
        assert json.loads((tmp_path / name / "run.json").read_text())["settings"]["class_idx"] == [0, 2]
    labels = tmp_path / "words" / "labels.npy"
    again = ("-i", tmp_path / "words" / "z.npy", "--class_idx", labels, "--skip_image")
    assert synthesize(tmp_path / "classes.pth", *again, "-o", tmp_path / "again") == 0
    np.testing.assert_allclose(np.load(tmp_path / "again" / "w.npy"), found, atol=1e-5)
    capsys.readouterr()
    for arguments, expected in (
        (options, "is conditional"),
        ((tmp_path / "classes.pth", "-N", 5, "--class_idx", labels), "holds 4 classes; sample 4 has none"),
        ((*options, "--class_idx=3"), "has classes 0 to 2"),
        ((model, "-N", 4, "--class_idx=0"), "is not conditional"),
    ):
        assert synthesize(*arguments, "-o", tmp_path / "refused") == 2
        message = capsys.readouterr().err
        assert expected in message and message.count("\n") == 1
    assert not (tmp_path / "refused").exists()


def test_truncation_and_noise(model: Path, tmp_path: Path) -> None:
    options = (model, "-N", 4, "--save_wp", *PREDICTION)
    truncation = ("--truncation_psi=0", "--truncation_layers=2")
    for name, more in (("plain", ("--truncation_psi=1",)), ("short", truncation), ("none", ("--noise=none",))):
        assert synthesize(*options, "-o", tmp_path / name, *more) == 0
    plain, short = (np.load(tmp_path / name / "wp.npy") for name in ("plain", "short"))
    assert np.array_equal(short[:, 2:], plain[:, 2:])
    assert np.ptp(short[:, :2], axis=0).max() == 0 and np.ptp(plain[:, :2], axis=0).max() > 0
    settings = read_run(tmp_path / "none")
    assert settings is not None and settings["settings"]["noise"] == "none"


def test_page(model: Path, tmp_path: Path) -> None:
    options = ("--generate_html", "--html_row=2", "--html_col=2", "--html_name=a.html")
    assert synthesize(model, "-N", 6, "-o", tmp_path, *options) == 0
    assert "data:image/" in (tmp_path / "a.html").read_text()


def test_image_formats(model: Path, tmp_path: Path) -> None:
    for image_format in ("png", "webp"):
        folder = tmp_path / image_format
        assert synthesize(model, "-N", 2, "-o", folder, "--save_raw_synthesis", f"--image_format={image_format}") == 0
        assert Image.open(folder / f"000001.{image_format}").size == (16, 16)


def make_codes(path: Path, codes: Any) -> Path:
    np.save(path, codes)
    return path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-N", 0), "--num is 0"),
        (("-N", -3), "--num is -3"),
        (("--seed=-1",), "--seed is -1"),
        (("--skip_image", "--generate_prediction"), "contradict"),
        (("--generate_prediction", "--predictor_name=nothing"), "rooms, scene"),
        (("--generate_prediction", "--predictor_name=no_such_module:make"), "cannot import"),
        (("--generate_prediction", "--predictor_name=scene"), "wideresnet18_places365.pth.tar"),
        (("-i", "missing.npy"), "missing.npy"),
        (("--device=tpu",), "tpu"),
        (("--logfile_name=a/b.txt",), "a/b.txt"),
    ],
)
def test_bad_arguments(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    expected: str,
) -> None:
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    assert synthesize(model, "-o", tmp_path / "run", *arguments) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (np.zeros((3, 17), np.float32), "[3, 17]"),
        (np.zeros((3, 16), bool), "bool"),
        (np.zeros((0, 16), np.float32), "[0, 16]"),
        (np.full((3, 16), np.nan, np.float32), "code 0 holds NaN"),
        (np.array([None, 3]), "not an array"),
    ],
)
def test_bad_codes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codes: np.ndarray, expected: str
) -> None:
    assert synthesize(model, "-i", make_codes(tmp_path / "codes.npy", codes), "-s", "w", "-o", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert not (tmp_path / "run" / "z.npy").exists()


def test_truncated_and_foreign_codes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_codes(tmp_path / "codes.npy", np.ones((9, 16), np.float32)).read_bytes()
    for data in (whole[:-1], whole[:40], b"", b"PK\x03\x04", b"\x93NUMPY"):
        (tmp_path / "codes.npy").write_bytes(data)
        assert synthesize(model, "-i", tmp_path / "codes.npy", "-o", tmp_path / "run") == 2
        assert "codes.npy" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and its limits are Linux's")
def test_unwritable_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize(model, "-o", "/proc/nowhere") == 2
    assert "cannot write" in capsys.readouterr().err


def test_help_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, str(ROOT / "synthesize.py"), "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # seconds of its own, however busy the machine is
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_a_model_with_one_latent_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = GOLDEN / "pggan_tiny16_oldformat.pth"
    assert synthesize(weights, "-N", 3, "-o", tmp_path / "run", "--generate_html", *PREDICTION) == 0
    assert {path.stem for path in (tmp_path / "run").glob("*.npy")} == {"z", "attribute"}
    z, scores = (np.load(tmp_path / "run" / f"{name}.npy") for name in ("z", "attribute"))
    images = load_generator(weights, device="cpu").synthesize(z, "z").numpy()
    np.testing.assert_allclose(scores["brightness"], images.mean(axis=(1, 2, 3)) / 255, atol=1e-5)
    capsys.readouterr()
    codes = make_codes(tmp_path / "w.npy", z)
    for arguments, expected in (
        (("-i", codes, "-s", "w"), "has no space 'w'; expected z"),
        (("--generate_style",), "(pggan) has neither styles nor w+; leave them out"),
        (("--save_wp",), "(pggan) has neither styles nor w+; leave them out"),
    ):
        assert synthesize(weights, "-o", tmp_path / "refused", *arguments) == 2
        message = capsys.readouterr().err
        assert expected in message and message.count("\n") == 1


def test_codes_beyond_float32(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_generator(model, device="cpu").network.state_dict()
    state = {name: value * 1e30 if name.startswith("mapping") else value for name, value in state.items()}
    write_checkpoint(tmp_path / "large.pth", "stylegan2", state, SETTINGS)
    assert synthesize(tmp_path / "large.pth", "-N", 4, "-o", tmp_path / "run", "--skip_image") == 2
    message = capsys.readouterr().err
    assert "large gives NaN or infinity in w of sample 0; check its files" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "trouble", "sample"),
    [("--save_raw_synthesis", Trouble("image", 2, 1), 9), ("--generate_html", Trouble("image", 2, 1), 65)],
)
def test_an_image_that_is_not_finite_is_named(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    trouble: Trouble,
    sample: int,
) -> None:
    """Images are made in groups of 8, those of a page 64 at a time."""
    monkeypatch.setattr(StyleGAN2, "image", spoiled(StyleGAN2.image, trouble))
    assert synthesize(model, "-N", 72, "-o", tmp_path / "run", "--device=cpu", option) == 2
    message = capsys.readouterr().err
    assert f"NaN or infinity for sample {sample};" in message and message.count("\n") == 1
    assert not (tmp_path / "run" / "viz.html").exists()
