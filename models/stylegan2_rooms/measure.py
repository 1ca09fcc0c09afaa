"""Measure the embedded generator against the renderer, in the predictor's eyes: the numbers of the model card.

python measure.py                 samples against renders, Fréchet distance, what an edit of the lights changes
python measure.py --sheets DIR    also sheets of samples and of renders
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes

import higan
from higan.boundaries import read_boundary
from higan.devices import keep_freed_memory
from higan.predictors.rooms import PATH, RoomsPredictor, read_rooms

ROOT = Path(__file__).resolve().parents[2]
RENDER_SEEDS = (3, 4)  # neither the generator's nor the predictor's training scenes
SAMPLE_SEED = 3
BATCH = 250


def sample_images(generator: higan.Generator, num: int) -> Tensor:
    """uint8 [num, R, R, 3], without truncation."""
    images = [
        generator.synthesize(generator.map(generator.sample(BATCH, SAMPLE_SEED, start)), space="w").cpu()
        for start in range(0, num, BATCH)
    ]
    return torch.cat(images)


def render_images(resolution: int, num: int, seed: int) -> Tensor:
    """uint8 [num, R, R, 3]."""
    images = [
        scenes.render(scenes.sample_factors(BATCH, seed=seed, start=start), resolution)
        for start in range(0, num, BATCH)
    ]
    return torch.cat(images).permute(0, 2, 3, 1)


@torch.inference_mode()
def scores_and_features(network: RoomsPredictor, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores [N, K] and features [N, F] of uint8 images [N, R, R, 3]."""
    features = torch.cat([network.features(network.prepare(block)) for block in images.split(BATCH)])
    return network.head(features).numpy(), features.double().numpy()


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two feature sets [N, F] (Heusel et al. 2017, equation 6)."""
    mean = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # trace of the root of one @ two through the symmetric root of one: eigenvalues stay real
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(min=0)).sum()
    return float(mean @ mean + np.trace(one) + np.trace(two) - 2 * cross)


def compare(names: list[str], samples: np.ndarray, renders: np.ndarray) -> None:
    """Print, per score, how often (binary) or how much (continuous) samples and renders show it."""
    print(f"{'score':<18} {'level':<10} {'renders':>15} {'samples':>15}  difference")
    for column, name in enumerate(names):
        first, second = renders[:, column], samples[:, column]
        if scenes.KINDS[name] == "binary":
            shares = (first > 0).mean(), (second > 0).mean()
            both, difference = [f"{share:.3f}" for share in shares], f"{shares[1] - shares[0]:+.3f}"
        else:
            both = [f"{values.mean():+.2f} ± {values.std():.2f}" for values in (first, second)]
            difference = f"{second.mean() - first.mean():+.3f} {second.std() - first.std():+.3f}"
        print(f"{name:<18} {scenes.LEVELS[name]:<10} {both[0]:>15} {both[1]:>15}  {difference}")


def measure_lighting(generator: higan.Generator, network: RoomsPredictor, names: list[str], num: int = 500) -> None:
    """Print the share of rooms that an `indoor_lighting` edit brightens, and of beds that stay where they are."""
    boundary = read_boundary(ROOT / "boundaries" / "stylegan2_rooms" / "indoor_lighting_boundary.npy")
    codes = generator.broadcast(generator.map(generator.sample(num, SAMPLE_SEED)))
    moved = torch.from_numpy(
        higan.manipulate(codes.numpy(), boundary, [2.0], layers=boundary.layers, strength=generator.psi().numpy())[:, 0]
    )
    before, after = generator.synthesize(codes), generator.synthesize(moved)
    brighter = (after.float().mean(dim=(1, 2, 3)) > before.float().mean(dim=(1, 2, 3))).float().mean().item()
    scores = [scores_and_features(network, images)[0] for images in (before, after)]
    side, view = names.index("bed_left"), names.index("viewpoint")
    stays = ((scores[0][:, side] > 0) == (scores[1][:, side] > 0)) & (
        abs(scores[1][:, view] - scores[0][:, view]) < 0.25
    )
    print(f"indoor_lighting +2: {brighter:.1%} of {num} rooms are brighter, the bed stays in {stays.mean():.1%}")


def print_tables(folder: Path) -> None:
    """Print what rescore.py measured: Δ per boundary and layer, swap share per score and layer, levels."""
    record = json.loads((folder / "rescore.json").read_text())
    delta, swap = np.load(folder / "rescore_delta.npy"), np.load(folder / "rescore_swap.npy")
    layers = range(swap.shape[1])
    head = f"| {' | '.join(f'{layer}' for layer in layers)} |"
    rule = f"|---|---|{'---:|' * (len(layers) + 1)}"
    order = {name: position for position, name in enumerate(record["outputs"])}
    rows = sorted(enumerate(record["boundaries"]), key=lambda row: order[row[1]["name"]])
    print(f"| boundary | level | all {head}\n|---|---|---:|{'---:|' * len(layers)}")
    for row, boundary in rows:
        values = delta[row, :, order[boundary["name"]]]
        bold = [f"**{value:.2f}**" if value == values[1:].max() else f"{value:.2f}" for value in values[1:]]
        level = record["output_levels"][order[boundary["name"]]]
        print(f"| {boundary['name']} | {level} | {values[0]:.2f} | {' | '.join(bold)} |")
    print(f"\n| score | level {head}\n{rule[: -len('---:|')]}")
    for name, row in order.items():
        bold = [f"**{value:.2f}**" if value == swap[row].max() else f"{value:.2f}" for value in swap[row]]
        print(f"| {name} | {record['output_levels'][row]} | {' | '.join(bold)} |")
    print("\n| measured by | level | centre of mass (95 %) | step from the level before (95 %) |\n|---|---|---|---|")
    for title, key in (("boundaries", "hierarchy"), ("layer swap", "swap_hierarchy")):
        found = record[key]
        for index, level in enumerate(found["levels"]):
            center, step = [
                "{:.2f} ({:.2f} to {:.2f})".format(*(found[f"{name}{end}"][place] for end in ("", "_low", "_high")))
                if place >= 0
                else ""
                for name, place in (("level_center", index), ("level_step", index - 1))
            ]
            print(f"| {title} | {level} | {center} | {step} |")


def save_sheet(images: Tensor, path: Path, columns: int = 12, scale: int = 2) -> None:
    """Write uint8 images [N, R, R, 3] as one sheet."""
    rows, size = len(images) // columns, images.shape[1]
    sheet = images[: rows * columns].reshape(rows, columns, size, size, 3).permute(0, 2, 1, 3, 4)
    picture = Image.fromarray(sheet.reshape(rows * size, columns * size, 3).numpy())
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.LANCZOS).save(path)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num", type=int, default=10_000, help="samples, and renders of each of two sets (default: 10000)"
    )
    parser.add_argument("--model", default="stylegan2_rooms", help="name or file (default: stylegan2_rooms)")
    parser.add_argument("--sheets", type=Path, help="folder for samples.png and renders.png")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="output folder of rescore.py --layer_swap")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.tables:
        print_tables(args.tables)
        return
    keep_freed_memory()
    generator = higan.load_generator(args.model, truncation_psi=1.0, device="cpu")
    network, names, _, _ = read_rooms(PATH)
    network.fold()
    images = sample_images(generator, args.num)
    renders = [render_images(generator.resolution, args.num, seed) for seed in RENDER_SEEDS]
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        save_sheet(images[:72], args.sheets / "samples.png")
        save_sheet(renders[0][:72], args.sheets / "renders.png")
    samples, sample_features = scores_and_features(network, images)
    (first, first_features), (_, second_features) = (scores_and_features(network, block) for block in renders)
    compare(names, samples, first)
    floor = frechet_distance(first_features, second_features)
    distance = frechet_distance(sample_features, first_features)
    print(f"Fréchet distance: samples to renders {distance:.2f}, renders to renders {floor:.2f}")
    print(f"Fréchet ratio: {distance / floor:.1f}")
    if args.model == "stylegan2_rooms":
        measure_lighting(generator, network, names)


if __name__ == "__main__":
    main()
