"""Re-scoring: the reference's numbers, shared activations, controls, verified layers, layer swap, and rescore.py."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, case_checkpoint, read_case, rule_checkpoint, rule_tensors
from support.model import COLOURS, make_boundary, make_generator, make_predictor, measure, write_smaller_model
from support.scripts import assert_refused, run
from torch import Tensor

from higan.directions.boundaries import Boundary, read_boundary, write_boundary
from higan.directions.move import manipulate
from higan.directions.training import train_boundary
from higan.errors import HiganError
from higan.generators import build_network
from higan.generators.generator import Generator
from higan.predictors import Predictor
from higan.rescoring.files import log_lines, write_layers, write_rescoring
from higan.rescoring.rescore import (
    Rescoring,
    control_limit,
    rescore,
    verified_layers,
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
        own = result.delta.value[index, :, result.targets[index]]
        assert own[0] == pytest.approx(expected["all_layer_mean_delta"], abs=2e-5)
        if space != "z":
            assert own[1:] == pytest.approx(expected["per_layer_mean_delta"], abs=2e-5)
    assert [line for line in log_lines(result) if line != "Most relevant semantics:"] == case["log_lines"]


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
            own = result.scores[index][:, 1 + column]
            assert (own == scores[:, result.targets[index]].numpy()).all(), "the very same numbers"
            base = torch.cat([measure(generator.synthesize(part))["attribute"].float() for part in wp.split(16)])
            rise = (scores - base).numpy()
            assert result.delta.value[index, column] == pytest.approx(np.maximum(rise, 0).mean(axis=0), abs=1e-7)
            assert result.signed.value[index, column] == pytest.approx(rise.mean(axis=0), abs=1e-7)
            assert result.risen[index, column] == pytest.approx((rise > 0).mean(axis=0))
            change = (generator.synthesize(moved).int() - generator.synthesize(wp).int()).abs().float().mean()
            assert result.image_change[index, column] == pytest.approx(float(change), rel=1e-3)


def test_shapes_and_intervals(result: Rescoring) -> None:
    assert (result.names, result.spaces) == (("warmth", "red"), ("w", "wp"))
    assert result.boundary_levels == ("color", "")
    assert result.layers == (0, 1, 2, 3)
    assert result.delta.value.shape == result.risen.shape == (2, 5, 3)
    assert result.control_delta.shape == (4, 5, 3)
    assert result.strips.shape == (2, 6, 8, 8, 3)
    for part in (result.delta, result.signed):
        assert (part.low <= part.value).all()
        assert (part.value <= part.high).all()
    spread = result.scores[0][:, 1] - result.scores[0][:, 0]
    width = (result.signed.high - result.signed.low)[0, 0, COLOURS.index("warmth")]
    assert width == pytest.approx(2 * 1.96 * spread.std() / np.sqrt(40), rel=0.15)
    assert result.hierarchy is not None
    delta = result.delta.value[0, 1:, COLOURS.index("warmth")]
    assert result.hierarchy.center.value[0] == pytest.approx(delta @ np.arange(4) / delta.sum(), abs=1e-4)
    assert result.hierarchy.levels == ("color",)


def test_a_strip_shows_the_sample_of_median_rise(result: Rescoring) -> None:
    generator = make_generator()
    sample = int(result.strip_samples[0])
    rise = result.scores[0][:, 1] - result.scores[0][:, 0]
    assert np.sum(rise < rise[sample]) == 20
    wp = generator.to_wp(generator.sample(40, 5)[sample : sample + 1], "z")
    boundary = make_boundary("warmth", (1, 64))
    assert (result.strips[0, 0] == generator.synthesize(wp)[0].numpy()).all()
    moved = manipulate(wp, boundary, [2.0], "2", generator.psi().numpy())[:, 0]
    assert np.abs(result.strips[0, 4].astype(int) - generator.synthesize(moved)[0].numpy()).max() <= 1


def test_the_batch_size_does_not_matter(result: Rescoring) -> None:
    boundaries = [make_boundary("warmth", (1, 64)), make_boundary("red", (1, 4, 64), "wp")]
    other = rescore(make_generator(), make_predictor(), boundaries, batch_size=7, **OPTIONS)
    assert other.delta.value == pytest.approx(result.delta.value, abs=2e-5)
    assert result.swap is not None
    assert other.swap is not None
    assert other.swap.value == pytest.approx(result.swap.value, rel=1e-2, abs=1e-4)
    assert other.control_delta == pytest.approx(result.control_delta, abs=2e-5)


def test_layer_swap_shares() -> None:
    """A score that is a sum of independent parts, one per layer: each share is the part's share of the variance."""

    class Parts(Generator):
        def to_wp(self, codes: Any, space: str, label: Any = None) -> Tensor:
            rows = torch.arange(len(codes) * 4)
            return torch.stack([self.sample(1, 9, int(row))[0, :1].expand(64) for row in rows]).view(-1, 4, 64)

        def initial(self, codes: Tensor) -> Any:
            return (torch.zeros(len(codes), 4),)

        def advance(self, state: Any, wp: Tensor, start: int, stop: int) -> Any:
            values = state[0].clone()
            values[:, start:stop] = wp[:, start:stop, 0]
            return (values,)

        def image(self, state: Any) -> Tensor:
            levels = (state[0] * torch.tensor([4.0, 2.0, 1.0, 0.0])).sum(dim=1) * 5 + 128
            return levels.round().clamp(0, 255).byte()[:, None, None, None].expand(-1, 1, 1, 3).contiguous()

    generator = Parts(make_generator().network, "parts")
    result = rescore(generator, make_predictor(), [], 1500, layer_swap=True, batch_size=500)
    assert result.swap is not None
    share = result.swap.value[COLOURS.index("brightness")]
    assert share == pytest.approx(np.array([16, 4, 1, 0]) / 21, abs=0.06)
    assert (result.swap.low[0] <= np.array([16, 4, 1, 0]) / 21 + 0.02).all()
    assert (result.swap.high[0] >= np.array([16, 4, 1, 0]) / 21 - 0.02).all()
    assert result.swap_hierarchy is not None
    assert result.swap_hierarchy.center.value[0] == pytest.approx(6 / 21, abs=0.1)
    assert np.isnan(result.swap.value[COLOURS.index("warmth")]).all(), "a score that never varies has no shares"


def test_verified_layers() -> None:
    limit = np.full(6, 0.1)
    assert verified_layers(np.array([0, 0.2, 0.5, 1, 0.6, 0.4]), limit) == (2, 3, 4)
    assert verified_layers(np.array([1, 0.2, 0.6, 0.9, 0.6, 0.4]), limit) == (0, 1, 2, 3, 4)
    assert verified_layers(np.array([0.05, 0.09, 0.1, 0, 0, 0]), limit) == ()
    assert verified_layers(np.array([0.3, 0.29, 0.1, 0, 0, 0]), np.array([0.1, 0.5, 0, 0, 0, 0])) == (0,)
    assert verified_layers(np.ones(6), np.full(6, np.nan)) == ()
    assert verified_layers(np.zeros(0), np.zeros(0)) == ()


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
    random = [make_boundary(COLOURS[seed % 3], (1, 64), seed=seed) for seed in range(20)]
    for index, boundary in enumerate([*real, *random]):
        boundary.info["path"] = str(write_boundary(boundary, tmp_path / str(index)))
    result = rescore(generator, predictor, [*real, *random], 100, control=20, seed=2, batch_size=100)
    assert all(result.verified[:2]), result.verified
    assert result.verified[2:] == ((),) * 20
    written = write_layers(result, [*real, *random])
    assert written == [tmp_path / str(index) / f"{name}_boundary.json" for index, name in enumerate(COLOURS[:2])]
    for index, name in enumerate(COLOURS[:2]):
        boundary = read_boundary(tmp_path / str(index) / f"{name}_boundary.npy")
        assert boundary.layers == result.verified[index]
        assert boundary.info["layers_from"] == "rescoring"
        assert boundary.info["validation_accuracy"] == real[index].info["validation_accuracy"]
    strengths = [result.delta.value[index, 0, target] for index, target in enumerate(result.targets)]
    assert min(strengths[:2]) > 2 * result.control_delta[:, 0].mean()

    none = replace(result, verified=((),) * 22)
    write_layers(none, [read_boundary(path.with_suffix(".npy")) for path in written])
    assert read_boundary(tmp_path / "0" / "brightness_boundary.npy").layers is None


def test_a_model_with_one_latent_space() -> None:
    description, _ = read_case("pggan_tiny16")
    generator = Generator(build_network(case_checkpoint(description)), "pggan")
    boundary = make_boundary("red", (1, generator.z_dim), "z")
    result = rescore(generator, make_predictor(), [boundary], 10, control=2)
    assert result.scores[0].shape == (10, 2)
    assert result.layers == ()
    assert result.hierarchy is None
    assert (result.control_delta >= 0).all()
    with pytest.raises(HiganError, match="no layers to swap"):
        rescore(generator, make_predictor(), [boundary], 10, layer_swap=True)
    with pytest.raises(HiganError, match="is of space w"):
        rescore(generator, make_predictor(), [make_boundary("red", (1, generator.z_dim))], 10)


def test_z_codes_are_scaled_to_the_sphere() -> None:
    generator, boundary = make_generator(), make_boundary("red", (1, 64))
    z = generator.sample(3, 5)
    scores = [
        rescore(generator, make_predictor(), [boundary], codes=factor * z, space="z", layerwise=False).scores[0]
        for factor in (1, 3)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_spaces_side_by_side(tmp_path: Path) -> None:
    boundaries = [make_boundary("red", (1, 32), "z"), make_boundary("red", (1, 64))]
    result = rescore(make_generator(), make_predictor(), boundaries, 8)
    assert np.isnan(result.delta.value[0, 1:]).all()
    assert np.isfinite(result.delta.value[1]).all()
    assert (result.scores[0].shape, result.scores[1].shape) == ((8, 2), (8, 6))
    write_rescoring(result, tmp_path)
    with (tmp_path / "rescore.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows if row["output"] == "red"] == ["all", "all", "0", "1", "2", "3"]


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
    assert "red: layers " in (out / "l.txt").read_text()
    assert np.load(out / "red_w_scores.npy").shape == (12, 6)
    assert np.load(out / "rescore_delta.npy").shape == (2, 5, 3)
    assert (out / "rescore.html").stat().st_size > 1000
    description = json.loads((out / "rescore.json").read_text())
    assert description["columns"] == ["all", 0, 1, 2, 3]
    assert (description["distance"], description["seed"], description["num"]) == (1.5, 4, 12)
    assert description["boundaries"][0]["sha256"]

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
