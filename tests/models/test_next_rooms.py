"""The programs of the next rooms: what the renderer promises, and that a generator grows by a block."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from support.scripts import ROOT

import higan

NEXT = ROOT / "models" / "stylegan2_rooms" / "next"
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
"""


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("next_scenes", NEXT / "scenes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["next_scenes"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_scene_depends_on_its_number_alone(scenes: ModuleType) -> None:
    whole, part = scenes.sample_factors(8, seed=3), scenes.sample_factors(3, seed=3, start=4)
    assert all(torch.equal(whole[name][4:7], part[name]) for name in whole)
    assert torch.equal(scenes.render(whole, 32)[4:7], scenes.render(part, 32))


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


def test_scores_grow_along_their_directions(scenes: ModuleType) -> None:
    factors = scenes.sample_factors(4000, seed=9)
    normals, labels = scenes.normals(factors, torch.Generator().manual_seed(0)), scenes.labels(factors)
    for name, direction in scenes.score_directions().items():
        assert direction.norm() == pytest.approx(1)
        correlations = torch.corrcoef(torch.stack([labels[name], normals @ direction]))
        assert correlations[0, 1] > 0.6, name


def test_training_learns_pairs_then_competes_and_goes_on(tmp_path: Path) -> None:
    def train(*options: str) -> list[dict[str, float]]:
        command = [sys.executable, str(NEXT / "train_generator.py"), "--out", str(tmp_path / "run"), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]

    small = ("--resolution", "32", "--batch", "8", "--renders", "16", "--device", "cpu", "--log_steps", "1")
    small += ("--decay_kimg", "0")
    pairs = [line["pairs"] for line in train(*small, "--kimg", "0.24", "--pair_kimg", "0.24")]
    assert len(pairs) == 30 and sum(pairs[-4:]) < 0.8 * sum(pairs[:4])
    line = train(*small, "--kimg", "0.256")[0]
    assert line["kimg"] == 0.248 and {"pairs", "named", "features", "means"} <= set(line)
    alone = train(*small, "--kimg", "0.272", "--discriminator_kimg", "1")[0]
    assert "pairs" not in alone
    train("--export", str(tmp_path / "rooms.pth"))
    generator = higan.load_generator(tmp_path / "rooms.pth", device="cpu")
    assert generator.synthesize(generator.sample(2, seed=0), space="z").shape == (2, 32, 32, 3)


def test_a_smaller_generator_grows_by_a_block(tmp_path: Path) -> None:
    sheet = tmp_path / "samples.png"
    done = subprocess.run(
        [sys.executable, "-c", GROW, str(NEXT), str(sheet)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Image.open(sheet).size == (64, 32)
