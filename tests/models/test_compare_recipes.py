"""The program that compares ways to find directions, on few samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models.test_stylegan2_rooms import import_program

import higan
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
    line += ["--recipes", "ridge", "--json", str(synthesis / "numbers.json")]
    monkeypatch.setattr("sys.argv", line)
    compare.main()
    rows = json.loads((synthesis / "numbers.json").read_text())
    assert {"own", "leak", "largest", "mean_ad", "dci_d"} < set(rows["ridge"][0])
    assert "| ridge | " in capsys.readouterr().out


def test_other_ways(synthesis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PROBES", 2)
    monkeypatch.setattr(compare, "STEPS", 20)
    scores = np.load(synthesis / "attribute.npy")
    named = {name: scores[name] for name in scores.dtype.names}
    bench = compare.Bench([higan.load_predictor("rooms")], np.load(synthesis / "w.npy"), named, 0)
    for way in ("steps", "gradient_wp"):
        found = bench.slopes(way)
        assert isinstance(found, Slopes) and found.values.shape[-1] == 128
    steps = bench.steps(compare.RECIPES["gradient_wp_soft"])
    assert steps.shape == (20, 10, 128)
    wp = bench.fresh(0, 1)
    alone = np.eye(10)[:, :, None] * steps[3]
    expected = bench.rises(wp, bench.score(wp), alone)[:, 0, 0, 3]
    assert bench.layer_effects(wp, steps[3:4] * np.ones((4, 1, 1)))[3] == pytest.approx(expected, abs=0.02)


def test_numbers() -> None:
    effects = np.array([[1.0, 0.1, -0.3], [0.0, 2.0, 0.2], [0.2, 0.2, 3.0]])
    found = compare.summarize(effects)
    assert found == pytest.approx({"own": 2.0, "leak": 1.0 / 6 / 2, "largest": 0.7 / 3 / 2})
    assert compare.interval([0.5]) == "0.500"
    assert compare.interval([0.4, 0.6]).startswith("0.500 ± 1.7")
