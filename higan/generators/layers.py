"""What families share: z on the sphere, the mapping network, equalised-rate weights and FIR resampling."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-8  # of every normalisation in the three reference programs
SLOPE = 0.2  # of every leaky ReLU in the three reference programs
SAMPLE_ROWS = 1024  # rows drawn at once, small enough for the caches


def random_weight(*shape: int, divisor: float = 1.0) -> Tensor:
    """Return normal numbers of spread 1/divisor; without values under torch.device("meta"), where drawing is slow."""
    weight = torch.empty(shape)
    return weight if weight.is_meta else weight.normal_().div_(divisor)


def pixel_norm(x: Tensor) -> Tensor:
    """Divide `x` [N, C, ...] by the root mean square over its channels (Karras et al. 2018, section 4.2)."""
    return x * (x.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


def to_sphere(z: Tensor) -> Tensor:
    """Scale every row of `z` [N, D] to norm sqrt(D), as the reference program does before the mapping network."""
    return z / z.norm(dim=1, keepdim=True) * math.sqrt(z.shape[1])


def random_words(num: int, dim: int, seed: int, start: int) -> np.ndarray:
    """Return random bits, uint64 [num, W], a word for two of `dim` numbers; row i depends on (seed, start + i) alone.

    Each row reads its own stretch of a counter-based stream (Philox), so that any block of rows is drawn at once.
    """
    words = -(-dim // 8) * 4  # Philox makes blocks of four
    stream = np.random.Philox(key=seed % 2**128)
    stream.advance(start * words // 4)
    return stream.random_raw(num * words).reshape(num, words)


def sample_sphere(num: int, dim: int, seed: int, start: int) -> np.ndarray:
    """Return float32 [num, dim], uniform on the sphere of radius sqrt(dim); row i depends on (seed, start + i) alone.

    The normal numbers are Box and Muller's.
    """
    result = np.empty((num, dim), np.float32)
    for first in range(0, num, SAMPLE_ROWS):
        rows = min(SAMPLE_ROWS, num - first)
        bits = random_words(rows, dim, seed, start + first)
        radius = np.sqrt(-2 * np.log(((bits >> np.uint64(32)) + 0.5) * 2.0**-32)).astype(np.float32)
        angle = ((bits & np.uint64(2**32 - 1)) * (2 * np.pi * 2.0**-32)).astype(np.float32)
        normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :dim]
        normal *= math.sqrt(dim) / np.linalg.norm(normal, axis=1, keepdims=True)
        result[first : first + rows] = normal
    return result


def truncate(w: Tensor, average: Tensor, psi: Tensor) -> Tensor:
    """Return wp [N, L, D]: w [N, D] for every layer l, average [D] + (w - average) * psi[l] (exactly w where psi is 1).

    Source: Karras et al. 2019, appendix B.
    """
    w, psi = w[:, None], psi[:, None]
    return torch.where(psi == 1, w, average + (w - average) * psi)


class EqualizedLinear(nn.Module):
    """Linear layer whose weight is scaled at run time (Karras et al. 2018, section 4.1): x [N, I] -> [N, O].

    Parameters
    ----------
    gain
        Factor on top of 1/sqrt(I): sqrt(2) where the activation has no gain of its own.
    lr_multiplier
        Factor of weight and bias (0.01 in mapping networks), and the inverse factor of the weight's initial spread.
    bias_gain
        Factor of the bias on top of that.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
        bias: float = 0.0,
        bias_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_features, in_features, divisor=lr_multiplier))
        self.bias = nn.Parameter(torch.full((out_features,), bias / lr_multiplier))
        self.weight_scale = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_scale = bias_gain * lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_scale, self.bias * self.bias_scale)


class MappingNetwork(nn.Module):
    """z [N, z_dim] (and labels [N, label_dim]) -> w [N, w_dim]: fully connected layers and leaky ReLUs.

    Parameters
    ----------
    bias_gain
        Factor of the biases: sqrt(2) where the activation has that gain (lrelu(g * a) = g * lrelu(a)), 1 where the
        weights alone have it.
    """

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        depth: int,
        hidden_dim: int,
        label_dim: int,
        embed_dim: int,
        multiplier: float,
        bias_gain: float,
    ) -> None:
        super().__init__()
        self.embed = EqualizedLinear(label_dim, embed_dim) if label_dim else None
        sizes = [z_dim + (embed_dim if label_dim else 0), *[hidden_dim] * (depth - 1), w_dim]
        self.dense: Any = nn.ModuleList(
            EqualizedLinear(sizes[i], sizes[i + 1], math.sqrt(2), multiplier, bias_gain=bias_gain) for i in range(depth)
        )

    def prepare(self) -> None:
        """Compute in double precision from now on, so that codes depend neither on the batch nor on the device."""
        self.double()

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = pixel_norm(z.to(self.dense[0].weight.dtype))
        if self.embed is not None:
            if label is None:
                raise ValueError(f"a conditional model needs labels [N, {self.embed.weight.shape[1]}]")
            x = torch.cat([x, pixel_norm(self.embed(label.to(x.dtype)))], dim=1)
        for layer in self.dense:
            x = F.leaky_relu(layer(x), SLOPE)
        return x.to(z.dtype)


class StyleBased(nn.Module):
    """What the StyleGAN families share: z on the sphere, its mapping to w, the average of w, truncation towards it.

    Parameters
    ----------
    z_dim, w_dim
        Widths of z and w.
    depth, hidden_dim, multiplier, bias_gain
        Depth, hidden width (None: w_dim), learning rate multiplier and gain of the biases of the mapping network.
    label_dim, embed_dim
        Number of classes (0 for an unconditional network) and width of their embedding (None: w_dim).

    Attributes
    ----------
    w_avg
        Buffer [w_dim]: the average w, towards which codes are truncated.
    """

    spaces: ClassVar[tuple[str, ...]] = ("z", "w", "wp")
    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        depth: int,
        hidden_dim: int | None,
        label_dim: int = 0,
        embed_dim: int | None = None,
        multiplier: float = 0.01,
        bias_gain: float = math.sqrt(2),
    ) -> None:
        super().__init__()
        self.z_dim, self.w_dim, self.label_dim = z_dim, w_dim, label_dim
        self.mapping = MappingNetwork(
            z_dim, w_dim, depth, hidden_dim or w_dim, label_dim, embed_dim or w_dim, multiplier, bias_gain
        )
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def sample(self, num: int, seed: int, start: int) -> np.ndarray:
        """Return z, float32 [num, z_dim], uniform on the sphere; row i depends on (seed, start + i) alone."""
        return sample_sphere(num, self.z_dim, seed, start)

    def normalize(self, z: Tensor) -> Tensor:
        """Return z [N, z_dim] on the sphere of radius sqrt(z_dim)."""
        return to_sphere(z)

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and, for a conditional network, one-hot labels [N, label_dim]."""
        return self.mapping(z, label)

    def broadcast(self, w: Tensor, psi: Tensor) -> Tensor:
        """Return wp [N, L, w_dim]: w [N, w_dim] for every layer, drawn towards the average by psi [L]."""
        return truncate(w, self.w_avg, psi)


@lru_cache(maxsize=64)
def fir_kernel(
    channels: int, dtype: torch.dtype, device: torch.device, row: tuple[int, ...] = (1, 3, 3, 1), gain: float = 4.0
) -> Tensor:
    """Return the low-pass filter outer(row, row) scaled to the sum `gain`, once per channel: [C, 1, k, k].

    Source: StyleGAN2 reference program, `resample_kernel=[1,3,3,1]`; StyleGAN's, `blur_filter=[1,2,1]`.
    """
    with torch.inference_mode(False):  # kept, and later used with gradients
        values = torch.tensor(row, dtype=torch.float32)
        kernel = torch.outer(values, values)
        return (kernel * (gain / kernel.sum())).repeat(channels, 1, 1, 1).to(device, dtype)


def upsample_fir(x: Tensor) -> Tensor:
    """Double the size of `x` [N, C, H, W]: zeros in between, then the filter [1,3,3,1] that sums to 4.

    Values stay at even positions, with two pixels of padding before and one after (StyleGAN2 reference program,
    `upsample_2d`). The filter is symmetric, so a transposed convolution is the same sum.
    """
    kernel = fir_kernel(x.shape[1], x.dtype, x.device)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def conv_kernel(weight: Tensor, gain: float, up: str = "") -> Tensor:
    """Return the kernel that `convolve` applies, of an equalised-rate weight [O, I, k, k] of PGGAN or StyleGAN.

    Parameters
    ----------
    gain
        Factor on top of 1/sqrt(fan-in).
    up
        "" keeps the size. "nearest" doubles it by repeating pixels before the convolution; "fused" is the reference
        programs' faster form of that, which is another function of the same weight: the kernel is mirrored. Both are
        one transposed convolution with a 4x4 kernel, [I, O, 4, 4].

    The kernel is a new tensor, channels last.
    """
    scale = gain / math.sqrt(weight[0].numel())
    if not up:
        return weight.clone(memory_format=torch.channels_last).mul_(scale)
    outputs, inputs, size, _ = weight.shape
    kernel = weight.new_zeros(inputs, size + 1, size + 1, outputs).permute(0, 3, 1, 2)
    for y, x in itertools.product(range(size), repeat=2):  # without copies of the weight, which is large
        top, left = (y, x) if up == "fused" else (size - 1 - y, size - 1 - x)
        kernel[:, :, top : top + 2, left : left + 2] += weight[:, :, y, x].t()[:, :, None, None]
    return kernel.mul_(scale)


def convolve(x: Tensor, kernel: Tensor, up: str = "", bias: Tensor | None = None) -> Tensor:
    """Convolve `x` [N, I, H, W] with a kernel of `conv_kernel`'s: [N, O, H, W], or [N, O, 2H, 2W] if `up`."""
    if up:
        return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
    return F.conv2d(x, kernel, bias, padding=kernel.shape[2] // 2)


class ToImage(nn.Module):
    """1x1 convolution with bias to the image: x [N, I, H, W] -> [N, C, H, W]."""

    def __init__(self, in_channels: int, image_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / math.sqrt(self.weight.shape[1])
        return F.conv2d(x, weight.to(x.dtype), self.bias.to(x.dtype))


Shapes = Mapping[str, tuple[int, ...]]  # of a state dict's tensors, by name
RESOLUTIONS = (8, 8192)  # smallest and largest
IMAGE_CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA"}


def infer_blocks(shapes: Shapes, layers: int) -> dict[str, Any]:
    """Return the settings of a network's images: block b holds `layers` 2b and 2b + 1 and doubles the size.

    They are resolution, channels, image_channels and, where the network begins with a constant, its start_size.

    Parameters
    ----------
    layers
        Number of layers in the first block, of resolution 4x4: 2, or 1 where it begins with a constant.

    Raises
    ------
    ValueError
        The layers are not those of a resolution from 8 to 8192, or the images are not grey, RGB or RGBA.
    KeyError
        A tensor is missing.
    """
    found = [int(match[1]) for name in shapes if (match := re.fullmatch(r"layers\.(\d\d?)\.bias", name))]
    blocks = (len(found) + 1) // 2
    resolution = 2 ** (blocks + 1)
    if sorted(found) != list(range(2 * blocks - 2 + layers)) or not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise ValueError(
            f"it has layers {found[:40]}; expected those of a resolution from {RESOLUTIONS[0]} to {RESOLUTIONS[1]}"
        )
    channels = {4 * 2**block: shapes[f"layers.{2 * block}.bias"][0] for block in range(blocks)}
    settings = {
        "resolution": resolution,
        "channels": channels,
        "image_channels": infer_image_channels(shapes, "outputs.0.bias"),
    }
    if "const" in shapes:
        height, width = shapes["const"][2:]
        settings["start_size"] = (height, width)
    return settings


def infer_image_channels(shapes: Shapes, bias: str) -> int:
    """Return the number of values of the last layer's `bias`; raise ValueError unless images are grey, RGB or RGBA."""
    if (channels := shapes[bias][0]) not in IMAGE_CHANNELS:
        expected = ", ".join(f"{count} ({name})" for count, name in IMAGE_CHANNELS.items())
        raise ValueError(f"it makes {channels}-channel images; expected {expected}")
    return channels


def infer_mapping(shapes: Shapes) -> dict[str, Any]:
    """Return widths and depth of a mapping network, and its classes if it has some; KeyError if a tensor is missing."""
    hidden, inputs = shapes["mapping.dense.0.weight"]
    depth = sum(re.fullmatch(r"mapping\.dense\.\d\d?\.bias", name) is not None for name in shapes)
    w_dim = shapes[f"mapping.dense.{depth - 1}.bias"][0]
    settings = {"z_dim": inputs, "w_dim": w_dim, "mapping_layers": depth, "mapping_dim": hidden}
    if "mapping.embed.weight" in shapes:
        width, classes = shapes["mapping.embed.weight"]
        settings |= {"label_dim": classes, "embed_dim": width, "z_dim": inputs - width}
    return settings


def whole_lod(lod: float, resolution: int) -> int:
    """Return the number of blocks that a growing network leaves out; raise ValueError if it is still growing."""
    if not float(lod).is_integer() or not 0 <= lod <= math.log2(resolution) - 2:
        raise ValueError(f"it is in the middle of growing (lod {lod}); expected a whole number, 0 at the end")
    return int(lod)
