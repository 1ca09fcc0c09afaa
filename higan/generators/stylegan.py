"""StyleGAN's generator (Karras et al. 2019, "A style-based generator architecture for GANs").

Layer l reads code l: noise, leaky ReLU, instance norm and style, then the convolution with bias into layer l + 1.
The state is one tensor: activations [N, C, H, W] before the noise of the next layer, after the last layer the image.
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
    ToImage,
    conv_kernel,
    convolve,
    fir_kernel,
    infer_blocks,
    infer_mapping,
    random_weight,
    whole_lod,
)
from higan.generators.network import State

EXACT_SIZE = 16  # up to here activations stay in float32: little arithmetic, whose rounding reaches every later layer


class StyleGAN(StyleBased):
    """Mapping and synthesis network: z [N, z_dim] -> w [N, w_dim] -> wp [N, L, w_dim] -> image [N, C, H, W].

    Parameters
    ----------
    resolution
        Side R of square images, a power of two from 8 on; L = 2 log2(R) - 2.
    channels
        Number of channels C at each resolution, {4: C, 8: C, ..., R: C}.
    z_dim, w_dim
        Widths of z and w.
    mapping_layers, mapping_dim
        Depth and hidden width (None: w_dim) of the mapping network.
    fused
        Resolutions that the fused form of upsampling leads to (see `layers.conv_kernel`).
    lod
        Number of last blocks left out; their share of the size is made up by repeating pixels.
    image_channels, start_size
        Channels of the images; height and width of the constant, which the images are R / 4 times as large as.

    Raises
    ------
    KeyError
        `channels` lacks a resolution.
    ValueError
        `lod` is no whole number of blocks.
    """

    family: ClassVar[str] = "stylegan"
    truncation: ClassVar[tuple[float, int]] = (0.7, 8)  # the paper's programs

    def __init__(
        self,
        resolution: int,
        channels: dict[int, int],
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        mapping_dim: int | None = None,
        fused: tuple[int, ...] = (),
        lod: float = 0,
        image_channels: int = 3,
        start_size: tuple[int, int] = (4, 4),
    ) -> None:
        super().__init__(z_dim, w_dim, mapping_layers, mapping_dim, bias_gain=1.0)
        blocks = int(math.log2(resolution)) - 1
        height, width = start_size
        self.image_size, self.image_channels = (height * resolution // 4, width * resolution // 4), image_channels
        self.lod = whole_lod(lod, resolution)
        self.num_layers = 2 * blocks
        self.last_layer = 2 * (blocks - self.lod) - 1
        self.largest_activation = max(count * height * width * size**2 // 16 for size, count in channels.items())

        self.const = nn.Parameter(torch.ones(1, channels[4], height, width))
        self.layers: Any = nn.ModuleList()
        self.outputs: Any = nn.ModuleList()
        for block in range(blocks):
            size = 4 * 2**block
            before, after = channels[max(4, size // 2)], channels[size]
            up = "" if block == 0 else "fused" if size in fused else "nearest"
            noise_size = (height * 2**block, width * 2**block)
            self.layers.append(Layer(before if block else 0, after, noise_size, w_dim, up))
            self.layers.append(Layer(after, after, noise_size, w_dim))
            self.outputs.append(ToImage(after, image_channels))

    @staticmethod
    def infer_settings(shapes: Shapes) -> dict[str, Any]:
        """Return the constructor's arguments that the shapes of a state dict tell; errors as `infer_blocks`."""
        return infer_blocks(shapes, 2) | infer_mapping(shapes)

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale and lay out the weights once for inference in `dtype`; call again after they change."""
        self.mapping.prepare()
        for index, layer in enumerate(self.layers):
            layer.prepare(dtype if max(self.noise_size(index)) > EXACT_SIZE else torch.float32)

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return height and width of the noise image that `layer` adds."""
        height, width = self.layers[layer].noise.shape[2:]
        return height, width

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim]: C scales (to which 1 is added), then C shifts."""
        return [layer.style(wp[:, index]) for index, layer in enumerate(self.layers)]

    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, the same for all of wp [N, L, w_dim]."""
        const = self.layers[0].convolve(self.const).to(memory_format=torch.channels_last)
        return (const.expand(len(codes), -1, -1, -1),)

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Apply all that reads the code [N, w_dim] of layer `index` and return the state that enters the next."""
        if index > self.last_layer:
            return state
        x = self.layers[index](state[0], code, noise)
        if index == self.last_layer:
            image = self.outputs[index // 2](x).float()
            return (F.interpolate(image, scale_factor=2**self.lod) if self.lod else image,)
        return (self.layers[index + 1].convolve(x),)

    def image(self, state: State) -> Tensor:
        """Return the image [N, C, H, W] (float32, nominally in [-1, 1]) of a state that has left the last layer."""
        return state[0]


class Layer(nn.Module):
    """What code l acts on, and what leads there: a convolution with bias (in layer 0 the bias alone).

    forward: noise, leaky ReLU, instance norm, style; x [N, C, H, W], code [N, w_dim] -> [N, C, H, W].
    """

    noise: Tensor

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int], w_dim: int, up: str = "") -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_channels, in_channels, 3, 3)) if in_channels else None
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise", random_weight(1, 1, *size))
        self.style = EqualizedLinear(w_dim, 2 * out_channels)
        self.up = up
        self.prepared: tuple[Tensor | None, Tensor, Tensor, Tensor] | None = None

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale the weights once and lay them out for inference in `dtype`; call again after they change."""
        self.prepared = self._weights(dtype)

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """Return the kernel (None in layer 0), the bias [C], the noise [1, 1, H, W] and its strengths [C, 1, 1]."""
        kernel = None
        if self.weight is not None:
            kernel = conv_kernel(self.weight, math.sqrt(2), self.up).to(dtype)
        return kernel, self.bias.to(dtype), self.noise.to(dtype), self.noise_strength[:, None, None].to(dtype)

    def convolve(self, x: Tensor) -> Tensor:
        """Return what enters this layer, [N, C, H, W], of the last layer's output (layer 0: of the constant)."""
        kernel, bias, _, _ = self.prepared or self._weights(x.dtype)
        x = x.to(bias.dtype)
        if kernel is None:
            return x + bias[:, None, None]
        if not self.up:
            return convolve(x, kernel, bias=bias)
        x = convolve(x, kernel, self.up)
        blur = fir_kernel(x.shape[1], x.dtype, x.device, (1, 2, 1), 1.0)
        return F.conv2d(x, blur, bias, padding=1, groups=x.shape[1])

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None = None) -> Tensor:
        _, _, stored_noise, strength = self.prepared or self._weights(x.dtype)
        noise = stored_noise if noise is None else noise.to(x.dtype)
        x = F.leaky_relu_(torch.addcmul(x, noise, strength), SLOPE)
        scale, offset = self.style(code).chunk(2, dim=1)
        return normalize(x, scale + 1, offset)


def normalize(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Bring each channel of each sample of x [N, C, H, W] to mean 0, variance 1; apply scale, offset [N, C]."""
    return (normalize_rows if x.device.type == "cpu" else normalize_batch)(x, scale, offset)


def normalize_rows(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Do `normalize` by batch norm of one sample after the other, on a CPU the fastest kernel for this layout."""
    samples = zip(x.split(1), scale, offset, strict=True)
    rows = [F.batch_norm(sample, None, None, a, b, training=True, eps=EPSILON) for sample, a, b in samples]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def normalize_batch(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Do `normalize` for all samples at once, as a GPU prefers it."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0)
    scale = scale * (variance + EPSILON).rsqrt()
    return torch.addcmul((offset - mean * scale).to(x.dtype)[:, :, None, None], x, scale.to(x.dtype)[:, :, None, None])
