"""The programs that are started by `python -m`, run in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from support.golden import GOLDEN

from higan.generators import zoo

WEIGHTS = GOLDEN / "tf_stylegan_tiny16.pkl"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(module: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


def test_models_are_listed_with_where_they_are(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("higan.generators") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["stylegan2_rooms"][1:4] == ["stylegan2", "128", "yes"]
    assert rows["stylegan_bedroom"][1:] == ["stylegan", "256", "no", "karras2019stylegan-bedrooms-256x256.pkl"]
    assert sum("; licence: " in line for line in lines) >= 3
    assert lines[-1].startswith(f"Put missing files into {zoo.MODELS}")


def test_a_zoo_that_is_none_is_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = 'family = "pggan"\nresolution = 8\nfiles = ["a.pth"]\npublished = ""\nlicence = ""\n'
    monkeypatch.setattr(zoo, "MODELS", tmp_path)
    for content, words in (
        ("not toml", "cannot read"),
        ("[x", "cannot read"),
        (f'["a b"]\n{model}', "'a b' is no model's name"),
        (f'[".a"]\n{model}', "'.a' is no model's name"),
        ("a = 3", "a is a int; expected a table"),
        (f"[a]\n{model}".replace("8", '"8"'), "resolution of a is '8'; expected int"),
        (f"[a]\n{model}".replace('licence = ""', ""), "licence of a is 'None'; expected str"),
        (f"[a]\n{model}".replace("a.pth", "../a.pth"), "expected file names without folders"),
        (f"[a]\n{model}".replace('["a.pth"]', "[]"), "files of a is '[]'"),
    ):
        (tmp_path / "zoo.toml").write_text(content)
        assert run("higan.generators") == 2
        said = capsys.readouterr().err
        assert words in said and "zoo.toml" in said and said.count("\n") == 1
    (tmp_path / "zoo.toml").write_text(f"[a]\n{model}")
    assert run("higan.generators") == 0


def test_weights_are_described_and_converted(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pth"
    assert run("higan.checkpoints", WEIGHTS, "--convert", out) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["format"] == "tensorflow" and rows["family"] == "stylegan" and rows["resolution"] == "16"
    assert rows["written"] == str(out)
    whole = out.read_bytes()
    assert run("higan.checkpoints", out) == 0
    again = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert again["format"] == "native" and again["mapping_layers"] == rows["mapping_layers"]
    assert run("higan.checkpoints", WEIGHTS, "--convert", out) == 2
    assert "is there already; choose another name" in capsys.readouterr().err
    assert out.read_bytes() == whole


def test_predictors_of_many_scores_are_cut_short(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import higan.predictors

    names = {"attribute": [f"score{index}" for index in range(45)]}
    (tmp_path / "many_scores.py").write_text(
        f"class Many:\n    names = {names}\n    levels = {{'score0': 'layout'}}\n    def __init__(self, device): pass\n"
        "    def predict(self, images): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(higan.predictors, "NAMES", ("many_scores:Many",))
    assert run("higan.predictors") == 0
    said = capsys.readouterr().out
    assert "attribute: 45 scores" in said and "score0 (layout)\n" in said and "score39\n" in said
    assert "score40" not in said and "... and 5 more" in said


def test_predictors_are_listed_with_what_is_missing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path))
    assert run("higan.predictors") == 0
    printed = capsys.readouterr().out
    assert "rooms" in printed and "labels_sunattribute.txt" in printed and str(tmp_path) in printed
    assert "text:PHRASES\n  not usable: predictor text needs a CLIP model that transformers has saved" in printed
    assert "text:a dark bedroom|a bright bedroom" in printed and "timm:ARCH=FILE" in printed
    (tmp_path / "clip-mine").mkdir()
    (tmp_path / "clip-mine" / "config.json").write_text('{"model_type": "clip"}')
    assert run("higan.predictors") == 0
    printed = capsys.readouterr().out
    assert f"    clip-mine ({tmp_path / 'clip-mine'})" in printed and "not usable: predictor text" not in printed


@pytest.mark.parametrize("module", ["higan.generators", "higan.checkpoints", "higan.predictors"])
def test_arguments_that_are_not_known_are_refused(module: str, run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(module, "--nonsense") == 2
    assert "--help lists the arguments" in capsys.readouterr().err
