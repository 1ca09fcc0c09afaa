"""Re-scoring: the reference's numbers, shared activations, controls, verified layers, layer swap, and rescore.py."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, case_checkpoint, read_case, rule_checkpoint, rule_tensors
from support.model import COLOURS, make_boundary, make_generator, make_predictor, measure, write_smaller_model
from support.pages import COUNTED
from support.scripts import assert_refused, run
from torch import Tensor

from higan.directions.boundaries import Boundary, read_boundary, write_boundary
from higan.directions.move import manipulate
from higan.directions.training import train_boundary
from higan.errors import HiganError
from higan.generators import build_network
from higan.generators.generator import Generator
from higan.predictors import Predictor
from higan.rescoring.columns import COLUMNS, plain_name, table_names
from higan.rescoring.files import log_lines, write_layers, write_rescoring
from higan.rescoring.measure import Plan, Step, Sums, image_change, prepare_codes
from higan.rescoring.measure import measure as measure_plan
from higan.rescoring.rescore import rescore, telling_sample
from higan.rescoring.result import Rescoring
from higan.rescoring.statistics import (
    chance_limit,
    choose_layers,
    chosen_limit,
    chosen_masks,
    control_limit,
    find_hierarchy,
    judge,
)

OPTIONS: dict[str, Any] = {"num": 40, "control": 4, "layer_swap": True, "seed": 5}
PREDICTOR = ("--predictor_name", "support.model:make_predictor")


def test_the_reference_s_scores(tmp_path: Path) -> None:
    case, arrays = read_case("rescore")
    settings = case["generator"]
    tensors = rule_tensors(settings["state_dict"], settings["seed"])
    network = build_network(rule_checkpoint(settings["family"], tensors, settings["settings"]))
    generator = Generator(
        network, "golden", truncation_psi=case["truncation"]["psi"], truncation_layers=case["truncation"]["layers"]
    )

    def score(images: Tensor) -> dict[str, Tensor]:
        values = images.double() / 255
        return {"attribute": torch.stack([values.mean(dim=(1, 2, 3)), values[..., 0].mean(dim=(1, 2))], dim=1)}

    predictor = Predictor("analytic", {"attribute": ["brightness", "red"]}, score, torch.device("cpu"))
    boundaries = [Boundary(name, arrays[f"boundary_{name}_{space}"], space) for name, space in case["boundary_order"]]
    result = rescore(generator, predictor, boundaries, codes=arrays["z"], distance=case["end_distance"])
    write_rescoring(result, tmp_path)
    for index, (name, space) in enumerate(case["boundary_order"]):
        scores = np.load(tmp_path / f"{name}_{space}_scores.npy")
        assert scores.dtype == np.float32
        assert scores == pytest.approx(arrays[f"scores_{name}_{space}"], abs=2e-5)
        expected = case["results"][f"{name}_{space}"]
        own = result.own("delta")[index]
        assert own[0] == pytest.approx(expected["all_layer_mean_delta"], abs=2e-5)
        if space != "z":
            assert own[1:] == pytest.approx(expected["per_layer_mean_delta"], abs=2e-5)
    lines = [line.partition(" (")[0] for line in log_lines(result)]
    assert [line for line in lines if line in case["log_lines"]] == case["log_lines"]
    assert lines.index("Most relevant semantics:") == len(case["log_lines"]) - len(case["boundary_order"])


@pytest.fixture(scope="module")
def result() -> Rescoring:
    boundaries = [make_boundary("warmth", (1, 64)), make_boundary("red", (1, 4, 64), "wp")]
    return rescore(make_generator(), make_predictor(), boundaries, batch_size=16, **OPTIONS)


def test_scores_are_those_of_a_full_synthesis(result: Rescoring) -> None:
    generator = make_generator()
    wp = generator.to_wp(generator.sample(40, 5), "z")
    for index, boundary in enumerate([make_boundary("warmth", (1, 64)), make_boundary("red", (1, 4, 64), "wp")]):
        strength = generator.psi().numpy() if boundary.space == "w" else None
        for column, layers in enumerate(["0-3", *"0123"]):
            moved = manipulate(wp, boundary, [2.0], layers, strength)[:, 0]
            scores = torch.cat([measure(generator.synthesize(part))["attribute"].float() for part in moved.split(16)])
            own = result.directions[index].scores[:, 1 + column]
            assert (own == scores[:, result.targets[index]].numpy()).all(), "the very same numbers"
            base = torch.cat([measure(generator.synthesize(part))["attribute"].float() for part in wp.split(16)])
            rise = (scores - base).numpy()
            assert result.table["delta"][index, column] == pytest.approx(np.maximum(rise, 0).mean(axis=0), abs=1e-7)
            assert result.table["signed"][index, column] == pytest.approx(rise.mean(axis=0), abs=1e-7)
            assert result.table["risen"][index, column] == pytest.approx((rise > 0).mean(axis=0))
            change = (generator.synthesize(moved).int() - generator.synthesize(wp).int()).abs().float().mean()
            assert result.table["image_change"][index, column] == pytest.approx(float(change), rel=1e-3)


def test_the_chosen_layers_are_moved_exactly(result: Rescoring) -> None:
    generator = make_generator()
    wp = generator.to_wp(generator.sample(40, 5), "z")
    before = measure(generator.synthesize(wp))["attribute"].float()
    for index, boundary in enumerate([make_boundary("warmth", (1, 64)), make_boundary("red", (1, 4, 64), "wp")]):
        direction = result.directions[index]
        assert direction.chosen == choose_layers(result.own("signed")[index, 1:])
        strength = generator.psi().numpy() if boundary.space == "w" else None
        for distance, table in ((2.0, "chosen_signed"), (1.0, "half_signed")):
            if table == "half_signed" and direction.mark == "verified" and direction.tested == 2.0:
                assert np.isnan(result.table[table][index]).all()  # there is no need of it
                continue
            moved = manipulate(wp, boundary, [distance], direction.chosen, strength)[:, 0]
            rise = (measure(generator.synthesize(moved))["attribute"].float() - before).numpy()
            assert result.table[table][index] == pytest.approx(rise.mean(axis=0), abs=1e-5)
        moved = manipulate(wp, boundary, [2.0], direction.chosen, strength)[:, 0]
        change = (generator.synthesize(moved).int() - generator.synthesize(wp).int()).abs().float().mean()
        assert result.table["chosen_image_change"][index] == pytest.approx(float(change), rel=1e-3)


def test_every_column_of_the_table(result: Rescoring) -> None:
    sizes = {"b": 2, "c": 5, "k": 3, "l": 4, "r": 4}
    assert {plain_name(name) for name in result.table} == set(COLUMNS) - COUNTED
    for name in table_names(result.table):
        values = result.table[name]
        assert values.shape == tuple(sizes[axis] for axis in COLUMNS[plain_name(name)].axes), name
        assert values.dtype == np.float32
    for name, column in COLUMNS.items():
        assert (f"{name}_low" in result.table) == (f"{name}_high" in result.table) == column.interval
        if column.interval:
            low, value, high = (result.table[f"{name}{part}"] for part in ("_low", "", "_high"))
            assert ((low <= value) & (value <= high)).all() or name == "swap", name


def test_shapes_and_intervals(result: Rescoring) -> None:
    names = [(direction.name, direction.space, direction.level) for direction in result.directions]
    assert names == [("warmth", "w", "color"), ("red", "wp", "")]
    assert result.layers == (0, 1, 2, 3)
    assert result.strips.shape == (2, 7, 8, 8, 3)
    scores = result.directions[0].scores
    spread = scores[:, 1] - scores[:, 0]
    width = (result.own("signed_high") - result.own("signed_low"))[0, 0]
    assert width == pytest.approx(2 * 1.96 * spread.std() / np.sqrt(40), rel=0.15)
    hierarchy = result.hierarchies["hierarchy"]
    delta = result.own("delta")[0, 1:]
    assert hierarchy.center.value[0] == pytest.approx(delta @ np.arange(4) / delta.sum(), abs=1e-4)
    assert hierarchy.levels == ("color",)


def test_a_strip_shows_a_sample_that_starts_low_and_rises(result: Rescoring) -> None:
    generator = make_generator()
    sample = int(result.strip_samples[0])
    before = result.directions[0].scores[:, 0]
    assert before[sample] <= np.median(before)
    wp = generator.to_wp(generator.sample(40, 5)[sample : sample + 1], "z")
    boundary = make_boundary("warmth", (1, 64))
    assert (result.strips[0, 0] == generator.synthesize(wp)[0].numpy()).all()
    for picture, layers in ((1, result.directions[0].chosen), (2, range(4)), (5, [2])):
        moved = manipulate(wp, boundary, [2.0], list(layers), generator.psi().numpy())[:, 0]
        assert np.abs(result.strips[0, picture].astype(int) - generator.synthesize(moved)[0].numpy()).max() <= 1


def test_the_telling_sample() -> None:
    before = np.arange(8.0)
    rise = np.array([1, 4, 2, 3, 9, 9, 9, 9])
    assert telling_sample(before, before + rise) == 1
    assert telling_sample(np.zeros(1), np.ones(1)) == 0


def test_progress_tells_every_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where memory falls short on the way: what is moved again counts once."""
    ticks: list[int] = []
    bars: list[Any] = []

    def bar(total: int, **_: Any) -> Any:
        bars.append(SimpleNamespace(update=ticks.append, close=lambda: None, total=total))
        return bars[-1]

    calls = iter(range(10**6))

    def scarce(before: Tensor, after: Tensor) -> float:
        if next(calls) == 5:
            raise torch.OutOfMemoryError
        return image_change(before, after)

    monkeypatch.setattr("higan.rescoring.rescore.progress", bar)
    monkeypatch.setattr("higan.rescoring.measure.image_change", scarce)
    boundary = make_boundary("warmth", (1, 64))
    rescore(make_generator(), make_predictor(), [boundary], num=6, batch_size=4, layerwise=True, control=2)
    assert max(ticks) == 4 and min(ticks) < 0 and sum(ticks) == bars[0].total


def test_the_batch_size_does_not_matter(result: Rescoring) -> None:
    boundaries = [make_boundary("warmth", (1, 64)), make_boundary("red", (1, 4, 64), "wp")]
    other = rescore(make_generator(), make_predictor(), boundaries, batch_size=7, **OPTIONS)
    for name in ("delta", "chosen_signed", "control_delta"):
        assert other.table[name] == pytest.approx(result.table[name], abs=2e-5)
    assert other.table["swap"] == pytest.approx(result.table["swap"], rel=1e-2, abs=1e-4)


class Planted(Generator):
    """A generator with eight layers whose picture is one grey level, a function of one number per layer."""

    function: Any = None

    def to_wp(self, codes: Any, space: str, label: Any = None) -> Tensor:
        """One w for all layers, as without style mixing: its first number is normal."""
        return codes if space == "wp" else codes[:, None, :1].expand(-1, 8, 64).contiguous()

    def advance(self, state: Any, wp: Tensor, start: int, stop: int) -> Any:
        """Take the number of each layer."""
        values = state[0].clone()
        values[:, start:stop] = wp[:, start:stop, 0]
        return (values,)

    def initial(self, codes: Tensor) -> Any:
        """No number yet."""
        return (torch.zeros(len(codes), 8),)

    def image(self, state: Any, finite: Any = None) -> Tensor:
        """Grey, 25 levels per unit of the function."""
        levels = (128 + 25 * self.function(state[0])).round().clamp(0, 255).byte()
        return levels[:, None, None, None].expand(-1, 1, 1, 3).contiguous()


def plant(function: Any) -> Planted:
    """A planted generator whose layers are eight."""
    generator = Planted(make_generator().network, "planted")
    generator.num_layers, generator.function = 8, function
    return generator


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.sum(dim=1) / np.sqrt(8), [1 / 8] * 8),
        (lambda x: x[:, 2], [0, 0, 1, 0, 0, 0, 0, 0]),
        (lambda x: (2 * x[:, 0] + x[:, 5]) / np.sqrt(5), [4 / 5, 0, 0, 0, 0, 1 / 5, 0, 0]),
        (lambda x: x[:, 1] * x[:, 6], [0, 1, 0, 0, 0, 0, 1, 0]),  # each is needed for all of it
    ],
    ids=["even sum", "one layer", "two layers", "product"],
)
def test_layer_swap_gives_total_effects(function: Any, expected: list[float]) -> None:
    """Scores planted on layers: Jansen's estimator gives each layer's total effect, which all sharing one w hides."""
    result = rescore(plant(function), make_predictor(), [], 3000, layer_swap=True, batch_size=1000)
    effect = [result.table[f"swap{part}"][COLOURS.index("brightness")] for part in ("_low", "", "_high")]
    assert effect[1] == pytest.approx(np.array(expected), abs=0.06)
    assert (effect[0] <= np.array(expected) + 0.03).all()
    assert (effect[2] >= np.array(expected) - 0.03).all()
    assert np.isnan(result.table["swap"][COLOURS.index("warmth")]).all(), "a score that never varies has no effects"
    center = result.hierarchies["swap_hierarchy"].center.value[0]
    assert center == pytest.approx(np.average(range(8), weights=expected), abs=0.25)


def test_chosen_layers() -> None:
    """The fewest that reach 80 % of the summed positive effects, not necessarily side by side."""
    assert choose_layers(np.array([0, 0.2, 0.5, 1, 0.6, 0.4])) == (2, 3, 4, 5)
    assert choose_layers(np.array([0, 1, 0.1, 0, 0, 1])) == (1, 5)
    assert choose_layers(np.array([0.8, 0.2, -3])) == (0,)
    assert choose_layers(np.array([0.79, 0.2, 0.01])) == (0, 1)
    assert choose_layers(np.array([-1, 0, -0.5])) == ()
    assert choose_layers(np.array([np.nan, np.nan])) == ()
    assert choose_layers(np.zeros(0)) == ()
    assert choose_layers(np.ones(5)) == (0, 1, 2, 3)


def test_what_an_interval_says() -> None:
    assert judge(1.1, 1.3, 1.0, 5) == "verified"
    assert judge(0.9, 1.3, 1.0, 5) == "could not tell", "the interval holds the limit"
    assert judge(0.1, 0.3, 1.0, 5) == "none"
    assert judge(0.1, 0.3, 6.0, 5) == "could not tell", "nothing could pass"
    assert judge(1.1, 1.3, float("nan"), 5) == ""


def test_the_limit_of_chosen_layers() -> None:
    """Random directions that choose their layers by their own effects pass with the chance that is said."""
    random = np.random.default_rng(1)
    mixing = random.standard_normal((6, 6)) * [3, 1, 1, 0.5, 0.2, 0.1]
    passed, fixed = [], []
    for trial in range(40):
        controls = random.standard_normal((20, 6)) @ mixing
        others = random.standard_normal((500, 6)) @ mixing
        masks = chosen_masks(others)
        sums = (others * masks).sum(axis=1)
        passed.append(sums > chosen_limit(controls, 0.01, trial))
        fixed.append(sums > chance_limit(controls @ masks.T, 0.01))
    assert np.mean(passed) == pytest.approx(0.01, abs=0.006)
    assert np.mean(fixed) > 1.5 * np.mean(passed), "a limit for layers named beforehand would be passed too often"
    assert np.isnan(chosen_limit(np.zeros((0, 6))))
    assert chosen_limit(np.zeros((4, 6))) == 0


def test_levels_answer_for_other_boundaries_too() -> None:
    """Samples without any noise: the interval of a step is that of drawing the boundaries anew."""
    random = np.random.default_rng(0)
    centers = np.concatenate([random.normal(1, 1, 6).clip(0, 9), random.normal(1.5, 1, 6).clip(0, 9), [8, 9]])
    amounts = np.stack([np.interp(range(10), [c - 1, c, c + 1], [0, 1, 0]) for c in centers])
    levels = ["layout"] * 6 + ["object"] * 6 + ["color"] * 2
    found = find_hierarchy(np.broadcast_to(amounts, (1001, *amounts.shape)), levels)
    assert (found.levels, found.counts) == (("layout", "object", "color"), (6, 6, 2))
    assert found.center.low == pytest.approx(found.center.high)
    width = found.level_step.high[0] - found.level_step.low[0]
    parts = [found.center.value[:6].std(), found.center.value[6:12].std()]
    assert width == pytest.approx(2 * 1.96 * np.hypot(*parts) / np.sqrt(6), rel=0.1)
    assert found.verdict(0) == "not told apart"
    assert found.verdict(1) == "", "two boundaries are too few to speak for a level"


def test_the_control_s_limit() -> None:
    random = np.random.default_rng(0)
    signed = random.standard_normal((20, 2000))
    limit = control_limit(np.maximum(signed, 0), signed)
    assert (random.standard_normal((500, 2000)) > limit).mean() == pytest.approx(1e-4, rel=0.5)
    assert np.isnan(control_limit(signed[:0], signed[:0])).all()


def test_random_directions_are_never_verified_and_a_real_one_is(tmp_path: Path) -> None:
    generator, predictor = make_generator(), make_predictor()
    z = generator.sample(2000, 1)
    wp = generator.to_wp(z, "z")
    scores = measure(generator.synthesize(wp))["attribute"].numpy()
    codes = generator.map(z).numpy()
    real = [train_boundary(codes, scores[:, index], name) for index, name in enumerate(COLOURS[:2])]
    random = [make_boundary(COLOURS[seed % 3], (1, 64), seed=seed) for seed in range(8)]
    for index, boundary in enumerate([*real, *random]):
        boundary.info["path"] = str(write_boundary(boundary, tmp_path / str(index)))
    result = rescore(generator, predictor, [*real, *random], 60, control=20, seed=2, batch_size=60)
    marks = [direction.mark for direction in result.directions]
    assert marks[:2] == ["verified"] * 2
    assert "verified" not in marks[2:]
    assert [answer.name for answer in result.answers()][:2] == COLOURS[:2] or COLOURS[1::-1]
    lines = write_layers(result, [*real, *random])
    assert len(lines) == 10
    for index, name in enumerate(COLOURS[:2]):
        boundary = read_boundary(tmp_path / str(index) / f"{name}_boundary.npy")
        assert boundary.layers == result.directions[index].chosen
        assert boundary.info["layers_from"] == "rescoring"
        assert boundary.info["validation_accuracy"] == real[index].info["validation_accuracy"]
        stored = boundary.info["rescoring"]
        assert (stored["verdict"], stored["num"], stored["controls"]) == ("verified", 60, 20)
        spread = result.spread[index]
        assert stored["effect"][0] == pytest.approx(result.own("chosen_signed")[index] / spread, rel=1e-4)
        assert stored["limit"] == pytest.approx(result.own("chosen_limit")[index] / spread, rel=1e-4)
    candidate = read_boundary(next((tmp_path / "2").glob("*.npy")))
    assert candidate.layers is None
    assert candidate.info["rescoring"]["verdict"] == marks[2]
    assert candidate.info["rescoring"]["layers"] == list(result.directions[2].chosen)
    strengths = result.own("delta")[:2, 0]
    assert min(strengths) > 2 * result.table["control_delta"][:, 0].mean()


@pytest.mark.parametrize(
    ("num", "controls", "mark", "stays"),
    [
        (100, 20, "none", False),
        (100, 20, "could not tell", True),
        (50, 20, "none", True),
        (50, 20, "verified", True),
        (200, 10, "none", True),
        (200, 40, "verified", False),
    ],
)
def test_a_smaller_run_never_erases_a_larger_one_s_answer(
    num: int, controls: int, mark: str, stays: bool, tmp_path: Path, result: Rescoring
) -> None:
    boundary = make_boundary("warmth", (1, 64))
    boundary.info["path"] = str(write_boundary(boundary, tmp_path))
    first = replace(result.directions[0], mark="verified", chosen=(1, 3), tested=2.0)
    write_layers(replace(result, directions=(first,), num=100, controls=20), [boundary])
    assert read_boundary(tmp_path / "warmth_boundary.npy").layers == (1, 3)
    second = replace(first, mark=mark, chosen=(2,))
    lines = write_layers(
        replace(result, directions=(second,), num=num, controls=controls),
        [read_boundary(tmp_path / "warmth_boundary.npy")],
    )
    found = read_boundary(tmp_path / "warmth_boundary.npy")
    assert found.layers == ((1, 3) if stays else (2,) if mark == "verified" else None)
    assert found.info["rescoring"]["verdict"] == ("verified" if stays else mark)
    assert ("stays (verified)" in lines[0]) == stays
    other = replace(result, directions=(second,), num=1, provenance=result.provenance | {"model_sha256": "other"})
    write_layers(other, [found])
    assert read_boundary(tmp_path / "warmth_boundary.npy").info["rescoring"]["num"] == 1, "another model's answer"


def test_layers_stored_by_the_first_version_stay_readable(tmp_path: Path, result: Rescoring) -> None:
    """Version 0.1.0 stored no verdict and no number of random directions."""
    boundary = make_boundary("warmth", (1, 64))
    boundary.layers = (1, 2)
    kept = {name: result.provenance[name] for name in ("predictor", "model_sha256")}
    boundary.info |= {"layers_from": "rescoring", "rescoring": {"num": 2000, "distance": 2.0, "delta": [1.0]} | kept}
    path = write_boundary(boundary, tmp_path)
    (line,) = write_layers(replace(result, directions=result.directions[:1]), [read_boundary(path)])
    assert "the answer of 2000 samples stays (verified)" in line
    assert read_boundary(path).layers == (1, 2)


def test_what_all_layers_do_is_told_where_the_chosen_ones_do_much_less(result: Rescoring) -> None:
    answer = result.answers()[0]
    index, target = answer.index, result.directions[answer.index].target
    assert answer.whole == pytest.approx(result.table["signed"][index, 0, target] / result.spread[target])
    assert "at all layers +2.00, leaks" in replace(answer, mark="verified", value=1.5, whole=2.0).sentence()
    assert "at all layers" not in replace(answer, mark="verified", value=1.7, whole=2.0).sentence()


def test_directions_without_a_score_are_named_by_what_they_move() -> None:
    generator, predictor = make_generator(), make_predictor()
    z = generator.sample(2000, 1)
    scores = measure(generator.synthesize(generator.to_wp(z, "z")))["attribute"].numpy()
    found = train_boundary(generator.map(z).numpy(), scores[:, 0], "brightness")
    directions = [Boundary("pc_0", -found.direction, "w", target=None), make_boundary("random", (1, 64))]
    directions[1].target = None
    result = rescore(generator, predictor, directions, 60, control=20, seed=2)
    assert [direction.named for direction in result.directions] == [False, False]
    first, second = result.directions
    assert (first.sign, first.mark) == (-1, "verified")
    assert first.chosen == choose_layers(-result.table["signed"][0, 1:, first.target])
    answers = {answer.name: answer.sentence() for answer in result.answers()}
    assert f"{COLOURS[first.target]} −" in answers["pc_0"]
    assert second.mark != "verified"
    assert "nothing that the predictor sees: image change" in answers["random"]
    assert next(iter(answers)) == "pc_0"
    assert log_lines(result) == list(answers.values())  # no rises of a score that none of them stands for


def test_a_score_that_saturates_is_tested_at_half_the_distance() -> None:
    """A direction that drives a score to its end at once: moved by 5 it does not pass the limit, by half it does."""
    generator = plant(lambda x: 1.2 * torch.tanh(x[:, 0]))
    direction = np.zeros((1, 64), np.float32)
    direction[0, 0] = 1
    result = rescore(generator, make_predictor(), [Boundary("brightness", direction)], 200, distance=5, control=60)
    limit = result.own("chosen_limit")[0]
    assert result.own("chosen_signed")[0] < limit
    assert result.own("half_signed_low")[0] > limit / 2
    assert (result.directions[0].mark, result.directions[0].tested) == ("verified", 2.5)
    wp = generator.to_wp(generator.sample(200, 0), "z")
    before, after = (
        make_predictor().predict(generator.synthesize(codes))["attribute"].float()
        for codes in (wp, manipulate(wp, direction, [2.5], result.directions[0].chosen, generator.psi().numpy())[:, 0])
    )
    assert result.table["half_signed"][0] == pytest.approx((after - before).numpy().mean(axis=0), abs=1e-4)
    assert "moved by 2.5" in result.answers()[0].sentence()


def test_a_name_in_two_groups() -> None:
    def score(images: Tensor) -> dict[str, Tensor]:
        means = images.float().mean(dim=(1, 2)) / 255
        return {"attribute": means[:, :2], "category": means[:, 1:]}

    names = {"attribute": ["red", "green"], "category": ["green", "blue"]}
    predictor = Predictor("two", names, score, torch.device("cpu"))
    boundary = make_boundary("green", (1, 64))
    with pytest.raises(HiganError, match="attribute/green, category/green"):
        rescore(make_generator(), predictor, [boundary], 4)
    boundary.target = "category/green"
    assert rescore(make_generator(), predictor, [boundary], 4).targets == [2]


def test_a_model_with_one_latent_space() -> None:
    description, _ = read_case("pggan_tiny16")
    generator = Generator(build_network(case_checkpoint(description)), "pggan")
    boundary = make_boundary("red", (1, generator.z_dim), "z")
    result = rescore(generator, make_predictor(), [boundary], 10, control=2)
    assert result.directions[0].scores.shape == (10, 2)
    assert (result.layers, result.hierarchies) == ((), {})
    assert (result.table["control_delta"] >= 0).all()
    assert (result.own("chosen_signed") == result.own("signed")[:, 0]).all()
    assert "red" in repr(result._repr_html_())
    with pytest.raises(HiganError, match="no layers to swap"):
        rescore(generator, make_predictor(), [boundary], 10, layer_swap=True)
    with pytest.raises(HiganError, match="is of space w"):
        rescore(generator, make_predictor(), [make_boundary("red", (1, generator.z_dim))], 10)


def test_z_codes_are_scaled_to_the_sphere() -> None:
    generator, boundary = make_generator(), make_boundary("red", (1, 64))
    z = generator.sample(3, 5)
    scores = [
        rescore(generator, make_predictor(), [boundary], codes=factor * z, space="z", layerwise=False)
        .directions[0]
        .scores
        for factor in (1, 3)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_spaces_side_by_side(tmp_path: Path) -> None:
    boundaries = [make_boundary("red", (1, 32), "z"), make_boundary("red", (1, 64))]
    result = rescore(make_generator(), make_predictor(), boundaries, 8)
    assert np.isnan(result.table["delta"][0, 1:]).all()
    assert np.isfinite(result.table["delta"][1]).all()
    assert [direction.scores.shape for direction in result.directions] == [(8, 2), (8, 6)]
    write_rescoring(result, tmp_path)
    with (tmp_path / "rescore.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = [row["layer"] for row in rows if row["output"] == "red"]
    assert layers == ["all", "chosen", "all", "0", "1", "2", "3", "chosen"]
    expected = result.table["chosen_signed"][1, COLOURS.index("red")]
    assert float([row for row in rows if row["output"] == "red"][-1]["signed"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num": 0}, "expected num from 1"),
        ({"distance": 0.0}, "a distance other than 0"),
        ({"distance": float("nan")}, "a distance other than 0"),
        ({"boundaries": [make_boundary("read", (1, 64))]}, "nearest: red"),
        ({"boundaries": [make_boundary("red", (1, 65))]}, r"\[1, 65\]; tiny expects \[1, 64\] in space w"),
        ({"boundaries": [make_boundary("red", (1, 5, 64), "wp")]}, r"expects \[1, 4, 64\] in space wp"),
        ({"codes": np.zeros((3, 7))}, r"codes of shape \[3, 7\]"),
        ({"codes": np.full((3, 32), np.nan)}, "not finite"),
        ({"codes": np.zeros((3, 64)), "space": "w", "boundaries": [make_boundary("red", (1, 32), "z")]}, "of space z"),
        ({"num": 1, "layer_swap": True}, "2 samples at least"),
    ],
)
def test_what_cannot_be_rescored(change: dict[str, Any], expected: str) -> None:
    arguments: dict[str, Any] = {"boundaries": [make_boundary("red", (1, 64))], "num": 4} | change
    with pytest.raises(HiganError, match=expected):
        rescore(make_generator(), make_predictor(), **arguments)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model, boundaries for it, and a list of them."""
    write_smaller_model(tmp_path / "tiny.pth")
    for name in ("red", "brightness"):
        write_boundary(make_boundary(name, (1, 64)), tmp_path)
    (tmp_path / "list.txt").write_text("(red, w): red_boundary.npy\n(brightness, w): brightness_boundary.npy\n")
    return tmp_path


def test_script(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "out"
    assert run("rescore", place / "tiny.pth", place / "list.txt", *PREDICTOR, "-o", out, "-N", 12, "--distance", 1.5,
               "--layer_swap", "--control", 3, "--write_layers", "--seed", 4, "--batch_size", 6, "--device", "cpu",
               "--logfile_name", "l.txt") == 0  # fmt: skip
    said = capsys.readouterr().out
    assert said.index("Boundary `red` from W space.") < said.index("Most relevant semantics:")
    assert "red: could not tell; layer" in (out / "l.txt").read_text(), "3 random directions tell nothing"
    assert np.load(out / "red_w_scores.npy").shape == (12, 6)
    assert np.load(out / "rescore_delta.npy").shape == (2, 5, 3)
    assert (out / "rescore.html").stat().st_size > 1000
    description = json.loads((out / "rescore.json").read_text())
    assert description["columns"] == ["all", 0, 1, 2, 3]
    assert (description["distance"], description["seed"], description["num"]) == (1.5, 4, 12)
    assert description["boundaries"][0]["sha256"]
    assert description["boundaries"][0]["verdict"] == "could not tell"
    assert set(description["tables"]) == set(COLUMNS) - COUNTED

    command = "rescore", place / "tiny.pth", place / "list.txt", *PREDICTOR
    assert run(*command, "-o", place / "plain", "-N", 5) == 0
    assert np.load(place / "plain" / "red_w_scores.npy").shape == (5, 2)
    np.save(place / "w.npy", np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32))
    assert run(*command, "-o", place / "w", "-i", place / "w.npy") == 0
    assert len(np.load(place / "w" / "red_w_scores.npy")) == 4


def test_script_refuses(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(expected: str, *arguments: object, model: str | Path = "tiny.pth", text: str = "") -> None:
        (place / "bad.txt").write_text(text or (place / "list.txt").read_text())
        options = (*PREDICTOR, "-o", place / "out", "--device", "cpu", *arguments)
        assert_refused(capsys, expected, "rescore", place / model, place / "bad.txt", *options)

    np.save(place / "long.npy", np.ones((1, 65), np.float32))
    refused("no file and no known model", model="none.pth")
    refused("--num is 0; expected 1 or more", "-N", 0)
    refused("--control is 1001; expected 0 to 1000", "--control", 1001)
    refused("expected --control from 2", "--write_layers", "--control", 1)
    refused("names no boundary", text="# nothing\nDISABLE(red, w): red_boundary.npy\n")
    refused("bad.txt, line 2", text="# first\nred, w: red_boundary.npy\n")
    refused("line 1: boundary gone.npy is not there", text="(red, w): gone.npy\n")
    refused("z was asked for", text="(red, z): red_boundary.npy\n")
    refused("expects [1, 64]", text="(red, w): long.npy\n")
    refused("nearest: red", text="(redd, w): red_boundary.npy\n")
    refused("there is no file", "-i", place / "none.npy")
    refused("expects [N, 32] in z or [N, 64] in w or [N, 4, 64] in wp", "-i", place / "long.npy")
    refused("unknown predictor", "--predictor_name", "sceen")
    refused("is not conditional", "--class_idx", 1)
    old = GOLDEN / "pggan_tiny16_oldformat.pth"
    refused("(pggan) has no layers; leave --layerwise_rescoring out", "--layerwise_rescoring", model=old)
    refused("(pggan) has no layers; leave --write_layers out", "--write_layers", model=old)
    (place / "file").write_text("")
    refused("cannot write", "-o", place / "file" / "folder")


def test_a_picture_that_is_not_finite_is_named() -> None:
    generator = make_generator()
    codes = generator.map(generator.sample(10, seed=0)).numpy()
    codes[7] = 3e38  # finite, and nothing that follows from it is
    with pytest.raises(HiganError, match="NaN or infinity for sample 7"):
        rescore(generator, make_predictor(), [make_boundary("red", (1, 64))], batch_size=4, codes=codes, space="w")


def test_a_stopped_rescoring_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed in three of its parts; the same call measures no block twice and gives the same bytes."""
    boundary = make_boundary("red", (1, 64))
    options: dict[str, Any] = {"num": 12, "control": 3, "layer_swap": True, "seed": 5, "batch_size": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    write_rescoring(rescore(make_generator(), make_predictor(), [boundary], **options), whole)

    def predictor(calls: int) -> tuple[Predictor, list[int]]:
        """A predictor that is interrupted after so many calls, which it counts."""
        made, counted = make_predictor(), [0]

        def score(images: Tensor) -> dict[str, Tensor]:
            counted[0] += 1
            if counted[0] > calls:
                raise KeyboardInterrupt
            return measure(images)

        return Predictor(made.name, made.names, score, made.device, made.levels), counted

    # a batch takes 21 calls for the columns (unmoved, 4 directions at 5), 2 for the chosen layers and 2 more at half of
    # the distance, 5 for the swap
    for calls in (30, 45, 8):
        with pytest.raises(KeyboardInterrupt):
            rescore(make_generator(), predictor(calls)[0], [boundary], folder=parts, **options)
    made, counted = predictor(10**6)
    result = rescore(make_generator(), made, [boundary], folder=parts, **options)
    assert counted == [2 + 3 * 5], "done before: the columns, the chosen layers, and two batches at half the distance"
    with pytest.raises(HiganError, match=r"seed was 5, now 6.*--overwrite"):
        rescore(make_generator(), make_predictor(), [boundary], folder=parts, **(options | {"seed": 6}))
    shutil.rmtree(parts / "measured")
    write_rescoring(result, parts)
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in parts.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_what_was_left_out_before_a_stop_stays_out() -> None:
    """Also where what decides at a look has changed: a move is measured on the first samples, without a gap."""
    generator, predictor = make_generator(), make_predictor()
    moves = [Step(torch.ones(4, 64), (layer,)) for layer in range(2)]
    plan = Plan(prepare_codes(generator, [], 12, 0, None, "z"), moves, 3, [0, 0], looks=(4,))
    kept: dict[int, Sums] = {}
    store = SimpleNamespace(read=kept.get, write=kept.__setitem__)
    for going_on in ([True, False], [True, True]):
        sums = measure_plan(generator, predictor, plan, 4, store=store, wide=lambda _, on=going_on: np.array(on))
        assert sums.counts.tolist() == [12, 4]
        del kept[2]


def test_lists_side_by_side(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two lists in one run: own effect and leaks per unit of it, over the scores that both have."""
    for name in ("first", "second"):
        (place / name).mkdir()
        boundary = make_boundary("red", (1, 64), seed=len(name))
        write_boundary(boundary, place / name)
        (place / name / "list.txt").write_text("(red, w): red_boundary.npy\n")
    write_boundary(make_boundary("warmth", (1, 64)), place / "second")
    with (place / "second" / "list.txt").open("a") as file:
        file.write("(warmth, w): warmth_boundary.npy\n")
    (place / "edits").mkdir()
    for name in ("red", "warmth"):
        (place / "edits" / f"{name}_w_viz.html").touch()
    command = ("rescore", place / "tiny.pth", place / "first" / "list.txt", place / "second" / "list.txt", *PREDICTOR)
    assert run(*command, "-N", 6, "--layerwise_rescoring", "-o", place / "out", "--device", "cpu") == 0
    record = json.loads((place / "out" / "rescore.json").read_text())
    assert [boundary["list"] for boundary in record["boundaries"]] == ["first", "second", "second"]
    first, second = record["compared"]
    assert (first["recipe"], second["recipe"], first["num"]) == ("first", "second", 1)
    std = np.load(place / "out" / "rescore_base_std.npy")
    effect = np.load(place / "out" / "rescore_chosen_signed.npy") / std
    red = COLOURS.index("red")
    assert first["own"][0] == pytest.approx(effect[0, red], rel=1e-4)
    others = np.abs(np.delete(effect[0], red))
    assert first["leak"][0] == pytest.approx(others.mean() / effect[0, red], rel=1e-3)
    assert first["worst"][0] == pytest.approx(others.max() / effect[0, red], rel=1e-3)
    assert {"first_red_w_scores.npy", "second_red_w_scores.npy"} <= {path.name for path in (place / "out").iterdir()}
    page = (place / "out" / "rescore.html").read_text()
    assert "Lists side by side" in page and 'href="../edits/warmth_w_viz.html"' in page
    assert "red_w_viz.html" not in page  # whose edits these are is not told
    tables = page.split("<tbody>")[2:]
    assert len(tables) >= 4 and all("red (first)" in table for table in tables if "red" in table)
    (place / "b:c.txt").write_text((place / "second" / "list.txt").read_text().replace(": ", ": second/"))
    odd = (place / "first" / "list.txt", place / "b:c.txt")
    assert_refused(capsys, "cannot be part of a file's", "rescore", place / "tiny.pth", *odd, *PREDICTOR, "-N", 6)
    same = (place / "first" / "list.txt", place / "first" / "list.txt")
    assert_refused(capsys, "names of their own", "rescore", place / "tiny.pth", *same, *PREDICTOR, "-o", place / "o")
