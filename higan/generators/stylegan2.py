"""StyleGAN2's generator (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN").

A convolution with modulated weights is computed on modulated activations instead, which is the same function and lets
one plain convolution serve the whole batch: y = d * conv(x * s, W), with d = 1 / sqrt(s^2 @ sum(W^2) + eps).
The state is the activations [N, C, H, W] and, once there is one, the image so far [N, C, H, W].
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from higan.generators.layers import (
    EPSILON,
    SLOPE,
    EqualizedLinear,
    Shapes,
    StyleBased,
    fir_kernel,
    infer_blocks,
    infer_mapping,
    random_weight,
    upsample_fir,
)
from higan.generators.network import State

ARCHITECTURES = ("skip", "resnet", "orig")
GAIN = math.sqrt(2)  # of the activation


class StyleGAN2(StyleBased):
    """Mapping and synthesis network: z [N, z_dim] -> w [N, w_dim] -> wp [N, L, w_dim] -> image [N, C, H, W].

    Parameters
    ----------
    resolution
        Side R of square images, a power of two from 8 on; L = 2 log2(R) - 2.
    channels
        Number of channels C at each resolution, {4: C, 8: C, ..., R: C}.
    z_dim, w_dim
        Widths of z and w.
    mapping_layers, mapping_dim, mapping_multiplier
        Depth, hidden width (None: w_dim) and learning rate multiplier of the mapping network.
    label_dim, embed_dim
        Number of classes (0 for an unconditional model) and width of their embedding (None: w_dim).
    architecture
        "skip" (sum of upsampled RGB outputs), "resnet" or "orig" (only the last RGB output).
    clamp
        Bound on the absolute value of activations (`conv_clamp` of stylegan2-ada), or None.
    image_channels, start_size
        Channels of the images; height and width of the constant, which the images are R / 4 times as large as.

    Raises
    ------
    KeyError
        `channels` lacks a resolution.
    ValueError
        There is no such architecture.
    """

    family: ClassVar[str] = "stylegan2"
    truncation: ClassVar[tuple[float, int]] = (0.5, 18)  # the paper's programs: all layers

    def __init__(
        self,
        resolution: int,
        channels: dict[int, int],
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        mapping_dim: int | None = None,
        label_dim: int = 0,
        architecture: str = "skip",
        clamp: float | None = None,
        embed_dim: int | None = None,
        mapping_multiplier: float = 0.01,
        image_channels: int = 3,
        start_size: tuple[int, int] = (4, 4),
    ) -> None:
        super().__init__(z_dim, w_dim, mapping_layers, mapping_dim, label_dim, embed_dim, mapping_multiplier)
        if architecture not in ARCHITECTURES:
            raise ValueError(f"its architecture is {str(architecture)[:40]!r}; supported: {', '.join(ARCHITECTURES)}")
        blocks = int(math.log2(resolution)) - 1
        height, width = start_size
        self.image_size, self.image_channels = (height * resolution // 4, width * resolution // 4), image_channels
        self.architecture = architecture
        self.num_layers = 2 * blocks
        self.dtype = torch.float32

        self.const = nn.Parameter(random_weight(1, channels[4], height, width))
        self.layers: Any = nn.ModuleList([ModulatedConv(w_dim, channels[4], channels[4], start_size, clamp=clamp)])
        self.outputs: Any = nn.ModuleList()
        self.skips: Any = nn.ModuleList()
        for block in range(1, blocks):
            size = 4 * 2**block
            before, after = channels[size // 2], channels[size]
            noise_size = (height * 2**block, width * 2**block)
            self.layers.append(ModulatedConv(w_dim, before, after, noise_size, up=True, clamp=clamp))
            self.layers.append(ModulatedConv(w_dim, after, after, noise_size, clamp=clamp))
            if architecture == "resnet":
                self.skips.append(Skip(before, after))
        for block in range(blocks) if architecture == "skip" else [blocks - 1]:
            self.outputs.append(ToImage(w_dim, channels[4 * 2**block], image_channels, clamp))

    @staticmethod
    def infer_settings(shapes: Shapes) -> dict[str, Any]:
        """Return the constructor's arguments that the shapes of a state dict tell; errors as `infer_blocks`."""
        return infer_blocks(shapes, 1) | infer_mapping(shapes)

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale and lay out the weights once for inference in `dtype`; call again after they change."""
        self.dtype = dtype
        self.mapping.prepare()
        for layer in self.layers:
            layer.prepare(dtype)

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return height and width of the noise image that `layer` adds; (0, 0) for the last, which adds none."""
        if layer == self.num_layers - 1:
            return 0, 0
        height, width = self.layers[layer].noise.shape[2:]
        return height, width

    @property
    def largest_activation(self) -> int:
        """Number of values per sample in the largest layer."""
        return max(layer.weight.shape[0] * layer.noise.numel() for layer in self.layers)

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim]: one value per input channel of layer l, last of the RGB output."""
        modules = [*self.layers, self.outputs[-1]]
        return [module.style(wp[:, layer]) for layer, module in enumerate(modules)]

    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, the same for all of wp [N, L, w_dim]."""
        const = self.const.to(self.dtype, memory_format=torch.channels_last)
        return (const.expand(len(codes), -1, -1, -1),)

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Apply everything that reads the code [N, w_dim] of layer `index` and return the state that enters the next.

        Layer 2b+1 first writes block b's image, then starts block b+1; the last layer only writes the image.
        """
        x, image = state[0], state[1] if len(state) > 1 else None
        if index % 2 == 1 and (self.architecture == "skip" or index == self.num_layers - 1):
            output = self.outputs[index // 2 if self.architecture == "skip" else 0]
            rgb = output(x, code)
            image = rgb if image is None else upsample_fir(image).add_(rgb)
            if index == self.num_layers - 1:
                return x, image
        y = self.layers[index](x, code, noise)
        if self.architecture == "resnet":
            # the skip of a block joins after its second convolution; until then it travels in place of the image
            if index % 2 == 1:
                image = self.skips[index // 2](x)
            elif index > 0 and image is not None:
                y, image = (y + image).mul_(math.sqrt(0.5)), None
        return (y,) if image is None else (y, image)

    def image(self, state: State) -> Tensor:
        """Return the image [N, C, H, W] (float32, nominally in [-1, 1]) of a state that has left the last layer."""
        if len(state) < 2:
            raise ValueError("the state has not passed the last layer: apply layers 0 to num_layers - 1 first")
        return state[1].float()

    def forward(self, wp: Tensor, noises: list[Tensor] | None = None) -> Tensor:
        """Return images [N, C, H, W] of wp [N, L, w_dim]; `noises`, one [N, 1, H, W] per layer, replace the stored."""
        state = self.initial(wp)
        for index in range(self.num_layers):
            noise = None if noises is None or index == self.num_layers - 1 else noises[index]
            state = self.layer(index, state, wp[:, index], noise)
        return self.image(state)


class ModulatedConv(nn.Module):
    """Modulated 3x3 convolution with noise, bias and leaky ReLU: x [N, I, H, W], code [N, w_dim] -> [N, O, H', W']."""

    noise: Tensor

    def __init__(
        self,
        w_dim: int,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int],
        up: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", random_weight(1, 1, *size))
        self.style = EqualizedLinear(w_dim, in_channels, bias=1.0)
        self.up = up
        self.clamp = clamp
        self.prepared: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights out once for inference in `dtype`; call again after they change."""
        # the layout of the kernel, so that in float32 most layers need no second copy of it
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.prepared = self._weights(dtype)

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the kernel, the sums of its squares (float32 [I, O]), the stored noise [1, 1, H, W] and bias [O]."""
        kernel = self.weight.flip(2, 3).transpose(0, 1) if self.up else self.weight
        squares = torch.linalg.vector_norm(self.weight, dim=(2, 3)).square().t()
        bias = (self.bias * GAIN).to(dtype)
        return kernel.to(dtype, memory_format=torch.channels_last), squares, self._scaled(self.noise, dtype), bias

    def _scaled(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        return (noise * (self.noise_strength * GAIN)).to(dtype)

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None = None) -> Tensor:
        kernel, squares, stored_noise, bias = self.prepared or self._weights(x.dtype)
        style = self.style(code)
        if x.dtype == torch.float16:  # keeps products inside half precision's range; demodulation undoes it
            style = style / style.abs().amax(dim=1, keepdim=True)
        style = style / math.sqrt(self.weight[0].numel())
        # the gain of the activation goes through the leaky ReLU into the demodulation, the noise and the bias
        demodulation = (style.square() @ squares + EPSILON).rsqrt() * GAIN
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, kernel, stride=2)
            x = F.conv2d(x, fir_kernel(x.shape[1], x.dtype, x.device), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, kernel, padding=1)
        x = torch.addcmul(bias[:, None, None], x, demodulation.to(x.dtype)[:, :, None, None])
        x = F.leaky_relu_(x.add_(stored_noise if noise is None else self._scaled(noise, x.dtype)), SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToImage(nn.Module):
    """Modulated 1x1 convolution to the image, not demodulated: x [N, I, H, W], code [N, w_dim] -> [N, C, H, W]."""

    def __init__(self, w_dim: int, in_channels: int, image_channels: int, clamp: float | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.style = EqualizedLinear(w_dim, in_channels, bias=1.0)
        self.clamp = clamp

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        style = self.style(code) / math.sqrt(self.weight.shape[1])
        x = x * style.to(x.dtype)[:, :, None, None]
        x = F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Skip(nn.Module):
    """The residual path of a "resnet" block: 1x1 convolution and FIR upsampling, x [N, I, H, W] -> [N, O, 2H, 2W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_channels, in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # the filter treats channels alike, so the 1x1 convolution may come first, on a quarter of the pixels
        x = F.conv2d(x, (self.weight / math.sqrt(self.weight.shape[1])).to(x.dtype))
        return upsample_fir(x)
