"""Files of rosinality's program and of the encoders around its generators: weights, codes, styles and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, further_tensors, further_weight, read_case
from torch import Tensor

from higan.checkpoints import read_checkpoint
from higan.checkpoints.formats import rosinality
from higan.errors import CheckpointError
from higan.generators.generator import Generator
from higan.generators.loading import AVERAGE_SAMPLES, average_w, build_network, load_generator

CODES, IMAGES = 2e-5, 5e-5
FILES = ["rosinality_tiny32", "rosinality_snapshot16", "psp_tiny16"]


def difference(found: Tensor, expected: np.ndarray) -> float:
    return (found - torch.from_numpy(expected)).abs().max().item()


def saved(path: Path, name: str, **changes: Tensor | None) -> Path:
    """A converted file of a case's weights, some of them changed or, if None, left out."""
    description, arrays = read_case(name)
    tensors = further_tensors(description) | {key.replace("__", "."): value for key, value in changes.items()}
    content = {"g_ema": {key: value for key, value in tensors.items() if value is not None}}
    torch.save(content | {"latent_avg": torch.from_numpy(arrays["latent_avg"])}, path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_weights_are_those_of_the_rule(name: str) -> None:
    """Of g_ema, not of g; under the networks' names."""
    checkpoint = read_checkpoint(GOLDEN / f"{name}.pt")
    assert (checkpoint.format, checkpoint.family) == ("rosinality", "stylegan2")
    expected = further_tensors(read_case(name)[0])
    assert len(expected) == len(checkpoint.state_dict) - ("w_avg" in checkpoint.state_dict)
    for key, value in expected.items():
        found = checkpoint.state_dict[rosinality.rename(key)]
        up = key.startswith("convs") and key.endswith("conv.weight") and int(key.split(".")[1]) % 2 == 0
        assert torch.equal(found.flatten(), (value.flip(3, 4) if up else value).flatten()), key


@pytest.mark.parametrize("name", [*FILES, "rosinality_r32"])
def test_codes_styles_and_images(name: str, tmp_path: Path) -> None:
    _, arrays = read_case(name)
    path = GOLDEN / f"{name}.pt" if name in FILES else saved(tmp_path / "stock.pt", name)
    generator = load_generator(path, truncation_psi=1.0)
    w = generator.map(arrays["z"])
    assert difference(w, arrays["w"]) <= CODES
    wp = generator.broadcast(w)
    assert difference(wp, arrays["wp"]) <= CODES
    styles = generator.styles(wp)
    for key in [key for key in arrays if key.startswith("style")]:
        assert difference(styles[int(key.removeprefix("style"))], arrays[key]) <= CODES
    assert difference(generator.render(wp), arrays["image"]) <= IMAGES
    assert difference(generator.render(torch.from_numpy(arrays["wp_random"])), arrays["image_wp_random"]) <= IMAGES
    [truncated] = [key for key in arrays if key.startswith("wp_psi")]
    if "latent_avg_computed" in arrays:  # of the case's own samples, not of those that the file's reader draws
        generator.network.w_avg.copy_(torch.from_numpy(arrays["latent_avg_computed"][0]))
    generator.truncation_psi, generator.truncation_layers = (
        float(truncated.removeprefix("wp_psi")),
        generator.num_layers,
    )
    wp = generator.broadcast(w)
    assert difference(wp, arrays[truncated]) <= CODES
    assert difference(generator.render(wp), arrays[truncated.replace("wp", "image")]) <= IMAGES


def test_a_snapshot_s_average_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over 4,096 samples, as the reference computes it; the checkpoint says so."""
    description, arrays = read_case("rosinality_snapshot16")
    checkpoint = read_checkpoint(GOLDEN / "rosinality_snapshot16.pt")
    assert "w_avg" not in checkpoint.state_dict
    network = build_network(checkpoint)
    assert checkpoint.notes == [f"the file has no average of w: computed from {AVERAGE_SAMPLES} samples of seed 0"]
    assert torch.equal(network.w_avg, checkpoint.state_dict["w_avg"])
    again = build_network(read_checkpoint(GOLDEN / "rosinality_snapshot16.pt"))
    assert torch.equal(network.w_avg, again.w_avg)
    generator = Generator(network, "snapshot")
    other = generator.map(generator.sample(AVERAGE_SAMPLES, seed=1)).mean(dim=0)
    assert (network.w_avg - other).abs().max() < 0.2 * other.abs().max()  # two estimates of one thing
    z = further_weight("z_avg", [AVERAGE_SAMPLES, network.z_dim], description["seed"])
    monkeypatch.setattr(network, "sample", lambda *_, **__: z)
    assert difference(average_w(network), arrays["latent_avg_computed"][0]) <= CODES


def test_the_log_says_that_an_average_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "higan"):
        load_generator(GOLDEN / "rosinality_snapshot16.pt")
    assert ["rosinality_snapshot16.pt: the file has no average of w" in line for line in caplog.messages] == [True]


def test_an_average_that_differs_from_layer_to_layer(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "psp_tiny16.pt", weights_only=True)
    assert torch.equal(read_checkpoint(GOLDEN / "psp_tiny16.pt").state_dict["w_avg"], content["latent_avg"][0])
    content["latent_avg"][2, 3] += 1
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="latent_avg differs from layer to layer"):
        read_checkpoint(tmp_path / "other.pt")


def test_a_file_without_noise_images(tmp_path: Path) -> None:
    description, _ = read_case("rosinality_tiny32")
    names = [row[0] for row in description["state_dict"] if row[0].startswith("noises")]
    path = saved(tmp_path / "old.pt", "rosinality_tiny32", **{name.replace(".", "__"): None for name in names})
    checkpoint = read_checkpoint(path)
    assert all((checkpoint.state_dict[f"layers.{layer}.noise"] == 0).all() for layer in range(7))
    assert len(checkpoint.notes) == 1
    assert "no noise images" in checkpoint.notes[0]
    build_network(checkpoint)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"convs__1__conv__weight": torch.zeros(8, 8, 3, 3)}, "expected five dimensions"),
        ({"convs__1__extra": torch.zeros(3)}, "unknown tensor 'convs.1.extra'"),
        ({"convs__1__noise__weight": torch.zeros(3)}, r"layers.2.noise_strength is shape \[3\], expected shape \[\]"),
        ({"style__1__weight": torch.full((24, 24), float("nan"))}, "mapping.dense.0.weight holds NaN"),
        ({"to_rgb1__conv__weight": None}, "outputs.0.weight is none"),
        ({"convs__99__conv__weight": torch.zeros(1, 8, 8, 3, 3)}, "layers.100.weight is shape"),
    ],
)
def test_files_that_do_not_fit(change: dict[str, Tensor | None], words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        build_network(read_checkpoint(saved(tmp_path / "bad.pt", "rosinality_tiny32", **change)))
