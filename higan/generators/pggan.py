"""PGGAN's generator (Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, variation")."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from higan.generators.layers import (
    SLOPE,
    Shapes,
    ToImage,
    conv_kernel,
    convolve,
    infer_blocks,
    pixel_norm,
    random_weight,
    sample_sphere,
    to_sphere,
    whole_lod,
)
from higan.generators.network import State


class PGGAN(nn.Module):
    """z [N, z_dim] -> image [N, C, R, R]; there is one latent space and no layer has an input of its own.

    Parameters
    ----------
    resolution
        Side R of the images, a power of two from 8 on.
    channels
        Number of channels C at each resolution, {4: C, 8: C, ..., R: C}.
    z_dim
        Width of z.
    fused
        Resolutions that the fused form of upsampling leads to (see `layers.conv_kernel`).
    lod
        Number of last blocks left out; their share of the size is made up by repeating pixels.
    image_channels
        Channels of the images.

    Raises
    ------
    KeyError
        `channels` lacks a resolution.
    ValueError
        `lod` is no whole number of blocks.
    """

    family: ClassVar[str] = "pggan"
    spaces: ClassVar[tuple[str, ...]] = ("z",)
    truncation: ClassVar[tuple[float, int]] = (1.0, 0)
    num_layers = w_dim = label_dim = 0

    def __init__(
        self,
        resolution: int,
        channels: dict[int, int],
        z_dim: int = 512,
        fused: tuple[int, ...] = (),
        lod: float = 0,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        self.image_size, self.image_channels = (resolution, resolution), image_channels
        self.z_dim, self.lod = z_dim, whole_lod(lod, resolution)
        self.dtype = torch.float32
        self.largest_activation = max(count * size**2 for size, count in channels.items())

        self.layers: Any = nn.ModuleList([Layer(z_dim, channels[4], 4), Layer(channels[4], channels[4], 3)])
        self.outputs: Any = nn.ModuleList([ToImage(channels[4], image_channels)])
        size = 8
        while size <= resolution:
            before, after = channels[size // 2], channels[size]
            self.layers.append(Layer(before, after, 3, up="fused" if size in fused else "nearest"))
            self.layers.append(Layer(after, after, 3))
            self.outputs.append(ToImage(after, image_channels))
            size *= 2

    @staticmethod
    def infer_settings(shapes: Shapes) -> dict[str, Any]:
        """Return the constructor's arguments that the shapes of a state dict tell; errors as `infer_blocks`."""
        return infer_blocks(shapes, 2) | {"z_dim": shapes["layers.0.weight"][1]}

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale and lay out the weights once for inference in `dtype`; call again after they change."""
        self.dtype = dtype
        for layer in self.layers:
            layer.prepare(dtype)

    def sample(self, num: int, seed: int, start: int) -> np.ndarray:
        """Return z, float32 [num, z_dim], uniform on the sphere; row i depends on (seed, start + i) alone."""
        return sample_sphere(num, self.z_dim, seed, start)

    def normalize(self, z: Tensor) -> Tensor:
        """Return z [N, z_dim] on the sphere of radius sqrt(z_dim)."""
        return to_sphere(z)

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return z [N, z_dim] itself: there is no w."""
        return z

    def broadcast(self, w: Tensor, psi: Tensor) -> Tensor:
        """Return z [N, z_dim] itself: there is no wp, and nothing is truncated."""
        return w

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return no styles."""
        return []

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return (0, 0): no layer adds noise."""
        return 0, 0

    def initial(self, codes: Tensor) -> State:
        """Return the state that holds the images [N, C, R, R] of z [N, z_dim]."""
        x = pixel_norm(codes)[:, :, None, None].to(self.dtype)
        blocks = len(self.outputs) - self.lod
        for layer in self.layers[: 2 * blocks]:
            x = layer(x)
        image = self.outputs[blocks - 1](x).float()
        return (F.interpolate(image, scale_factor=2**self.lod) if self.lod else image,)

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Return `state` as it is: no layer reads a code."""
        return state

    def image(self, state: State) -> Tensor:
        """Return the image [N, C, R, R] (float32, nominally in [-1, 1]) of what `initial` returns."""
        return state[0]


class Layer(nn.Module):
    """Convolution, bias, leaky ReLU and pixel norm; the first layer (4x4 kernel) makes 4x4 pixels of one."""

    def __init__(self, in_channels: int, out_channels: int, size: int, up: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.up = up
        self.prepared: tuple[Tensor, Tensor] | None = None

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale the weight once and lay it out for the convolution, in `dtype`; call again after it changes."""
        self.prepared = self._weights(dtype)

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        kernel = conv_kernel(self.weight, math.sqrt(2), self.up)
        if kernel.shape[2] == 4 and not self.up:  # a convolution of one padded pixel spreads the mirrored kernel
            kernel = kernel.flip(2, 3).transpose(0, 1)
        return kernel.to(dtype, memory_format=torch.channels_last), self.bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.prepared or self._weights(x.dtype)
        x = F.conv_transpose2d(x, kernel, bias) if x.shape[2] == 1 else convolve(x, kernel, self.up, bias)
        return pixel_norm(F.leaky_relu_(x, SLOPE))
