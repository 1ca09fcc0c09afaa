"""Train the embedded StyleGAN2 on rendered rooms; interrupted runs go on from their last checkpoint.

    python train_generator.py --out runs/128 --resolution 128 --processes 2               two CPU cores
    python train_generator.py --out runs/128 --resolution 128 --device cuda --minutes 9   a GPU, in slices
    python train_generator.py --out runs/128 --resolution 128 --initial small.pth         begin with a smaller generator
    python train_generator.py --out runs/128 --export stylegan2_rooms.pth                 write the averaged generator

A run that is told to end (SIGTERM) first writes its checkpoint. `--initial` takes a generator of the run's resolution,
or of half of it, which then grows by a block: at first the larger picture is the smaller one, upsampled.

Losses and schedule follow StyleGAN2 (Karras et al. 2020): non-saturating logistic loss, lazy R1, style mixing,
minibatch standard deviation, exponential moving average; no path length regularisation. On top of that the
discriminator learns to name the factors of the renders it sees (an auxiliary task on real images, after Odena et al.
2017), which teaches it what matters in a room, and the generator matches the mean and covariance of what it names
(feature matching, Salimans et al. 2016). The generator is never told a factor of the room it draws.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
import scenes
from train_predictor import SCENE_SEED, fast_type, label_losses, label_matrix, render_pool

from higan.checkpoints import read_checkpoint
from higan.devices import choose_device, keep_freed_memory
from higan.generators.layers import SLOPE, EqualizedLinear
from higan.generators.stylegan2 import StyleGAN2

Z_DIM = W_DIM = 128
MAPPING_LAYERS = 4
GENERATOR_CHANNELS = {4: 128, 8: 128, 16: 96, 32: 48, 64: 24, 128: 16, 256: 16}
DISCRIMINATOR_CHANNELS = {4: 128, 8: 128, 16: 96, 32: 48, 64: 16, 128: 8}
LEARNING_RATE = 2.5e-3
NOISE_RATE = 0.1  # of the noise strengths: at full rate they grow into speckles long before there is texture to draw
MIXING_PROBABILITY = 0.9
R1_GAMMA = 0.05  # at 0.3 walls stay grainy and textures do not come
R1_INTERVAL = 16
EMA_HALF_LIFE_KIMG = 5.0
NAMING_WEIGHT = 0.5  # of the sum over scores of the discriminator's naming loss
MEAN_WEIGHT, COVARIANCE_WEIGHT = 2.0, 2.0  # of the generator's moment matching
MOMENT_MEMORY = 0.995  # per step: the moments are those of some 200 batches
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
    """Residual discriminator: images [N, 3, R, R] in [-1, 1] -> logits [N, 1] and names [N, K].

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

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.pixel_unshuffle(images, 2).to(self.dtype, memory_format=torch.channels_last)
        x = F.pixel_unshuffle(self.first(x), 2).contiguous(memory_format=torch.channels_last)
        for first, second, skip in self.blocks:
            y = second(F.avg_pool2d(first(x), 2))
            x = (y + skip(F.avg_pool2d(x, 2))) * math.sqrt(0.5)
        x = x.float()
        x = self.last(torch.cat([x, minibatch_deviation(x)], dim=1))
        x = F.leaky_relu(self.dense(x.flatten(1)), SLOPE)
        return self.logit(x), self.naming(x)


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
            self.targets = label_matrix(scenes.sample_factors(len(self.pool), SCENE_SEED))

    def batch(self, num: int, index: int) -> tuple[Tensor, Tensor]:
        if self.pool is None:
            factors = scenes.sample_factors(num, SCENE_SEED, start=index * num)
            images, targets = scenes.render(factors, self.resolution, self.device), label_matrix(factors)
        else:
            rows = np.sort(np.random.default_rng([1, index]).integers(len(self.pool), size=num))
            images, targets = torch.from_numpy(self.pool[rows]), self.targets[rows]
        return images.to(self.device).float() / 127.5 - 1, targets.to(self.device)


def mixed_codes(generator: StyleGAN2, num: int) -> Tensor:
    """wp [N, L, W] of fresh z; `MIXING_PROBABILITY`: how often the layers from a random one on are another code's."""
    device = generator.w_avg.device
    w = generator.map(torch.randn(2 * num, generator.z_dim, device=device)).reshape(2, num, 1, -1)
    crossover = torch.randint(1, generator.num_layers, (num,), device=device)
    crossover[torch.rand(num, device=device) >= MIXING_PROBABILITY] = generator.num_layers
    layer = torch.arange(generator.num_layers, device=device)
    return torch.where((layer < crossover[:, None])[..., None], w[0], w[1])


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


def load_initial(generator: StyleGAN2, state: dict[str, Any]) -> None:
    """Give `generator` the weights of another of its resolution or of half of it.

    In the second case the last block stays random but for its RGB output, which is zero, so that at first the picture
    is the smaller one, upsampled (instead of the fading of Karras et al. 2018, section 2).
    """
    weights = {name: torch.as_tensor(value).float() for name, value in state.items()}
    new = f"outputs.{len(generator.outputs) - 1}."
    if not any(name.startswith(new) for name in weights):
        own = generator.state_dict()
        block = tuple(f"layers.{len(generator.layers) - offset}." for offset in (1, 2))
        weights |= {name: value for name, value in own.items() if name.startswith((new, *block))}
        weights |= {f"{new}{name}": torch.zeros_like(own[f"{new}{name}"]) for name in ("weight", "bias")}
    generator.load_state_dict(weights)


def r1_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Mean squared gradient norm of the logits at real images (Mescheder et al. 2018), in float32."""
    images = images.detach().requires_grad_()
    dtype, discriminator.dtype = discriminator.dtype, torch.float32
    (gradient,) = torch.autograd.grad(discriminator(images)[0].sum(), images, create_graph=True)
    discriminator.dtype = dtype
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def synchronize_gradients(network: nn.Module) -> None:
    """Average the gradients over the processes, which share busy cores better than threads do."""
    if dist.is_initialized():
        gradients = [parameter.grad for parameter in network.parameters()]
        flat = torch._utils._flatten_dense_tensors(gradients)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, mean in zip(gradients, torch._utils._unflatten_dense_tensors(flat, gradients), strict=True):
            gradient.copy_(mean)


def update_average(average: StyleGAN2, generator: StyleGAN2, batch: int, seen: int) -> None:
    half_life = min(EMA_HALF_LIFE_KIMG * 1000, max(seen, 1) * 0.05)
    decay = 0.5 ** (batch / half_life)
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), generator.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for slow, fast in zip(average.buffers(), generator.buffers(), strict=True):
            slow.copy_(fast)


def make_optimizer(network: nn.Module) -> torch.optim.Adam:
    noises = [value for name, value in network.named_parameters() if name.endswith("noise_strength")]
    others = [value for name, value in network.named_parameters() if not name.endswith("noise_strength")]
    groups = [{"params": part} for part in (others, noises) if part]
    return torch.optim.Adam(groups, betas=(0.0, 0.99), eps=1e-8, fused=True)


def learning_rate(seen: int, total: int, decay: int) -> float:
    """The full rate, but for the last `decay` of `total` images, over which it falls linearly."""
    return LEARNING_RATE * min(1.0, max((total - seen) / decay, LEAST_RATE))


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


def train(rank: int, args: argparse.Namespace) -> None:
    keep_freed_memory()
    torch.set_flush_denormal(True)
    device = choose_device(args.device)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    if args.processes > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=args.rendezvous, rank=rank, world_size=args.processes)
    batch = args.batch // args.processes
    torch.manual_seed(args.seed)
    generator, discriminator = build(args.resolution, device)
    naming = Naming().to(device)
    if args.initial:
        load_initial(generator, read_checkpoint(args.initial).state_dict)
    average = copy.deepcopy(generator).requires_grad_(False)
    optimizers = [make_optimizer(network) for network in (generator, discriminator)]
    parts = {"generator": generator, "discriminator": discriminator, "average": average}
    parts |= {"naming": naming, "generator_optimizer": optimizers[0], "discriminator_optimizer": optimizers[1]}
    checkpoint = args.out / "checkpoint.pth"
    step, seconds = 0, 0.0
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        step, seconds = stored["step"], stored["seconds"]
    torch.manual_seed(args.seed + step * args.processes + rank)
    renders = Renders(args.out / "renders.npy", args.resolution, device)

    def save() -> None:
        if rank > 0:
            return
        state = {name: part.state_dict() for name, part in parts.items()} | {"step": step, "seconds": seconds}
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        save_sheet(average, args.out / f"samples_{step * args.batch // 1000:06d}.png")

    total = args.kimg * 1000
    started = last = time.time()
    last_step = step
    decay = int(1000 * (0.3 * args.kimg if args.decay_kimg is None else args.decay_kimg)) or 1
    while step * args.batch < total and not at_end(bool(told), started, args.minutes):
        seen = step * args.batch
        for optimizer in optimizers:
            for group, rate in zip(optimizer.param_groups, (1.0, NOISE_RATE), strict=False):
                group["lr"] = learning_rate(seen, total, decay) * rate
        real, targets = renders.batch(batch, step * args.processes + rank)
        alone = seen < args.discriminator_kimg * 1000

        # One batch of fakes serves both networks: a second one would cost a sixth of the step.
        with torch.set_grad_enabled(not alone):
            fake = generator(mixed_codes(generator, batch), fresh_noises(generator, batch))
        (logits_real, names_real), (logits_fake, _) = discriminator(real), discriminator(fake.detach())
        loss = F.softplus(logits_fake).mean() + F.softplus(-logits_real).mean()
        naming_loss = naming.loss(names_real, targets)
        loss = loss + NAMING_WEIGHT * naming_loss
        if step % R1_INTERVAL == 0:
            loss = loss + r1_penalty(discriminator, real[: batch // 2]) * (R1_GAMMA / 2 * R1_INTERVAL)
        optimizers[1].zero_grad(set_to_none=True)
        loss.backward()
        synchronize_gradients(discriminator)
        optimizers[1].step()

        if not alone:
            discriminator.requires_grad_(False)
            logits, names = discriminator(fake)
            generator_loss = F.softplus(-logits).mean()
            optimizers[0].zero_grad(set_to_none=True)
            (generator_loss + naming.distance(names_real, names)).backward()
            synchronize_gradients(generator)
            optimizers[0].step()
            discriminator.requires_grad_(True)
            update_average(average, generator, args.batch, seen)

        step += 1
        if step % args.log_steps == 0 and rank == 0:
            now = time.time()
            rate = (step - last_step) * args.batch / (now - last)
            seconds += now - last
            last, last_step = now, step
            line = {
                "kimg": round(step * args.batch / 1000, 2),
                "images/s": round(rate, 1),
                "hours": round(seconds / 3600, 3),
                "real": round(logits_real.mean().item(), 3),
                "fake": round(logits_fake.mean().item(), 3),
                "loss": round(loss.item(), 3),
                "naming": round(naming_loss.item(), 3),
                "means": round(naming.gap()[:, -1].square().sum().item(), 4),
                "covariances": round(naming.gap()[:, :-1].square().sum().item(), 3),
            }
            print(json.dumps(line), flush=True)
            if not math.isfinite(line["loss"]):
                sys.exit("the loss is not finite: go back to the last checkpoint")
        if step * args.batch // (args.sheet_kimg * 1000) > (step - 1) * args.batch // (args.sheet_kimg * 1000):
            save()
    save()


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
    generator = StyleGAN2(max(channels), channels, Z_DIM, W_DIM, MAPPING_LAYERS)
    generator.load_state_dict(weights)
    with torch.no_grad():
        z = torch.randn(100_000, Z_DIM, generator=torch.Generator().manual_seed(1))
        generator.w_avg.copy_(generator.map(z).mean(dim=0))
    state_dict = {name: value.half() for name, value in generator.state_dict().items()}
    write_checkpoint(args.export, "stylegan2", state_dict, {"architecture": "skip"})


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
        mp.spawn(train, args=(args,), nprocs=args.processes)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, sample sheets, renders")
    parser.add_argument("--resolution", type=int, default=64, help="side of the images (default: 64)")
    parser.add_argument("--kimg", type=int, default=500, help="length of the run in thousands of images (default: 500)")
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
    parser.add_argument("--export", type=Path, help="write the averaged generator to this file and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
