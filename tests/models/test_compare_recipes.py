"""The program that compares ways to find directions, on few samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models.test_stylegan2_rooms import import_program

import higan
import higan.predictors.rooms
from higan.directions.slopes import Slopes

compare = import_program("compare_recipes")


@pytest.fixture
def synthesis(tmp_path: Path) -> Path:
    generator, predictor = higan.load_generator("stylegan2_rooms"), higan.load_predictor("rooms")
    codes = generator.map(generator.sample(60, 0)).numpy()
    names = predictor.names["attribute"]
    noise = np.random.default_rng(0).standard_normal((60, len(names)))
    scores = np.zeros(60, dtype=[(name, "<f4") for name in names])
    for index, name in enumerate(names):
        scores[name] = codes[:, index] + 0.1 * noise[:, index]
    np.save(tmp_path / "w.npy", codes)
    np.save(tmp_path / "attribute.npy", scores)
    return tmp_path


@pytest.mark.filterwarnings("ignore:Objective did not converge")  # so few samples
def test_table(synthesis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["compare_recipes.py", str(synthesis), "--num", "2", "--turns", "1"]
    line += ["--choice", "1", "--recipes", "ridge", "ridge_soft_layers", "--json", str(synthesis / "numbers.json")]
    line += ["--second", str(higan.predictors.rooms.PATH)]
    monkeypatch.setattr("sys.argv", line)
    effects = np.random.default_rng(1).standard_normal((20, 10, 20))
    monkeypatch.setattr(compare.Bench, "layer_effects", lambda bench, wp, steps: effects[: len(steps)])
    compare.main()
    numbers = json.loads((synthesis / "numbers.json").read_text())
    row = numbers["rows"]["ridge"][0]
    assert {"own", "leak", "largest", "mean_ad", "dci_d"} < set(row)
    assert row["own_2"] == row["own"] and row["largest_2"] == row["largest"]  # the second judge is the first
    assert 0 <= numbers["rows"]["ridge_soft_layers"][0]["verified"] <= 20
    assert "60 samples" in compare.card_table(numbers)
    assert "| ridge | " in capsys.readouterr().out


def test_other_ways(synthesis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PROBES", 2)
    monkeypatch.setattr(compare, "STEPS", 20)
    scores = np.load(synthesis / "attribute.npy")
    named = {name: scores[name] for name in scores.dtype.names}
    codes = np.load(synthesis / "w.npy")
    bench = compare.Bench([higan.load_predictor("rooms")], codes, named, 0)
    for way in ("steps", "gradient_wp"):
        found = bench.slopes(way)
        assert isinstance(found, Slopes) and found.values.shape[-1] == codes.shape[1]
    steps = bench.steps(compare.RECIPES["gradient_wp_soft"])
    assert steps.shape == (20, 12, codes.shape[1])
    wp = bench.fresh(0, 1)
    alone = np.eye(12)[:, :, None] * steps[3]
    expected = bench.rises(wp, bench.score(wp), alone)[:, 0, 0, 3]
    assert bench.layer_effects(wp, steps[3:4] * np.ones((4, 1, 1)))[3, :, 3] == pytest.approx(expected, abs=0.02)


def test_numbers() -> None:
    effects = np.array([[1.0, 0.1, -0.3], [0.0, 2.0, 0.2], [0.2, 0.2, 3.0]])
    found = compare.summarize(effects)
    assert found == pytest.approx({"own": 2.0, "leak": 1.0 / 6 / 2, "largest": 0.7 / 3 / 2})
    assert compare.verified(np.array([0.9, 1.0, 1.1]), 0.8) and not compare.verified(np.array([0.9, 1.0, 1.1]), 0.95)
    assert compare.interval([0.5]) == "0.500"
    assert compare.interval([0.4, 0.6]).startswith("0.500 ± 1.7")
