"""Train the `rooms` predictor on renders, clean and degraded like generated pictures, and test it on unseen ones.

    python train_predictor.py --renders runs/64/renders.npy --export rooms_predictor.pth
    python train_predictor.py --evaluate rooms_predictor.pth

The renders are the pool that `train_generator.py` made; the labels follow from the scenes, so none are stored. The test
draws 5,000 scenes of another seed and prints accuracy of binary scores and R² of continuous ones.
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
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes

from higan.devices import choose_device, keep_freed_memory
from higan.predictors.rooms import RoomsPredictor, read_rooms, write_rooms

POOL_SEED = 1  # of train_generator.py
TEST_SEED = 2
TEST_SCENES = 5000
LEARNING_RATE = 2e-3
BATCH = 100


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


def train(args: argparse.Namespace) -> None:
    pool = np.load(args.renders, mmap_mode="r")
    targets = label_matrix(scenes.sample_factors(len(pool), seed=POOL_SEED))
    binary = torch.tensor([scenes.KINDS[name] == "binary" for name in scenes.SCORE_NAMES])
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    device = choose_device(args.device)
    network = RoomsPredictor(len(scenes.SCORE_NAMES), resolution=pool.shape[-1]).to(
        device, memory_format=torch.channels_last
    )
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
        target = targets[rows].to(device)
        with torch.autocast(device.type, torch.bfloat16):
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
def evaluate(path: Path) -> dict[str, float]:
    """Return accuracy (binary) or R² (continuous) of every score on unseen renders."""
    network, names, _, _ = read_rooms(path)
    network.eval()
    raw, truth = [], []
    for start in range(0, TEST_SCENES, 250):
        factors = scenes.sample_factors(250, seed=TEST_SEED, start=start)
        images = scenes.render(factors, network.resolution)
        raw.append(network(images.float() / 127.5 - 1))
        truth.append(label_matrix(factors))
    predicted, expected = torch.cat(raw), torch.cat(truth)
    results = {}
    for column, name in enumerate(names):
        score, label = predicted[:, column], expected[:, column]
        if scenes.KINDS[name] == "binary":
            results[name] = ((score > 0) == (label > 0.5)).float().mean().item()
        else:
            results[name] = 1 - ((score - label).square().mean() / label.var(unbiased=False)).item()
    return results


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=Path, help="pool of renders, uint8 [N, 3, R, R], made by train_generator.py")
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
        train(args)
    for name, value in evaluate(args.evaluate or args.export).items():
        measure = "accuracy" if scenes.KINDS[name] == "binary" else "R²"
        print(f"{name:<18} {scenes.LEVELS[name]:<10} {measure:<9} {value:.4f}")


if __name__ == "__main__":
    main()
