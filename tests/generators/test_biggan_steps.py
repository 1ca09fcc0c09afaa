"""The five steps on a small BigGAN: several classes, layer-wise directions, joint edits, z as well as w."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import GOLDEN
from support.scripts import run

import higan

MODEL = GOLDEN / "bigdeep_tiny32"
PREDICTOR = ("--predictor_name", "colors")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 samples of two classes with their scores, and a boundary in w and in z."""
    folder = tmp_path_factory.mktemp("biggan")
    options = ("-N", 40, "--class_idx", 0, 3, "--truncation_psi", 0.6, "--generate_prediction", *PREDICTOR)
    assert run("synthesize", MODEL, *options, "-o", folder) == 0
    for space in ("w", "z"):
        data = (folder / f"{space}.npy", folder / "color.npy")
        name = ("--score_name", "brightness", "-N", 0.4, "--save_name", f"{space}_boundary.npy")
        assert run("train_boundary", *data, *name, "-o", folder / "boundaries") == 0
    lines = [f"(brightness, {space}): boundaries/brightness_{space}_boundary.npy\n" for space in ("w", "z")]
    (folder / "list.txt").write_text("".join(lines))
    return folder


def test_classes_are_recorded(place: Path) -> None:
    assert np.load(place / "labels.npy").tolist() == [0, 3] * 20
    assert json.loads((place / "run.json").read_text())["settings"]["class_idx"] == [0, 3]
    generator = higan.load_generator(MODEL, truncation_psi=0.6, device="cpu", class_idx=[0, 3])
    z = generator.sample(40, seed=0)
    np.testing.assert_array_equal(np.load(place / "z.npy"), z)
    np.testing.assert_array_equal(np.load(place / "w.npy")[1:2], generator.map(z[1:2], 3))
    assert json.loads((place / "boundaries" / "brightness_w_boundary.json").read_text())["class_idx"] == [0, 3]


def test_rescoring(place: Path) -> None:
    classes = ("--class_idx", "0,3")
    options = (*PREDICTOR, "-N", 3, "--layerwise_rescoring", "--control", 2, "-o", place / "rescore")
    assert run("rescore", *classes, MODEL, place / "list.txt", *options) == 0
    content = json.loads((place / "rescore" / "rescore.json").read_text())
    assert content["class_idx"] == [0, 3]
    generator = higan.load_generator(MODEL, truncation_psi=content["truncation_psi"], device="cpu", class_idx=[0, 3])
    predictor = higan.load_predictor("colors", device="cpu")
    z = generator.sample(3, seed=0)
    boundary = higan.read_boundary(place / "boundaries" / "brightness_z_boundary.npy")
    labels = generator.labels(3)
    before, after = (
        generator.synthesize(codes, "z", labels) for codes in (z, z + 2 * torch.from_numpy(boundary.direction))
    )
    rise = predictor.predict(after)["color"][:, 1] - predictor.predict(before)["color"][:, 1]
    scores = np.load(place / "rescore" / "brightness_z_scores.npy")
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], rise, atol=1e-3)


def test_editing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    options = ("-N", 3, "-S", 3, "--class_idx", 0, 3, "--generate_html", "--truncation_psi=0.6", "-o", "edits")
    assert run("manipulate", MODEL, "list.txt", *options, "--layerwise_manipulation", "--manipulate_layers=1-2") == 0
    moved = np.load(place / "edits" / "brightness_w_manipulated_wp.npy")
    wp = np.load(place / "edits" / "wp.npy")
    step = higan.read_boundary(place / "boundaries" / "brightness_w_boundary.npy").direction
    np.testing.assert_allclose(moved[:, 2, 1:3], wp[:, 1:3] + 3 * step, atol=1e-5)  # psi has acted on z: all of it
    np.testing.assert_array_equal(moved[:, :, [0, 3, 4]], np.repeat(wp[:, None], 3, axis=1)[:, :, [0, 3, 4]])
    assert (place / "edits" / "brightness_z_viz.html").exists()
