"""BigGAN's and BigGAN-deep's generator (Brock et al. 2019, "Large scale GAN training for high fidelity natural image
synthesis"), as ajbrock/BigGAN-PyTorch and huggingface/pytorch-pretrained-BigGAN compute it.

Layer 0 is the linear layer that makes 4x4 pixels of the code; layer l is block l, whose batch norms take gain and bias
from the code. Spectral norms are divided out of the weights when a file is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from higan.errors import HiganError
from higan.generators.layers import conv_kernel, convolve, random_weight, random_words
from higan.generators.network import State

CONDITIONINGS = ("whole", "chunks", "first")
MOST_SIDE = 4096  # of an image
CUT = 2.0  # standard deviations at which the normal distribution of z ends (the huggingface package)


class BigGAN(nn.Module):
    """z [N, z_dim] -> w [N, z_dim + class_dim] -> wp [N, L, z_dim + class_dim] -> image [N, 3, R, R].

    w is z followed by the class's embedding. wp[:, l] is the conditioning vector of layer l in the same places: what
    the layer does not read is 0 there, and has no effect if it is not.

    z is drawn from a normal distribution cut off at two standard deviations, times psi (section 3.1 of the paper; the
    huggingface package's `truncated_noise_sample`): psi takes effect when z is drawn, and codes that are given are used
    as they are. Networks with several `statistics` also choose theirs by psi.

    Parameters
    ----------
    channels
        Input and output channels of each block; L = 1 + their number.
    up
        Whether each block doubles the size.
    deep
        The four-convolution blocks of BigGAN-deep, whose shortcut keeps the first channels, in place of BigGAN's two.
    z_dim, class_dim, label_dim
        Width of z and of a class's embedding; number of classes.
    embedded
        The classes have an embedding that the layers share; without, each layer has a table of its own, and the
        embedding is the one-hot label (class_dim = label_dim).
    conditioning
        What layers read. "whole": z and class (BigGAN-deep). "chunks": layer 0 the first of L equal chunks of z, layer
        l chunk l and the class (BigGAN with hierarchical z). "first": layer 0 z, all others the class.
    attention
        Layers after which self-attention follows.
    epsilon, output_epsilon
        Added to the variances, of the blocks' norms and of the last.
    statistics
        Number of stored means and variances. With S > 1 they belong to S values of psi, evenly spaced from 0 to 1.
    additive
        The norms add their gain instead of multiplying by it: what ajbrock's program does in evaluation mode with the
        statistics of its cross-replica norm (`SyncBN2d`).
    size
        Side of layer 0's output.
    class_names
        Names of the classes, or none.

    Raises
    ------
    ValueError
        The settings contradict each other.
    """

    family: ClassVar[str] = "biggan"
    spaces: ClassVar[tuple[str, ...]] = ("z", "w", "wp")
    truncation: ClassVar[tuple[float, int]] = (1.0, 0)  # of z, so of no layer
    image_channels = 3

    def __init__(
        self,
        channels: Sequence[Sequence[int]],
        up: Sequence[bool],
        deep: bool,
        z_dim: int,
        class_dim: int,
        label_dim: int,
        embedded: bool = True,
        conditioning: str = "whole",
        attention: Sequence[int] = (),
        epsilon: float = 1e-5,
        output_epsilon: float = 1e-5,
        statistics: int = 1,
        additive: bool = False,
        size: int = 4,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning {conditioning!r}; expected one of {', '.join(CONDITIONINGS)}")
        if len(up) != len(channels) or not channels:
            raise ValueError(f"{len(channels)} blocks, and {len(up)} answers to whether they double the size")
        self.z_dim, self.class_dim, self.label_dim = z_dim, class_dim, label_dim
        self.w_dim = z_dim + class_dim
        self.class_names = tuple(class_names)
        if len(self.class_names) not in (0, label_dim) or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"{len(self.class_names)} names of {label_dim} classes; expected a text for each, or none")
        self.conditioning = conditioning
        self.num_layers = 1 + len(channels)
        self.statistics = statistics
        self.psi = self.truncation[0]
        self.dtype = torch.float32

        self.embedding = nn.Parameter(random_weight(label_dim, class_dim)) if embedded else None
        self.linear = nn.Linear(self.width(0), channels[0][0] * size**2)
        self.blocks: Any = nn.ModuleList()
        self.attention: Any = nn.ModuleDict()
        self.largest_activation = 0
        for layer in range(self.num_layers):
            if layer:
                inputs, outputs = channels[layer - 1]
                doubles = bool(up[layer - 1])
                norm = (self.width(layer), statistics, epsilon, additive)
                self.blocks.append((DeepBlock if deep else Block)(inputs, outputs, doubles, norm))
                size *= 1 + doubles
                self.largest_activation = max(self.largest_activation, max(inputs, outputs) * size**2)
            if layer in attention:
                self.attention[str(layer)] = SelfAttention(channels[max(layer - 1, 0)][1 if layer else 0])
        self.norm = OutputNorm(channels[-1][1], statistics, output_epsilon, additive)
        self.output = nn.Conv2d(channels[-1][1], 3, 3, padding=1)
        if size > MOST_SIDE:
            raise ValueError(f"images of {size} pixels a side; expected {MOST_SIDE} at most")
        self.image_size = (size, size)

    @staticmethod
    def infer_settings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return the arguments of the constructor that the shapes of the network's tensors tell, by name.

        Raises KeyError for the name of a tensor that is missing.
        """
        inputs = shapes["linear.weight"][1]
        embedding = shapes.get("embedding")
        read = shapes["blocks.0.norm.style.weight"][1]
        label_dim, class_dim = embedding or (read, read)
        conditioning = "first" if read == class_dim else "whole" if read == inputs else "chunks"
        deep = "blocks.0.convolutions.3.bias" in shapes
        channels: list[tuple[int, int]] = []
        while (name := f"blocks.{len(channels)}.convolutions") + ".0.weight" in shapes:
            channels.append((shapes[f"{name}.0.weight"][1], shapes[f"{name}.{3 if deep else 1}.bias"][0]))
        z_dim = {"first": inputs, "whole": inputs - class_dim, "chunks": inputs * (1 + len(channels))}[conditioning]
        return {
            "channels": channels,
            "deep": deep,
            "z_dim": z_dim,
            "class_dim": class_dim,
            "label_dim": label_dim,
            "embedded": embedding is not None,
            "conditioning": conditioning,
            "attention": [layer for layer in range(1 + len(channels)) if f"attention.{layer}.gamma" in shapes],
            "statistics": shapes["norm.means"][0],
            "size": math.isqrt(shapes["linear.bias"][0] // channels[0][0]),
        }

    def sample(self, num: int, seed: int, start: int) -> np.ndarray:
        """Return z, float32 [num, z_dim], as said above; row i depends on (seed, start + i) and psi alone."""
        return np.float32(self.psi) * sample_truncated(num, self.z_dim, seed, start)

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights out once for inference in `dtype`; call again after they change."""
        self.dtype = dtype
        self.kernel = conv_weight(self.output).to(dtype, memory_format=torch.channels_last)
        for module in (*self.blocks, *self.attention.values()):
            module.prepare(dtype)
        self.truncate(self.psi)

    def truncate(self, psi: float) -> None:
        """Choose the statistics that belong to psi, and the scale of the z that are drawn.

        Between two stored values the huggingface package swaps the factors of its interpolation and does not round
        psi's place among them, so that psi = 0.56 of 51 statistics takes row 29, not 28; the pictures are made so, and
        so are these.

        Raises
        ------
        HiganError
            The network has statistics for 0 < psi <= 1 and psi is another.
        """
        if self.statistics > 1 and not 0 < psi <= 1:
            raise HiganError(f"truncation_psi is {psi}; this BigGAN has statistics for numbers above 0, up to 1")
        self.psi = psi
        place = interpolation(psi, self.statistics)
        for module in (*self.blocks, self):
            module.norm.choose(place)

    def normalize(self, z: Tensor) -> Tensor:
        """Return z [N, z_dim] as it is: BigGAN's z does not lie on a sphere."""
        return z

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and labels [N, label_dim], one-hot or a mixture of classes."""
        if label is None:
            raise ValueError(f"BigGAN needs labels [N, {self.label_dim}]")
        if self.embedding is not None:
            label = (label.double() @ self.embedding.double()).float()
        return torch.cat([z, label.to(z)], dim=1)

    def broadcast(self, w: Tensor, psi: Tensor | None = None) -> Tensor:
        """Return wp [N, L, w_dim] of w [N, w_dim]: what each layer reads of it; psi has acted on z already."""
        wp = w.new_zeros(len(w), self.num_layers, self.w_dim)
        for layer in range(self.num_layers):
            for part in self.parts(layer):
                wp[:, layer, part] = w[:, part]
        return wp

    def parts(self, layer: int) -> list[slice]:
        """Return the parts of a code that a layer reads: of z, then the class."""
        chunk = self.z_dim // self.num_layers
        z, classes = slice(0, self.z_dim), slice(self.z_dim, self.w_dim)
        if self.conditioning == "whole":
            return [z, classes]
        if self.conditioning == "first":
            return [classes if layer else z]
        z = slice(layer * chunk, (layer + 1) * chunk)
        return [z, classes] if layer else [z]

    def width(self, layer: int) -> int:
        """Return how many numbers of a code a layer reads."""
        return sum(part.stop - part.start for part in self.parts(layer))

    def read(self, layer: int, code: Tensor) -> Tensor:
        """Return what a layer reads of its code [N, w_dim]."""
        return torch.cat([code[:, part] for part in self.parts(layer)], dim=1)

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim]: of layer 0 its output [N, C * 16], of a block gains, then biases.

        1 is added to the gains. They follow each other as the block's norms do.
        """
        codes = [self.read(layer, wp[:, layer]) for layer in range(self.num_layers)]
        return [self.linear(codes[0]), *(b.norm.style(c) for b, c in zip(self.blocks, codes[1:], strict=True))]

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return (0, 0): no layer adds noise."""
        return 0, 0

    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, which is empty."""
        return ()

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Apply all that reads the code [N, w_dim] of layer `index` and return the state that enters the next."""
        code = self.read(index, code)
        if index == 0:
            x = self.linear(code).unflatten(1, (self.blocks[0].in_channels, -1))
            side = math.isqrt(x.shape[2])
            x = x.unflatten(2, (side, side)).to(self.dtype, memory_format=torch.channels_last)
        else:
            x = self.blocks[index - 1](state[0], code)
        return (self.attention[str(index)](x) if str(index) in self.attention else x,)

    def image(self, state: State) -> Tensor:
        """Return the image [N, 3, R, R] (float32, in [-1, 1]) of a state that has left the last layer."""
        x = F.relu_(affine(state[0], *self.norm()))
        return F.conv2d(x, self.kernel, conv_bias(self.output, x.dtype), padding=1).float().tanh()


class Block(nn.Module):
    """BigGAN's residual block: x [N, I, H, W], code [N, D] -> [N, O, H', W'].

    Two convolutions 3x3, each after a conditional norm and ReLU; the shortcut is a convolution 1x1.

    Parameters
    ----------
    norm
        Width D of the code, number of statistics, epsilon, and whether gains are added: see `BigGAN`.
    """

    up_at = 0  # the convolution before which pixels are repeated

    def __init__(self, in_channels: int, out_channels: int, up: bool, norm: tuple[int, int, float, bool]) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.up = in_channels, out_channels, up
        convolutions = self.make_convolutions()
        self.convolutions: Any = nn.ModuleList(convolutions)
        self.widths = [convolution.in_channels for convolution in convolutions]
        self.norm = ConditionalNorm(sum(self.widths), *norm)
        self.prepared: list[tuple[Tensor, Tensor | None, str]] = []

    def make_convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions in order; called once."""
        self.skip = nn.Conv2d(self.in_channels, self.out_channels, 1)
        return [
            nn.Conv2d(self.in_channels, self.out_channels, 3),
            nn.Conv2d(self.out_channels, self.out_channels, 3),
        ]

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights out once for inference in `dtype`; call again after they change."""
        last = len(self.convolutions) - 1
        self.prepared = []
        for index, convolution in enumerate(self.convolutions):
            up = "nearest" if self.up and index == self.up_at else ""
            kernel = conv_weight(convolution, up).to(dtype, memory_format=torch.channels_last)
            self.prepared.append((kernel, conv_bias(convolution, dtype) if index == last else None, up))
        # the other biases go into the means of the norms that follow
        biases = [convolution.bias for convolution in self.convolutions[:last]]
        self.norm.before = torch.cat([torch.zeros_like(self.convolutions[0].weight[0, :, 0, 0]), *biases]).detach()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        scales, shifts = (values.split(self.widths, dim=1) for values in self.norm(code))
        y = x
        for scale, shift, (kernel, bias, up) in zip(scales, shifts, self.prepared, strict=True):
            y = convolve(F.relu_(affine(y, scale, shift)), kernel, up, bias)
        x = self.shortcut(x)
        return y.add_(F.interpolate(x, scale_factor=2) if self.up else x)

    def shortcut(self, x: Tensor) -> Tensor:
        """Return the input as it joins the output, before its size is doubled."""
        return F.conv2d(x, self.skip.weight.to(x.dtype), conv_bias(self.skip, x.dtype))


class DeepBlock(Block):
    """BigGAN-deep's residual block: convolutions 1x1, 3x3, 3x3, 1x1 on a quarter of the channels in between.

    The shortcut keeps the first channels of the input.
    """

    up_at = 1

    def make_convolutions(self) -> list[nn.Conv2d]:
        if self.out_channels > self.in_channels:
            raise ValueError(f"a block of {self.in_channels} channels makes {self.out_channels}: expected no more")
        middle = self.in_channels // 4
        return [
            nn.Conv2d(self.in_channels, middle, 1),
            nn.Conv2d(middle, middle, 3),
            nn.Conv2d(middle, middle, 3),
            nn.Conv2d(middle, self.out_channels, 1),
        ]

    def shortcut(self, x: Tensor) -> Tensor:
        return x[:, : self.out_channels]


class Statistics(nn.Module):
    """Stored means and variances, [S, C]: psi chooses one of each."""

    means: Tensor
    variances: Tensor

    def __init__(self, channels: int, statistics: int, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(statistics, channels))
        self.register_buffer("variances", torch.ones(statistics, channels))
        self.epsilon = float(epsilon)
        self.before: Tensor | None = None  # [C], added to the input by what comes before
        self.chosen: tuple[Tensor, Tensor] | None = None

    def choose(self, place: tuple[int, int, float]) -> None:
        """Take the statistics at a `place` of `interpolation`."""
        row, other, share = place
        mean, variance = (
            values[row] if share == 1 else values[row] * share + values[other] * (1 - share)
            for values in (self.means, self.variances)
        )
        self.chosen = mean if self.before is None else mean - self.before, (variance + self.epsilon).rsqrt()

    def normalization(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the inverse of the standard deviation, [C]."""
        if self.chosen is None:
            raise ValueError("call the network's `prepare` first")
        return self.chosen


class ConditionalNorm(Statistics):
    """Batch norms of one block side by side: code [N, D] -> scales and shifts [N, C] of the C channels of all."""

    def __init__(self, channels: int, width: int, statistics: int, epsilon: float, additive: bool) -> None:
        super().__init__(channels, statistics, epsilon)
        self.style = nn.Linear(width, 2 * channels, bias=False)
        self.additive = additive

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        gain, bias = self.style(code).chunk(2, dim=1)
        mean, inverse = self.normalization()
        if self.additive:
            return inverse.expand_as(gain), 1 + gain + bias - mean * inverse
        scale = (1 + gain) * inverse
        return scale, bias - mean * scale


class OutputNorm(Statistics):
    """The last batch norm, whose gain and bias are its own: -> scales and shifts [1, C]."""

    def __init__(self, channels: int, statistics: int, epsilon: float, additive: bool) -> None:
        super().__init__(channels, statistics, epsilon)
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.additive = additive

    def forward(self) -> tuple[Tensor, Tensor]:
        mean, inverse = self.normalization()
        if self.additive:
            return inverse[None], (self.gain + self.bias - mean * inverse)[None]
        scale = self.gain * inverse
        return scale[None], (self.bias - mean * scale)[None]


class SelfAttention(nn.Module):
    """Self-attention with max-pooled keys and values (Zhang et al. 2019): x [N, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros([]))
        self.prepared: list[Tensor] = []

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights out once for inference in `dtype`; call again after they change."""
        weights = [self.theta.weight, self.phi.weight, self.g.weight, self.o.weight * self.gamma]
        self.prepared = [weight.to(dtype) for weight in weights]

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g, o = self.prepared
        query = F.conv2d(x, theta).flatten(2).mT  # [N, HW, C/8]
        key = F.max_pool2d(F.conv2d(x, phi), 2).flatten(2).mT  # [N, HW/4, C/8]
        value = F.max_pool2d(F.conv2d(x, g), 2).flatten(2).mT  # [N, HW/4, C/2]
        y = F.scaled_dot_product_attention(query, key, value, scale=1.0).mT  # [N, C/2, HW]
        return x + F.conv2d(y.unflatten(2, x.shape[2:]), o)


def sample_truncated(num: int, dim: int, seed: int, start: int) -> np.ndarray:
    """Return float32 [num, dim], normal numbers between -2 and 2; row i depends on (seed, start + i) alone.

    The inverse of the distribution function makes uniform numbers normal.
    """
    from scipy.special import ndtr, ndtri

    bits = random_words(num, dim, seed, start).view("<u4")[:, :dim]
    below = ndtr(-CUT)
    return ndtri(below + (bits + 0.5) * 2.0**-32 * (1 - 2 * below)).astype(np.float32)


def interpolation(psi: float, count: int) -> tuple[int, int, float]:
    """Return two rows of `count` statistics and the share of the first: 1.0 where it is the only one.

    As the huggingface package computes it, in double precision; see `BigGAN.truncate`.
    """
    if count == 1:
        return 0, 0, 1.0
    fraction, row = math.modf(psi / (1.0 / (count - 1)))
    last = count - 1
    return min(int(row), last), min(int(row) + 1, last), fraction or 1.0


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x [N, C, H, W] times scale [N, C] plus shift [N, C], in the type of x."""
    return torch.addcmul(shift.to(x.dtype)[:, :, None, None], x, scale.to(x.dtype)[:, :, None, None])


def conv_weight(convolution: nn.Conv2d, up: str = "") -> Tensor:
    """Return a convolution's kernel for `layers.convolve`."""
    return conv_kernel(convolution.weight, math.sqrt(convolution.weight[0].numel()), up)  # the gain undoes its scale


def conv_bias(convolution: nn.Conv2d, dtype: torch.dtype) -> Tensor | None:
    """Return a convolution's bias [O] in `dtype`."""
    return None if convolution.bias is None else convolution.bias.to(dtype)
