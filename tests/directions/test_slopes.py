"""Slopes of scores by ridge regression, gradients and random steps, and the directions made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import case_checkpoint, read_case
from support.model import COLOURS, make_generator, make_predictor, write_smaller_model
from support.scripts import assert_refused, run

from higan import train_boundary
from higan.directions.boundaries import read_boundary
from higan.directions.gradient import gradient_slopes, require_same_scores, score_floats, to_grey_levels
from higan.directions.ridge import ridge_slopes
from higan.directions.slopes import Slopes, find_covariance
from higan.directions.steps import step_slopes
from higan.errors import HiganError
from higan.generators import build_network
from higan.generators.generator import Generator
from higan.predictors import Predictor

RANDOM = np.random.default_rng(7)
# codes like a mapping network's: 64 wide, variances that fall by a thousand
AXES = np.linalg.qr(RANDOM.standard_normal((64, 64)))[0]
CODES = ((RANDOM.standard_normal((20_000, 64)) * np.logspace(1, -0.5, 64)) @ AXES.T).astype(np.float32)


def plant(r2: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] that are linear in the codes up to noise, and the unit direction that they follow."""
    random = np.random.default_rng(seed)
    direction = AXES[:, :24] @ random.standard_normal(24)
    direction /= np.linalg.norm(direction)
    along = CODES @ direction
    return along + along.std() * np.sqrt(1 / r2 - 1) * random.standard_normal(len(CODES)), direction


@pytest.mark.parametrize("seed", range(4))
def test_planted_scores_are_found(seed: int) -> None:
    scores, direction = plant(0.5, seed)
    boundary = train_boundary(CODES, scores * 1e4 + 1e6, "wood", solver="ridge")
    assert float(boundary.direction[0] @ direction) >= 0.95
    assert boundary.info["r2"] == pytest.approx(0.5, abs=0.02)
    assert boundary.info["bootstrap_angle"] < 25
    assert "notes" not in boundary.info


def test_the_units_of_the_codes_do_not_matter() -> None:
    scores, direction = plant(0.9, 0)
    for scale in (0.1, 10):
        for options in ({"solver": "ridge"}, {"C": "auto"}):
            boundary = train_boundary(CODES * np.float32(scale), scores, **options)  # type: ignore[arg-type]
            same = train_boundary(CODES, scores, **options)  # type: ignore[arg-type]
            assert float((boundary.direction * same.direction).sum()) > 0.999
            assert float(boundary.direction[0] @ direction) > 0.9


def test_ridge_is_the_closed_form() -> None:
    scores = np.stack([plant(0.5, 1)[0], plant(0.8, 2)[0]], axis=1)[:3000]
    slopes = ridge_slopes(CODES[:3000], {"a": scores[:, 0], "b": scores[:, 1]}, resamples=0)
    centered = CODES[:3000].astype(np.float64) - CODES[:3000].mean(axis=0)
    gram = centered.T @ centered
    for index in range(2):
        ridge = slopes.info[index]["penalty"] * np.trace(gram) / 64
        target = scores[:, index] - scores[:, index].mean()
        expected = np.linalg.solve(gram + ridge * np.eye(64), centered.T @ target) / target.std()
        assert slopes.values[index] == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())
        assert slopes.std[index] == pytest.approx(target.std(), rel=1e-4)


def test_fewer_samples_than_dimensions() -> None:
    scores, direction = plant(0.9, 3)
    boundary = train_boundary(CODES[:40], scores[:40], solver="ridge", bootstrap=5)
    assert float(boundary.direction[0] @ direction) > 0.4
    assert "40 samples of 64 numbers" in boundary.info["notes"][0]
    assert "degrees apart" in boundary.info["notes"][0]
    with pytest.raises(HiganError, match="9 scores are too few; expected 10"):
        train_boundary(CODES[:9], scores[:9], solver="ridge")


def test_labels_are_regressed_on_as_numbers() -> None:
    scores, direction = plant(0.9, 3)
    boundary = train_boundary(CODES, scores > 0, solver="ridge")
    assert float(boundary.direction[0] @ direction) > 0.9
    assert "labels (0, 1), regressed on as numbers" in boundary.info["notes"][0]


def test_scores_that_cannot_be_regressed_on() -> None:
    scores = {name: plant(0.9, 1)[0][:500].copy() for name in ("good", "nan", "constant", "partly")}
    scores["nan"][3] = np.nan
    scores["constant"][:] = 2
    scores["partly"][::2] = -1
    slopes = ridge_slopes(CODES[:500], scores, invalid_value=-1, resamples=0)
    assert slopes.names == ["good", "partly"]
    assert "1 of 500 scores are not finite" in str(slopes.failed["nan"])
    assert "a single class" in str(slopes.failed["constant"])
    assert slopes.info[1]["invalid"] == 250
    alone = ridge_slopes(CODES[1:500:2], {"partly": scores["partly"][1::2]}, resamples=0)
    cosine = slopes.values[1] @ alone.values[0] / np.linalg.norm(slopes.values[1]) / np.linalg.norm(alone.values[0])
    assert cosine > 0.95, "the folds differ, and the penalty with them"
    with pytest.raises(HiganError, match="not finite"):
        slopes.boundary("nan", "w")
    with pytest.raises(HiganError, match="500 codes but 499 scores"):
        ridge_slopes(CODES[:500], {"a": scores["good"][:499]})
    with pytest.raises(HiganError, match="codes hold values that are not finite"):
        ridge_slopes(np.full((20, 4), np.inf, np.float32), {"a": np.arange(20.0)})


def test_no_score_has_a_slope() -> None:
    slopes = ridge_slopes(CODES[:50], {"constant": np.ones(50)}, resamples=0)
    assert slopes.names == [] and slopes.values.shape == (0, 64)
    still = Slopes(["still"], np.zeros((1, 64)), np.ones(1), np.eye(64), [{}], {})
    with pytest.raises(HiganError, match="does not change with the codes"):
        still.boundary("still", "w")


def test_a_slope_per_layer() -> None:
    codes = np.stack([CODES[:2000], CODES[1:2001]], axis=1)
    boundary = train_boundary(codes, plant(0.9, 0)[0][:2000], solver="ridge", bootstrap=3)
    assert boundary.space == "wp" and boundary.direction.shape == (1, 2, 64)
    assert np.linalg.norm(boundary.direction, axis=2) == pytest.approx(1, abs=1e-6)
    assert boundary.info["r2"][0] > 0.8 > boundary.info["r2"][1]
    assert boundary.info["norm"] == "each layer"
    covariance = find_covariance(codes)
    exact = np.cov(codes[:, 1], rowvar=False)
    assert np.linalg.norm(covariance[1] - exact) < 0.05 * np.linalg.norm(exact)
    few = find_covariance(CODES[:40])
    assert np.linalg.eigvalsh(few).min() > 0, "fewer codes than dimensions leave no dimension out"
    with pytest.raises(HiganError, match="codes hold values that are not finite"):
        find_covariance(np.full((20, 4), 1e300))


def test_disentangled_directions_leave_others_alone() -> None:
    names = ["a", "b", "c"]
    planted = [plant(0.9, seed)[1] for seed in range(3)]
    planted[1] += 0.8 * planted[0]
    covariance = np.cov(CODES, rowvar=False)
    slopes = Slopes(names, np.stack(planted), np.ones(3), covariance, [{} for _ in names], {})
    before = abs(float(slopes.boundary("a", "w").direction[0] @ planted[1]))
    leaks = [before]
    for strength in (0.0, 1.0, 10.0, 1e6):
        boundary = slopes.boundary("a", "w", strength)
        assert boundary.info["disentangle"] == strength and boundary.info["disentangled_from"] == 2
        leaks.append(abs(float(boundary.direction[0] @ planted[1])))
        d, g = boundary.direction[0].astype(float), planted[0]
        other = np.stack(planted[1:])
        expected = np.linalg.solve(np.linalg.inv(covariance) + strength * other.T @ other, g)
        assert d == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert leaks[1:] == sorted(leaks[1:], reverse=True) and leaks[-1] < 1e-4
    same = slopes.disentangled(slopes.boundary("a", "w"), 10.0)
    assert same.direction == pytest.approx(slopes.boundary("a", "w", 10.0).direction, abs=1e-6)
    with pytest.raises(HiganError, match="--disentangle is -1"):
        slopes.boundary("a", "w", -1.0)


def test_coordinates_of_the_codes_do_not_matter_to_disentangled_directions() -> None:
    """Codes that are stretched and turned give the same steps, stretched and turned."""
    change = AXES @ np.diag(np.logspace(-1, 2, 64)) @ AXES[::-1]
    scores = {str(seed): plant(0.95, seed)[0] for seed in range(3)}
    changed = (CODES @ change).astype(np.float32)
    for name in scores:
        steps = []
        for codes, back in ((CODES, np.eye(64)), (changed, np.linalg.inv(change))):
            direction = ridge_slopes(codes, scores, resamples=0).boundary(name, "w", 10.0).direction[0]
            steps.append((direction @ back) @ np.linalg.cholesky(np.linalg.inv(np.cov(CODES, rowvar=False))))
        cosine = steps[0] @ steps[1] / np.linalg.norm(steps[0]) / np.linalg.norm(steps[1])
        assert cosine > 0.99, "as unusual among codes, whatever their coordinates"


def test_layers_that_keep_their_weights_are_disentangled_as_one() -> None:
    random = np.random.default_rng(3)
    values, covariance = random.standard_normal((3, 2, 64)), np.cov(CODES, rowvar=False)
    slopes = Slopes(["a", "b", "c"], values, np.ones(3), covariance, [{}, {}, {}], {}, whole=True)
    found = slopes.boundary("a", "wp", 4.0).direction[0].astype(float).reshape(-1)
    others, both = values[1:].reshape(2, -1), np.kron(np.eye(2), covariance)
    expected = np.linalg.solve(np.linalg.inv(both) + 4 * others.T @ others, values[0].reshape(-1))
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    by_layer = np.stack([covariance, 2 * covariance])
    each = Slopes(["a", "b"], values[:2], np.ones(2), by_layer, [{}, {}], {}).boundary("a", "wp", 0.0).direction[0]
    for layer in range(2):
        pattern = by_layer[layer] @ values[0, layer]
        assert each[layer] == pytest.approx(pattern / np.linalg.norm(pattern), abs=1e-6)


def test_the_reach_is_told_and_warned_of() -> None:
    narrow = CODES.copy()
    narrow[:, 0] *= 0.01
    boundary = train_boundary(narrow, narrow[:, 0], solver="ridge")
    along = narrow @ boundary.direction[0]
    assert boundary.info["reach"] == pytest.approx(2 / along.std(), rel=0.05)
    assert "standard deviations of the codes along this direction" in boundary.info["notes"][-1]


def gradients(per_layer: bool = False, space: str = "w") -> Slopes:
    generator = make_generator()
    codes = generator.map(generator.sample(12, 0))
    given = codes if space == "w" else generator.broadcast(codes)
    return gradient_slopes(generator, make_predictor(), given, space, COLOURS, per_layer)


def test_gradients_are_those_of_finite_differences() -> None:
    generator, predictor = make_generator(), make_predictor()
    codes = generator.map(generator.sample(12, 0)).double()
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(64))
    slopes = gradients()
    assert slopes.names == COLOURS and slopes.values.shape == (3, 64)

    def mean_scores(shift: float) -> np.ndarray:
        wp = generator.broadcast((codes + shift * direction).float())
        with torch.no_grad():
            return score_floats(predictor, to_grey_levels(generator.render(wp))).double().mean(dim=0).numpy()

    expected = (mean_scores(1e-2) - mean_scores(-1e-2)) / 2e-2
    assert slopes.values @ direction.numpy() * slopes.std == pytest.approx(expected, rel=0.02, abs=1e-5)
    assert 0 < slopes.info[0]["common_gradient"] <= 1


def test_gradients_per_layer_keep_the_weights_of_the_layers() -> None:
    layered, whole = gradients(per_layer=True), gradients()
    psi = make_generator().psi().numpy()
    assert np.tensordot(layered.values, psi, ([1], [0])) == pytest.approx(whole.values, rel=1e-4, abs=1e-6)
    boundary = layered.boundary("red", "wp", 10.0)
    assert boundary.direction.shape == (1, 4, 64)
    assert np.linalg.norm(boundary.direction) == pytest.approx(1, abs=1e-6)
    assert boundary.info["norm"] == "all layers"
    assert gradients(space="wp").values == pytest.approx(layered.values, rel=1e-4, abs=1e-6)


def test_predictors_without_a_gradient_are_refused() -> None:
    generator = make_generator()
    codes = generator.map(generator.sample(2, 0))

    def cut(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"attribute": images.detach().double().mean(dim=(1, 2))}

    def of_bytes(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"attribute": images.numpy().view(np.uint8).mean(axis=(1, 2))[:, :3]}  # type: ignore[dict-item]

    def otherwise(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"attribute": images.double().mean(dim=(1, 2)) * (1 if images.dtype == torch.uint8 else 2)}

    for score, reason in ((cut, "no gradient"), (of_bytes, "float images"), (otherwise, "otherwise")):
        predictor = Predictor("own", {"attribute": COLOURS}, score, torch.device("cpu"))
        with pytest.raises(HiganError, match=f"cannot be differentiated .*{reason}.*--solver steps"):
            gradient_slopes(generator, predictor, codes, "w", COLOURS)
    with pytest.raises(HiganError, match="gradients are taken in w or w"):
        gradient_slopes(generator, make_predictor(), generator.sample(2, 0), "z", COLOURS)
    pggan = Generator(build_network(case_checkpoint(read_case("pggan_tiny16")[0])), "pggan")
    with pytest.raises(HiganError, match=r"pggan \(pggan\) has no layers"):
        gradient_slopes(pggan, make_predictor(), pggan.sample(2, 0), "z", COLOURS, per_layer=True)
    found = gradient_slopes(pggan, make_predictor(), pggan.sample(2, 0), "z", COLOURS)
    assert found.values.shape == (3, pggan.z_dim)
    with pytest.raises(HiganError, match="has no score 'blue'"):
        gradient_slopes(generator, make_predictor(), codes, "w", ["blue"])


def test_random_steps_find_what_gradients_find() -> None:
    generator, predictor = make_generator(), make_predictor()
    codes = generator.map(generator.sample(400, 0))
    scores = predictor.predict(generator.synthesize(codes, "w"))["attribute"].double().numpy()
    named = dict(zip(COLOURS, scores.T, strict=True))
    samples = ridge_slopes(codes.numpy(), named, resamples=0)
    found = step_slopes(generator, predictor, codes, "w", named, samples, find_covariance(codes.numpy()))
    mean = gradient_slopes(generator, predictor, codes[:64], "w", COLOURS)

    def cosines(slopes: Slopes) -> np.ndarray:
        one, other = (part.values / np.linalg.norm(part.values, axis=1, keepdims=True) for part in (slopes, mean))
        return (one * other).sum(axis=1)

    assert (cosines(found) > cosines(samples)).all() and cosines(found).min() > 0.8
    assert found.info[0]["solver"] == "steps" and found.info[0]["steps"] == 400
    require_same_scores(generator, predictor, codes[:4], "w", {name: named[name][:4] for name in COLOURS})
    with pytest.raises(HiganError, match=r"red of sample \d is .* in the file, but tiny and predictor colours give"):
        require_same_scores(generator, predictor, codes[:4], "w", {"red": named["brightness"][4:8]})
    with pytest.raises(HiganError, match="random steps find directions of w or z"):
        step_slopes(generator, predictor, codes[:, None], "wp", named, samples, find_covariance(codes.numpy()))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The run of a tiny model: w.npy [64, 64] and attribute.npy; and the model, tiny.pth."""
    model = write_smaller_model(tmp_path / "tiny.pth")
    assert run("synthesize", model, "-N", 64, "--generate_prediction", "--predictor_name",
               "support.model:make_predictor", "-o", tmp_path / "run") == 0  # fmt: skip
    return tmp_path


def test_script(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = source / "run" / "w.npy", source / "run" / "attribute.npy"
    model = "--model_name", source / "tiny.pth", "--predictor_name", "support.model:make_predictor"

    def train(*arguments: object) -> dict[str, object]:
        assert run("train_boundary", *arguments, *files, "-o", source / "out") == 0
        return dict(json.loads((source / "out" / "red_boundary.json").read_text()))

    ridge = train("--solver", "ridge", "--score_name", "all", "--disentangle")
    assert (ridge["disentangle"], ridge["disentangled_from"], ridge["solver"]) == (10, 2, "ridge")
    assert "R² on held-out samples" in capsys.readouterr().out
    gradient = train("--solver", "gradient", "--probes", 8, *model, "--score_name", "red")
    assert gradient["samples"] == 8 and gradient["predictor_name"] == "colours"
    layered = train(
        "--solver", "gradient", "--probes", 8, "-s", "wp", *model, "--disentangle", 2, "--score_name", "red"
    )
    assert layered["shape"] == [1, 4, 64] and layered["norm"] == "all layers" and layered["disentangled_from"] == 2
    steps = train("--solver", "steps", "--probes", 40, *model, "--score_name", "red", "--condition", "warmth")
    assert steps["steps"] == 40 and steps["conditioned_on"] == ["warmth"]
    train("--solver", "ridge", "--disentangle", "--condition", "warmth", "--score_name", "red")
    red = read_boundary(source / "out" / "red_boundary.npy").direction[0]
    train("--solver", "ridge", "--score_name", "warmth", "red")
    slope = read_boundary(source / "out" / "warmth_boundary.npy").direction[0]
    assert abs(float(red @ slope)) < 1e-5, "the condition is the slope, which tells what moves the score"
    svm = train("--disentangle", "-N", 0.2, "--score_name", "red")
    assert (svm["solver"], svm["disentangle"]) == ("newton", 10)
    direction = read_boundary(source / "out" / "red_boundary.npy").direction
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)

    def refused(expected: str, *arguments: object) -> None:
        assert_refused(capsys, expected, "train_boundary", *files, "--score_name", "red", *arguments)

    refused("--disentangle is -1", "--disentangle", -1)
    refused("--probes is 1", "--solver", "gradient", "--probes", 1)
    refused("holds codes of w; give codes of wp", "-s", "wp")
    record = json.loads((source / "run" / "run.json").read_text())
    record["settings"]["predictor_name"] = "os:system"
    (source / "run" / "run.json").write_text(json.dumps(record))
    refused("say so by --predictor_name=os:system", "--solver", "gradient", *model[:2])
    (source / "run" / "run.json").rename(source / "run.json")
    refused("give --model_name", "--solver", "gradient")
