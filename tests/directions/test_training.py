"""Boundaries from scores: the reference's samples and directions, and train_boundary.py."""

from __future__ import annotations

import json
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.golden import read_case
from support.scripts import assert_refused, run

from higan.directions.boundaries import read_boundary, read_scores
from higan.directions.lists import read_boundary_list
from higan.directions.svm import SOLVERS
from higan.directions.training import load_columns, select_samples, train_boundary
from higan.errors import HiganError

CASE, ARRAYS = read_case("boundary")
GENERATOR = np.random.default_rng([CASE["seed"], zlib.crc32(b"boundary_data")])
DATA = GENERATOR.standard_normal((2000, 64)).astype(np.float32)
COSINE = {"libsvm": 0.9999, "liblinear": 0.99, "newton": 0.99}


@pytest.mark.parametrize("settings", CASE["runs"], ids=lambda settings: f"run{settings['id']}")
def test_the_reference_s_samples_and_directions(settings: dict[str, Any]) -> None:
    assert DATA[0, :8].tolist() == CASE["data_first_row_first8"]
    run = f"run{settings['id']}"
    options = settings["chosen_num_or_ratio"], settings["split_ratio"], None, settings["numpy_legacy_seed"]
    selection = select_samples(ARRAYS["scores"], *options)
    assert selection.train.tolist() == ARRAYS[f"{run}_train_index"].tolist()
    assert selection.train_labels.tolist() == ARRAYS[f"{run}_train_label"].tolist()
    assert selection.validation.tolist() == ARRAYS[f"{run}_val_index"].tolist()
    assert selection.validation_labels.tolist() == ARRAYS[f"{run}_val_label"].tolist()
    for solver in SOLVERS:
        boundary = train_boundary(
            DATA,
            ARRAYS["scores"],
            chosen_num_or_ratio=options[0],
            split_ratio=options[1],
            seed=options[3],
            solver=solver,
        )
        assert float((boundary.direction * ARRAYS[f"{run}_boundary"]).sum()) >= COSINE[solver]
        assert np.linalg.norm(boundary.direction) == pytest.approx(1, abs=1e-6)
        expected = pytest.approx(settings["validation_accuracy"], abs=0 if solver == "libsvm" else 0.03)
        assert boundary.info["validation_accuracy"] == expected


def test_labels_in_place_of_scores() -> None:
    labels = ARRAYS["scores"][:200] > 0
    seed = CASE["runs"][0]["numpy_legacy_seed"]
    boundary = train_boundary(DATA[:200], labels, chosen_num_or_ratio=200, seed=seed, solver="libsvm")
    assert float((boundary.direction * ARRAYS["labels_run_boundary"]).sum()) >= 0.9999
    assert f"{boundary.info['validation_right']} / 61" in CASE["labels_run"]["log"][0]


def test_accuracy_of_rare_labels_is_balanced() -> None:
    """39 of 20,000 are positive: that a constant answer is right for 99.8 % of them says nothing."""
    random = np.random.default_rng(1)
    codes = random.standard_normal((20_000, 32)).astype(np.float32)
    labels = random.random(20_000) < 1 / (1 + np.exp(-2 * (codes[:, 0] - 4)))
    assert labels.sum() < 60
    info = train_boundary(codes, labels, chosen_num_or_ratio=20_000).info
    assert info["validation_accuracy"] == pytest.approx(0.5, abs=0.3)
    assert info["validation_right"] / sum(info["validation"].values()) > 0.99


def test_labels_of_three_classes_are_said_to_be() -> None:
    labels = np.digitize(DATA[:, 0], (-0.5, 0.5)).astype(np.float32)
    boundary = train_boundary(DATA, labels, chosen_num_or_ratio=400)
    assert "labels of 3 classes: 2 is trained against 0" in boundary.info["notes"][0]
    selection = select_samples(labels, 400)
    assert set(labels[selection.train]) == {0, 2}
    with pytest.raises(HiganError, match="share the value 1; choose fewer samples"):
        train_boundary(DATA, labels, chosen_num_or_ratio=1000)
    assert "notes" not in train_boundary(DATA, labels == 2).info


@pytest.mark.parametrize("scores", [1 + 1e-7 * DATA[:, 0], np.float32(0.3) + np.float32(1e-8) * DATA[:, 1]])
def test_a_constant_up_to_rounding_is_constant(scores: np.ndarray) -> None:
    with pytest.raises(HiganError, match=r"all 2000 scores are .* up to rounding: a single class"):
        train_boundary(DATA, scores)


def test_codes_that_are_given_twice_are_found() -> None:
    twice, scores = np.concatenate([DATA[:500]] * 2), np.tile(ARRAYS["scores"][:500], 2)
    boundary = train_boundary(twice, scores, chosen_num_or_ratio=200)
    assert "held out are among those trained on too" in boundary.info["notes"][0]
    assert "notes" not in train_boundary(DATA, ARRAYS["scores"], chosen_num_or_ratio=200).info


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 300), st.floats(0.01, 400), st.floats(0.4, 1), st.integers(0, 5))
def test_selected_samples_are_the_extreme_ones(num: int, chosen: float, split: float, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(num).astype(np.float32)
    try:
        selection = select_samples(scores, chosen, split, None, seed)
    except HiganError as error:
        assert "none to train on" in str(error)
        return
    rows = np.concatenate([selection.train, selection.validation])
    labels = np.concatenate([selection.train_labels, selection.validation_labels])
    assert sorted(scores[rows[labels]]) == list(range(num - selection.chosen, num))
    assert sorted(scores[rows[~labels]]) == list(range(selection.chosen))


def test_invalid_samples_are_left_out() -> None:
    scores = ARRAYS["scores"].copy()
    plain = select_samples(scores[100:], 200, 0.7, None, 3)
    for invalid in (-1.0, float("nan")):
        scores[:100] = invalid
        selection = select_samples(scores, 200, 0.7, invalid, 3)
        assert selection.invalid == 100
        assert (selection.train == plain.train + 100).all()


def test_codes_wider_than_they_are_many_need_no_square_of_the_width() -> None:
    codes = np.random.default_rng(0).standard_normal((60, 4000)).astype(np.float32)
    tracemalloc.start()
    newton = train_boundary(codes, codes[:, 0], chosen_num_or_ratio=30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "a matrix of the width squared takes 128 MB"
    exact = train_boundary(codes, codes[:, 0], chosen_num_or_ratio=30, solver="libsvm")
    assert float((newton.direction * exact.direction).sum()) > 0.999
    assert newton.direction.shape == (1, 4000)


def test_a_direction_per_layer() -> None:
    codes = np.stack([DATA, DATA[::-1], DATA[:, ::-1]], axis=1)
    boundary = train_boundary(codes, ARRAYS["scores"], "wood", chosen_num_or_ratio=300, verbose_test=True, bootstrap=3)
    assert boundary.space == "wp"
    assert boundary.direction.shape == (1, 3, 64)
    assert np.linalg.norm(boundary.direction, axis=2) == pytest.approx(1, abs=1e-6)
    alone = train_boundary(DATA, ARRAYS["scores"], chosen_num_or_ratio=300)
    assert boundary.direction[:, 0] == pytest.approx(alone.direction, abs=1e-6)
    remaining, angles = boundary.info["remaining_accuracy"], boundary.info["bootstrap_angle"]
    assert remaining[0] > 0.7 > remaining[1]
    assert angles[0] < 45 < angles[1], "codes that do not belong to the scores give no stable direction"


def test_remaining_samples_are_judged() -> None:
    boundary = train_boundary(DATA, ARRAYS["scores"], chosen_num_or_ratio=400, verbose_test=True)
    assert boundary.info["remaining"] == 1200
    assert 0.6 < boundary.info["remaining_accuracy"] < 0.95


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scores": np.full(2000, np.nan, np.float32)}, "2000 of 2000 scores are not finite"),
        ({"scores": np.ones(2000)}, "a single class"),
        ({"scores": ARRAYS["scores"][:1999]}, "2000 codes but 1999 scores"),
        ({"scores": np.r_[np.zeros(1000), np.linspace(0, 1, 1000)]}, "share the value 0"),
        ({"codes": DATA[:3], "scores": ARRAYS["scores"][:3]}, "3 scores are too few"),
        ({"chosen_num_or_ratio": 1.5}, "leave none to train on"),
        ({"chosen_num_or_ratio": -1}, "expected more than 0"),
        ({"chosen_num_or_ratio": float("nan")}, "expected more than 0"),
        ({"split_ratio": 0}, "split ratio is 0"),
        ({"split_ratio": 1.1}, "split ratio is 1.1"),
        ({"codes": DATA[:, 0]}, "expected float codes"),
        ({"codes": np.zeros((2000, 4), int)}, "expected float codes"),
        ({"codes": np.full((2000, 4), np.inf, np.float32)}, "not finite"),
        ({"codes": np.ones((2000, 4), np.float32)}, "no direction separates"),
        ({"solver": "magic"}, "unknown solver 'magic'"),
        ({"C": 0}, "C is 0"),
    ],
)
def test_what_cannot_be_trained_on(change: dict[str, Any], expected: str) -> None:
    arguments: dict[str, Any] = {"codes": DATA, "scores": ARRAYS["scores"], "chosen_num_or_ratio": 1000} | change
    with pytest.raises(HiganError, match=expected):
        train_boundary(**arguments)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """w.npy [2000, 64] and attribute.npy with the scores wood, view (the opposite) and constant."""
    scores = np.zeros(2000, dtype=[("wood", "<f4"), ("view", "<f4"), ("constant", "<f4")])
    scores["wood"], scores["view"] = ARRAYS["scores"], -ARRAYS["scores"] + 0.5 * DATA[:, 5]
    np.save(tmp_path / "w.npy", DATA)
    np.save(tmp_path / "attribute.npy", scores)
    np.save(tmp_path / "plain.npy", ARRAYS["scores"])
    return tmp_path


def test_script(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = source / "w.npy", source / "attribute.npy"
    out = source / "out"
    assert run("train_boundary", *files, "--score_name", "wood", "-o", out, "-N", 0.1, "-r", 0.8, "-T", "linear", "-V",
               "--seed", 5, "--C", 0.5, "--solver", "liblinear", "--bootstrap", 2) == 0  # fmt: skip
    boundary = read_boundary(out / "wood_boundary.npy")
    assert boundary.direction.dtype == np.float32
    description = json.loads((out / "wood_boundary.json").read_text())
    expected = {
        "space": "w",
        "samples": 2000,
        "chosen_per_side": 200,
        "training": {"positive": 160, "negative": 160},
        "remaining": 1600,
        "solver": "liblinear",
        "C": 0.5,
        "seed": 5,
        "data_path": str(files[0]),
    }
    assert {key: description[key] for key in expected} == expected
    assert {"training_accuracy", "validation_accuracy", "remaining_accuracy", "bootstrap_angle"} < set(description)
    log = (out / "wood_boundary.log").read_text()
    assert "wood: 160 positive and 160 negative, balanced training accuracy" in log
    assert "balanced validation accuracy" in log

    others = "--condition", "view", out / "wood_boundary.npy"
    assert run("train_boundary", *files, "--score_name", "wood", "view", "-o", out, "--save_name", "w", "--jobs", 2,
               "-N", 500, "--logfile_name", "log.txt", *others) == 0  # fmt: skip
    conditioned, view = read_boundary(out / "wood_w.npy"), read_boundary(out / "view_w.npy")
    assert conditioned.info["conditioned_on"] == ["view"]
    assert view.info["conditioned_on"] == ["wood"]
    assert abs(float((view.direction * boundary.direction).sum())) < 1e-6
    assert (out / "log.txt").is_file()

    assert run("train_boundary", source / "w.npy", source / "plain.npy", "-o", out, "-N", 500) == 0
    plain = read_boundary(out / "boundary.npy").direction
    capsys.readouterr()
    assert run("train_boundary", *files, "--score_name", "all", "-o", source / "all", "-N", 500, "--jobs", 2) == 0
    assert "constant is left out" in capsys.readouterr().out
    assert sorted(path.name for path in (source / "all").glob("*.npy")) == ["view_boundary.npy", "wood_boundary.npy"]
    assert (read_boundary(source / "all" / "wood_boundary.npy").direction == plain).all()
    listed = read_boundary_list(source / "all" / "boundary_list.txt")
    assert [entry.boundary.name for entry in listed] == ["wood", "view"]


def test_names_that_no_file_can_have(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["studying/ learning", "studying: learning", "glasses", "..", "few"]
    scores = np.zeros(2000, dtype=[(name, "?" if name == "glasses" else "<f4") for name in names])
    for name in names:
        scores[name] = ARRAYS["scores"] > 0 if name == "glasses" else ARRAYS["scores"]
    scores["few"] = np.r_[np.ones(12), np.zeros(1988)]
    np.save(source / "sun.npy", scores)
    assert run("train_boundary", source / "w.npy", source / "sun.npy", "--score_name", "all", "-o", source / "out") == 0
    said = capsys.readouterr().out
    assert (
        "studying: learning is left out: 'studying: learning' would be written to studying_ learning_boundary" in said
    )
    assert ".. is left out" in said
    assert " of 600 right" not in said
    boundary = read_boundary(source / "out" / "studying_ learning_boundary.npy")
    assert (boundary.name, boundary.target) == ("studying_ learning", "studying/ learning")
    assert read_boundary(source / "out" / "glasses_boundary.npy").target == "glasses"
    assert_refused(
        capsys, "cannot be part of a file's name", "train_boundary", "--score_name", "..", source / "w.npy",
        source / "sun.npy", "-o", source / "out",
    )  # fmt: skip
    np.save(source / "few.npy", DATA[:30, 0] > 0)
    np.save(source / "w.npy", DATA[:30])
    assert run("train_boundary", source / "w.npy", source / "few.npy", "-o", source / "out") == 0
    assert re.search(r"validation \d+ of \d+ right", capsys.readouterr().out)


def test_script_refuses(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes, scores = source / "w.npy", source / "attribute.npy"
    np.save(source / "short.npy", np.load(scores)[:100])
    np.save(source / "nan.npy", np.full(2000, np.nan))
    np.save(source / "few.npy", DATA[:2])
    np.save(source / "two.npy", np.load(scores)[:2])
    name, out = ("--score_name", "wood"), ("-o", source / "out")

    def refused(expected: str, *arguments: object) -> None:
        assert_refused(capsys, expected, "train_boundary", *arguments, *out)

    refused("nearest: wood", codes, scores, "--score_name", "wooden")
    refused("choose with --score_name", codes, scores)
    refused("a single class", codes, scores, "--score_name", "constant")
    refused("2000 codes but 100 scores", codes, source / "short.npy", *name)
    refused("not finite", codes, source / "nan.npy")
    refused("too few", source / "few.npy", source / "two.npy", *name)
    refused("there is no file", source / "none.npy", scores, *name)
    refused("there is no file", codes, source / "none.npy", *name)
    refused("expected float codes", scores, scores, *name)
    refused("--bootstrap", codes, scores, *name, "--bootstrap", 1)
    refused("--jobs", codes, scores, *name, "--jobs", 0)
    refused("nearest: view", codes, scores, *name, "--condition", "views")
    refused("part of a file's name", codes, scores, *name, "--save_name", "../x")
    refused("more than 0", codes, scores, *name, "-N", 0)
    (source / "file").write_text("")
    assert_refused(capsys, "cannot write", "train_boundary", codes, scores, *name, "-o", source / "file" / "folder")


def test_columns_are_loaded_together(source: Path) -> None:
    scores = read_scores(source / "attribute.npy")
    loaded = load_columns(scores, ["view", "wood"])
    assert loaded["wood"].flags.c_contiguous
    assert (loaded["wood"] == ARRAYS["scores"]).all()


def test_nothing_is_left_to_judge() -> None:
    """All samples are trained on: neither a validation set nor a remaining sample."""
    codes = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    boundary = train_boundary(codes, codes[:, 0], chosen_num_or_ratio=0.5, split_ratio=1, verbose_test=True)
    assert boundary.info["validation"] == {"positive": 0, "negative": 0}
    assert boundary.info["validation_right"] == 0
    assert boundary.info["validation_accuracy"] is None
    assert (boundary.info["remaining"], boundary.info["remaining_accuracy"]) == (0, None)
    assert boundary.info["training_accuracy"] == 1


def test_an_angle_needs_two_boundaries() -> None:
    with pytest.raises(HiganError, match="an angle needs at least 2"):
        train_boundary(DATA[:40], ARRAYS["scores"][:40], chosen_num_or_ratio=10, bootstrap=1)


def test_a_table_is_no_score() -> None:
    with pytest.raises(HiganError, match=r"scores are \[40, 2\]; expected one per sample"):
        train_boundary(DATA[:40], np.zeros((40, 2)))
