"""The `scene` predictor: Places365 categories and SUN attributes by the WideResNet-18 variant of Zhou et al. 2017.

Its four files are published by the authors of Places365 (http://places2.csail.mit.edu) and are not part of the project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from higan.errors import CheckpointError, HiganError
from higan.files import digest, read_small
from higan.generators.zoo import folders
from higan.predictors.predictor import Predictor
from higan.predictors.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from higan.predictors.weights import fill_network, read_weights
from higan.runs.run import read_array

FILES = (
    "wideresnet18_places365.pth.tar",
    "W_sceneattribute_wideresnet18.npy",
    "categories_places365.txt",
    "labels_sunattribute.txt",
)
SIZE = 224
NUM_CATEGORIES, NUM_ATTRIBUTES, NUM_FEATURES = 365, 102, 512
RESIZES = ("pillow", "device")
CHUNKS = {"cpu": 16, "cuda": 256}  # images at a time: an activation is 64 x 112 x 112
RESIZE = Preprocessing((SIZE, SIZE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)


class WideResNet(nn.Module):
    """ResNet-18 without its first pooling, so that the last stage is 14 x 14: [N, 3, 224, 224] -> features [N, 512].

    `fc` makes the logits [N, 365] of them. Parameters' names are those of the published file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.fc = nn.Linear(NUM_FEATURES, NUM_CATEGORIES)

    def features(self, x: Tensor) -> Tensor:
        """Return the features [N, 512] of normalised images [N, 3, 224, 224]."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def fold(self) -> WideResNet:
        """Merge every normalisation into its convolution; the outputs stay the same up to rounding."""
        self.eval()
        for module in self.modules():
            for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
                if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                    setattr(module, norm, nn.Identity())
            if isinstance(module, Block) and len(module.downsample):
                pair: Any = module.downsample
                module.downsample = nn.Sequential(fuse_conv_bn_eval(pair[0], pair[1]))
        return self


class Block(nn.Module):
    """Two 3x3 convolutions, added to their input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.downsample.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y.add_(self.downsample(x)), inplace=True)


def load_places(
    folder: Path | None = None, resize: str | None = None, device: torch.device | None = None, name: str = "scene"
) -> Predictor:
    """Return the predictor with the groups "category" (365 probabilities) and "attribute" (102 responses).

    Parameters
    ----------
    folder
        Where the four files are; default: $HIGAN_MODELS, models/, a folder `scene` in one of them, or the folders
        predictors/pretrain and predictors/annotations of the paper's programs.
    resize
        "pillow": as the reference program, exactly (default on the CPU); "device": antialiased on the device, which
        keeps the images there (default on CUDA).

    Raises
    ------
    HiganError
        Files are missing (says which, and where they belong) or `resize` is unknown.
    CheckpointError
        A file is damaged or another one.
    """
    device = device or torch.device("cpu")
    resize = resize or ("device" if device.type == "cuda" else "pillow")
    if resize not in RESIZES:
        raise HiganError(f"unknown resize {resize!r}; expected one of {', '.join(RESIZES)}")
    weights, matrix, categories, attributes = find_places(folder)
    responses = torch.from_numpy(read_matrix(matrix)).to(device)
    names = {
        "category": read_categories(categories),
        "attribute": read_attributes(attributes),
    }
    network = read_network(weights).fold().requires_grad_(False).to(device)
    chunk = CHUNKS[device.type]

    def score(images: Tensor) -> dict[str, Tensor]:
        features = torch.cat([network.features(prepare(part, resize)) for part in images.split(chunk)])
        return {"category": network.fc(features).softmax(dim=1), "attribute": features @ responses.T}

    return Predictor(name, names, score, device, sha256=f"{digest(weights, matrix)} {resize}")


def find_places(folder: Path | None = None) -> list[Path]:
    """Return the paths of `FILES`; raise HiganError with those that are missing and where they belong."""
    places = [folder] if folder else [place / part for place in folders() for part in ("", "scene")]
    found = {file: place / file for file in FILES for place in reversed(places) if (place / file).is_file()}
    if missing := [file for file in FILES if file not in found]:
        raise HiganError(
            f"the scene predictor needs {', '.join(missing)}: fetch them from the authors of Places365 "
            "(http://places2.csail.mit.edu/models_places365, github.com/CSAILVision/places365) and put them in "
            f"{places[0]}"
        )
    return [found[file] for file in FILES]


def prepare(images: Tensor, resize: str) -> Tensor:
    """Return images [N, H, W, 3] as the network's input [N, 3, 224, 224], on their device.

    Float images from 0 to 255 get the values of the uint8 images next to them, and the gradients of the resize on the
    device: rounding has none of its own.
    """
    smooth = RESIZE(images) if images.is_floating_point() else None
    if smooth is not None:
        images = images.detach().round().to(torch.uint8)
    if resize == "pillow":
        from PIL import Image

        originals = [Image.fromarray(image) for image in images.cpu().numpy()]
        pictures = [original.resize((SIZE, SIZE), Image.Resampling.BILINEAR) for original in originals]
        resized = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(images.device)
        x = resized.permute(0, 3, 1, 2).float()
    else:
        x = RESIZE(images).round_()  # Pillow's result is uint8 as well
    if smooth is not None:
        x = smooth + (x - smooth).detach()
    mean, deviation = (torch.tensor(value, device=x.device)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (x / 255 - mean) / deviation


def read_network(path: Path) -> WideResNet:
    """Return the network of the published file ({"state_dict": {"module." + name: tensor}}).

    Negative weights of the classifier are set to 0, as the reference program does: category scores depend on it.
    """
    network = WideResNet()
    fill_network(network, read_weights(path, network), f"{path}, expected {FILES[0]} as it is published,")
    with torch.no_grad():
        network.fc.weight.clamp_(min=0)
    return network


def read_matrix(path: Path) -> np.ndarray:
    """Return the responses of the attributes to the features, float32 [102, 512]."""
    matrix = read_array(path)
    if matrix.shape != (NUM_ATTRIBUTES, NUM_FEATURES) or matrix.dtype.kind != "f":
        raise CheckpointError(
            f"{path} holds {matrix.dtype} {list(matrix.shape)}; expected floats [{NUM_ATTRIBUTES}, {NUM_FEATURES}]"
        )
    responses = np.array(matrix, np.float32)
    if not np.isfinite(responses).all():
        raise CheckpointError(f"{path} holds NaN or infinity; fetch {FILES[1]} again")
    return responses


def read_categories(path: Path) -> list[str]:
    """Return the names of categories_places365.txt by index: the line "/b/basement/storage 12" names output 12.

    The order of the lines does not matter. Raises CheckpointError unless every output gets one name of its own.
    """
    names = [""] * NUM_CATEGORIES
    for line in read_lines(path, NUM_CATEGORIES):
        label, _, index = line.rpartition(" ")
        name = label.strip()[3:].replace("/", "__")
        if not name or name in names or not index.isdecimal() or int(index) >= NUM_CATEGORIES or names[int(index)]:
            raise CheckpointError(
                f"{path}: found {line[:80]!r}; expected one line `/letter/name INDEX` per index from 0 to "
                f"{NUM_CATEGORIES - 1}"
            )
        names[int(index)] = name
    return names


def read_attributes(path: Path) -> list[str]:
    """Return the names of labels_sunattribute.txt, in the order of its lines: "no horizon" -> "no_horizon"."""
    return [line.replace(" ", "_") for line in read_lines(path, NUM_ATTRIBUTES)]


def read_lines(path: Path, num: int) -> list[str]:
    """Return the lines of a text file but empty ones; raise CheckpointError unless `num` different ones are left."""
    try:
        lines = [line.strip() for line in read_small(path).decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a text file ({error})") from None
    if len(lines) != num or len(set(lines)) != num:
        raise CheckpointError(f"{path} has {len(set(lines))} different names; expected {num}, one per line")
    return lines
