"""Directions without scores, against the reference formulas on golden weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.golden import case_checkpoint, read_case
from support.model import make_generator, write_smaller_model

from higan.commands.scripts import run_script
from higan.directions import __main__ as command
from higan.directions.boundaries import read_boundary
from higan.directions.lists import read_boundary_list
from higan.directions.unsupervised import draw_codes, find_directions
from higan.errors import HiganError
from higan.generators import build_network
from higan.generators.generator import Generator


def golden_generator(name: str) -> Generator:
    return Generator(build_network(case_checkpoint(read_case(name)[0])), name)


def absolute_cosines(boundaries: list, expected: np.ndarray) -> np.ndarray:
    found = np.concatenate([boundary.direction for boundary in boundaries])
    return np.abs((found * expected[: len(found)]).sum(axis=1))


@pytest.mark.parametrize(
    ("case", "layers"), [("stylegan2_tiny16", None), ("stylegan2_tiny16", [1, 2]), ("stylegan_tiny16", None)]
)
def test_the_closed_form_is_that_of_its_authors(case: str, layers: list[int] | None) -> None:
    """SeFa's program: style weights side by side, columns of norm 1, eigenvectors of their product."""
    generator = golden_generator(case)
    network = generator.network
    modules = [*network.layers, network.outputs[-1]] if case.startswith("stylegan2") else list(network.layers)
    chosen = range(generator.num_layers) if layers is None else layers
    weight = np.concatenate([modules[layer].style.weight.detach().numpy().T for layer in chosen], axis=1)
    weight = weight.astype(np.float64) / np.linalg.norm(weight, axis=0, keepdims=True)
    values, vectors = np.linalg.eigh(weight @ weight.T)
    found = find_directions(generator, "closed_form", 8, layers)
    assert absolute_cosines(found, vectors.T[::-1]) == pytest.approx(1, abs=1e-5)
    shares = [boundary.info["share"] for boundary in found]
    assert shares == pytest.approx((values[::-1] / values.sum())[:8], rel=1e-4)
    assert {boundary.target for boundary in found} == {None}
    assert {boundary.layers for boundary in found} == {None if layers is None else tuple(layers)}


def test_components_are_those_of_the_codes() -> None:
    """GANSpace's program: scikit-learn's PCA of many w."""
    from sklearn.decomposition import PCA

    generator = golden_generator("stylegan2_tiny16")
    found = find_directions(generator, "pca", 6, samples=3000)
    pca = PCA(6, svd_solver="full").fit(draw_codes(generator, 3000, 0))
    assert absolute_cosines(found, pca.components_) == pytest.approx(1, abs=1e-5)
    assert [boundary.info["share"] for boundary in found] == pytest.approx(pca.explained_variance_ratio_, rel=1e-4)


@pytest.mark.parametrize("case", ["stylegan2_tiny16", "pggan_tiny16"])
def test_components_of_activations_are_drawn_by_their_directions(case: str) -> None:
    generator = golden_generator(case)
    found = find_directions(generator, "activations", 3, samples=200)
    assert {boundary.space for boundary in found} == {"w" if "w" in generator.spaces else "z"}
    shares = [boundary.info["share"] for boundary in found]
    assert shares == sorted(shares, reverse=True)
    again = find_directions(generator, "activations", 3, samples=200)
    assert all((one.direction == other.direction).all() for one, other in zip(found, again, strict=True))


def test_activations_of_a_large_layer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higan.directions.unsupervised.MOST_VALUES", 100)
    with pytest.raises(HiganError, match=r"layer 1 gives \d+ values a sample; choose an earlier one"):
        find_directions(make_generator(), "activations", 2, layers="1", samples=10)


def test_random_directions_are_the_control() -> None:
    one, other = find_directions(make_generator(), "random", 4), find_directions(make_generator(), "random", 4, seed=1)
    assert [boundary.name for boundary in one] == ["random_00", "random_01", "random_02", "random_03"]
    assert np.linalg.norm(one[0].direction) == pytest.approx(1, abs=1e-6)
    assert abs(float((one[0].direction * other[0].direction).sum())) < 0.5


def test_what_cannot_be_found() -> None:
    generator = make_generator()
    for options, words in (
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"num": 65}, "65 directions; tiny has 1 to 64"),
        ({"layers": "1"}, "--layers has no meaning for pca"),
        ({"method": "closed_form", "layers": "9"}, "layer 9"),
        ({"method": "activations", "layers": "1,2", "num": 2}, "activations are those of one layer, found 2"),
        ({"samples": 20}, "20 samples are too few for 20"),
    ):
        with pytest.raises(HiganError, match=words):
            find_directions(generator, **options)  # type: ignore[arg-type]
    for method, words in (("pca", "has no w"), ("closed_form", "no styles to factorise")):
        with pytest.raises(HiganError, match=words):
            find_directions(golden_generator("pggan_tiny16"), method, 2)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_smaller_model(tmp_path / "tiny.pth")
    out = tmp_path / "out"
    line = ["higan.directions", str(model), "--method", "closed_form", "-K", "3", "--layers", "0-1", "-o", str(out)]
    monkeypatch.setattr("sys.argv", line)
    run_script(command.main)
    assert "closed_form_00: " in capsys.readouterr().out
    entries = read_boundary_list(out / "boundary_list.txt")
    assert [entry.boundary.name for entry in entries] == ["closed_form_00", "closed_form_01", "closed_form_02"]
    boundary = read_boundary(out / "closed_form_01_boundary.npy")
    assert (boundary.target, boundary.layers, boundary.info["method"]) == (None, (0, 1), "closed_form")
    assert boundary.info["model_name"] == "tiny"
