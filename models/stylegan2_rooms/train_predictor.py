"""Train the `rooms` predictor on renders, clean and degraded like generated pictures, and test it on unseen ones.

    python train_predictor.py --renders runs/128/renders.npy --export rooms_predictor.pth
    python train_predictor.py --evaluate rooms_predictor.pth

and a judge that shares neither renders nor weights with it and looks at every pixel, for the Fréchet distance and for
`compare_recipes.py`:

    python train_predictor.py --renders judge.npy --scenes 4000 --scene_seed 5 --seed 5 --resolution 128 \\
        --channels 12 24 48 64 96 --epochs 6 --export judge.pth

The renders are the pool that `train_generator.py` made, or are drawn first where the file is not there; the labels
follow from the scenes, so none are stored. The test draws 5,000 scenes of another seed and prints accuracy of binary
scores and R² of continuous ones, on clean renders and on degraded ones.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes

from higan.devices import choose_device, keep_freed_memory
from higan.predictors.rooms import RoomsPredictor, read_rooms, write_rooms

SCENE_SEED = 1  # of the scenes that train the generator and this predictor
TEST_SEED = 2
TEST_SCENES = 5000
LEARNING_RATE = 2e-3
BATCH = 100
RENDERED_AT_ONCE = 25


def fast_type(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32: a processor that imitates it takes ten times as long."""
    native = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def render_pool(path: Path, num: int, resolution: int, scene_seed: int, processes: int = 1) -> None:
    """Write `num` renders, uint8 [num, 3, R, R], to the memory-mapped file `path` unless it is there."""
    if path.exists():
        return
    part = path.with_suffix(".part.npy")
    images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(num, 3, resolution, resolution))
    started = time.time()
    for start in range(0, num, 500):
        stop = min(start + 500, num)
        factors = scenes.sample_factors(stop - start, scene_seed, start)
        images[start:stop] = render_many(factors, resolution, processes).numpy()
        print(f"rendered {stop} of {num} in {time.time() - started:.0f} s", flush=True)
    images.flush()
    part.rename(path)


def render_many(factors: dict[str, Tensor], resolution: int, processes: int = -1) -> Tensor:
    """Draw scenes as `scenes.render` does, in as many processes as there are processors (-1), or in fewer."""
    parts = zip(*(values.split(RENDERED_AT_ONCE) for values in factors.values()), strict=True)
    work = [delayed(scenes.render)(dict(zip(factors, part, strict=True)), resolution) for part in parts]
    return torch.cat(Parallel(n_jobs=processes if len(work) > 1 else 1)(work))


def label_matrix(factors: dict[str, Tensor]) -> Tensor:
    """Targets [N, K] in the order of `scenes.SCORE_NAMES`."""
    return torch.stack(list(scenes.labels(factors).values()), dim=1)


def label_losses(raw: Tensor, targets: Tensor, binary: Tensor) -> Tensor:
    """Cross-entropy of the outputs [N, K] that are `binary` [K], half the squared error of the others, [N, K]."""
    entropy = F.binary_cross_entropy_with_logits(raw, targets.clamp(0.02, 0.98), reduction="none")
    return torch.where(binary, entropy, 0.5 * (raw - targets).square())


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make images [N, 3, R, R] in [-1, 1] look generated, each half of the batch in one random way.

    Blur (a lower resolution and back), noise, a change of exposure within a few percent and a shift by up to two
    pixels: what a generator gets wrong without changing what the picture shows.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand([], generator=generator).item()

    size = images.shape[-1]
    small = int(size * uniform(0.45, 1.0))
    blurred = F.interpolate(images, size=(small, small), mode="bilinear", antialias=True, align_corners=False)
    blurred = F.interpolate(blurred, size=(size, size), mode="bilinear", align_corners=False)
    noisy = blurred + torch.randn(images.shape, generator=generator) * uniform(0.0, 0.12)
    shift = [int(uniform(-2.5, 2.5)) for _ in range(2)]
    return (noisy * uniform(0.96, 1.04)).roll(shift, dims=(2, 3)).clamp(-1, 1)


def resize(images: Tensor, side: int) -> Tensor:
    """Images [N, 3, R, R] at the side that a network looks at, as `RoomsPredictor.prepare` reduces them."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def train(args: argparse.Namespace) -> None:
    pool = np.load(args.renders, mmap_mode="r")
    targets = label_matrix(scenes.sample_factors(len(pool), args.scene_seed))
    binary = torch.tensor([scenes.KINDS[name] == "binary" for name in scenes.SCORE_NAMES])
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    device = choose_device(args.device)
    if args.initial:
        network = read_rooms(args.initial)[0].float().train()
    else:
        network = RoomsPredictor(len(scenes.SCORE_NAMES), args.resolution, args.channels)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = args.epochs * (len(pool) // BATCH)
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / 200, 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3)
        if step % (len(pool) // BATCH) == 0:
            order = torch.randperm(len(pool), generator=generator)
        rows = order[step % (len(pool) // BATCH) * BATCH :][:BATCH].sort().values
        images = torch.from_numpy(pool[rows.numpy()]).float() / 127.5 - 1
        images[::2] = degrade(images[::2], generator)
        images = resize(images, network.resolution)
        target = targets[rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_type(device) == torch.bfloat16):
            raw = network(images.to(device)).float()
        losses = label_losses(raw, target, binary.to(device))
        optimizer.zero_grad(set_to_none=True)
        losses.mean(dim=0).sum().backward()
        optimizer.step()
        if (step + 1) % 50 == 0:
            line = {"step": step + 1, "of": steps, "images/s": round((step + 1) * BATCH / (time.time() - started)),
                    "loss": round(losses.mean().item(), 4)}  # fmt: skip
            print(json.dumps(line), flush=True)
    write_rooms(args.export, network.eval(), scenes.SCORE_NAMES, scenes.LEVELS, scenes.KINDS)


@torch.inference_mode()
def evaluate(path: Path, size: int) -> dict[str, tuple[float, float]]:
    """Return accuracy (binary) or R² (continuous) of every score on unseen renders of a size, clean and degraded."""
    network, names, _, _ = read_rooms(path)
    network.fold()
    generator = torch.Generator().manual_seed(TEST_SEED)
    raw, truth = [], []
    for start in range(0, TEST_SCENES, BATCH):
        factors = scenes.sample_factors(BATCH, TEST_SEED, start)
        images = render_many(factors, size).float() / 127.5 - 1
        both = torch.stack([images, degrade(images, generator)]).flatten(0, 1)
        raw.append(network(resize(both, network.resolution)).view(2, BATCH, -1))
        truth.append(label_matrix(factors))
    predicted, expected = torch.cat(raw, dim=1), torch.cat(truth)
    results = {}
    for column, name in enumerate(names):
        score, label = predicted[..., column], expected[:, column]
        if scenes.KINDS[name] == "binary":
            values = ((score > 0) == (label > 0.5)).float().mean(dim=1)
        else:
            values = 1 - (score - label).square().mean(dim=1) / label.var(unbiased=False)
        results[name] = (values[0].item(), values[1].item())
    return results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=Path, help="pool of renders, uint8 [N, 3, R, R], drawn first if not there")
    parser.add_argument("--scenes", type=int, default=30_000, help="renders of a pool not there (default: 30000)")
    parser.add_argument("--scene_seed", type=int, default=SCENE_SEED, help="seed of the scenes (default: 1)")
    parser.add_argument("--size", type=int, default=128, help="side of renders that are drawn (default: 128)")
    parser.add_argument("--processes", type=int, default=1, help="processes that draw them (default: 1)")
    parser.add_argument("--resolution", type=int, default=64, help="side that the network looks at (default: 64)")
    parser.add_argument(
        "--channels",
        type=int,
        nargs=5,
        default=[24, 48, 96, 128, 192],
        metavar="WIDTH",
        help="of the network, at its full resolution and at each half (default: 24 48 96 128 192)",
    )
    parser.add_argument(
        "--initial", type=Path, metavar="FILE", help="predictor to begin with (default: random weights)"
    )
    parser.add_argument("--export", type=Path, default=Path("rooms_predictor.pth"), help="weight file to write")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the pool (default: 10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and degradations (default: 0)")
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="only test this weight file")
    args = parser.parse_args()
    if not args.evaluate and not args.renders:
        parser.error("nothing to do: give --renders to train or --evaluate to test")
    return args


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    if not args.evaluate:
        render_pool(args.renders, args.scenes, args.size, args.scene_seed, args.processes)
        train(args)
    print("| score | level | measure | clean | degraded |\n|---|---|---|---:|---:|")
    for name, (clean, degraded) in evaluate(args.evaluate or args.export, args.size).items():
        measure = "accuracy" if scenes.KINDS[name] == "binary" else "R²"
        print(f"| {name} | {scenes.LEVELS[name]} | {measure} | {clean:.4f} | {degraded:.4f} |")


if __name__ == "__main__":
    main()
