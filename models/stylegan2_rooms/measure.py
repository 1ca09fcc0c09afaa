"""Measure the embedded generator against the renderer, in the predictor's eyes: the numbers of the model card.

python measure.py                       samples against renders, Fréchet distance, what an edit of the lights changes
python measure.py --sheets DIR          also sheets of samples and of renders
python measure.py --tables DIR          the analysis: how well boundaries separate, and where they and the layers act
python measure.py --ground_truth DIR    the same rises and leaks beside what the renderer's labels say

DIR of the last two is the output folder of make_boundaries.sh; they print Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes
from train_predictor import degrade, label_matrix

import higan
from higan.devices import keep_freed_memory
from higan.directions.boundaries import read_boundary, read_scores
from higan.generators.layer_sets import format_layers
from higan.predictors.rooms import PATH, RoomsPredictor, read_rooms

ROOT = Path(__file__).resolve().parents[2]
RENDER_SEEDS = (3, 4)  # neither the generator's nor the predictor's training scenes
SAMPLE_SEED = 3
BATCH = 250
SEPARATE_SAMPLES, SEPARATE_SHARE = 20_000, 0.05  # the smaller selection that boundaries are tried with
PAIRED_SCENES, PAIRED_BATCH = 500, 25  # scenes of which one factor at a time is drawn anew


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


def print_separation(folder: Path) -> None:
    """Print how well boundaries separate held-out samples, by the selection of samples that they are trained on."""
    codes, scores = np.load(folder / "synthesis" / "w.npy"), read_scores(folder / "synthesis" / "attribute.npy")
    num = min(SEPARATE_SAMPLES, len(codes))
    trained = {path.stem: json.loads(path.read_text()) for path in (folder / "boundaries").glob("*_boundary.json")}
    chosen = max(info["chosen_per_side"] for info in trained.values())
    accuracies = []
    print(
        f"| score | level | {num:,} samples, top and bottom {SEPARATE_SHARE:.0%} "
        f"| {len(codes):,} samples, top and bottom {chosen:,} |\n|---|---|---:|---:|"
    )
    for name, values in scores.items():
        smaller = higan.train_boundary(codes[:num], values[:num], name, chosen_num_or_ratio=SEPARATE_SHARE)
        shipped = trained.get(f"{name}_boundary", {}).get("validation_accuracy", np.nan)
        accuracies.append((smaller.info["validation_accuracy"], shipped))
        print(f"| {name} | {scenes.LEVELS[name]} | {accuracies[-1][0]:.3f} | {shipped:.3f} |")
    enough = (np.array(accuracies) >= 0.95).sum(axis=0)
    print(f"\nValidation accuracy of at least 0.95: {enough[0]} and {enough[1]} of {len(scores)} names.\n")


def print_tables(folder: Path) -> None:
    """Print what rescore.py measured: Δ per boundary and layer, total effect per score and layer, levels."""
    record = json.loads((folder / "rescore.json").read_text())
    delta, swap = np.load(folder / "rescore_delta.npy"), np.load(folder / "rescore_swap.npy")
    control = np.load(folder / "rescore_control_delta.npy")[:, 0], np.load(folder / "rescore_control_high.npy")[0]
    layers = range(swap.shape[1])
    head = f"| {' | '.join(f'{layer}' for layer in layers)} |"
    order = {name: position for position, name in enumerate(record["outputs"])}
    rows = sorted(enumerate(record["boundaries"]), key=lambda row: order[row[1]["name"]])
    accepted = []
    print(f"| boundary | level | verified | random | all {head}\n|---|---|---|---:|---:|{'---:|' * len(layers)}")
    for row, boundary in rows:
        name, verified = boundary["name"], boundary["verified_layers"]
        values, random = delta[row, :, order[name]], [part[..., order[name]] for part in control]
        if verified:
            accepted.append((values[0] / random[1], name, values[0], random[0].mean(), random[1]))
        chance = f"{random[0].mean():.2f} (≤ {random[1]:.2f})"
        print(
            f"| {name} | {boundary['level']} | {format_layers(verified) or '–'} | {chance} | {values[0]:.2f} | "
            f"{bold_best(values[1:])} |"
        )
    if accepted:
        _, name, own, mean, high = min(accepted)
        print(
            f"\n{len(accepted)} boundaries have verified layers. The weakest of them against chance is {name}: Δ "
            f"{own:.2f}; random directions reach {mean:.2f} on average, and {high:.2f} with chance 1e-4."
        )
    print(f"\n| score | level {head}\n|---|---|{'---:|' * len(layers)}")
    for name, row in order.items():
        print(f"| {name} | {record['output_levels'][row]} | {bold_best(swap[row])} |")
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


def bold_best(values: np.ndarray) -> str:
    """Return the cells of a row, the largest in bold."""
    return " | ".join(f"**{value:.2f}**" if value == values.max() else f"{value:.2f}" for value in values)


@dataclass
class PairedChanges:
    """Changes of all K scores and labels when one factor of a rendered scene is drawn anew, the others kept.

    Attributes
    ----------
    labels
        {factor: float [N, K]}: change of the renderer's labels.
    scores
        {factor: float [2, N, K]}: change of the predictor's scores, of the renders and of the same ones degraded.
    """

    labels: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]


@torch.inference_mode()
def draw_factors_anew(network: RoomsPredictor, num: int = PAIRED_SCENES) -> PairedChanges:
    """Render `num` scenes and, for every factor, the same scenes with that factor of other scenes; score them all."""
    generator = torch.Generator().manual_seed(RENDER_SEEDS[0])
    labels: dict[str, list[np.ndarray]] = {factor.name: [] for factor in scenes.FACTORS}
    scores: dict[str, list[np.ndarray]] = {factor.name: [] for factor in scenes.FACTORS}
    for start in range(0, num, PAIRED_BATCH):
        first, second = (scenes.sample_factors(PAIRED_BATCH, seed=seed, start=start) for seed in RENDER_SEEDS)
        changed = [first, *(first | {factor.name: second[factor.name]} for factor in scenes.FACTORS)]
        images = torch.cat([scenes.render(factors, network.resolution) for factors in changed]).float() / 127.5 - 1
        # one degradation for the batch: a generator's flaws do not come and go with a factor
        raw = torch.stack([network(images), network(degrade(images, generator))]).numpy()
        raw = raw.reshape(2, len(changed), PAIRED_BATCH, -1)
        truth = torch.stack([label_matrix(factors) for factors in changed]).numpy()
        for row, factor in enumerate(scenes.FACTORS, start=1):
            labels[factor.name].append(truth[row] - truth[0])
            scores[factor.name].append(raw[:, row] - raw[:, 0])
    return PairedChanges(
        {name: np.concatenate(parts) for name, parts in labels.items()},
        {name: np.concatenate(parts, axis=1) for name, parts in scores.items()},
    )


def print_ground_truth(folder: Path) -> None:
    """Print, per score, what the predictor makes of a change of its factor alone, and a boundary's rise in that light.

    Generated images have no labels, but the predictor can be asked about renders of which one factor alone changes:
    how far its score follows the label, and which other scores move although their labels do not. That turns a
    boundary's Δ into a rise of the label, and its leakage into labels per label, beside what the predictor alone
    makes of it. "Follows" is the share of changed labels that the score follows in sign, on degraded renders.
    """
    network, names, _, _ = read_rooms(PATH)
    network.fold()
    changes = draw_factors_anew(network)
    factors = [scenes.FACTOR_OF[name] for name in names]
    own = [(changes.labels[factor][:, k], changes.scores[factor][..., k]) for k, factor in enumerate(factors)]
    units = np.array([[slope(label, part) for part in score] for label, score in own])  # [K, 2], degraded last

    record = json.loads((folder / "rescore.json").read_text())
    delta, signed = (np.load(folder / f"rescore_{name}.npy")[:, 0] for name in ("delta", "signed"))
    rows = {boundary["name"]: row for row, boundary in enumerate(record["boundaries"])}
    print(
        "| score | level | score per label, clean | degraded | follows | Δ | Δ in labels "
        "| boundary's largest leak | the predictor's |\n|---|---|---:|---:|---:|---:|---:|---|---:|"
    )
    for k, name in enumerate(names):
        label, score = own[k]
        moved = label != 0
        agrees = (np.sign(score[1, moved]) == np.sign(label[moved])).mean()
        cells = [name, scenes.LEVELS[name], f"{units[k, 0]:.2f}", f"{units[k, 1]:.2f}", f"{agrees:.1%}"]
        if name in rows:
            row = rows[name]
            leaks = (signed[row] / units[:, 1]) / (signed[row, k] / units[k, 1])
            others = [other for other, factor in enumerate(factors) if factor != factors[k]]
            most = max(others, key=lambda other: abs(leaks[other]))
            rest = changes.scores[factors[k]][1, :, most] / units[most, 1] - changes.labels[factors[k]][:, most]
            rise = delta[row, k] / units[k, 1]
            if scenes.KINDS[name] == "binary":  # a label of 0 or 1 rises where the score crosses zero
                before, after = np.load(folder / f"{name}_w_scores.npy")[:, :2].T
                rise = ((before <= 0) & (after > 0)).mean()
            leak = f"{names[most]} {leaks[most]:+.2f}"
            cells += [f"{delta[row, k]:.2f}", f"{rise:.2f}", leak, f"{slope(label, rest):+.2f}"]
        else:
            cells += ["–"] * 4
        print(f"| {' | '.join(cells)} |")


def slope(changes: np.ndarray, responses: np.ndarray) -> float:
    """Return how far responses [N] go per unit of changes [N], by least squares through the origin."""
    return float(changes @ responses / (changes @ changes))


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
    parser.add_argument("--tables", type=Path, metavar="DIR", help="print the tables of the analysis")
    parser.add_argument("--ground_truth", type=Path, metavar="DIR", help="print them beside the renderer's labels")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.tables or args.ground_truth:
        if args.tables:
            print_separation(args.tables)
            print_tables(args.tables / "rescore")
        if args.ground_truth:
            print()
            print_ground_truth(args.ground_truth / "rescore")
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
