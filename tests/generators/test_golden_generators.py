"""The reference programs' codes, styles and images, from weights by rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, case_checkpoint, read_case, rule_checkpoint, rule_tensors
from torch import Tensor

from higan.generators import build_network, load_generator
from higan.generators.generator import Generator

CODES, IMAGES = 2e-5, 5e-5  # absolute; implementations of the same function were seen to differ by a third of that
PAPER = [
    "pggan_r32",
    "pggan_r32_fused",
    "pggan_r32_lod1",
    "pggan_tiny16",
    "stylegan_r32",
    "stylegan_r32_fused",
    "stylegan_r64_auto",
    "stylegan_tiny16",
    "stylegan2_r32_skip",
    "stylegan2_r32_unfused",
    "stylegan2_r32_origin",
    "stylegan2_r32_resnet",
    "stylegan2_tiny16",
]
NVLABS = ["sg2ada_r32", "sg2ada_r16_resnet", "sg2ada_r16_clamp", "sg2ada_synthetic"]


def difference(found: Tensor, expected: np.ndarray) -> float:
    return (found - torch.from_numpy(expected)).abs().max().item()


def assert_same_bytes(found: Tensor, expected: np.ndarray) -> None:
    """At most one grey level on under 0.1 % of the values: float images that differ by rounding round differently."""
    steps = np.abs(found.numpy().astype(int) - expected.astype(int))
    assert steps.max() <= 1
    assert (steps > 0).mean() < 1e-3


@pytest.mark.parametrize("name", PAPER)
def test_paper_networks(name: str) -> None:
    description, arrays = read_case(name)
    settings = description["settings"]
    generator = Generator(
        build_network(case_checkpoint(description)),
        name,
        truncation_psi=settings.get("truncation_psi", 1.0),
        truncation_layers=settings.get("truncation_layers", 0),
    )
    z = torch.from_numpy(arrays["z"])
    if generator.family == "pggan":
        assert difference(generator.render(z), arrays["image"]) <= IMAGES
        assert_same_bytes(generator.synthesize(z, "z"), arrays["image_uint8"])
        generator.network.prepare(torch.bfloat16)
        assert_close_bytes(generator.synthesize(z, "z"), arrays["image_uint8"])
        return
    w = generator.map(torch.from_numpy(arrays["z_raw"]))  # the scale of z does not matter to the mapping
    assert difference(w, arrays["w"]) <= CODES
    w = generator.map(z)
    assert difference(w, arrays["w"]) <= CODES
    wp = generator.broadcast(w)
    assert difference(wp, arrays["wp"]) <= CODES
    styles = generator.styles(wp)
    assert len(styles) == generator.num_layers == description["num_layers"]
    for key in [key for key in arrays if key.startswith("style")]:
        assert difference(styles[int(key.removeprefix("style"))], arrays[key]) <= CODES
    assert difference(generator.render(wp), arrays["image"]) <= IMAGES
    assert_same_bytes(generator.synthesize(wp), arrays["image_uint8"])
    generator.network.prepare(torch.bfloat16)
    assert_close_bytes(generator.synthesize(wp), arrays["image_uint8"])


@pytest.mark.parametrize("name", NVLABS)
def test_nvlabs_networks(name: str) -> None:
    description, arrays = read_case(name)
    generator = Generator(build_network(case_checkpoint(description)), name)
    labels = arrays["c"] if generator.label_dim else None
    w = generator.map(arrays["z"], labels)
    for key in [key for key in arrays if key.startswith("ws_")]:
        psi, *cutoff = key.removeprefix("ws_psi").split("_cutoff")
        generator.truncation_psi = float(psi)
        generator.truncation_layers = int(cutoff[0]) if cutoff else generator.num_layers
        wp = generator.broadcast(w)
        assert difference(wp, arrays[key]) <= CODES
        if key.replace("ws", "image") in arrays:
            assert difference(generator.render(wp), arrays[key.replace("ws", "image")]) <= IMAGES
        if key == "ws_psi1":
            assert_same_bytes(generator.synthesize(wp), arrays["uint8_psi1"])
            generator.noise = "none"
            if "image_psi1_nonoise" in arrays:
                assert difference(generator.render(wp), arrays["image_psi1_nonoise"]) <= IMAGES
            generator.noise = "const"


def assert_close_bytes(found: Tensor, expected: np.ndarray) -> None:
    """The limits of bf16: one grey level on average, eight for all but one value in a thousand."""
    steps = torch.from_numpy(np.abs(found.numpy().astype(int) - expected.astype(int))).float()
    assert steps.mean() <= 1
    assert steps.quantile(0.999) <= 8


def test_bf16_of_the_embedded_model() -> None:
    generators = [load_generator("stylegan2_rooms", device="cpu", precision=name) for name in ("fp32", "bf16")]
    wp = generators[0].to_wp(generators[0].sample(64, seed=0), "z")
    expected, found = (generator.synthesize(wp) for generator in generators)
    assert_close_bytes(found, expected.numpy())


def test_bf16_at_256() -> None:
    entry = json.loads((GOLDEN / "keys_256.json").read_text())["stylegan_auto"]
    checkpoint = rule_checkpoint("stylegan", rule_tensors(entry["state_dict"], seed=1), entry["settings"])
    images = []
    for dtype in (torch.float32, torch.bfloat16):
        generator = Generator(build_network(checkpoint), "stylegan", "cpu", dtype, 0.7, 8)
        images.append(generator.synthesize(generator.sample(1, seed=0), "z"))
    assert images[0].shape == (1, 256, 256, 3)
    assert_close_bytes(images[1], images[0].numpy())


def test_half_precision_range() -> None:
    """Large styles overflow fp16 unless they are normalised; bf16 shares the code but not the range."""
    description, arrays = read_case("stylegan2_tiny16")
    network = build_network(case_checkpoint(description)).requires_grad_(False)
    network.layers[3].style.weight.mul_(3000)
    network.layers[3].style.bias.mul_(3000)
    wp = torch.from_numpy(arrays["wp"])
    expected = Generator(network, "large").render(wp)
    network.prepare(torch.float16)
    found = network(wp)
    assert found.isfinite().all()
    assert (found - expected).abs().mean() < 0.02
