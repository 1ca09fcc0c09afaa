"""The programs that measure inversion, and directions without labels, on few samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models.test_stylegan2_rooms import import_program

from higan.editing import inversion as optimisation

inversion, unsupervised = import_program("measure_inversion"), import_program("measure_unsupervised")


def test_inversion_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(optimisation, "STATISTICS", 20)
    monkeypatch.setattr(inversion, "FRESH", 6)
    monkeypatch.setattr(inversion, "TRIES", 3)
    shown = ("indoor_lighting", "warm_walls", "green_walls")
    files = [path for path in inversion.boundary_files(inversion.BOUNDARIES) if path.name.startswith(shown)]
    monkeypatch.setattr(inversion, "boundary_files", lambda folder: files)
    line = [str(tmp_path), *["--renders", "2", "--samples", "1", "--truth", "1", "--steps", "10", "--starts", "1"]]
    monkeypatch.setattr("sys.argv", ["measure_inversion.py", *line])
    inversion.main()
    said = capsys.readouterr().out
    assert "| unseen renders | 2 |" in said and "| its own samples | 1 |" in said
    assert "Yes/no factors kept" in said and "| indoor_lighting | " in said and "| wall_hue | color |" in said
    assert "| viewpoint | layout |" in said and "of the true change" in said
    assert np.load(tmp_path / "renders" / "wp.npy").shape[:2] == (2, 12)


def test_an_edit_goes_to_the_score_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "FRESH", 2)
    bench = inversion.Bench()
    boundary = inversion.read_boundary(inversion.BOUNDARIES / "indoor_lighting_boundary.npy")
    column = bench.names.index("indoor_lighting")
    wanted = bench.see(bench.generator.synthesize(bench.edit(bench.fresh, boundary, 2.5)))[:, column]
    found = bench.edit_to(bench.fresh, boundary, wanted)
    assert np.allclose((found - bench.fresh).square().sum(dim=2).amax(dim=1).sqrt(), 2.5, atol=1e-4)


def test_leaks_are_counted_per_unit_and_on_the_other_half() -> None:
    rises = np.zeros((3, 4, 4), np.float32)
    rises[0] = (2.0, 0.3, 0.15, 0)  # serves the first score: mean leak 0.075, largest 0.15
    rises[1] = (0.9, 0, 0, 0)  # too little
    rises[2, :2] = (0, 1.5, 0.9, 0)  # serves the second on the first half alone: mean leak 0.2, largest 0.6
    own, mean, largest = unsupervised.effects(rises)
    assert own[0, 0] == 2 and mean[0, 0] == pytest.approx(0.075) and largest[0, 0] == pytest.approx(0.15)
    assert mean[1, 1] == np.inf and largest[0, 1] == pytest.approx(2 / 0.3)
    chosen, still = unsupervised.served(rises, strict=False)
    assert chosen.tolist() == [True, True, False, False] and still.tolist() == [True, False, False, False]
    assert unsupervised.served(rises, strict=True)[0].tolist() == [True, False, False, False]


def test_unsupervised_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unsupervised, "SPREAD", 8)
    monkeypatch.setattr(unsupervised, "DIRECTIONS", 2)
    monkeypatch.setattr("sys.argv", ["m.py", str(tmp_path), "--num", "4", "--methods", "random", "closed_form 3-5"])
    unsupervised.main()
    said = capsys.readouterr().out
    assert "| random directions (the control) |" in said and "layers 3-5 (SeFa) |" in said
    assert np.load(tmp_path / "random_4.npy").shape == (4, 4, 20)
    unsupervised.main()
    assert capsys.readouterr().out == said
