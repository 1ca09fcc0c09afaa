"""The commands that the paper's programs print in their README, in a folder as these programs use it.

The model is a made stylegan_bedroom of 256x256, a sixteenth as wide, in the format of the paper's programs; the scene
predictor's files and the boundaries are made too, in the formats that were published.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from string import Template

import numpy as np
import pytest
import torch
from PIL import Image
from support.golden import GOLDEN, rule_tensors, write_scene_files
from support.scripts import run

from higan import read_boundary
from higan.predictors import places
from higan.predictors.places import NUM_ATTRIBUTES

NARROWER = 16
ATTRIBUTES = ["indoor lighting", "wood", "view", *(f"attribute {index}" for index in range(3, NUM_ATTRIBUTES))]
SIMPLE = "python simple_manipulate.py stylegan_bedroom indoor_lighting"
MANIPULATE = """python manipulate.py $MODEL_NAME $BOUNDARY_LIST \\
    --num=10 \\
    --layerwise_manipulation \\
    --manipulate_layers=$LAYERS \\
    --generate_html"""
SYNTHESIZE = """python synthesize.py $MODEL_NAME \\
    --output_dir=$OUTPUT_DIR \\
    --num=500000 \\
    --generate_prediction \\
    --logfile_name=synthesis.log"""
TRAIN = """python train_boundary.py $OUTPUT_DIR/w.npy $OUTPUT_DIR/attribute.npy \\
    --score_name=$BOUNDARY_NAME \\
    --output_dir=$OUTPUT_DIR \\
    --logfile_name=${BOUNDARY_NAME}_training.log"""
RESCORE = """python rescore.py $MODEL_NAME $BOUNDARY_LIST \\
    --output_dir $OUTPUT_DIR \\
    --layerwise_rescoring \\
    --logfile_name=rescore.log"""
VARIABLES = {"MODEL_NAME": "stylegan_bedroom", "OUTPUT_DIR": "stylegan_bedroom", "LAYERS": "6-11"}


def command(text: str, *more: object, **variables: str) -> None:
    """Run a command as it is printed, with a few samples: --num is given again."""
    _, script, *arguments = shlex.split(Template(text).substitute(VARIABLES | variables).replace("\\\n", " "))
    assert run(script.removesuffix(".py"), *arguments, *more) == 0


def narrow(key: str, shape: list[int]) -> list[int]:
    """Return the shape of a tensor of the synthesis network with a sixteenth of the channels."""
    if not key.startswith("synthesis.") or key.endswith("noise"):
        return shape
    wide = 1 if "style_mod.dense.fc" in key else len(shape)  # the other axis of a style is w's
    return [size // NARROWER if axis < wide and size >= 64 else size for axis, size in enumerate(shape)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the paper's programs with weights, annotations, boundaries and a list of them."""
    folder = tmp_path_factory.mktemp("higan")
    weights, pretrained, annotations, boundaries = (
        folder / part
        for part in (
            "models/pretrain/pytorch",
            "predictors/pretrain",
            "predictors/annotations",
            "boundaries/stylegan_bedroom",
        )
    )
    for part in (weights, pretrained, annotations, boundaries):
        part.mkdir(parents=True)
    keys = json.loads((GOLDEN / "keys_256.json").read_text())["stylegan_auto"]["state_dict"]
    tensors = rule_tensors([[key, narrow(key, shape), kind] for key, shape, kind in keys], 0)
    torch.save(tensors, weights / "stylegan_bedroom256_generator.pth")
    write_scene_files(pretrained, annotations, ATTRIBUTES)
    for number, name in enumerate(("indoor_lighting", "wood", "view")):
        direction = np.random.default_rng(number).standard_normal((1, 512))
        direction /= np.linalg.norm(direction)
        meta = {"type": "attribute", "manipulate_layers": "6-11"}
        plain = name == "view"  # the released files are of two forms
        content = direction.astype(np.float32) if plain else {"boundary": direction, "meta_data": meta}
        np.save(boundaries / f"{name}_boundary.npy", content, allow_pickle=not plain)
    (folder / "list.txt").write_text(
        "(indoor_lighting, w): boundaries/stylegan_bedroom/indoor_lighting_boundary.npy\n"
        "(wood, w): boundaries/stylegan_bedroom/wood_boundary.npy\n"
    )
    return folder


def test_the_published_commands(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("HIGAN_MODELS", raising=False)
    monkeypatch.setattr(places, "SIZE", 64)  # a twelfth of the predictor's time

    command(SIMPLE, "--num=1")
    results = place / "manipulation_results"
    assert (results / "stylegan_bedroom_indoor_lighting.html").exists()
    assert "layers 6-11 (from its file)" in capfd.readouterr().out
    assert np.load(results / "stylegan_bedroom_indoor_lighting_manipulated_wp.npy").shape == (1, 5, 14, 512)

    command(MANIPULATE, "--num=1", BOUNDARY_LIST="list.txt")
    for name in ("indoor_lighting", "wood"):
        assert (place / "stylegan_bedroom_manipulation" / f"{name}_w_viz.html").exists()
    moved = np.load(place / "stylegan_bedroom_manipulation" / "wood_w_manipulated_wp.npy")
    origin = np.load(place / "stylegan_bedroom_manipulation" / "wp.npy")
    np.testing.assert_array_equal(moved[:, -1, [0, 5, 12, 13]], origin[:, [0, 5, 12, 13]])
    direction = read_boundary("boundaries/stylegan_bedroom/wood_boundary.npy").direction[0]
    np.testing.assert_allclose(moved[0, -1, 6] - origin[0, 6], 3 * 0.7 * direction, atol=1e-5)
    np.testing.assert_allclose(moved[0, -1, 11] - origin[0, 11], 3 * direction, atol=1e-5)

    command(SYNTHESIZE, "--num=8")
    out = place / "stylegan_bedroom"
    before = {name: (out / name).read_bytes() for name in ("z.npy", "w.npy", "attribute.npy", "category.npy")}
    assert np.load(out / "attribute.npy").dtype.names[:3] == ("indoor_lighting", "wood", "view")
    assert (out / "synthesis.log").exists()

    for name in ("indoor_lighting", "wood"):
        command(TRAIN, BOUNDARY_NAME=name)
        assert (out / f"{name}_training.log").exists() and np.load(out / f"{name}_boundary.npy").shape == (1, 512)
    assert run("train_boundary", "--score_name", "view", out / "w.npy", out / "attribute.npy", "-o", out) == 0
    lines = (out / "boundary_list.txt").read_text().splitlines()
    assert lines == [f"({name}, w): {name}_boundary.npy" for name in ("indoor_lighting", "wood", "view")]

    command(RESCORE, "--num=1", BOUNDARY_LIST="stylegan_bedroom/boundary_list.txt")
    assert np.load(out / "wood_w_scores.npy").shape == (1, 16)
    assert (out / "rescore.html").exists() and (out / "rescore.log").exists()
    assert before == {name: (out / name).read_bytes() for name in before}, "nothing of step 1 is overwritten"
    assert np.load(out / "wp.npy").shape == (1, 14, 512)


def test_codes_of_step_4_go_into_steps_1_and_4(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert (
        run("manipulate", "stylegan_bedroom", "list.txt", "-N", 1, "-S", 3, "--layerwise_manipulation", "-o", "m") == 0
    )
    codes = "m/wood_w_manipulated_wp.npy"
    assert run("synthesize", "stylegan_bedroom", "-i", codes, "--save_raw_synthesis", "--generate_html", "-o", "s") == 0
    assert sorted(path.name for path in (place / "s").glob("*.jpg")) == [f"{index:06d}.jpg" for index in range(3)]
    assert Image.open(place / "s" / "000000.jpg").size == (256, 256) and (place / "s" / "viz.html").exists()
    np.testing.assert_array_equal(np.load(place / "s" / "wp.npy"), np.load(place / codes)[0])
    assert run("manipulate", "stylegan_bedroom", "boundaries/stylegan_bedroom", "-c", codes, "-S", 1, "-o", "again",
               "--layerwise_manipulation") == 0  # fmt: skip
    assert np.load(place / "again" / "view_w_manipulated_wp.npy").shape == (3, 1, 14, 512)


@pytest.mark.parametrize("space", ["w", "wp"])
def test_spaces_without_codes_draw_samples(place: Path, monkeypatch: pytest.MonkeyPatch, space: str) -> None:
    monkeypatch.chdir(place)
    assert run("synthesize", "stylegan_bedroom", "-N", 2, "-s", space, "--skip_image", "-o", space) == 0
    assert np.load(place / space / f"{space}.npy").shape == ((2, 512) if space == "w" else (2, 14, 512))
    assert not (place / "w" / "wp.npy").exists()
