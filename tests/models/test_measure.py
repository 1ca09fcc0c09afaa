"""The program that writes the model card's numbers: what it counts, and that it writes them in their place."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from models.test_stylegan2_rooms import ROOT, import_program

import higan
from higan.directions.boundaries import write_boundary
from higan.rescoring.files import write_layers

measure = import_program("measure")


def test_random_directions_pass_as_often_as_they_should() -> None:
    effects = np.random.default_rng(0).standard_normal((200, 10, 1, 20)) * np.linspace(0.1, 2, 20)
    found = measure.count_passes(effects)
    assert found.tests == 2 * 9 * 10 * 20
    rate, low, high = found.rate()
    assert rate == pytest.approx(found.passed.sum() / (200 * found.tests))
    assert low < 1e-4 < high and 2e-5 < rate < 5e-4


def test_what_is_no_chance_is_counted() -> None:
    effects = np.random.default_rng(0).standard_normal((60, 4, 1, 3))
    assert not measure.count_passes(effects).passed.any()
    effects[7] = 40
    expected = np.zeros(60, int)
    expected[7] = 2 * 4 * 3  # two of three groups are other directions than its own
    assert (measure.count_passes(effects).passed == expected).all()
    expected[7] = 2 * 3
    assert (measure.count_chosen_passes(effects).passed == expected).all()
    assert measure.count_chosen_passes(-effects).passed[7] == 2 * 3
    once = np.concatenate([effects + shift for shift in (-20, 20)], axis=2)  # the same effects, of samples that differ
    assert (measure.count_chosen_passes(once).passed == expected).all()
    assert not measure.count_chosen_passes(once, sure=True).passed.any()
    same = np.repeat(effects, 2, axis=2)
    assert (measure.count_chosen_passes(same, sure=True).passed == expected).all()
    rate, low, high = measure.Passes(expected, 12).rate()
    assert low == 0 < rate < high


def test_parts_are_written_between_their_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- swap, by measure.py -->\nold\n<!-- end of swap -->\nAfter\n")
    for text in ("| new |\n", "| newer |\n"):
        assert measure.write_parts(page, {"swap": text, "levels": "x"}) == {"swap"}
        expected = f"Before\n<!-- swap, by measure.py -->\n\n{text}\n<!-- end of swap -->\nAfter\n"
        assert page.read_text() == expected


def test_every_part_has_its_place() -> None:
    card = (ROOT / "models" / "stylegan2_rooms" / "README.md").read_text()
    for name in measure.PARTS:
        assert f"<!-- {name}, by measure.py -->\n" in card and f"<!-- end of {name} -->\n" in card, name
    assert "<!-- recipes, by measure.py -->\n" in (ROOT / "README.md").read_text()


def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    generator, predictor = higan.load_generator("stylegan2_rooms"), higan.load_predictor("rooms")
    random = np.random.default_rng(0)
    boundaries = []
    for name in ("wood", "window"):
        direction = random.standard_normal((1, generator.w_dim))
        direction /= np.linalg.norm(direction)
        info = {"r2": 0.5, "bootstrap_angle": 10.0, "reach": 1.5, "samples": 1000}
        path = write_boundary(higan.Boundary(name, direction.astype(np.float32), info=info), tmp_path / "boundaries")
        boundaries.append(higan.read_boundary(path))
    result = higan.rescore(generator, predictor, boundaries, num=2, control=2, layer_swap=True)
    result.write(tmp_path / "rescore")
    (tmp_path / "synthesis").mkdir()
    codes = random.standard_normal((400, 8))
    np.save(tmp_path / "synthesis" / "w.npy", codes.astype(np.float32))
    scores = np.empty(400, [("wood", "f4"), ("window", "f4")])
    scores["wood"], scores["window"] = codes[:, 0], random.standard_normal(400)
    np.save(tmp_path / "synthesis" / "attribute.npy", scores)
    write_layers(result, boundaries)
    row = {"own": 1.0, "leak": 0.1, "largest": 0.3, "verified": 3}
    numbers = {"num": 2, "choice": 3, "turns": 1, "samples": 5, "rows": {"ridge": [row]}}
    for name in ("recipes", "recipes_stretched"):
        (tmp_path / f"{name}.json").write_text(json.dumps(numbers))
    monkeypatch.setattr(measure, "CHANCE_DIRECTIONS", 2)
    monkeypatch.setattr(measure, "CHANCE_SAMPLES", 2)
    monkeypatch.setattr(measure, "PAIRED_SCENES", 2)
    monkeypatch.setattr(measure, "PAIRED_BATCH", 2)
    monkeypatch.setattr(measure, "LIMIT_DIRECTIONS", 1)
    monkeypatch.setattr(import_program("train_predictor"), "RENDERED_AT_ONCE", 100)  # in this process
    monkeypatch.setattr(measure, "render_images", lambda resolution, num, seed: measure.sample_images(generator, num))
    monkeypatch.setattr(measure, "BATCH", 12)
    monkeypatch.setattr(measure, "evaluate", lambda path, size: {"wood": (1.0, 0.9)})
    monkeypatch.setattr(measure, "measure_lighting", partial(measure.measure_lighting, num=2))
    monkeypatch.setattr(
        "sys.argv", ["measure.py", "--num", "12", "--analysis", str(tmp_path), "--sheets", str(tmp_path)]
    )
    measure.main()
    assert (tmp_path / "indoor_lighting.jpg").stat().st_size > 1000
    said = capsys.readouterr().out
    table = {line.split(" | ")[0]: line for line in said.split("effects\n")[1].split("swap\n")[0].splitlines()}
    effect = result.answer(0)
    assert f" | {effect.value:.2f} ({effect.low:.2f} to {effect.high:.2f}) | {effect.limit:.2f} | " in table["| wood"]
    assert f"| {effect.leak:.3f} | {effect.leaks[0].name} {effect.leaks[0].value:+.2f} | " in table["| wood"]
    assert "| wood | attribute | 0.500 | 1.000 | 10° | 1.5 |" in said and "| layers chosen | yes/no | " in said
    assert said.count("| window | object |") == 6 and "| ridge | 1.000 | 0.100 | 0.300 | 3.0 |" in said
