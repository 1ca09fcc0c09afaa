"""The predictor `rooms`: its weight file, its input, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from higan.errors import CheckpointError
from higan.predictors.rooms import RoomsPredictor, load_rooms, read_rooms, write_rooms

NAMES = ["indoor_lighting", "wood", "warm_walls"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = RoomsPredictor(3, resolution=32, channels=(4, 6, 8, 10, 12), hidden=5)
    network.train()
    for _ in range(3):
        network(torch.randn(8, 3, 32, 32) * 0.5)  # statistics of the normalisations that are not 0 and 1
    path = tmp_path_factory.mktemp("rooms") / "rooms_predictor.pth"
    levels = {"indoor_lighting": "attribute", "warm_walls": "color"}
    write_rooms(path, network, NAMES, levels, {"indoor_lighting": "continuous", "wood": "binary"})
    return path


def test_written_weights_score_alike(weights: Path) -> None:
    network, names, levels, digest = read_rooms(weights)
    predictor = load_rooms(weights)
    assert names == NAMES == predictor.names["attribute"] and levels == predictor.levels
    assert len(digest) == 64 and predictor.sha256 == digest
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network.eval()(images.permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(predictor.predict(images)["attribute"], expected, atol=1e-5, rtol=1e-4)


def test_scores_can_be_differentiated(weights: Path) -> None:
    predictor = load_rooms(weights)
    images = torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    floats = images.float().requires_grad_(True)
    scores = predictor.score(floats)["attribute"]
    torch.testing.assert_close(scores.detach(), predictor.predict(images)["attribute"].clone())
    (gradient,) = torch.autograd.grad(scores.sum(), floats)
    assert gradient.abs().amax(dim=(1, 2, 3)).gt(0).all()


def test_features_are_what_the_head_reads(weights: Path) -> None:
    network = read_rooms(weights)[0].eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features = network.features(images)
        assert features.shape == (2, 12 + 5)
        assert torch.equal(network.head(features), network(images))


def test_other_sizes_are_reduced_antialiased(weights: Path) -> None:
    network = read_rooms(weights)[0]
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
    found = network.prepare(torch.from_numpy(image)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1.1 / 127.5)


def test_default_network_is_small() -> None:
    network = RoomsPredictor(24)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert 500_000 < parameters < 900_000
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 24)


def test_damaged_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    data = weights.read_bytes()
    path = tmp_path / "rooms_predictor.pth"
    for damage in (b"", data[:100], data[: len(data) // 2], b"\x80\x04N."):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match="rooms_predictor"):
            load_rooms(path)
    torch.save({"format": "higan", "version": 1}, path)
    with pytest.raises(CheckpointError, match="higan-predictor"):
        load_rooms(path)
    with pytest.raises(CheckpointError, match="train_predictor"):
        load_rooms(tmp_path / "nothing.pth")


def test_contents_that_are_no_predictor_are_refused(weights: Path, tmp_path: Path) -> None:
    content = torch.load(weights, weights_only=True)
    state = content["state_dict"]
    path = tmp_path / "rooms_predictor.pth"
    for change, words in (
        ({"resolution": "32"}, "resolution is '32'; expected int"),
        ({"names": ("a", "b")}, "names is .*expected list"),
        ({"names": []}, "0 names; expected 6 widths and names"),
        ({"channels": [4, 6, 8]}, "expected 6 widths"),
        ({"hidden": -5}, "expected 6 widths"),
        ({"hidden": 2**40}, "expected 6 widths"),
        ({"resolution": 40}, "resolution is 40; expected a multiple of 16 up to 4096"),
        ({"resolution": 2**20}, "expected a multiple of 16"),
        ({"hidden": 6}, "size mismatch"),
        ({"state_dict": {"head.bias": state["head.bias"]}}, "Missing key"),
        ({"state_dict": state | {"head.bias": torch.full((3,), torch.inf)}}, "head.bias holds NaN or infinity"),
    ):
        torch.save(content | change, path)
        with pytest.raises(CheckpointError, match=f"(?s){words}") as error:
            load_rooms(path)
        assert "rooms_predictor.pth is not a rooms predictor or is damaged" in str(error.value)
