"""The embedded model: its renderer, predictor, generator, boundaries and trainers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import higan
from higan.checkpoints import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "stylegan2_rooms"
BOUNDARIES = sorted((ROOT / "boundaries" / "stylegan2_rooms").glob("*_boundary.npy"))


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    return import_program("scenes")


def import_program(name: str) -> ModuleType:
    """Import one of the programs that made the model."""
    sys.path.insert(0, str(MODEL))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(MODEL))


@pytest.fixture(scope="module")
def generator() -> higan.Generator:
    return higan.load_generator("stylegan2_rooms", device="cpu")


@pytest.fixture(scope="module")
def predictor() -> higan.Predictor:
    return higan.load_predictor("rooms", device="cpu")


def test_scene_depends_on_seed_and_index_alone(scenes: ModuleType) -> None:
    whole, part = scenes.sample_factors(50, seed=9), scenes.sample_factors(7, seed=9, start=31)
    for name, values in part.items():
        assert torch.equal(values, whole[name][31:38])
    assert not torch.equal(whole["viewpoint"], scenes.sample_factors(50, seed=10)["viewpoint"])


def test_factors_are_independent_and_labels_standardised(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(4000, seed=9)
    correlation = torch.corrcoef(torch.stack(list(factors.values())))
    assert (correlation - torch.eye(len(factors))).abs().max() < 0.08
    for name, values in scenes.labels(factors).items():
        if scenes.KINDS[name] == "binary":
            assert set(values.unique().tolist()) == {0.0, 1.0}
            assert 0.45 < values.mean() < 0.55
        else:
            assert abs(values.mean()) < 0.06 and abs(values.std() - 1) < 0.05


@pytest.mark.parametrize("resolution", [16, 64, 100])
def test_render_has_any_resolution_and_ignores_the_batch(scenes: ModuleType, resolution: int) -> None:
    factors = scenes.sample_factors(5, seed=9)
    images = scenes.render(factors, resolution)
    assert images.dtype == torch.uint8 and images.shape == (5, 3, resolution, resolution)
    alone = scenes.render({name: values[3:4] for name, values in factors.items()}, resolution)
    assert (alone[0].int() - images[3].int()).abs().max() <= 1


def test_every_factor_shows_in_the_picture(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(8, seed=9)
    for factor in scenes.FACTORS:
        low, high = (0.0, 1.0) if factor.kind == "binary" else (-0.5, 0.5)
        changed = [factors | {factor.name: torch.full((8,), value)} for value in (low, high)]
        first, second = (scenes.render(scene, 64).float() for scene in changed)
        assert ((second - first).abs().amax(dim=(1, 2, 3)) > 20).all(), factor.name


def test_predictor_reads_unseen_renders(scenes: ModuleType, predictor: higan.Predictor) -> None:
    factors = scenes.sample_factors(400, seed=11)
    scores = predictor.predict(scenes.render(factors, 64).permute(0, 2, 3, 1))["attribute"]
    assert predictor.names["attribute"] == list(scenes.SCORE_NAMES) and predictor.levels == scenes.LEVELS
    for column, (name, label) in enumerate(scenes.labels(factors).items()):
        score = scores[:, column]
        if scenes.KINDS[name] == "binary":
            assert ((score > 0) == (label > 0.5)).float().mean() >= 0.97, name
        else:
            least = 0.95 if scenes.LEVELS[name] == "layout" or "light" in name else 0.90
            assert 1 - (score - label).square().mean() / label.var(unbiased=False) >= least, name


def test_weights_are_small(generator: higan.Generator) -> None:
    assert (MODEL / "stylegan2_rooms.pth").stat().st_size < 12_000_000
    assert generator.resolution >= 64 and generator.family == "stylegan2" and generator.predictor == "rooms"


def test_what_ships_says_what_re_scoring_found() -> None:
    verified = 0
    for path in BOUNDARIES:
        boundary = higan.read_boundary(path)
        found = boundary.info["rescoring"]
        assert boundary.info["solver"] == "ridge" and boundary.info["disentangle"] and found["layers"]
        assert found["verdict"] == ("verified" if boundary.layers else "could not tell"), path
        assert boundary.layers in (None, tuple(found["layers"]))
        verified += bool(boundary.layers)
    assert verified >= 14


VERIFIED = [path for path in BOUNDARIES if higan.read_boundary(path).layers]


@pytest.mark.parametrize("path", VERIFIED, ids=lambda path: path.name.removesuffix("_boundary.npy"))
def test_boundary_raises_its_score_more_than_random_directions(
    path: Path, generator: higan.Generator, predictor: higan.Predictor
) -> None:
    boundary = higan.read_boundary(path)
    wp = generator.to_wp(generator.sample(48, seed=21), "z")
    column = predictor.names["attribute"].index(boundary.name)

    def score(codes: torch.Tensor) -> float:
        return predictor.predict(generator.synthesize(codes))["attribute"][:, column].mean().item()

    before = score(wp)

    def rise(direction: np.ndarray) -> float:
        moved = higan.manipulate(wp, direction, [2.0], layers=boundary.layers, strength=generator.psi())
        return score(moved[:, 0]) - before

    random = np.random.default_rng(0).standard_normal((8, 1, generator.w_dim))
    random /= np.linalg.norm(random, axis=2, keepdims=True)
    assert rise(boundary.direction) > max(abs(rise(direction.astype(np.float32))) for direction in random)


def test_lighting_brightens_and_leaves_the_bed(generator: higan.Generator, predictor: higan.Predictor) -> None:
    boundary = higan.read_boundary(ROOT / "boundaries" / "stylegan2_rooms" / "indoor_lighting_boundary.npy")
    wp = generator.to_wp(generator.sample(100, seed=22), "z")
    images = [generator.synthesize(codes) for codes in (wp, higan.manipulate(wp, boundary, [2.0])[:, 0])]
    brightness = [image.float().mean(dim=(1, 2, 3)) for image in images]
    assert (brightness[1] > brightness[0]).float().mean() >= 0.9
    bed = [predictor.predict(image)["attribute"][:, predictor.names["attribute"].index("bed_left")] for image in images]
    assert ((bed[0] > 0) == (bed[1] > 0)).float().mean() >= 0.95


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def train(run: str, *options: str) -> str:
        command = [sys.executable, str(MODEL / "train_generator.py"), "--out", str(tmp_path / run), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    small = ("--resolution", "32", "--batch", "8", "--renders", "16", "--device", "cpu", "--log_steps", "1")
    small += ("--kimg", "1", "--minutes", "0.02")
    runs = [train("run", *small) for _ in range(2)]
    first, again = ([json.loads(line)["kimg"] for line in run.splitlines() if line[:1] == "{"] for run in runs)
    assert first[0] == 0.01 and again[0] > 0.01
    assert list((tmp_path / "run").glob("samples_*.png"))
    train("run", "--resolution", "32", "--export", str(tmp_path / "rooms.pth"))
    generator = higan.load_generator(tmp_path / "rooms.pth", device="cpu")
    assert generator.synthesize(generator.sample(2, seed=0), space="z").shape == (2, 32, 32, 3)

    # while the discriminator trains alone, the generator that a run begins with stays as it is
    train("next", *small, "--initial", str(tmp_path / "rooms.pth"), "--discriminator_kimg", "1")
    train("next", "--resolution", "32", "--export", str(tmp_path / "next.pth"))
    weights, after = (read_checkpoint(tmp_path / name).state_dict for name in ("rooms.pth", "next.pth"))
    assert all(torch.equal(value, after[name]) for name, value in weights.items() if name != "w_avg")


def test_names_of_generated_images_are_drawn_to_those_of_renders() -> None:
    naming = import_program("train_generator").Naming()
    random = torch.Generator().manual_seed(0)
    binary, continuous = naming.binary.nonzero()[0, 0], (~naming.binary).nonzero()[0, 0]
    pulls = torch.zeros(2)
    for batch in range(600):
        real, fake = (torch.randn(16, len(naming.binary), generator=random) for _ in range(2))
        fake[:, binary] += 1  # there too often
        fake[:, continuous] *= 0.3  # too much alike
        fake.requires_grad_()
        (slope,) = torch.autograd.grad(naming.distance(real, fake), fake)
        if batch < 100:
            assert not slope.any()  # a few batches differ by chance
        pulls += torch.stack([slope[:, binary].sum(), (slope * fake.detach())[:, continuous].sum()])
    assert naming.gap()[binary, -1] > 0.2 and naming.gap()[continuous, continuous] < -0.7
    assert pulls[0] > 0 and pulls[1] < 0  # down the slope there is less of the one, and more variety in the other
