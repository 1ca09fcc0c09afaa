"""What families share: equalised-rate weights, pixel normalisation and FIR resampling."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

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


def sample_sphere(num: int, dim: int, seed: int, start: int) -> np.ndarray:
    """Return float32 [num, dim], uniform on the sphere of radius sqrt(dim); row i depends on (seed, start + i) alone.

    Each row reads its own stretch of a counter-based stream (Philox), so that any block of rows is drawn at once; the
    normal numbers are Box and Muller's.
    """
    result = np.empty((num, dim), np.float32)
    words = -(-dim // 8) * 4  # one for two numbers, in Philox's blocks of four
    for first in range(0, num, SAMPLE_ROWS):
        rows = min(SAMPLE_ROWS, num - first)
        stream = np.random.Philox(key=seed % 2**128)
        stream.advance((start + first) * words // 4)
        bits = stream.random_raw(rows * words).reshape(rows, words)
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
    """z [N, z_dim] (and labels [N, label_dim]) -> w [N, w_dim]: fully connected layers with gain sqrt(2) after each.

    That of StyleGAN2 and StyleGAN3, which differ in its depth.
    """

    def __init__(
        self, z_dim: int, w_dim: int, depth: int, hidden_dim: int, label_dim: int, embed_dim: int, multiplier: float
    ) -> None:
        super().__init__()
        self.embed = EqualizedLinear(label_dim, embed_dim) if label_dim else None
        sizes = [z_dim + (embed_dim if label_dim else 0), *[hidden_dim] * (depth - 1), w_dim]
        gain = math.sqrt(2)  # of the activation: lrelu(gain * a) = gain * lrelu(a)
        self.dense: Any = nn.ModuleList(
            EqualizedLinear(sizes[i], sizes[i + 1], gain, multiplier, bias_gain=gain) for i in range(depth)
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
    if (image_channels := shapes["outputs.0.bias"][0]) not in IMAGE_CHANNELS:
        expected = ", ".join(f"{count} ({name})" for count, name in IMAGE_CHANNELS.items())
        raise ValueError(f"it makes {image_channels}-channel images; expected {expected}")
    channels = {4 * 2**block: shapes[f"layers.{2 * block}.bias"][0] for block in range(blocks)}
    settings = {"resolution": resolution, "channels": channels, "image_channels": image_channels}
    if "const" in shapes:
        height, width = shapes["const"][2:]
        settings["start_size"] = (height, width)
    return settings


def infer_mapping(shapes: Shapes) -> dict[str, Any]:
    """Return widths and depth of a mapping network; raise KeyError if it lacks a tensor."""
    hidden, inputs = shapes["mapping.dense.0.weight"]
    depth = sum(re.fullmatch(r"mapping\.dense\.\d\d?\.bias", name) is not None for name in shapes)
    w_dim = shapes[f"mapping.dense.{depth - 1}.bias"][0]
    return {"z_dim": inputs, "w_dim": w_dim, "mapping_layers": depth, "mapping_dim": hidden}


def whole_lod(lod: float, resolution: int) -> int:
    """Return the number of blocks that a growing network leaves out; raise ValueError if it is still growing."""
    if not float(lod).is_integer() or not 0 <= lod <= math.log2(resolution) - 2:
        raise ValueError(f"it is in the middle of growing (lod {lod}); expected a whole number, 0 at the end")
    return int(lod)
