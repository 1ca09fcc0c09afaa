"""What codes, scores and boundaries were made with is recorded, handed on and compared at every step."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.model import SETTINGS, make_predictor, write_model
from support.scripts import run

import higan
from higan.checkpoints import write_checkpoint
from higan.directions.boundaries import find_score
from higan.errors import HiganError
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors import Predictor
from higan.runs.provenance import compare_predictor_files, drawn_alike, join, origin_of, require_same_codes, select

PREDICTOR = "--predictor_name", "support.model:own_predictor"
SCORE = "--score_name", "brightness", "-N", "0.25"


def two_groups(device: torch.device) -> Predictor:
    """A predictor with the score `red` in both of its groups."""
    scores = make_predictor().score
    return Predictor(
        "two", {"first": ["red"], "attribute": ["brightness", "red", "warmth"]},
        lambda images: {"first": scores(images)["attribute"][:, 1:2], **scores(images)}, device,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 1 and 2 at psi 1 on 4 layers; run again with another seed; and another model."""
    folder = tmp_path_factory.mktemp("made")
    model = write_model(folder)
    torch.manual_seed(8)
    write_checkpoint(folder / "other.pth", "stylegan2", StyleGAN2(**SETTINGS).state_dict(), SETTINGS)
    how = "--generate_prediction", *PREDICTOR, "--truncation_psi", 1, "--truncation_layers", 4, "--device", "cpu"
    assert run("synthesize", model, "-N", 32, *how, "--save_wp", "-o", folder / "s") == 0
    assert run("synthesize", model, "-N", 32, *how, "--seed", 1, "-o", folder / "t") == 0
    assert (
        run("train_boundary", folder / "s" / "w.npy", folder / "s" / "attribute.npy", *SCORE, "-o", folder / "b") == 0
    )
    return folder


@pytest.fixture
def said(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """said(status, script, ...) runs a script and returns all that it says."""

    def call(status: int, script: str, *arguments: object) -> str:
        capfd.readouterr()
        assert run(script, *arguments, "-o", tmp_path / "out") == status
        found = capfd.readouterr()
        return found.out + found.err

    return call


def test_a_boundary_records_what_made_it(made: Path) -> None:
    info = json.loads((made / "b" / "brightness_boundary.json").read_text())
    settings = json.loads((made / "s" / "run.json").read_text())["settings"]
    for key in ("model_name", "model_sha256", "truncation_psi", "truncation_layers", "noise", "predictor_name"):
        assert info[key] == settings[key]
    assert info["run_id"] == origin_of(made / "s" / "w.npy")["run_id"] != origin_of(made / "t" / "w.npy")["run_id"]


def test_steps_draw_as_the_boundary_was_trained(made: Path, said: Any, tmp_path: Path) -> None:
    text = said(0, "rescore", made / "tiny.pth", made / "b", "-N", 2, *PREDICTOR)
    assert "truncation_psi 1.0, truncation_layers 4, noise const" in text and "brightness_boundary.npy" in text
    result = json.loads((tmp_path / "out" / "rescore.json").read_text())
    assert (result["truncation_psi"], result["truncation_layers"]) == (1.0, 4)
    text = said(0, "rescore", made / "tiny.pth", made / "b", "-N", 2, *PREDICTOR, "--truncation_psi", 0.5)
    assert "boundary brightness: made with truncation_psi 1.0 (now 0.5)" in text
    assert "made with" not in said(0, "manipulate", made / "tiny.pth", made / "b", "-N", 2)
    record = origin_of(tmp_path / "out" / "brightness_w_manipulated_w.npy")
    assert (record["space"], record["truncation_psi"], record["model_name"]) == ("w", 1.0, "tiny")


def test_codes_bring_how_they_were_drawn(made: Path, said: Any, tmp_path: Path) -> None:
    wp = made / "s" / "wp.npy"
    said(0, "synthesize", made / "tiny.pth", "-i", wp)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["truncation_psi"] == 1.0
    assert "other, not" not in said(2, "synthesize", made / "other.pth", "-i", wp)
    assert "made with another model, tiny" in said(2, "manipulate", made / "other.pth", made / "b", "-c", wp)
    text = said(0, "synthesize", made / "other.pth", "-i", made / "s" / "z.npy", "--overwrite")
    assert "another model" not in text and "drawn as" not in text, "z belongs to no model"


@pytest.mark.parametrize("script", ["rescore", "manipulate"])
def test_another_model_s_boundary(made: Path, said: Any, script: str) -> None:
    more = PREDICTOR if script == "rescore" else ()
    text = said(2, script, made / "other.pth", made / "b", "-N", 2, *more)
    assert "boundary brightness: made with another model, tiny (" in text and "--force goes on" in text
    assert "made with another model" in said(0, script, made / "other.pth", made / "b", "-N", 2, *more, "--force")


def test_simple_manipulate_compares_too(made: Path, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boundaries").mkdir()
    (tmp_path / "boundaries" / "other").symlink_to(made / "b")
    assert "another model" in said(2, "simple_manipulate", made / "other.pth", "brightness", "-N", 1)
    assert "another model" in said(0, "simple_manipulate", made / "other.pth", "brightness", "-N", 1, "--force")
    (tmp_path / "boundaries" / "tiny").symlink_to(made / "b")
    assert "drawn as" in said(0, "simple_manipulate", made / "tiny.pth", "brightness", "-N", 1)


def test_files_without_a_record_go_on(made: Path, said: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "brightness_boundary.npy", np.load(made / "b" / "brightness_boundary.npy"))
    text = said(0, "manipulate", made / "other.pth", tmp_path / "brightness_boundary.npy", "-N", 1)
    assert "boundary brightness: no record of the model; taken as other's" in text


def test_the_predictor_of_the_boundary_is_suggested(made: Path, said: Any) -> None:
    text = said(
        0, "rescore", made / "tiny.pth", made / "b", "-N", 2, "--predictor_name", "support.model:make_predictor"
    )
    assert "boundary brightness: trained on scores of support.model:own_predictor, not of support" in text
    assert "--predictor_name=support.model:own_predictor gives those" in text
    assert "--predictor_name=support.model:own_predictor" in said(2, "rescore", made / "tiny.pth", made / "b", "-N", 2)


def test_other_files_of_the_predictor_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("higan"), "handlers", [caplog.handler])
    predictor = higan.load_predictor("rooms", device="cpu")
    then = {"predictor_name": "rooms", "predictor_sha256": "a" * 64}
    now = then | {"predictor_sha256": predictor.sha256}
    compare_predictor_files({"boundary one": then, "boundary two": now, "boundary three": {}}, predictor)
    said = "boundary one: trained on scores of rooms, whose files were others then (SHA-256 aaaaaaaaaaaa; now "
    assert {line[: len(said)] for line in caplog.messages} == {said}


def test_codes_and_scores_of_two_runs(made: Path, said: Any, tmp_path: Path) -> None:
    codes, scores = made / "s" / "w.npy", made / "t" / "attribute.npy"
    assert "are of two runs" in said(2, "train_boundary", codes, scores, *SCORE)
    assert "are of two runs" in said(0, "train_boundary", codes, scores, *SCORE, "--force")
    np.save(tmp_path / "w.npy", np.load(codes))
    assert "w.npy: no record of the run" in said(0, "train_boundary", tmp_path / "w.npy", scores, *SCORE)
    how = "--generate_prediction", *PREDICTOR, "--device", "cpu"
    assert run("synthesize", made / "tiny.pth", "-i", codes, *how, "-o", tmp_path / "scored") == 0
    require_same_codes(codes, tmp_path / "scored" / "attribute.npy")
    assert run("synthesize", made / "tiny.pth", "-N", 32, *how, "-o", tmp_path / "again") == 0
    require_same_codes(codes, tmp_path / "again" / "attribute.npy")
    with pytest.raises(HiganError, match="are of two runs"):  # psi decides codes of w+
        require_same_codes(made / "s" / "wp.npy", tmp_path / "again" / "attribute.npy")


def test_codes_that_were_there_before_are_kept(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    how = made / "tiny.pth", "-N", 4, "--device", "cpu", "-o", tmp_path
    assert run("synthesize", *how, "--truncation_psi", 1, "--truncation_layers", 4) == 0
    before = {name: (tmp_path / name).read_bytes() for name in ("z.npy", "w.npy")}
    model, _, _, *rest = how
    assert run("rescore", model, made / "b", "-N", 2, *PREDICTOR, *rest) == 0
    assert "z.npy is kept" in capfd.readouterr().out
    assert len(np.load(tmp_path / "wp.npy")) == 2, "a re-scoring's codes lie beside it where nothing is overwritten"
    assert run("rescore", model, made / "b", "-N", 3, *PREDICTOR, *rest) == 0
    assert len(np.load(tmp_path / "wp.npy")) == 3, "its own are written anew"
    assert run("manipulate", model, made / "b", "-N", 1, *rest) == 0
    assert len(np.load(tmp_path / "wp.npy")) == 3
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_a_score_in_two_groups(made: Path, said: Any, tmp_path: Path) -> None:
    predictor = "--predictor_name", "commands.test_provenance:two_groups"
    (tmp_path / "list.txt").write_text(f"(red, w): {made}/b/brightness_boundary.npy\n")
    text = said(2, "rescore", made / "tiny.pth", tmp_path / "list.txt", "-N", 2, *predictor)
    assert "has several scores 'red': say which by first/red, attribute/red" in text
    (tmp_path / "list.txt").write_text(f"(attribute/red, w): {made}/b/brightness_boundary.npy\n")
    said(0, "rescore", made / "tiny.pth", tmp_path / "list.txt", "-N", 2, *predictor)
    assert (tmp_path / "out" / "attribute_red_w_scores.npy").exists()
    names = {"category": ["wood", "a/b"], "attribute": ["wood", "view"]}
    found = [find_score(name, names, "predictor x") for name in ("category/wood", "a/b", "attribute/wood", "view")]
    assert found == [0, 1, 2, 3]
    with pytest.raises(HiganError, match="has no score 'attribute/wool'"):
        find_score("attribute/wool", names, "predictor x")


def test_codes_without_a_name_are_refused(made: Path, said: Any) -> None:
    assert origin_of("") == {}
    assert "there is no file ." in said(2, "manipulate", made / "tiny.pth", "--interpolate", "-c", "")


def test_how_pictures_are_drawn() -> None:
    logging.getLogger("higan").handlers.clear()  # those of the scripts before write to what is closed by now
    one = {"model_name": "a", "truncation_psi": 0.7, "noise": "none"}
    assert drawn_alike({"noise": "const"}, {"x": one}, "a") == {
        "truncation_psi": 0.7, "truncation_layers": None, "class_idx": None, "noise": "const",
        "translate": None, "rotate": None,
    }  # fmt: skip
    two = {"x": one, "y": one | {"truncation_psi": 1.0}}
    assert drawn_alike({}, two, "a")["truncation_psi"] is None, "files that differ do not decide"
    assert drawn_alike({}, {"x": one}, "b")["truncation_psi"] is None, "another model's psi is its own"
    assert join(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    with pytest.raises(HiganError, match="truncation_psi is 'True'; correct it"):
        select({"truncation_psi": True}, "x.json")
