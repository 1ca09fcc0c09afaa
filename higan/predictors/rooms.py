"""The predictor of the embedded rooms: a small convolutional network that scores every factor of a rendered bedroom."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from higan.checkpoints.networks import load
from higan.checkpoints.pickles.unpickling import read_objects
from higan.errors import CheckpointError
from higan.files import digest, write_atomic
from higan.generators.zoo import MODELS, folders
from higan.predictors.predictor import Predictor

FILE = "rooms_predictor.pth"
PATH = MODELS / "stylegan2_rooms" / FILE
VERSION = 1
MOST = 4096  # of resolution and widths


class RoomsPredictor(nn.Module):
    """Images [N, 3, R, R] in [-1, 1] -> K raw outputs: logits of binary names, standardised values of the others.

    Parameters
    ----------
    num_outputs
        Number K of scores.
    resolution
        Side R of the images, a multiple of 16.
    channels
        Widths at R, R/2, R/4, R/8 and R/16.
    hidden
        Width of the dense layer that sees where things are; a mean over the image sees what there is.
    """

    def __init__(
        self,
        num_outputs: int,
        resolution: int = 64,
        channels: Sequence[int] = (24, 48, 96, 128, 192),
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.resolution, self.channels, self.hidden = resolution, tuple(channels), hidden
        first, second, third, fourth, fifth = self.channels
        self.stages = nn.Sequential(
            Convolution(3, first),
            Convolution(first, second, stride=2),
            Convolution(second, third, stride=2),
            Convolution(third, third, residual=True),
            Convolution(third, fourth, stride=2),
            Convolution(fourth, fourth, residual=True),
            Convolution(fourth, fifth, stride=2),
        )
        self.place = nn.Linear(fifth * (resolution // 16) ** 2, hidden)
        self.head = nn.Linear(fifth + hidden, num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return the features [N, channels[-1] + hidden] that the head reads."""
        x = self.stages(images.contiguous(memory_format=torch.channels_last))
        return torch.cat([x.mean(dim=(2, 3)), F.leaky_relu(self.place(x.flatten(1)), 0.1)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the raw outputs [N, K] of float images [N, 3, R, R] in [-1, 1]."""
        return self.head(self.features(images))

    def fold(self) -> RoomsPredictor:
        """Merge every normalisation into its convolution, for inference; the outputs stay the same."""
        self.eval()
        for stage in self.stages:
            if isinstance(stage, Convolution) and isinstance(stage.norm, nn.BatchNorm2d):
                stage.conv = fuse_conv_bn_eval(stage.conv, stage.norm)
                stage.norm = nn.Identity()
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """Return images [N, H, W, 3], uint8 or float from 0 to 255, as the network's input [N, 3, R, R].

        They are resized antialiased where needed.
        """
        x = images.permute(0, 3, 1, 2).float()
        if x.shape[2:] != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        return x / 127.5 - 1


class Convolution(nn.Module):
    """3x3 convolution, batch normalisation and leaky ReLU, with the input added at the end if `residual`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.conv(x)), 0.1, inplace=True)
        return x + y if self.residual else y


def load_rooms(path: Path | None = None, device: torch.device | None = None) -> Predictor:
    """Return the predictor of a weight file (default: the project's own): one group, "attribute".

    Raises
    ------
    CheckpointError
        The file is missing, damaged or of another kind.
    """
    network, names, levels, digest = read_rooms(path or find_rooms())
    device = device or torch.device("cpu")
    network = network.fold().requires_grad_(False).to(device)

    def score(images: Tensor) -> dict[str, Tensor]:
        return {"attribute": network(network.prepare(images))}

    return Predictor("rooms", {"attribute": names}, score, device, levels, digest)


def find_rooms() -> Path:
    """Return the path of the weight file in $HIGAN_MODELS or models/; where training puts it if it is in neither."""
    places = [folder / part / FILE for folder in folders() for part in ("", "stylegan2_rooms")]
    return next((place for place in places if place.is_file()), PATH)


def read_rooms(path: Path) -> tuple[RoomsPredictor, list[str], dict[str, str], str]:
    """Return the network of a weight file as it was trained, its names, their levels, and the file's SHA-256."""
    if not path.is_file():
        raise CheckpointError(
            f"no weights of the rooms predictor at {path}; fetch the whole project, or run "
            "models/stylegan2_rooms/train_predictor.py, which makes them"
        )
    try:
        content = read_objects(path)
        network, names, levels = make_network(content, path.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not a rooms predictor or is damaged: {error}") from None
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a rooms predictor or is damaged: {error}") from None
    return network, names, levels, digest(path)


def make_network(content: Any, size: int) -> tuple[RoomsPredictor, list[str], dict[str, str]]:
    """Return network, names and levels of what a weight file of `size` bytes holds."""
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != ("higan-predictor", VERSION):
        raise CheckpointError(f"expected format higan-predictor, version {VERSION}; found something else")
    kinds = {"resolution": int, "hidden": int, "channels": list, "names": list, "levels": dict, "state_dict": dict}
    for key, kind in kinds.items():
        if type(content.get(key)) is not kind:
            raise CheckpointError(f"{key} is {str(content.get(key))[:60]!r}; expected {kind.__name__}")
    resolution, hidden, channels, names = (content[key] for key in ("resolution", "hidden", "channels", "names"))
    widths = (hidden, *channels)
    if not all(type(width) is int and 0 < width <= MOST for width in widths) or len(channels) != 5 or not names:
        raise CheckpointError(f"hidden, channels: {str(widths)[:60]}, {len(names)} names; expected 6 widths and names")
    if resolution % 16 or not 16 <= resolution <= MOST:
        raise CheckpointError(f"resolution is {resolution}; expected a multiple of 16 up to {MOST}")
    state = load(content["state_dict"], size)
    with torch.device("meta"):
        network = RoomsPredictor(len(names), resolution, channels, hidden)
    network.load_state_dict(state, assign=True)
    for key, value in state.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{key} holds NaN or infinity")
    return network, names, content["levels"]


def write_rooms(
    path: Path, network: RoomsPredictor, names: Sequence[str], levels: Mapping[str, str], kinds: Mapping[str, str]
) -> None:
    """Write a trained network, in half precision, with the name, level and kind (binary, continuous) of each output."""
    state = {
        key: (value.half() if value.is_floating_point() else value).cpu() for key, value in network.state_dict().items()
    }
    content = {
        "format": "higan-predictor",
        "version": VERSION,
        "resolution": network.resolution,
        "channels": list(network.channels),
        "hidden": network.hidden,
        "names": list(names),
        "levels": dict(levels),
        "kinds": dict(kinds),
        "state_dict": state,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())
