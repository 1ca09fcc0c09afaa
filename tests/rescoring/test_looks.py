"""Moves that are measured until their intervals are narrow: looks, coverage, what is kept of it, files and page."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.model import make_boundary, make_generator, make_predictor, measure, write_smaller_model
from support.pages import COUNTED
from support.scripts import assert_refused, run
from torch import Tensor

from higan.directions.boundaries import Boundary, read_boundary, write_boundary
from higan.errors import HiganError
from higan.predictors import Predictor
from higan.report.rescoring import rescoring_page
from higan.rescoring.columns import COLUMNS
from higan.rescoring.files import log_lines, to_csv, to_json, write_layers, write_rescoring
from higan.rescoring.looks import estimate_moves, find_looks, noise_of_limit, too_wide
from higan.rescoring.measure import Plan, Step, Sums
from higan.rescoring.rescore import rescore
from higan.rescoring.result import Rescoring
from higan.rescoring.statistics import chance_limit, group_rows, resampling_weights

OPTIONS: dict[str, Any] = {"num": 400, "control": 3, "seed": 5, "batch_size": 50}


def boundaries() -> list[Boundary]:
    """One whose score varies little when it moves, and one without a score."""
    found = [make_boundary("warmth", (1, 64)), make_boundary("red", (1, 64), seed=3)]
    found[1].target = None
    return found


def test_looks() -> None:
    assert [find_looks(num) for num in (2000, 400, 200, 199, 1)] == [(250, 500, 1000), (100, 200), (100,), (), ()]
    groups = group_rows(2000, find_looks(2000))
    assert np.bincount(groups).tolist() == [3, 2] * 100 + [5] * 100 + [10] * 100
    plan = Plan({"w": torch.zeros(250, 1)}, [], 1, [], looks=(100,))
    blocks = [(rows.start, rows.stop) for rows in plan.blocks(64)]
    assert blocks == [(0, 64), (64, 100), (100, 164), (164, 228), (228, 250)]


Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.floating]]
RISES: dict[str, tuple[Draw, float, float]] = {
    "normal": (lambda random, shape: random.standard_normal(shape), 0.0, 1.0),
    "skewed": (lambda random, shape: random.exponential(size=shape), 1.0, 1.0),
    "flips": (lambda random, shape: (random.random(shape) < 0.1).astype(float), 0.1, 0.3),
}


@pytest.mark.parametrize("kind", list(RISES))
@pytest.mark.parametrize("share", [0.9, 1.0])
def test_coverage_at_the_stopping_time(kind: str, share: float) -> None:
    """Rises of 1200 moves with one true mean, stopped where the width says so: their intervals hold it.

    The width asked for is about that of the first look, where moves are stopped by what they happen to spread.
    """
    draw, mean, deviation = RISES[kind]
    num, moves = 800, 1200
    plan = Plan(
        {"w": torch.zeros(num, 1)}, [Step(torch.zeros(1))] * moves, 1, [0] * moves, ("signed",), find_looks(num)
    )
    random = np.random.default_rng([7, len(kind)])
    weights = resampling_weights(int(plan.groups[-1]) + 1, 1)
    sums = Sums(plan, range(num))
    sums.values["base"][:] = np.where(np.arange(num) % 2, 1, -1)[:, None]
    width = share * 1.1 * 2 * 1.96 * deviation / np.sqrt(plan.looks[0])
    going_on = np.ones(moves, np.bool_)
    for start, stop in zip((0, *plan.looks), (*plan.looks, num), strict=True):
        rises = draw(random, (stop - start, moves)) * going_on
        np.add.at(sums.values["signed"][..., 0], plan.groups[start:stop], rises)
        sums.values["count"] += (stop - start) * going_on
        going_on &= too_wide(sums.first(stop), np.ones((moves, 1), np.bool_), width, weights)
    found = estimate_moves(sums, "signed", weights)
    stopped = sums.counts < num
    assert 0.05 < (sums.counts == plan.looks[0]).mean() < 0.95, "the first look decides by chance"
    assert ((found.high - found.low)[stopped] <= width).all()
    assert ((found.low <= mean) & (mean <= found.high)).mean() >= 0.94


def test_the_noise_in_a_limit() -> None:
    """Random directions of one scale, measured with a known noise: what it adds to the limit is told."""
    random = np.random.default_rng(0)
    true, noise = random.standard_normal((2000, 1)), 0.5 * random.standard_normal((2000, 1))
    measured = chance_limit(true + noise)
    raised = noise_of_limit(measured, true + noise, np.full((2000, 1), 0.25))
    assert measured - raised == pytest.approx(chance_limit(true), rel=0.05)
    assert noise_of_limit(measured, noise, np.full((2000, 1), 9.0)) == measured, "nothing but noise"
    assert noise_of_limit(np.zeros(1), np.zeros((4, 1)), np.zeros((4, 1))) == 0


@pytest.fixture(scope="module")
def fixed() -> Rescoring:
    """All samples for every move."""
    return rescore(make_generator(), make_predictor(), boundaries(), **OPTIONS)


@pytest.fixture(scope="module")
def early(fixed: Rescoring) -> Rescoring:
    """As narrow as the widest column of all samples: what spreads less is stopped before."""
    width = (fixed.own("signed_high") - fixed.own("signed_low"))[0].max() / fixed.spread[fixed.targets[0]]
    return rescore(make_generator(), make_predictor(), boundaries(), interval_width=float(1.5 * width), **OPTIONS)


def test_what_is_measured_on_part_of_the_samples(fixed: Rescoring, early: Rescoring) -> None:
    samples, scores = early.table["samples"], early.directions[0].scores
    assert set(np.unique(samples)) > {100} and set(np.unique(samples)) <= {100, 200, 400}
    assert set(np.unique(early.table["control_samples"])) <= {100, 200, 400}
    assert early.interval_width is not None
    for column, count in enumerate(samples[0].astype(int)):
        assert np.isfinite(scores[:count, 1 + column]).all() and np.isnan(scores[count:, 1 + column]).all()
        measured = fixed.directions[0].scores
        assert (scores[:count, 1 + column] == measured[:count, 1 + column]).all()
        rise = measured[:count, 1 + column].astype(float) - measured[:count, 0]
        assert early.own("signed")[0, column] == pytest.approx(rise.mean(), abs=1e-6)
        assert early.own("delta")[0, column] == pytest.approx(np.maximum(rise, 0).mean(), abs=1e-6)
        assert early.own("risen")[0, column] == pytest.approx((rise > 0).mean())
        if count < 400:
            width = early.own("signed_high")[0, column] - early.own("signed_low")[0, column]
            assert width <= early.interval_width * measured[:count, 0].std() * (1 + 1e-4)
    assert early.table["image_change"] == pytest.approx(fixed.table["image_change"], rel=0.1)
    assert early.table["control_signed"] / fixed.spread == pytest.approx(
        fixed.table["control_signed"] / fixed.spread, abs=0.3
    )
    delta = early.own("delta")[:, 1:]
    centers = delta @ np.arange(4) / delta.sum(axis=1)
    assert early.hierarchies["hierarchy"].center.value == pytest.approx(centers, abs=1e-4), "of means, not of sums"
    assert 0 <= early.limit_noise() < 1


def test_a_width_that_is_never_reached_changes_no_number(fixed: Rescoring) -> None:
    result = rescore(make_generator(), make_predictor(), boundaries(), interval_width=1e-9, **OPTIONS)
    assert (result.table["samples"][:, 0] == 400).all()
    for name in ("signed", "delta", "risen", "control_signed", "signed_limit", "chosen_signed", "base_std"):
        assert result.table[name] == pytest.approx(fixed.table[name], abs=1e-6), name
    for found, other in zip(result.directions, fixed.directions, strict=True):
        assert (found.scores == other.scores).all()
        assert (found.chosen, found.mark) == (other.chosen, other.mark)


def test_all_are_narrow_at_once() -> None:
    """Then nothing more is drawn: as if the first look were all that was asked for."""
    drawn = []
    made = make_predictor()

    def score(images: Tensor) -> dict[str, Tensor]:
        drawn.append(len(images))
        return measure(images)

    predictor = Predictor(made.name, made.names, score, made.device, made.levels)
    result = rescore(make_generator(), predictor, boundaries(), interval_width=50, layer_swap=True, **OPTIONS)
    assert (result.table["samples"] == 100).all() and (result.table["chosen_samples"] == 100).all()
    assert result.directions[0].scores.shape == (100, 6)
    chosen = sum(bool(direction.chosen) for direction in result.directions)
    assert chosen == sum(direction.mark != "verified" for direction in result.directions), "all are moved by half, too"
    assert sum(drawn) == 100 * (1 + 5 * 5) + 2 * 100 * (1 + chosen) + 400 * 5, "the layer swap takes all"
    assert result.table["base_std"] == pytest.approx(
        rescore(make_generator(), made, boundaries(), **OPTIONS | {"num": 100}).table["base_std"]
    )


def test_where_it_is_told(fixed: Rescoring, early: Rescoring, tmp_path: Path) -> None:
    assert f"; {early.samples(0)} samples)" in early.answer(0).sentence()
    assert repr(early).startswith("<Rescoring of 2 directions on at most 400 samples moved by 2: ")
    moved = int(early.table["samples"].sum() + early.table["control_samples"].sum())
    assert log_lines(early)[-2] == f"moved at all layers and at each: {moved} of {25 * 400} times"
    assert "sampling noise of the random directions raises limits of chance by" in log_lines(early)[-1]
    record = json.loads(json.dumps(to_json(early)))
    assert record["interval_width"] == early.interval_width
    assert record["boundaries"][0]["samples"] == early.table["samples"][0].tolist()
    assert record["boundaries"][0]["chosen_samples"] == early.samples(0)
    rows = list(csv.DictReader(to_csv(early).splitlines()))
    assert [int(row["samples"]) for row in rows[::3]][:6] == [*early.table["samples"][0].astype(int), early.samples(0)]
    page = rescoring_page(early)
    assert "400 samples (fewer for moves whose interval was soon at most" in page and "Samples</th>" in page
    assert f", on {early.table['samples'][0, 1]:.0f} samples" in page
    assert "their sampling noise raises the limits of chance by" in page
    write_rescoring(early, tmp_path)
    assert (np.load(tmp_path / "rescore_samples.npy") == early.table["samples"]).all()

    boundary = boundaries()[0]
    boundary.info["path"] = str(write_boundary(boundary, tmp_path))
    write_layers(early, [boundary])
    assert read_boundary(tmp_path / "warmth_boundary.npy").info["rescoring"]["num"] == early.samples(0)

    shapes = {name: early.table[name].shape for name in COUNTED}
    assert shapes == {"samples": (2, 5), "chosen_samples": (2,), "control_samples": (3, 5), "limit_noise": (5, 3)}
    assert set(COLUMNS) - set(fixed.table) >= COUNTED, "nothing of it where it was not asked for"
    plain = to_csv(fixed) + json.dumps(to_json(fixed)) + rescoring_page(fixed) + "".join(log_lines(fixed))
    assert "chosen_samples" not in plain and "interval_width" not in plain and "; 400 samples" not in plain
    assert "Samples</th>" not in plain and "noise raises" not in plain


def test_a_run_that_is_stopped_between_looks_goes_on(early: Rescoring, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    write_rescoring(early, whole)
    made, left, stops = make_predictor(), [0], 0

    def score(images: Tensor) -> dict[str, Tensor]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(images)

    predictor = Predictor(made.name, made.names, score, made.device, made.levels)
    options = OPTIONS | {"interval_width": early.interval_width, "folder": parts}
    result = None
    while result is None:
        left[0] = 27  # the first batch takes 26: unmoved, and five directions at five columns
        try:
            result = rescore(make_generator(), predictor, boundaries(), **options)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2
    with pytest.raises(HiganError, match="interval_width"):
        rescore(make_generator(), predictor, boundaries(), **(options | {"interval_width": None}))
    left[0] = 0
    again = rescore(make_generator(), predictor, boundaries(), **options)
    np.testing.assert_array_equal(again.table["signed"], result.table["signed"], "all of it was kept")
    shutil.rmtree(parts / "measured")
    write_rescoring(result, parts)
    for path in whole.iterdir():
        assert path.read_bytes() == (parts / path.name).read_bytes(), path.name


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_widths_that_are_none(width: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HiganError, match="the interval's width is"):
        rescore(make_generator(), make_predictor(), boundaries(), interval_width=width, num=400)
    expected = f"--interval is {width:g}; expected standard deviations of the score, more than 0"
    assert_refused(capsys, expected, "rescore", "none.pth", "none.txt", f"--interval={width}")


def test_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_smaller_model(tmp_path / "tiny.pth")
    write_boundary(make_boundary("red", (1, 64)), tmp_path)
    command = ("rescore", tmp_path / "tiny.pth", tmp_path / "red_boundary.npy", "--predictor_name",
               "support.model:make_predictor", "-o", tmp_path / "out", "--device", "cpu", "--interval=50")  # fmt: skip
    assert_refused(capsys, "found num 199, expected 200 at least", *command, "--num=199")
    assert run(*command, "--num=200") == 0
    assert json.loads((tmp_path / "out" / "rescore.json").read_text())["boundaries"][0]["samples"] == [100]
    assert len(np.load(tmp_path / "out" / "red_w_scores.npy")) == 100
