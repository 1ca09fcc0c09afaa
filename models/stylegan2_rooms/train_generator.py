"""Train the embedded StyleGAN2 on rendered rooms; interrupted runs go on from their last checkpoint.

    python train_generator.py --out runs/32 --resolution 32 --kimg 140 --pair_kimg 140 --processes 2    learn pairs
    python train_generator.py --out runs/32 --export 32.pth                                 write the averaged generator
    python train_generator.py --out runs/64 --resolution 64 --initial 32.pth --kimg 190 --pair_kimg 190  grow
    python train_generator.py --out runs/128 --resolution 128 --initial 64.pth --pair_kimg 95 \\
        --kimg 125 --decay_kimg 100                                                         then a discriminator, slowly
    python train_generator.py --out runs/128 --resolution 128 --device cuda --minutes 9     a GPU, in slices
    python train_generator.py --out runs/128 --export stylegan2_rooms.pth --whiten          the model, for the toolkit

A run that is told to end (SIGTERM or Ctrl-C) first writes its checkpoint. `--initial` takes a generator of the run's
resolution, or of half of it, which then grows by a block: at first the larger picture is the smaller one, upsampled.

For the first `--pair_kimg` the generator learns pairs: a render, and a z that stands for its scene (pictures from a
description, after Dosovitskiy et al. 2015). From then on a discriminator takes part (the pairs stay, as in pix2pix,
Isola et al. 2017), and some codes of each batch change at a layer and stand for no scene.

Losses and schedule of that part follow StyleGAN2 (Karras et al. 2020): non-saturating logistic loss, lazy R1, style
mixing, minibatch standard deviation, exponential moving average; no path length regularisation. On top of that the
discriminator learns to name the factors of the renders it sees (an auxiliary task on real images, after Odena et al.
2017), and the generator matches the mean and covariance of what it names (feature matching, Salimans et al. 2016).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes
from train_predictor import SCENE_SEED, fast_type, label_losses, label_matrix, render_pool

from higan.checkpoints import read_checkpoint
from higan.devices import choose_device, keep_freed_memory
from higan.generators.layers import SLOPE, EqualizedLinear, MappingNetwork, infer_mapping
from higan.generators.stylegan2 import StyleGAN2

Z_DIM, W_DIM = 64, 256
MAPPING_LAYERS = 6
GENERATOR_CHANNELS = {4: 128, 8: 128, 16: 96, 32: 48, 64: 24, 128: 16, 256: 16}
DISCRIMINATOR_CHANNELS = {4: 128, 8: 128, 16: 96, 32: 48, 64: 16, 128: 8}
LEARNING_RATE, PAIR_LEARNING_RATE = 2.5e-3, 1e-3
# At full rate the noise strengths grow into speckles long before there is texture to draw.
RATES = {"others": 1.0, "noise_strength": 0.1, "mapping": 20.0}
# While only pairs are learnt, the mapping network's multiplier of 0.01 is undone. What reads the scene off it learns
# faster than what it has learnt before the pictures.
PAIR_RATES = {"others": 8.0, "styles": 8.0, "mapping": 60.0, "last": 400.0}
ACCUMULATE = 4  # batches whose slopes are added up while only pairs are learnt, for orthogonal steps cost time
MIXED_SHARE = 0.25  # of a batch: codes that change at a layer; the others stand for the scenes of the batch
# Thresholds are learnt where codes lie near them; else a thing whose variable is near zero stays half there.
NEAR_SHARE = 0.25
PAIR_SCALES = 4
SLOPE_WEIGHT, SQUARE_WEIGHT = 1.0, 1.0
# What is small and varies in place comes last: differences count so much more where it hangs.
SMALL_THING, SMALL_WEIGHT = "picture", 4.0
# The pairs' difference in pixels and in the discriminator's features, and what it takes their scores to be.
GENERATOR_WEIGHTS = {"pairs": 10.0, "features": 10.0, "named": 0.25}
ROTATION_SEED = 0
MAPPING_SEED, MAPPING_BATCH = 3, 256  # scenes that the mapping network learns alone
R1_GAMMA = 0.05  # at 0.3 walls stay grainy and textures do not come
R1_INTERVAL = 16
EMA_HALF_LIFE_KIMG = 5.0
NAMING_WEIGHT = 0.5  # of the sum over scores of the discriminator's naming loss
MEAN_WEIGHT, COVARIANCE_WEIGHT = 2.0, 2.0  # of the generator's moment matching
MOMENT_MEMORY = 0.995  # per step: the moments are those of some 200 batches
WHITENED_MEAN = 6.0  # of each number of a whitened w: hardly a code is below zero, where a leaky ReLU acts
LEAST_RATE = 0.02  # share of the learning rate that is left when it has fallen


class EqualizedConv(nn.Module):
    """Convolution with a run-time weight scale and a leaky ReLU of gain sqrt(2)."""

    def __init__(self, in_channels: int, out_channels: int, size: int, activate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None

    def forward(self, x: Tensor) -> Tensor:
        gain = math.sqrt(2) if self.bias is not None else 1.0
        weight = (self.weight * (gain / math.sqrt(self.weight[0].numel()))).to(
            x.dtype, memory_format=torch.channels_last
        )
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        x = F.conv2d(x, weight, bias, padding=self.weight.shape[2] // 2)
        return x if self.bias is None else F.leaky_relu(x, SLOPE)


class Discriminator(nn.Module):
    """Residual discriminator: images [N, 3, R, R] in [-1, 1] -> logits [N, 1], names [N, K] and features of each block.

    2x2 pixels enter at once, and after one convolution 2x2 of those: where the pictures are large the layers are thin,
    since there a processor spends its time. The names are what the discriminator takes the K scores of `scenes.labels`
    to be: logits of binary ones, values of the others.
    """

    def __init__(self, resolution: int, channels: dict[int, int], num_names: int) -> None:
        super().__init__()
        self.dtype = torch.float32
        self.first = EqualizedConv(12, channels[resolution // 2], 3)
        self.blocks = nn.ModuleList()
        size, before = resolution // 4, 4 * channels[resolution // 2]
        while size > 4:
            middle, after = channels[size], channels[size // 2]
            self.blocks.append(
                nn.ModuleList(
                    [
                        EqualizedConv(before, middle, 3),
                        EqualizedConv(middle, after, 3),
                        EqualizedConv(before, after, 1, False),
                    ]
                )
            )
            size, before = size // 2, after
        self.last = EqualizedConv(channels[4] + 1, channels[4], 3)
        self.dense = EqualizedLinear(channels[4] * 16, channels[4], gain=math.sqrt(2))
        self.logit = EqualizedLinear(channels[4], 1)
        self.naming = EqualizedLinear(channels[4], num_names)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        x = F.pixel_unshuffle(images, 2).to(self.dtype, memory_format=torch.channels_last)
        x = F.pixel_unshuffle(self.first(x), 2).contiguous(memory_format=torch.channels_last)
        features = [x]
        for first, second, skip in self.blocks:
            y = second(F.avg_pool2d(first(x), 2))
            x = (y + skip(F.avg_pool2d(x, 2))) * math.sqrt(0.5)
            features.append(x)
        x = x.float()
        x = self.last(torch.cat([x, minibatch_deviation(x)], dim=1))
        x = F.leaky_relu(self.dense(x.flatten(1)), SLOPE)
        return self.logit(x), self.naming(x), features


def minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Standard deviation within groups of samples, as one more channel [N, 1, H, W] (Karras et al. 2018, section 3)."""
    num, _, height, width = x.shape
    group = math.gcd(num, group)
    y = x.reshape(group, num // group, -1)
    y = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    return y.repeat(group)[:, None, None, None].expand(-1, -1, height, width)


class Naming(nn.Module):
    """The loss of naming renders, and how far the names of generated images are from the renders' as a whole.

    `moments` [2, K, K + 1] hold covariance and, last, mean of the names of renders and of generated images.
    """

    binary: Tensor
    moments: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        kinds = [scenes.KINDS[name] == "binary" for name in scenes.SCORE_NAMES]
        self.register_buffer("binary", torch.tensor(kinds))
        self.register_buffer("moments", torch.zeros(2, len(kinds), len(kinds) + 1))
        self.register_buffer("batches", torch.tensor(0.0))

    def loss(self, names: Tensor, targets: Tensor) -> Tensor:
        """`label_losses` summed over names [N, K]."""
        return label_losses(names, targets, self.binary).mean(dim=0).sum()

    def distance(self, real: Tensor, fake: Tensor) -> Tensor:
        """A loss whose gradient lowers the squared distance of mean and covariance over the last batches."""
        self.batches += 1
        share = (1 / self.batches).clamp(min=1 - MOMENT_MEMORY)
        current = []
        for stored, names in zip(self.moments, (real.detach(), fake), strict=True):
            values = torch.where(self.binary, torch.tanh(names / 2), names)
            centred = values - self.moments[0, :, -1]
            current.append(torch.cat([centred.T @ centred / len(values), values.mean(dim=0)[:, None]], dim=1))
            stored.lerp_(current[-1].detach(), share)
        weights = torch.full_like(self.moments[0], COVARIANCE_WEIGHT)
        weights[:, -1] = MEAN_WEIGHT
        weights *= (share <= 1 - MOMENT_MEMORY).float()  # the moments of few batches are mostly chance
        return 2 * (weights * self.gap() * current[1]).sum()

    def gap(self) -> Tensor:
        """How far the moments of generated images are from those of renders, [K, K + 1]."""
        return self.moments[1] - self.moments[0]


class Renders:
    """Batches of renders [N, 3, R, R] in [-1, 1] with labels: fresh on a GPU, from a pool rendered once on a CPU."""

    def __init__(self, pool: Path, resolution: int, device: torch.device) -> None:
        self.resolution, self.device = resolution, device
        self.pool = None if device.type == "cuda" else np.load(pool, mmap_mode="r")
        if self.pool is not None:
            self.factors = scenes.sample_factors(len(self.pool), SCENE_SEED)
            self.targets = label_matrix(self.factors)

    def batch(self, num: int, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images [N, 3, R, R] of scenes, labels [N, K], z [N, Z_DIM] that stand for them, and `emphasis` of them."""
        if self.pool is None:
            factors = scenes.sample_factors(num, SCENE_SEED, start=index * num)
            images, targets = scenes.render(factors, self.resolution, self.device), label_matrix(factors)
        else:
            rows = np.sort(np.random.default_rng([1, index]).integers(len(self.pool), size=num))
            images, targets = torch.from_numpy(self.pool[rows]), self.targets[rows]
            factors = {name: values[rows] for name, values in self.factors.items()}
        others = targets, scene_codes(factors), emphasis(factors, self.resolution)
        targets, z, weights = (values.to(self.device) for values in others)
        return images.to(self.device).float() / 127.5 - 1, targets, z, weights


def scene_codes(factors: dict[str, Tensor]) -> Tensor:
    """z [N, Z_DIM] of scenes: `scenes.normals` and what says nothing of them, in a fixed rotation.

    All have the norm that the mapping network gives them anyway (StyleGAN2 normalises z). With another norm the scene
    would be read a tenth too near to the middle or too far from it, and every edge be learnt as a blur.
    """
    known = scenes.normals(factors, near=NEAR_SHARE)
    known = known * (0.99 * math.sqrt(Z_DIM) / known.norm(dim=1, keepdim=True)).clamp(max=1)
    rest = torch.randn(len(known), Z_DIM - known.shape[1])
    left = (Z_DIM - known.square().sum(dim=1, keepdim=True)).sqrt()
    return torch.cat([known, rest * (left / rest.norm(dim=1, keepdim=True))], dim=1) @ rotation()


def emphasis(factors: dict[str, Tensor], resolution: int) -> Tensor:
    """How much the pixels of scenes count, [N, 1, R, R]: `SMALL_WEIGHT` where the small thing hangs, else 1."""
    place = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    left, top, right, bottom = scenes.boxes(factors, SMALL_THING)[..., None].unbind(1)
    rows, columns = (top < place) & (place < bottom), (left < place) & (place < right)
    return 1 + (SMALL_WEIGHT - 1) * (rows[:, None, :, None] & columns[:, None, None, :]).float()


def rotation() -> Tensor:
    """[Z_DIM, Z_DIM]: row i is the direction of z in which variable i of `scenes.normals` grows."""
    generator = torch.Generator().manual_seed(ROTATION_SEED)
    return torch.linalg.qr(torch.randn(Z_DIM, Z_DIM, generator=generator, dtype=torch.float64))[0].float()


def pair_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute and squared difference of images [N, 3, R, R] and of their slopes (Mathieu et al. 2016, 3.2).

    Summed over `PAIR_SCALES` scales, each half of the one before. Without the slopes small things come last. Without
    the squares they do not come at all where their place varies: the median of such pixels is the wall.
    """
    total = torch.zeros([], device=fake.device)
    difference = fake - real
    for scale in range(PAIR_SCALES):
        difference = F.avg_pool2d(difference, 2) if scale > 0 else difference
        for values in (difference, *(SLOPE_WEIGHT * difference.diff(dim=axis) for axis in (2, 3))):
            total = total + values.abs().mean() + SQUARE_WEIGHT * values.square().mean()
    return total


def feature_loss(fake: list[Tensor], real: list[Tensor], paired: slice) -> Tensor:
    """Mean absolute difference of the discriminator's features of the pairs (Wang et al. 2018, equation 4)."""
    differences = [(one[paired] - other[paired].detach()).abs().mean() for one, other in zip(fake, real, strict=True)]
    return torch.stack(differences).mean()


def mixed_codes(generator: StyleGAN2, z: Tensor, mixed: int) -> Tensor:
    """wp [N, L, W] of z [N, Z_DIM]; of the last `mixed`, the layers from a random one on have another code."""
    num, device = len(z), z.device
    w = generator.map(torch.cat([z, torch.randn_like(z[num - mixed :])]))
    layer = torch.arange(generator.num_layers, device=device)
    crossover = torch.randint(1, generator.num_layers, (mixed, 1), device=device)
    wp = w[:num, None].expand(-1, generator.num_layers, -1)
    second = torch.where((layer < crossover)[..., None], wp[num - mixed :], w[num:, None])
    return torch.cat([wp[: num - mixed], second])


def fresh_noises(generator: StyleGAN2, num: int) -> list[Tensor]:
    return [torch.randn(num, *layer.noise.shape[1:], device=layer.noise.device) for layer in generator.layers]


def build(resolution: int, device: torch.device) -> tuple[StyleGAN2, Discriminator]:
    channels = {size: count for size, count in GENERATOR_CHANNELS.items() if size <= resolution}
    generator = StyleGAN2(resolution, channels, Z_DIM, W_DIM, MAPPING_LAYERS)
    discriminator = Discriminator(resolution, DISCRIMINATOR_CHANNELS, len(scenes.SCORE_NAMES))
    for network in (generator, discriminator):
        network.to(device)
        network.dtype = fast_type(device)
    return generator, discriminator


def load_initial(generator: StyleGAN2, state: dict[str, Any]) -> MappingNetwork | None:
    """Give `generator` the weights of another of its resolution or of half of it, and of its width of w or of less.

    Of half its resolution, the last block stays random but for its RGB output, which is zero, so that at first the
    picture is the smaller one, upsampled (instead of the fading of Karras et al. 2018, section 2). A mapping network of
    another depth or width is returned, for `learn_scenes`; the styles listen to its numbers alone.
    """
    weights = {name: torch.as_tensor(value).float() for name, value in state.items()}
    own = generator.state_dict()
    new = f"outputs.{len(generator.outputs) - 1}."
    if not any(name.startswith(new) for name in weights):
        block = tuple(f"layers.{len(generator.layers) - offset}." for offset in (1, 2))
        weights |= {name: value for name, value in own.items() if name.startswith((new, *block))}
        weights |= {f"{new}{name}": torch.zeros_like(own[f"{new}{name}"]) for name in ("weight", "bias")}
    mapping = {name: value for name, value in weights.items() if name.startswith("mapping.")}
    shapes = {name: tuple(value.shape) for name, value in mapping.items()}
    kept = {name: value for name, value in own.items() if name.startswith("mapping.")}
    if shapes == {name: tuple(value.shape) for name, value in kept.items()}:
        generator.load_state_dict(weights)
        return None
    kept["w_avg"] = own["w_avg"]
    for name, value in weights.items():
        if name.endswith("style.weight") and (width := own[name].shape[1]) > value.shape[1]:
            # the run-time scale goes with the root of the width
            value = value * math.sqrt(width / value.shape[1])
            kept[name] = F.pad(value, (0, width - value.shape[1]))
    generator.load_state_dict({name: value for name, value in weights.items() if name not in mapping} | kept)
    former = StyleGAN2(4, {4: 1}, **infer_mapping(shapes)).mapping
    former.load_state_dict({name.removeprefix("mapping."): value for name, value in mapping.items()})
    return former.requires_grad_(False)


def learn_scenes(mapping: MappingNetwork, former: MappingNetwork | None, steps: int) -> tuple[float, float]:
    """Teach a mapping network what scenes look like before it sees a picture, and return what it has left to learn.

    From pictures alone it learns that last of all. A linear map of what enters its last layer, thrown away afterwards,
    learns `scenes.quantities`; the first numbers of w learn those of the `former` mapping network.

    Returns
    -------
    Mean squared error at the last step of the quantities, and of the former w if there is one, in shares of variance.
    """
    device = mapping.dense[0].weight.device

    def draw(num: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
        factors = scenes.sample_factors(num, MAPPING_SEED, start)
        z = scene_codes(factors).to(device)
        return z, scenes.quantities(factors).to(device), former(z) if former else z.new_zeros(num, 1)

    _, quantities, w = draw(4000, 0)
    spread, mean = torch.std_mean(quantities, dim=0)
    w_spread = w.std(dim=0).clamp(min=1e-3)
    head = nn.Linear(mapping.dense[-1].weight.shape[1], len(mean), device=device)
    matrices = Muon([{"params": [layer.weight for layer in mapping.dense]}])
    rest = torch.optim.Adam(
        [{"params": [layer.bias for layer in mapping.dense]}, {"params": head.parameters()}],
        betas=(0.9, 0.98),
        eps=1e-14,
    )
    for step in range(steps):
        rate = min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        matrices.param_groups[0]["lr"] = 2.0 * rate
        for group, full in zip(rest.param_groups, (0.5, 0.005), strict=True):
            group["lr"] = full * rate
        z, quantities, w = draw(MAPPING_BATCH, 4000 + step * MAPPING_BATCH)
        hidden: list[Tensor] = []
        hook = mapping.dense[-1].register_forward_pre_hook(lambda module, args, hidden=hidden: hidden.append(args[0]))
        own = mapping(z)[:, : w.shape[1]]
        hook.remove()
        missed = [
            (head(hidden[0]) - (quantities - mean) / spread).square().mean(),
            ((own - w) / w_spread).square().mean(),
        ]
        rest.zero_grad()
        matrices.zero_grad()
        (missed[0] + missed[1] * bool(former)).backward()
        rest.step()
        matrices.step()
    return missed[0].item(), missed[1].item()


def r1_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Mean squared gradient norm of the logits at real images (Mescheder et al. 2018), in float32."""
    images = images.detach().requires_grad_()
    dtype, discriminator.dtype = discriminator.dtype, torch.float32
    (gradient,) = torch.autograd.grad(discriminator(images)[0].sum(), images, create_graph=True)
    discriminator.dtype = dtype
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def synchronize(tensors: list[Tensor]) -> None:
    """Average tensors over the processes, which share busy cores better than threads do."""
    if dist.is_initialized():
        flat = torch._utils._flatten_dense_tensors(tensors)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, mean in zip(tensors, torch._utils._unflatten_dense_tensors(flat, tensors), strict=True):
            tensor.copy_(mean)


def synchronize_gradients(network: nn.Module) -> None:
    synchronize([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def update_average(average: StyleGAN2, generator: StyleGAN2, batch: int, seen: int) -> None:
    half_life = min(EMA_HALF_LIFE_KIMG * 1000, max(seen, 1) * 0.05)
    decay = 0.5 ** (batch / half_life)
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
        for slow, fast in zip(average.buffers(), generator.buffers(), strict=True):
            slow.copy_(fast)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal by five Newton-Schulz steps (Jordan et al. 2024, "Muon").

    A convolution [O, I, 3, 3] is a matrix [O, 9 I]. The mean square of a step is the rate's.
    """

    def __init__(self, parameters: list[dict[str, Any]], momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                step = orthogonal(torch.lerp(parameter.grad, mean, group["momentum"]).flatten(1))
                scale = group["lr"] * math.sqrt(max(step.shape))
                parameter.add_(step.view_as(parameter), alpha=-scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix near the orthogonal one that is nearest to `matrix` [O, I]; its steps multiply square ones alone."""
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if (tall := x.shape[0] > x.shape[1]) else x
    square, done = x @ x.T, torch.eye(len(x), device=x.device)
    one = done
    for _ in range(steps):
        step = 3.4445 * one - 4.7750 * square + 2.0315 * square @ square
        square, done = step @ square @ step, step @ done
    x = done @ x
    return x.T if tall else x


def make_optimizer(network: nn.Module) -> torch.optim.Adam:
    parts: dict[str, list[nn.Parameter]] = {"others": [], "noise_strength": [], "mapping": []}
    for name, value in network.named_parameters():
        found = [part for part in parts if part in name.split(".")]
        parts[found[0] if found else "others"].append(value)
    groups = [{"params": values, "part": part} for part, values in parts.items() if values]
    return torch.optim.Adam(groups, betas=(0.0, 0.99), eps=1e-8, fused=True)


def make_pair_optimizers(generator: StyleGAN2) -> list[torch.optim.Optimizer]:
    """Muon for the matrices and Adam for the rest, as long as only pairs are learnt."""
    last = f"mapping.dense.{len(generator.mapping.dense) - 1}."
    groups: list[dict[str, list[nn.Parameter]]] = [{part: [] for part in PAIR_RATES} for _ in range(2)]
    for name, value in generator.named_parameters():
        matrix = name != "const" and value.ndim > 1 and len(value) > 3
        part = "last" if name.startswith(last) else "mapping" if name.startswith("mapping.") else "others"
        groups[not matrix]["styles" if name.endswith("style.weight") else part].append(value)
    matrices, rest = ([{"params": values, "part": part} for part, values in each.items() if values] for each in groups)
    return [Muon(matrices), torch.optim.Adam(rest, betas=(0.9, 0.99), fused=True)]


def remaining_rate(seen: int, total: int, decay: int) -> float:
    """Share of the learning rate that is left: over the last `decay` of `total` images it falls linearly."""
    return min(1.0, max((total - seen) / decay, LEAST_RATE))


def save_sheet(generator: StyleGAN2, path: Path, rows: int = 6, columns: int = 10) -> None:
    """Write a sheet of samples (fixed codes, stored noise, no truncation)."""
    z = torch.randn(rows * columns, generator.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        w = generator.map(z.to(generator.w_avg.device))
        images = generator(w[:, None].expand(-1, generator.num_layers, -1))
    images = ((images + 1) * 127.5 + 0.5).clamp(0, 255).byte().cpu()
    size = generator.image_size[0]
    sheet = images.reshape(rows, columns, 3, size, size).permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, 3)
    Image.fromarray(sheet.numpy()).save(path)


class Training:
    """Networks, optimisers and where the run is: all that a checkpoint holds, and one step of each kind.

    Parameters
    ----------
    rank
        This process among `args.processes`, which share each batch.
    """

    def __init__(self, rank: int, args: argparse.Namespace) -> None:
        self.rank, self.args = rank, args
        self.device = choose_device(args.device)
        self.batch = args.batch // args.processes
        torch.manual_seed(args.seed)
        self.generator, self.discriminator = build(args.resolution, self.device)
        self.naming = Naming().to(self.device)
        former = load_initial(self.generator, read_checkpoint(args.initial).state_dict) if args.initial else None
        self.checkpoint = args.out / "checkpoint.pth"
        learns = former or (args.pair_kimg > 0 and not args.initial)
        if learns and not self.checkpoint.exists():
            missed = learn_scenes(self.generator.mapping, former, args.mapping_steps)
            print(json.dumps({"quantities": round(missed[0], 4), "w": round(missed[1], 4)}), flush=True)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizer = make_optimizer(self.generator)
        self.discriminator_optimizer = make_optimizer(self.discriminator)
        self.pair_optimizers = make_pair_optimizers(self.generator)
        self.step, self.seconds = 0, 0.0
        if self.checkpoint.exists():
            stored = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            for name, part in self.parts().items():
                part.load_state_dict(stored[name])
            self.step, self.seconds = stored["step"], stored["seconds"]
        torch.manual_seed(args.seed + self.step * args.processes + rank)
        self.renders = Renders(args.out / "renders.npy", args.resolution, self.device)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds beside the step and the seconds."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "naming": self.naming,
            "generator_optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "pair_matrices": self.pair_optimizers[0],
            "pair_rest": self.pair_optimizers[1],
        }

    def save(self) -> None:
        """Write the checkpoint and a sheet of samples; only the first process does."""
        if self.rank > 0:
            return
        state = {name: part.state_dict() for name, part in self.parts().items()}
        part = self.checkpoint.with_suffix(".part")
        torch.save(state | {"step": self.step, "seconds": self.seconds}, part)
        part.replace(self.checkpoint)
        save_sheet(self.average, self.args.out / f"samples_{self.seen // 1000:06d}.png")

    @property
    def seen(self) -> int:
        """Images so far."""
        return self.step * self.args.batch

    def set_rates(self, optimizers: list[torch.optim.Optimizer], rate: float, rates: dict[str, float]) -> None:
        """Set learning rates: `rate` by part of the network, falling over the last `decay_kimg` of the run."""
        args = self.args
        decay = int(1000 * (0.3 * args.kimg if args.decay_kimg is None else args.decay_kimg)) or 1
        left = remaining_rate(self.seen, args.kimg * 1000, decay)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = left * rate * rates[group["part"]]

    def pair_step(self, real: Tensor, z: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Draw the scenes of z [N, Z_DIM] nearer to their renders, and return what was measured."""
        self.set_rates(self.pair_optimizers, PAIR_LEARNING_RATE, PAIR_RATES)
        fake = self.generator(mixed_codes(self.generator, z, 0), fresh_noises(self.generator, len(z)))
        pairs = pair_loss(fake * weights, real * weights)
        pairs.backward()
        if (self.step + 1) % ACCUMULATE == 0:
            synchronize_gradients(self.generator)
            for optimizer in self.pair_optimizers:
                optimizer.step()
            self.generator.zero_grad(set_to_none=True)
        return {"pairs": pairs}

    def adversarial_step(
        self, real: Tensor, targets: Tensor, z: Tensor, weights: Tensor, alone: bool
    ) -> dict[str, Tensor]:
        """Train the discriminator and, unless it trains `alone`, the generator; return what was measured."""
        self.set_rates([self.optimizer, self.discriminator_optimizer], LEARNING_RATE, RATES)
        mixed = int(MIXED_SHARE * len(z))
        paired = slice(len(z) - mixed)
        # One batch of fakes serves both networks: a second one would cost a sixth of the step.
        with torch.set_grad_enabled(not alone):
            fake = self.generator(mixed_codes(self.generator, z, mixed), fresh_noises(self.generator, len(z)))
        logits_real, names_real, features_real = self.discriminator(real)
        logits_fake = self.discriminator(fake.detach())[0]
        loss = F.softplus(logits_fake).mean() + F.softplus(-logits_real).mean()
        naming = self.naming.loss(names_real, targets)
        measured = {"real": logits_real, "fake": logits_fake, "loss": loss, "naming": naming}
        loss = loss + NAMING_WEIGHT * naming
        if self.step % R1_INTERVAL == 0:
            loss = loss + r1_penalty(self.discriminator, real[: len(z) // 2]) * (R1_GAMMA / 2 * R1_INTERVAL)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        synchronize_gradients(self.discriminator)
        self.discriminator_optimizer.step()
        if alone:
            return measured

        self.discriminator.requires_grad_(False)
        logits, names, features = self.discriminator(fake)
        parts = {
            "pairs": pair_loss((fake * weights)[paired], (real * weights)[paired]),
            "features": feature_loss(features, features_real, paired),
            "named": self.naming.loss(names[paired], targets[paired]),
        }
        drawn = F.softplus(-logits).mean() + self.naming.distance(names_real, names)
        for name, part in parts.items():
            drawn = drawn + GENERATOR_WEIGHTS[name] * part
        self.generator.zero_grad(set_to_none=True)
        drawn.backward()
        synchronize_gradients(self.generator)
        self.optimizer.step()
        self.discriminator.requires_grad_(True)
        gap = self.naming.gap().square()
        return measured | parts | {"means": gap[:, -1].sum(), "covariances": gap[:, :-1].sum()}


def train(rank: int, args: argparse.Namespace) -> None:
    keep_freed_memory()
    torch.set_flush_denormal(True)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.append(number))
    if args.processes > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=args.rendezvous, rank=rank, world_size=args.processes)
    run = Training(rank, args)
    started = last = time.time()
    last_seen = run.seen
    while run.seen < args.kimg * 1000:
        if run.step % ACCUMULATE == 0 and at_end(bool(told), started, args.minutes):
            break
        seen = run.seen
        real, targets, z, weights = run.renders.batch(run.batch, run.step * args.processes + rank)
        alone = seen < (args.pair_kimg + args.discriminator_kimg) * 1000
        if pairs_only := seen < args.pair_kimg * 1000:
            measured = run.pair_step(real, z, weights)
        else:
            measured = run.adversarial_step(real, targets, z, weights, alone)
        if rank == 0 and (pairs_only or not alone):
            update_average(run.average, run.generator, args.batch, seen)
        run.step += 1
        if run.step % args.log_steps == 0 and rank == 0:
            now = time.time()
            run.seconds += now - last
            line = {"kimg": run.seen / 1000, "images/s": (run.seen - last_seen) / (now - last)}
            line |= {"hours": run.seconds / 3600} | {name: value.mean().item() for name, value in measured.items()}
            last, last_seen = now, run.seen
            print(json.dumps({name: round(value, 4) for name, value in line.items()}), flush=True)
            if not all(map(math.isfinite, line.values())):
                sys.exit("the loss is not finite: go back to the last checkpoint")
        if run.seen // (args.sheet_kimg * 1000) > seen // (args.sheet_kimg * 1000):
            run.save()
    run.save()


def at_end(told: bool, started: float, minutes: float) -> bool:
    """Whether the first process was told to end, or its slice of `minutes` (0: no limit) is over."""
    over = torch.tensor(float(told or 0 < minutes * 60 < time.time() - started))
    if dist.is_initialized():
        dist.broadcast(over, src=0)
    return bool(over)


def export(args: argparse.Namespace) -> None:
    """Write the averaged generator in half precision, with the mean w of 100,000 samples for truncation."""
    from higan.checkpoints import write_checkpoint

    stored = torch.load(args.out / "checkpoint.pth", map_location="cpu", weights_only=True)
    weights = stored["average"]
    blocks = sum(name.startswith("outputs.") and name.endswith(".style.weight") for name in weights)
    channels = {4 * 2**block: weights[f"layers.{2 * block}.weight"].shape[0] for block in range(blocks)}
    w_dim = len(weights["w_avg"])
    generator = StyleGAN2(max(channels), channels, Z_DIM, w_dim, MAPPING_LAYERS)
    generator.load_state_dict(weights)
    with torch.no_grad():
        z = torch.randn(100_000, Z_DIM, generator=torch.Generator().manual_seed(1))
        generator.w_avg.copy_(generator.map(z).mean(dim=0))
        if args.whiten:
            generator = whiten(generator, StyleGAN2(max(channels), channels, Z_DIM, w_dim, MAPPING_LAYERS + 1), z)
    exact = ("mapping.", "style.bias", "w_avg")  # small, and everything hangs on it
    state_dict = {
        name: value if any(part in name for part in exact) else value.half()
        for name, value in generator.state_dict().items()
    }
    write_checkpoint(args.export, "stylegan2", state_dict, {"architecture": "skip"})


def whiten(generator: StyleGAN2, white: StyleGAN2, z: Tensor) -> StyleGAN2:
    """Make `white` draw the pictures of `generator`, with a w that is uncorrelated and of variance 1 at codes z [N, D].

    The whitened space is that of Zhu et al. 2020, "Improved StyleGAN embedding", but exact: `white` has one more layer
    in its mapping network, which whitens, and its styles undo that. A bias keeps the leaky ReLU from acting.
    """
    w = generator.double().map(z.double())
    mean = w.mean(dim=0)
    values, vectors = torch.linalg.eigh((w - mean).T @ (w - mean) / len(w))
    forth, back = (vectors * values.clamp(min=1e-6) ** power @ vectors.T for power in (-0.5, 0.5))
    offset = torch.full_like(mean, WHITENED_MEAN)
    weights = generator.state_dict()
    state = weights | {"w_avg": offset}
    place, last = len(white.mapping.dense) - 1, white.double().mapping.dense[-1]
    state[f"mapping.dense.{place}.weight"] = forth / last.weight_scale
    state[f"mapping.dense.{place}.bias"] = (offset - forth @ mean) / last.bias_scale
    for name, value in weights.items():
        if name.endswith("style.weight"):
            bias = f"{name.removesuffix('weight')}bias"
            state[name] = (value @ back).half().double()  # as it is stored; the offset is large beside what is lost
            state[bias] = weights[bias] + (value @ mean - state[name] @ offset) / math.sqrt(len(mean))
    white.load_state_dict(state)
    return white.float()


def main() -> None:
    args = parse_args()
    if args.export:
        export(args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if choose_device(args.device).type == "cpu":
        render_pool(args.out / "renders.npy", args.renders, args.resolution, SCENE_SEED, args.processes)
    if args.processes == 1:
        train(0, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.rendezvous = f"file://{folder}/rendezvous"
        run = mp.spawn(train, args=(args,), nprocs=args.processes, join=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: [process.terminate() for process in run.processes])
        while not run.join():
            pass


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, sample sheets, renders")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images (default: 64)")
    parser.add_argument(
        "--kimg", type=float, default=500, help="length of the run in thousands of images (default: 500)"
    )
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop earlier, after so many minutes; resumable (default: off)"
    )
    parser.add_argument(
        "--decay_kimg", type=float, help="kimg at the end over which the learning rate falls (default: 0.3 of --kimg)"
    )
    parser.add_argument("--batch", type=int, default=16, help="images per step (default: 16)")
    parser.add_argument(
        "--renders", type=int, default=60_000, help="size of the pool of renders on a CPU (default: 60000)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--processes", type=int, default=1, help="processes that share each batch (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and codes (default: 0)")
    parser.add_argument("--log_steps", type=int, default=50, help="steps between progress lines (default: 50)")
    parser.add_argument("--sheet_kimg", type=int, default=10, help="kimg between checkpoints (default: 10)")
    parser.add_argument("--initial", type=Path, help="generator to begin a new run with (default: random)")
    parser.add_argument(
        "--discriminator_kimg", type=int, default=0, help="kimg that the discriminator trains alone first (default: 0)"
    )
    parser.add_argument(
        "--pair_kimg", type=float, default=0, help="kimg at the beginning in which only pairs are learnt (default: 0)"
    )
    parser.add_argument(
        "--mapping_steps", type=int, default=4000, help="steps of the mapping network before the pairs (default: 4000)"
    )
    parser.add_argument("--export", type=Path, help="write the averaged generator to this file and stop")
    parser.add_argument("--whiten", action="store_true", help="export it with a w whose numbers are uncorrelated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
