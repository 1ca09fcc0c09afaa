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
from PIL import Image

import higan
from higan.checkpoints import read_checkpoint
from higan.generators.stylegan2 import StyleGAN2

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "stylegan2_rooms"
BOUNDARIES = sorted((ROOT / "boundaries" / "stylegan2_rooms").glob("*_boundary.npy"))

GROW = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from higan.generators.layers import upsample_fir
from higan.generators.stylegan2 import StyleGAN2
from train_generator import load_initial, save_sheet
torch.manual_seed(0)
small, large = (StyleGAN2(side, {4: 8, 8: 8, 16: 6, 32: 4}, z_dim=8, w_dim=8, mapping_layers=2) for side in (16, 32))
small.w_avg.normal_()
load_initial(large, small.state_dict())
assert torch.equal(large.w_avg, small.w_avg)
w = small.map(torch.randn(3, 8))[:, None]
first = large(w.expand(-1, large.num_layers, -1))
torch.testing.assert_close(first, upsample_fir(small(w.expand(-1, small.num_layers, -1))))
first.square().sum().backward()
assert large.outputs[-1].weight.grad.abs().max() > 0  # from where the new block learns
save_sheet(large, sys.argv[2], rows=1, columns=2)

wide = StyleGAN2(16, {4: 8, 8: 8, 16: 6}, z_dim=8, w_dim=12, mapping_layers=3)
former = load_initial(wide, small.state_dict())
z = torch.randn(3, 8)
w = small.map(z)
assert torch.equal(former(z), w)
w = torch.cat([w, torch.randn(3, 4)], dim=1)
images = [
    network(codes[:, None].expand(-1, network.num_layers, -1)) for network, codes in ((wide, w), (small, w[:, :8]))
]
torch.testing.assert_close(*images)
images[0].square().sum().backward()
assert wide.layers[0].style.weight.grad[:, 8:].abs().max() > 0  # from where the wider w is listened to
"""


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


def test_nuisances_show_in_the_picture_and_in_no_score(scenes: ModuleType) -> None:
    factors = {name: torch.ones(4) for name in scenes.sample_factors(1, seed=9)}
    factors |= {factor.name: torch.linspace(-0.9, 0.9, 4) for factor in scenes.FACTORS if factor.kind == "continuous"}
    factors["wood"] = torch.arange(4) % 2.0
    for name in scenes.NUISANCES:
        low, high = (factors | {name: torch.full((4,), value)} for value in (-1.0, 1.0))
        first, second = (scenes.render(scene, 64).float() for scene in (low, high))
        assert ((second - first).abs().amax(dim=(1, 2, 3)) > 8).sum() >= 2, name
        before, after = scenes.labels(low), scenes.labels(high)
        # what hides half a thing may be larger, but no other label changes
        assert all(torch.equal(before[key], after[key]) for key in before if scenes.LEVELS[key] != "object"), name


def test_a_thing_is_drawn_in_its_box(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(6, seed=9) | {"glossy": torch.zeros(6)}  # no reflections elsewhere
    off, on = (scenes.render(factors | {"picture": torch.full((6,), value)}, 64).int() for value in (0.0, 1.0))
    for changed, box in zip((on - off).abs().amax(dim=1), scenes.boxes(factors, "picture"), strict=True):
        rows, columns = (changed > 8).nonzero().unbind(1)
        drawn = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 32 - 1
        torch.testing.assert_close(drawn, box, atol=0.05, rtol=0)


def test_normals_of_scenes_are_standard_and_tell_the_scene(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(4000, seed=9)
    normals = scenes.normals(factors, torch.Generator().manual_seed(0))
    assert normals.shape == (4000, scenes.NUM_NORMALS)
    assert normals.mean(dim=0).abs().max() < 0.06 and (normals.std(dim=0) - 1).abs().max() < 0.05
    assert (torch.corrcoef(normals.T) - torch.eye(scenes.NUM_NORMALS)).abs().max() < 0.08
    column = 0
    for factor in scenes.FACTORS:
        value, normal = factors[factor.name], normals[:, column]
        if factor.hue:
            told = torch.atan2(normals[:, column + 1], normal) / torch.pi
        else:
            told = (normal > 0).float() if factor.kind == "binary" else torch.erf(normal / 2**0.5)
        torch.testing.assert_close(told, value, atol=1e-4, rtol=0)
        column += 1 + factor.hue


def test_yes_no_variables_may_be_drawn_near_their_threshold(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(4000, seed=9)
    column = [factor.kind for factor in scenes.FACTORS].index("binary")  # no hue comes before
    normal = scenes.normals(factors, torch.Generator().manual_seed(0), near=0.5)[:, column]
    assert torch.equal((normal > 0).float(), factors[scenes.FACTORS[column].name])
    assert (normal.abs() < 0.1).float().mean() == pytest.approx(0.5 * (0.0797 + 0.6827), abs=0.03)  # half normal


def test_codes_of_scenes_keep_the_scene_when_the_network_normalises_them(scenes: ModuleType) -> None:
    train = import_program("train_generator")
    factors = scenes.sample_factors(4000, seed=9)
    z = train.scene_codes(factors)
    torch.testing.assert_close(z.norm(dim=1), torch.full((4000,), train.Z_DIM**0.5), atol=1e-3, rtol=0)
    normalised = (z / z.norm(dim=1, keepdim=True) * train.Z_DIM**0.5) @ train.rotation().T
    viewpoint = torch.erf(normalised[:, 0] / 2**0.5)
    assert ((viewpoint - factors["viewpoint"]).abs() < 1e-3).float().mean() > 0.98  # seldom the scene alone is too long
    assert (z.std(dim=0) - 1).abs().max() < 0.08


def test_scores_grow_along_their_directions(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(4000, seed=9)
    normals, labels = scenes.normals(factors, torch.Generator().manual_seed(0)), scenes.labels(factors)
    for name, direction in scenes.score_directions().items():
        assert direction.norm() == pytest.approx(1)
        correlations = torch.corrcoef(torch.stack([labels[name], normals @ direction]))
        assert correlations[0, 1] > 0.6, name


def test_predictor_reads_unseen_renders(scenes: ModuleType, predictor: higan.Predictor) -> None:
    factors = scenes.sample_factors(300, seed=11)
    scores = predictor.predict(scenes.render(factors, 128).permute(0, 2, 3, 1))["attribute"]
    assert predictor.names["attribute"] == list(scenes.SCORE_NAMES) and predictor.levels == scenes.LEVELS
    for column, (name, label) in enumerate(scenes.labels(factors).items()):
        score = scores[:, column]
        if scenes.KINDS[name] == "binary":
            assert ((score > 0) == (label > 0.5)).float().mean() >= 0.97, name
        else:
            least = 0.95 if scenes.LEVELS[name] == "layout" or "light" in name else 0.90
            assert 1 - (score - label).square().mean() / label.var(unbiased=False) >= least, name


def test_weights_are_small(generator: higan.Generator) -> None:
    assert (MODEL / "stylegan2_rooms.pth").stat().st_size < 4_000_000
    assert generator.resolution >= 128 and generator.family == "stylegan2" and generator.predictor == "rooms"


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
    wp = generator.to_wp(generator.sample(16, seed=21), "z")
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
    wp = generator.to_wp(generator.sample(60, seed=22), "z")
    images = [generator.synthesize(codes) for codes in (wp, higan.manipulate(wp, boundary, [2.0])[:, 0])]
    brightness = [image.float().mean(dim=(1, 2, 3)) for image in images]
    assert (brightness[1] > brightness[0]).float().mean() >= 0.9
    bed = [predictor.predict(image)["attribute"][:, predictor.names["attribute"].index("bed_left")] for image in images]
    assert ((bed[0] > 0) == (bed[1] > 0)).float().mean() >= 0.95


def test_training_learns_pairs_then_competes_and_goes_on(tmp_path: Path) -> None:
    def train(run: str, *options: str) -> list[dict[str, float]]:
        command = [sys.executable, str(MODEL / "train_generator.py"), "--out", str(tmp_path / run), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"kimg"')]

    small = ("--resolution", "32", "--batch", "8", "--renders", "16", "--device", "cpu", "--log_steps", "1")
    small += ("--decay_kimg", "0", "--mapping_steps", "2")
    pairs = [line["pairs"] for line in train("run", *small, "--kimg", "0.24", "--pair_kimg", "0.24")]
    assert len(pairs) == 30 and sum(pairs[-4:]) < 0.8 * sum(pairs[:4])
    line = train("run", *small, "--kimg", "0.256")[0]
    assert line["kimg"] == 0.248 and {"pairs", "named", "features", "means"} <= set(line)
    train("run", "--export", str(tmp_path / "rooms.pth"))
    generator = higan.load_generator(tmp_path / "rooms.pth", device="cpu")
    assert generator.synthesize(generator.sample(2, seed=0), space="z").shape == (2, 32, 32, 3)

    # while the discriminator trains alone, the generator that a run begins with stays as it is
    alone = train(
        "next", *small, "--kimg", "0.04", "--initial", str(tmp_path / "rooms.pth"), "--discriminator_kimg", "1"
    )
    assert "pairs" not in alone[0]
    train("next", "--export", str(tmp_path / "next.pth"))
    weights, after = (read_checkpoint(tmp_path / name).state_dict for name in ("rooms.pth", "next.pth"))
    assert all(torch.equal(value, after[name]) for name, value in weights.items() if name != "w_avg")


def test_a_mapping_network_learns_scenes_and_a_former_w() -> None:
    train = import_program("train_generator")
    torch.manual_seed(0)
    former = StyleGAN2(8, {4: 4, 8: 4}, train.Z_DIM, 4, 2).mapping.requires_grad_(False)
    errors = []
    for steps in (1, 150):
        mapping = StyleGAN2(8, {4: 4, 8: 4}, train.Z_DIM, 64, 3).mapping
        errors.append(train.learn_scenes(mapping, former, steps))
    assert errors[1][0] < 0.8 and errors[1][1] < 0.5 < errors[0][1]  # of a variance of 1


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (24, 24)])
def test_steps_of_training_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = import_program("train_generator").orthogonal(matrix)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ found @ right.T
    kept = values > 0.03 * values.max()
    assert ((turned.diagonal()[kept] - 1).abs() < 0.4).all()  # the five steps end between 0.7 and 1.2
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-3


def test_a_run_in_two_processes_that_is_told_to_end_writes_its_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, str(MODEL / "train_generator.py"), "--out", str(tmp_path), "--resolution", "32"]
    command += ["--batch", "8", "--renders", "16", "--device", "cpu", "--pair_kimg", "99", "--log_steps", "1"]
    command += ["--mapping_steps", "1"]
    process = subprocess.Popen([*command, "--processes", "2"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith('{"kimg"'))
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert torch.load(tmp_path / "checkpoint.pth", weights_only=True)["step"] > 0


def test_a_whitened_generator_draws_the_same_pictures(scenes: ModuleType) -> None:
    train = import_program("train_generator")
    torch.manual_seed(0)
    plain, white = (StyleGAN2(16, {4: 8, 8: 8, 16: 6}, 8, 12, depth) for depth in (2, 3))
    z = torch.randn(20_000, 8)
    with torch.no_grad():
        before = plain(plain.map(z[:4])[:, None].expand(-1, plain.num_layers, -1))
        plain.w_avg.copy_(plain.map(z).mean(dim=0))
        train.whiten(plain, white, z)
        w = white.map(z)
        torch.testing.assert_close(white(w[:4, None].expand(-1, white.num_layers, -1)), before, atol=2e-3, rtol=0)
    assert (torch.cov(w.T) - torch.eye(12)).abs().max() < 0.02
    torch.testing.assert_close(white.w_avg, w.mean(dim=0), atol=0.02, rtol=0)


def test_a_smaller_generator_grows_by_a_block_and_a_narrower_in_w(tmp_path: Path) -> None:
    sheet = tmp_path / "samples.png"
    done = subprocess.run(
        [sys.executable, "-c", GROW, str(MODEL), str(sheet)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Image.open(sheet).size == (64, 32)


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
