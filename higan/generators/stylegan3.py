"""StyleGAN3's generator, configurations T and R (Karras et al. 2021, "Alias-free generative adversarial networks").

The code of layer 0 places Fourier features, each other modulates a convolution, the last one that to the image. Between
two convolutions the signal is sampled more finely for the leaky ReLU, then filtered and sampled more coarsely again
(section 3.2). The state is the activations [N, C, H, W]; layer 0 needs none.

A separable filter with its up- or downsampling, padding and cropping is one banded matrix per axis here, and only what
it holds is multiplied: products of matrices are what processors do fastest. The finely sampled signal is made and used
in tiles that fit a processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from higan.generators.layers import (
    EPSILON,
    RESOLUTIONS,
    SLOPE,
    EqualizedLinear,
    Shapes,
    StyleBased,
    infer_image_channels,
    infer_mapping,
    random_weight,
)
from higan.generators.network import State

GAIN = math.sqrt(2)  # of the activation
MOST_TAPS = 64  # per sampling rate; trained networks have 6
TILE_ROWS, TILE_VALUES = 32, 2**19  # rows of a tile's result; values of its finely sampled signal
BLOCK_COLUMNS = 96  # of a banded matrix that are multiplied at once


class StyleGAN3(StyleBased):
    """Mapping and synthesis network: z [N, z_dim] -> w [N, w_dim] -> wp [N, L, w_dim] -> image [N, C, R, R].

    Parameters
    ----------
    resolution
        Side R of the images.
    channels
        Number of channels of each convolution; there are L - 2 of them.
    z_dim, w_dim, mapping_layers, mapping_dim, label_dim, embed_dim, mapping_multiplier
        As those of `StyleGAN2`.
    image_channels
        Channels of the images.
    kernel, radial
        Side of the convolutions' kernels, and whether the filters after the activation are radially symmetric: 3 and
        False in T, 1 and True in R.
    clamp
        Bound on the absolute value of activations, or None.
    num_critical
        Number of last layers whose cutoff is half of their sampling rate.
    first_cutoff, first_stopband, last_stopband_rel
        Of the layers' filters: they rise geometrically from the first layer's to R / 2, and that times the last (figure
        4c and equation 1 of the reference program's `SynthesisNetwork`).
    margin, filter_size, upsampling, output_scale
        Pixels around the image in all but the last layers; taps per sampling rate; how much more finely the activation
        is sampled; factor of the image.
    sizes
        Sides of the convolutions' outputs that a file states, checked against the above.

    Raises
    ------
    ValueError
        The sizes are others than the settings give, or a setting is out of range.
    """

    family: ClassVar[str] = "stylegan3"
    truncation: ClassVar[tuple[float, int]] = (1.0, 1000)  # none, as the reference program; of all layers if any

    def __init__(
        self,
        resolution: int,
        channels: Sequence[int],
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 2,
        mapping_dim: int | None = None,
        label_dim: int = 0,
        embed_dim: int | None = None,
        mapping_multiplier: float = 0.01,
        image_channels: int = 3,
        kernel: int = 3,
        radial: bool = False,
        clamp: float | None = 256,
        num_critical: int = 2,
        first_cutoff: float = 2,
        first_stopband: float = 2**2.1,
        last_stopband_rel: float = 2**0.3,
        margin: int = 10,
        filter_size: int = 6,
        upsampling: int = 2,
        output_scale: float = 0.25,
        sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(z_dim, w_dim, mapping_layers, mapping_dim, label_dim, embed_dim, mapping_multiplier)
        self.image_size, self.image_channels = (resolution, resolution), image_channels
        self.num_layers = len(channels) + 2
        self.output_scale = output_scale
        if not 1 <= resolution <= RESOLUTIONS[1] or not 0 <= margin <= resolution + 100:
            raise ValueError(f"its images have a side of {resolution} and a margin of {margin}")
        if not (1 <= filter_size <= MOST_TAPS and 1 <= upsampling <= MOST_TAPS and num_critical < len(channels)):
            raise ValueError(
                f"its filters have {filter_size} taps per rate, at {upsampling} times the rate, and {num_critical} of "
                f"{len(channels)} layers are critical"
            )
        bands = layer_bands(
            resolution, len(channels), num_critical, first_cutoff, first_stopband, last_stopband_rel, margin
        )
        if sizes is not None and (found := [band.size for band in bands[: len(channels)]]) != list(sizes):
            raise ValueError(f"its layers have sides of {list(sizes)}; these settings give {found}")

        self.input = FourierFeatures(w_dim, channels[0], bands[0])
        self.layers: Any = nn.ModuleList()
        critical = len(channels) - num_critical
        widths = [channels[0], *channels]
        for index, after in enumerate([*channels, image_channels]):
            to_image = index == len(channels)
            self.layers.append(
                Layer(
                    w_dim,
                    widths[index],
                    after,
                    bands[max(index - 1, 0)],
                    bands[index],
                    1 if to_image else kernel,
                    1 if to_image else upsampling,
                    0 if to_image else filter_size,
                    radial and index < critical,
                    clamp,
                    to_image,
                )
            )

    @staticmethod
    def infer_settings(shapes: Shapes) -> dict[str, Any]:
        """Return the constructor's arguments that the shapes of a state dict tell."""
        count = sum(name.startswith("layers.") and name.endswith(".magnitude") for name in shapes)
        return infer_mapping(shapes) | {
            "channels": [shapes[f"layers.{index}.bias"][0] for index in range(count - 1)],
            "image_channels": infer_image_channels(shapes, f"layers.{count - 1}.bias"),
            "kernel": shapes["layers.0.weight"][2],
            "radial": any(name.endswith(".down_filter") and len(shape) == 2 for name, shape in shapes.items()),
        }

    @property
    def largest_activation(self) -> int:
        """Number of values per sample in the largest layer, as finely as it is sampled for the activation."""
        return max(layer.weight.shape[0] * layer.fine_size**2 for layer in self.layers)

    def transform(self, translate: tuple[float, float] = (0.0, 0.0), rotate: float = 0.0) -> None:
        """Move and turn every image from now on, in place of the transform that the file may hold.

        Parameters
        ----------
        translate
            To the right and down, in image widths.
        rotate
            Counter-clockwise, in degrees.

        Source: `make_transform` of the reference program's gen_images.py; the network takes the inverse.
        """
        sine, cosine = math.sin(math.radians(rotate)), math.cos(math.radians(rotate))
        wanted = np.array([[cosine, sine, translate[0]], [-sine, cosine, translate[1]], [0, 0, 1]])
        self.input.transform.copy_(torch.from_numpy(np.linalg.inv(wanted)))

    def prepare(self, dtype: torch.dtype) -> None:
        """Scale and lay out the weights once for inference in `dtype`; call again after they change."""
        self.mapping.prepare()
        for layer in self.layers:
            layer.prepare(dtype)

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim]: (cosine, sine, x, y) of the input, then one value per channel."""
        return [module.style(wp[:, index]) for index, module in enumerate([self.input, *self.layers])]

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return (0, 0): no layer adds noise."""
        return 0, 0

    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, which is empty."""
        return ()

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Apply all that reads the code [N, w_dim] of layer `index` and return the state that enters the next."""
        if index == 0:
            return (self.input(code),)
        x = self.layers[index - 1](state[0], code)
        return (x.float() * self.output_scale if index == self.num_layers - 1 else x,)

    def image(self, state: State) -> Tensor:
        """Return the image [N, C, R, R] (float32, nominally in [-1, 1]) of a state that has left the last layer."""
        return state[0]


@dataclass(frozen=True)
class Band:
    """What the output of a layer is sampled at: side of the image with its margin, and frequencies per image width."""

    size: int
    rate: int
    cutoff: float
    half_width: float


def layer_bands(
    resolution: int,
    count: int,
    num_critical: int,
    first_cutoff: float,
    first_stopband: float,
    last_stopband_rel: float,
    margin: int,
) -> list[Band]:
    """Return the bands of `count` convolutions and of the image after them (reference program, `SynthesisNetwork`)."""
    last_cutoff = resolution / 2
    bands = []
    for index in range(count + 1):
        share = min(index / (count - num_critical), 1)
        cutoff = first_cutoff * (last_cutoff / first_cutoff) ** share
        stopband = first_stopband * (last_cutoff * last_stopband_rel / first_stopband) ** share
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, resolution)))
        size = resolution if index >= count - 1 else rate + 2 * margin
        bands.append(Band(size, rate, cutoff, max(stopband, rate / 2) - cutoff))
    return bands


class FourierFeatures(nn.Module):
    """Code [N, w_dim] -> features [N, C, S, S]: waves that the code turns and moves, mixed over the channels."""

    transform: Tensor
    frequencies: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int, band: Band) -> None:
        super().__init__()
        self.band = band
        self.weight = nn.Parameter(random_weight(channels, channels))
        self.style = EqualizedLinear(w_dim, 4)
        # uniform in the disc of the band, as the reference program draws them
        directions = random_weight(channels, 2)
        radii = directions.square().sum(dim=1, keepdim=True).sqrt()
        self.register_buffer("frequencies", directions / (radii * radii.square().exp().pow(0.25)) * band.cutoff)
        self.register_buffer("phases", torch.zeros(channels))
        self.register_buffer("transform", torch.eye(3))

    def forward(self, code: Tensor) -> Tensor:
        band = self.band
        cosine, sine, x, y = (part.double() for part in self.style(code).unbind(dim=1))
        length = (cosine.square() + sine.square()).sqrt()
        cosine, sine, x, y = (part / length for part in (cosine, sine, x, y))
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        turn = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], dim=1).view(-1, 3, 3)
        move = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1).view(-1, 3, 3)
        placed = turn @ move @ self.transform.double()  # [N, 3, 3]
        frequencies = self.frequencies.double()
        phases = self.phases + (frequencies @ placed[:, :2, 2:])[:, :, 0]  # [N, C]
        frequencies = frequencies @ placed[:, :2, :2]  # [N, C, 2]
        amplitudes = 1 - (frequencies.norm(dim=2) - band.cutoff) / (band.rate / 2 - band.cutoff)
        centres = (torch.arange(band.size, device=code.device, dtype=torch.float64) + 0.5 - band.size / 2) / band.rate
        # sin(a + b) of the sum of what columns and rows give: few sines, each in double precision
        across = 2 * math.pi * (frequencies[:, :, :1] * centres + phases[:, :, None])  # [N, C, S]
        down = 2 * math.pi * (frequencies[:, :, 1:] * centres)
        amplitudes = amplitudes.clamp(0, 1)[:, :, None]
        parts = (amplitudes * across.sin(), down.cos(), amplitudes * across.cos(), down.sin())
        sine_x, cosine_y, cosine_x, sine_y = (part.float() for part in parts)
        waves = sine_x[:, :, None] * cosine_y[..., None] + cosine_x[:, :, None] * sine_y[..., None]  # [N, C, S, S]
        weight = self.weight / math.sqrt(self.weight.shape[0])
        return (weight @ waves.flatten(2)).unflatten(2, waves.shape[2:])


class Layer(nn.Module):
    """Modulated convolution, bias, filtered leaky ReLU: x [N, I, H, H], code [N, w_dim] -> [N, O, H', H'].

    Towards the image there is neither demodulation, activation nor filter.
    """

    magnitude: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(
        self,
        w_dim: int,
        in_channels: int,
        out_channels: int,
        before: Band,
        after: Band,
        kernel: int,
        upsampling: int,
        filter_size: int,
        radial: bool,
        clamp: float | None,
        to_image: bool,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style = EqualizedLinear(w_dim, in_channels, bias=1.0)
        self.register_buffer("magnitude", torch.ones([]))  # of the input, averaged over the training
        self.clamp, self.to_image = clamp, to_image
        fine_rate = max(before.rate, after.rate) * upsampling
        self.up, self.down = fine_rate // before.rate, fine_rate // after.rate
        self.in_size, self.out_size = before.size + kernel - 1, after.size
        self.up_taps, self.down_taps = filter_size * self.up, filter_size * self.down
        self.fine_size = self.in_size
        self.prepared: Weights | None = None
        if to_image:
            return
        up = lowpass_filter(self.up_taps, before.cutoff, before.half_width, fine_rate)
        down = (radial_filter if radial else lowpass_filter)(self.down_taps, after.cutoff, after.half_width, fine_rate)
        self.register_buffer("up_filter", torch.from_numpy(up).to(self.bias))
        self.register_buffer("down_filter", torch.from_numpy(down).to(self.bias))
        self.fine_size = (self.out_size - 1) * self.down + self.down_taps
        padding = self.fine_size + self.up_taps - 1 - self.in_size * self.up  # on both sides; less than 0 crops
        self.offset = (padding + self.up) // 2

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights and filters out once for inference in `dtype`; call again after they change."""
        self.prepared = self._weights(dtype)

    def _weights(self, dtype: torch.dtype) -> Weights:
        scale = self.magnitude.rsqrt()
        if self.to_image:
            kernel = self.weight * (scale / math.sqrt(self.weight.shape[1]))
            return Weights(kernel.to(dtype), self.bias.to(dtype))
        kernel = self.weight * self.weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        squares = kernel.square().sum(dim=(2, 3)).t() / scale.square()
        up = resampling_matrix(self.up_filter, self.up, self.offset, self.in_size, self.fine_size) * self.up
        up_rows, up_columns = (up.to(dtype), (up * GAIN).to(dtype))  # the activation's gain goes through the leaky ReLU
        if separable := self.down_filter.ndim == 1:
            offset = self.down_taps - 1
            down = resampling_matrix(self.down_filter, self.down, offset, self.out_size, self.fine_size).to(dtype)
        tiles = []
        for first in range(0, self.out_size, TILE_ROWS):
            last = min(first + TILE_ROWS, self.out_size)
            fine = slice(first * self.down, (last - 1) * self.down + self.down_taps)
            coarse = used(up_rows[:, fine])
            tiles.append(Tile(coarse, up_rows[coarse, fine].t(), down[first:last, fine] if separable else None))
        radial = None if separable else self.down_filter.to(dtype).expand(len(self.bias), 1, -1, -1)
        down_columns = banded(down.t()) if separable else []
        return Weights(kernel.to(dtype), self.bias.to(dtype), squares, banded(up_columns), down_columns, tiles, radial)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        weights = self.prepared or self._weights(x.dtype)
        kernel, squares, style = weights.kernel, weights.squares, self.style(code)
        if squares is None:
            x = F.conv2d(x * style.to(x.dtype)[:, :, None, None], kernel, weights.bias)
            return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)
        if kernel.dtype == torch.float16:  # keeps products inside half precision's range; demodulation undoes it
            style = style / style.abs().amax(dim=1, keepdim=True)
        demodulation = (style.square() @ squares + EPSILON).rsqrt().to(kernel.dtype)
        x = x.to(kernel.dtype) * style.to(kernel.dtype)[:, :, None, None]
        x = F.conv2d(x, kernel, padding=kernel.shape[2] - 1)
        x = torch.addcmul(weights.bias[:, None, None], x, demodulation[:, :, None, None]).contiguous()
        chunk = max(1, TILE_VALUES // (self.fine_size * (TILE_ROWS * self.down + self.down_taps)))
        chunk = chunk if x.device.type == "cpu" else x.shape[1]
        parts = [self._activate(part, weights, start) for start, part in enumerate_chunks(x, chunk)]
        return torch.cat(parts, dim=1)

    def _activate(self, x: Tensor, weights: Weights, start: int) -> Tensor:
        """Return the filtered leaky ReLU of the channels of x [N, C, H, H] from `start` on, [N, C, H', H']."""
        num, channels = x.shape[:2]
        x = columns(x.flatten(0, 1), weights.up_columns)  # [N C, H, F]
        rows = []
        for tile in weights.tiles:
            fine = F.leaky_relu_(torch.bmm(tile.up.expand(len(x), -1, -1), x[:, tile.coarse]), SLOPE)
            if self.clamp is not None:
                fine = fine.clamp(-self.clamp, self.clamp)
            if tile.down is not None:
                rows.append(torch.bmm(tile.down.expand(len(x), -1, -1), fine))
            elif weights.radial is not None:
                fine, taps = fine.unflatten(0, (num, channels)), weights.radial[start : start + channels]
                rows.append(F.conv2d(fine, taps, stride=self.down, groups=channels).flatten(0, 1))
        x = torch.cat(rows, dim=1)  # [N C, H', F], or [N C, H', H'] of a radial filter
        return (columns(x, weights.down_columns) if weights.down_columns else x).unflatten(0, (num, channels))


Block = tuple[slice, Tensor]  # rows of a banded matrix, and what they hold of some of its columns


@dataclass(frozen=True)
class Tile:
    """Rows of a layer's result: the rows [h] of the coarse signal that they need, and the matrices from these.

    `up` [f, h] leads to f finely sampled rows, `down` [h', f] from there to the result; None for a radial filter.
    """

    coarse: slice
    up: Tensor
    down: Tensor | None


@dataclass(frozen=True)
class Weights:
    """A layer's weights as it uses them: kernel, bias, sums of the kernel's squares [I, O] and filters.

    `radial` [O, 1, t, t] is given where the filter after the activation is not separable.
    """

    kernel: Tensor
    bias: Tensor
    squares: Tensor | None = None
    up_columns: Sequence[Block] = ()
    down_columns: Sequence[Block] = ()
    tiles: Sequence[Tile] = ()
    radial: Tensor | None = None


def enumerate_chunks(x: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the first channel and the channels of x [N, C, H, W], `size` of them at a time."""
    return zip(range(0, x.shape[1], size), x.split(size, dim=1), strict=True)


def columns(x: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Return x [M, H, W] times a banded matrix [W, W'], [M, H, W']."""
    rows = x.flatten(0, 1)
    return torch.cat([rows[:, used] @ block for used, block in blocks], dim=1).unflatten(0, x.shape[:2])


def banded(matrix: Tensor) -> list[Block]:
    """Return a banded matrix in blocks of `BLOCK_COLUMNS`, each without the rows that hold only zeros."""
    parts = matrix.split(BLOCK_COLUMNS, dim=1)
    return [(used(part), part[used(part)].contiguous()) for part in parts]


def used(matrix: Tensor) -> slice:
    """Return the rows of a matrix from the first to the last that holds something."""
    found = matrix.any(dim=1).nonzero()
    return slice(int(found.min()), int(found.max()) + 1)


def resampling_matrix(taps: Tensor, factor: int, offset: int, coarse: int, fine: int) -> Tensor:
    """Return the matrix [coarse, fine] of a symmetric filter between samples and `factor` times as many.

    Sample j lies at position j * factor + offset of the padded finer signal, and value t of the result is the sum over
    the `taps` from position t on: what lies outside counts as zero. The transpose leads from the finer to the coarser.
    """
    distance = torch.arange(coarse, device=taps.device)[:, None] * factor + offset
    distance = distance - torch.arange(fine, device=taps.device)
    inside = (distance >= 0) & (distance < len(taps))
    return torch.where(inside, taps[distance.clamp(0, len(taps) - 1)], 0)


def lowpass_filter(taps: int, cutoff: float, half_width: float, rate: float) -> np.ndarray:
    """Return a separable low-pass filter [taps] of sum 1: a sinc under Kaiser's window."""
    from scipy.signal import firwin

    values: np.ndarray = firwin(taps, cutoff, width=2 * half_width, fs=rate)
    return values


def radial_filter(taps: int, cutoff: float, half_width: float, rate: float) -> np.ndarray:
    """Return a radially symmetric low-pass filter [taps, taps] of sum 1: a jinc under Kaiser's window."""
    from scipy.signal import kaiser_atten, kaiser_beta
    from scipy.special import j1

    places = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(*np.meshgrid(places, places))
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, 2 * half_width / (rate / 2))))
    values = j1(2 * math.pi * cutoff * radius) / (math.pi * radius) * np.outer(window, window)
    return values / values.sum()
