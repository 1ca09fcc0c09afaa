"""The colour predictor: what it measures of known pixels, and that it is differentiable."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from higan import load_predictor
from higan.predictors.colors import measure_colors


def picture(*pixels: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(pixels).reshape(1, 1, -1, 3)


@pytest.mark.parametrize(
    ("pixel", "hue"),
    [
        ((255, 0, 0), 0),
        ((200, 200, 0), 60),
        ((10, 90, 10), 120),
        ((0, 128, 128), 180),
        ((0, 0, 1), 240),
        ((255, 0, 255), -60),
        ((255, 0, 254), -60 + 0.2),
        ((80, 80, 80), 0),
        ((0, 0, 0), 0),
    ],
)
def test_hue(pixel: tuple[int, int, int], hue: float) -> None:
    found = measure_colors(picture(pixel).to(torch.uint8))[0, 0].item()
    assert found == pytest.approx(hue, abs=0.05) or found - 360 == pytest.approx(hue, abs=0.05)


def test_brightness_and_saturation_are_the_means_of_hsv() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    pixels[0, 0, 0] = 0
    scores = load_predictor("colors", device="cpu").predict(torch.from_numpy(pixels))["color"]
    hsv = np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255.0] for image in pixels])
    np.testing.assert_allclose(scores[:, 1], hsv[:, :, 2].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(scores[:, 2], hsv[:, :, 1].mean(axis=1), atol=1e-6)


def test_grey_pixels_have_no_say_in_the_hue() -> None:
    alone, among = picture((0, 200, 0)), picture((0, 200, 0), (255, 255, 255), (9, 9, 9))
    assert measure_colors(alone)[0, 0] == pytest.approx(120, abs=1e-3)
    assert measure_colors(among)[0, 0] == pytest.approx(120, abs=1e-3)
    assert measure_colors(picture((255, 0, 0), (255, 255, 0)))[0, 0] == pytest.approx(30, abs=1e-3)


def test_gradients() -> None:
    values = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 200 + 20
    step = torch.randn(values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for column in range(3):
        images = values.clone().requires_grad_()
        measure_colors(images)[0, column].backward()
        assert images.grad is not None
        change = measure_colors(values + 0.05 * step)[0, column] - measure_colors(values - 0.05 * step)[0, column]
        assert change.item() == pytest.approx(0.1 * (images.grad * step).sum().item(), rel=0.02)
    grey = torch.zeros(1, 2, 2, 3, requires_grad=True)
    measure_colors(grey).sum().backward()
    assert grey.grad is not None and grey.grad.isfinite().all()


def test_it_is_a_predictor_like_any_other() -> None:
    predictor = load_predictor("colors", device="cpu")
    assert predictor.names == {"color": ["hue", "brightness", "saturation"]}
    assert set(predictor.levels.values()) == {"color"} and predictor.sha256 == ""
