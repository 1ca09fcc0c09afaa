"""The `colors` predictor: hue, brightness and saturation of a picture, from its pixels alone, without weights.

The measures are those of the hexcone (Smith 1978, "Color gamut transform pairs"), taken over all pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from higan.predictors.predictor import Predictor

NAMES = ("hue", "brightness", "saturation")
CUT = 60.0  # degrees below red at which hues begin: magenta, the rarest hue of places, where the scale jumps


def measure_colors(images: Tensor) -> Tensor:
    """Return hue, brightness and saturation, float32 [N, 3], of images [N, H, W, 3] (RGB, 0 to 255).

    hue
        Degrees, from -60 up to 300: red 0, yellow 60, green 120, cyan 180, blue 240, magenta -60. It is the angle of
        the pixels' mean (R - (G + B) / 2, sqrt(3) / 2 * (G - B)), so that a pixel counts by its colourfulness and a
        grey one not at all; a picture of nothing but greys has 0.
    brightness
        Mean of max(R, G, B) / 255, 0 to 1.
    saturation
        Mean of (max - min) / max of a pixel, 0 to 1; a black pixel has 0.

    Differentiable in images of a floating type, hue but for its jump at magenta, the others but for ties of channels.

    Examples
    --------
    >>> measure_colors(torch.tensor([[[[255, 0, 0]]]]))
    tensor([[0., 1., 1.]])
    """
    images = images.float()
    red, green, blue = images.unbind(dim=3)
    x = (red - (green + blue) / 2).mean(dim=(1, 2))
    y = (math.sqrt(3) / 2) * (green - blue).mean(dim=(1, 2))
    angle = torch.rad2deg(torch.atan2(y, torch.where((x == 0) & (y == 0), torch.ones_like(x), x)))
    most, least = images.amax(dim=3), images.amin(dim=3)
    saturation = (most - least) / most.clamp(min=1)  # of bytes, 1 is the least above black
    hue = torch.remainder(angle + CUT, 360) - CUT
    return torch.stack([hue, (most / 255).mean(dim=(1, 2)), saturation.mean(dim=(1, 2))], dim=1)


def load_colors(device: torch.device | None = None) -> Predictor:
    """Return the predictor of one group, "color", whose scores are all of the level "color"."""

    def score(images: Tensor) -> dict[str, Tensor]:
        return {"color": measure_colors(images)}

    levels = dict.fromkeys(NAMES, "color")
    return Predictor("colors", {"color": list(NAMES)}, score, device or torch.device("cpu"), levels)
