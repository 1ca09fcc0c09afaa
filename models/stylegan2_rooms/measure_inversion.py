"""Measure inversion on renders that the embedded model has never seen, whose factors are known: its card's numbers.

python measure_inversion.py OUT                              200 renders, 32 samples of the model itself, the tables
python measure_inversion.py OUT --renders 16 --samples 16 --truth 4 --steps 100      sooner, and less sure

OUT takes the pictures and two runs of `python -m higan.inversion`; stopped, the same command goes on. The distance of
pixels alone is minimised (`--features none`), so that the predictor, which judges here, has no part in what it judges.
Factors kept: what the predictor sees in the picture of the code, against what the renderer drew. Effects: how far a
boundary of boundaries/stylegan2_rooms raises its score on inverted renders, over how far on samples. Truth: a factor
drawn anew, and the render in which only that changed, against the inverted render edited until the predictor gives
it the changed one's score.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes
from train_predictor import label_matrix

import higan
from higan.devices import keep_freed_memory
from higan.directions.boundaries import Boundary, read_boundary
from higan.directions.lists import boundary_files
from higan.editing.inversion_files import InversionRun
from higan.logs import open_log
from higan.predictors import Predictor
from higan.runs.run import read_array

BOUNDARIES = Path(__file__).resolve().parents[2] / "boundaries" / "stylegan2_rooms"
RENDER_SEED, CHANGED_SEED, SAMPLE_SEED, FRESH_SEED = 5, 6, 13, 14  # none of any training
FRESH = 400  # samples that give the scores' standard deviations, and effects to compare with
DISTANCE = 2.0  # at which effects are measured
REACH, TRIES = 6.0, 25  # how far, and in how many steps, an edit is searched that gives a score


class Bench:
    """The model and its predictor, whose scores are counted in standard deviations of the model's samples."""

    def __init__(self) -> None:
        self.generator = higan.load_generator("stylegan2_rooms", truncation_psi=1.0)
        self.predictor: Predictor = higan.load_predictor("rooms")
        self.names = [name for members in self.predictor.names.values() for name in members]
        self.fresh = self.generator.to_wp(self.generator.sample(FRESH, FRESH_SEED), "z")
        self.std = self.see(self.generator.synthesize(self.fresh)).std(axis=0)

    def see(self, images: Tensor | NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return raw scores [N, K] of uint8 images [N, H, W, 3]."""
        found = self.predictor.predict(torch.as_tensor(images))
        return torch.cat(list(found.values()), dim=1).double().numpy()

    def edit(self, codes: Tensor, boundary: Boundary, distance: float) -> Tensor:
        """Return codes wp [N, L, D] moved along a boundary at its layers."""
        return higan.manipulate(codes, boundary, [distance])[:, 0]

    def effect(self, codes: Tensor, boundary: Boundary) -> NDArray[np.float64]:
        """Return how far the boundary's score rises on each of the codes, [N] in its standard deviations."""
        before, after = (self.see(self.generator.synthesize(self.edit(codes, boundary, d))) for d in (0.0, DISTANCE))
        column = self.names.index(boundary.target or boundary.name)
        return (after - before)[:, column] / self.std[column]

    def edit_to(self, codes: Tensor, boundary: Boundary, wanted: NDArray[np.float64]) -> Tensor:
        """Return each of the codes moved to where its score comes nearest to `wanted` [N], as near as may be."""
        column = self.names.index(boundary.target or boundary.name)
        distances = np.linspace(-REACH, REACH, TRIES)
        distances = distances[np.argsort(np.abs(distances), kind="stable")]
        moved = higan.manipulate(codes, boundary, distances)
        scores = self.see(self.generator.synthesize(moved.flatten(0, 1)))[:, column].reshape(len(codes), TRIES)
        best = np.abs(scores - wanted[:, None]).argmin(axis=1)
        return moved[torch.arange(len(codes)), torch.from_numpy(best)]


def invert_pictures(bench: Bench, folder: Path, images: NDArray[np.uint8], steps: int, starts: int) -> InversionRun:
    """Return the finished run that inverts uint8 images [N, H, W, 3], which are written into `folder` first."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    paths = [pictures / f"{index:04d}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        if not path.exists():
            Image.fromarray(image).save(path)
    task = InversionRun(bench.generator, paths, folder, steps, starts)
    with task.run as run:
        task.work(run.begin(overwrite=False))
        run.complete()
    return task


def print_nearness(title: str, task: InversionRun) -> None:
    """Print how near the pictures of the codes come."""
    psnr = task.figures()["psnr"]
    spread = np.percentile(psnr, [5, 50, 95])
    print(
        f"| {title} | {len(psnr)} | {psnr.mean():.1f} | {spread[0]:.1f} | {spread[1]:.1f} | {spread[2]:.1f} | "
        f"{psnr.min():.1f} |"
    )


def print_factors(bench: Bench, labels: NDArray[np.float64], renders: Tensor, found: Tensor) -> None:
    """Print how many yes/no factors are kept, and how the others correlate, beside what the predictor itself misses."""
    seen, kept = bench.see(renders), bench.see(found)
    print("| score | level | kept, or correlation | on the render itself |\n|---|---|---:|---:|")
    table: dict[str, list[tuple[float, float]]] = {"binary": [], "continuous": []}
    for column, name in enumerate(bench.names):
        label, kind = labels[:, column], scenes.KINDS[name]
        if kind == "binary":
            pair = [float(((scores[:, column] > 0) == (label > 0.5)).mean()) for scores in (kept, seen)]
            cells = [f"{share:.1%}" for share in pair]
        else:
            pair = [float(np.corrcoef(scores[:, column], label)[0, 1]) for scores in (kept, seen)]
            cells = [f"{value:.4f}" for value in pair]
        table[kind].append((pair[0], pair[1]))
        print(f"| {name} | {scenes.LEVELS[name]} | {cells[0]} | {cells[1]} |")
    yes, other = (np.array(table[kind]) for kind in ("binary", "continuous"))
    print(
        f"\nYes/no factors kept: {yes[:, 0].mean():.1%} (of the renders themselves {yes[:, 1].mean():.1%} are seen "
        f"right). Correlation of the others: {other[:, 0].mean():.4f} on average, {other[:, 0].min():.4f} at least.\n"
    )


def print_effects(bench: Bench, boundaries: list[Boundary], codes: Tensor) -> None:
    """Print the effect of every boundary on inverted renders over that on samples."""
    print("| boundary | layers | on samples | on inverted renders | share (95 %) |\n|---|---|---:|---:|---|")
    shares = []
    random = np.random.default_rng(0)
    for boundary in boundaries:
        samples, inverted = bench.effect(bench.fresh, boundary), bench.effect(codes, boundary)
        first, second = (each[random.integers(len(each), size=(1000, len(each)))] for each in (inverted, samples))
        drawn = first.mean(axis=1) / second.mean(axis=1)
        shares.append(inverted.mean() / samples.mean())
        low, high = np.percentile(drawn, [2.5, 97.5])
        layers = ", ".join(map(str, boundary.layers or ())) or "all"
        print(
            f"| {boundary.name} | {layers} | {samples.mean():.2f} | {inverted.mean():.2f} | {shares[-1]:.2f} "
            f"({low:.2f} to {high:.2f}) |"
        )
    least = int(np.argmin(shares))
    print(f"\nShare: {np.mean(shares):.2f} on average, {shares[least]:.2f} at least ({boundaries[least].name}).\n")


def print_truth(bench: Bench, boundaries: list[Boundary], codes: Tensor) -> None:
    """Print, per factor, how near the edit comes to the render in which the factor changed.

    Explained: the share of the true change of the picture, 1 - sum |edit - truth|² / sum |truth|², of changes of the
    reconstruction and of the render; before and after, in dB: the reconstruction, unedited and edited, against the
    changed render; others: mean |change| of the scores of other factors, in their standard deviations, by the edit and
    between the renders.
    """
    generator = bench.generator
    by_name = {boundary.target: boundary for boundary in boundaries}
    first, second = (scenes.sample_factors(len(codes), seed=seed) for seed in (RENDER_SEED, CHANGED_SEED))
    found, render = generator.synthesize(codes), draw(first, generator.resolution)
    print(
        "| factor | level | before | after | explained | others: edit | others: renders |\n"
        "|---|---|---:|---:|---:|---:|---:|"
    )
    gains, explained = [], []
    for factor in scenes.FACTORS:
        names = [name for name, of in scenes.FACTOR_OF.items() if of == factor.name]
        if any(name not in by_name for name in names):
            continue
        anew = 1 - first[factor.name] if factor.kind == "binary" else second[factor.name]
        changed = draw(first | {factor.name: anew}, generator.resolution)
        wanted, edited = bench.see(changed), codes
        for name in names * len(names):  # a hue has two scores: twice in turn
            edited = bench.edit_to(edited, by_name[name], wanted[:, bench.names.index(name)])
        after = generator.synthesize(edited)
        truth, made = changed.double() - render, after.double() - found
        before_db, after_db = (psnr(images, changed) for images in (found, after))
        share = 1 - float((made - truth).square().sum() / truth.square().sum())
        others = [column for column, name in enumerate(bench.names) if name not in names]
        moves = [
            np.abs((bench.see(b) - bench.see(a))[:, others] / bench.std[others]).mean()
            for a, b in ((found, after), (render, changed))
        ]
        gains.append(after_db - before_db)
        explained.append(share)
        print(
            f"| {factor.name} | {factor.level} | {before_db:.1f} | {after_db:.1f} | {share:.0%} | {moves[0]:.2f} | "
            f"{moves[1]:.2f} |"
        )
    print(
        f"\nThe edit brings the reconstruction nearer to the changed render by {np.mean(gains):.1f} dB on average, and "
        f"explains {np.mean(explained):.0%} of the true change."
    )


def draw(factors: dict[str, Tensor], resolution: int) -> Tensor:
    """Return renders, uint8 [N, R, R, 3]."""
    return scenes.render(factors, resolution).permute(0, 2, 3, 1).contiguous()


def psnr(images: Tensor, others: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio of uint8 images [N, H, W, 3], in dB."""
    error = (images.double() - others.double()).square().flatten(1).mean(dim=1)
    return float((10 * torch.log10(255**2 / error.clamp(min=1e-10))).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT")
    add("--renders", type=int, default=200, help="renders to invert (default: 200)")
    add("--samples", type=int, default=32, help="samples of the model to invert (default: 32)")
    add("--truth", type=int, default=20, help="renders whose factors are changed, at most --renders (default: 20)")
    add("--steps", type=int, default=200, help="of the optimisation (default: 200)")
    add("--starts", type=int, default=3, help="of the optimisation (default: 3)")
    args = parser.parse_args()
    keep_freed_memory()
    open_log()
    bench = Bench()
    generator = bench.generator
    factors = scenes.sample_factors(args.renders, seed=RENDER_SEED)
    renders = draw(factors, generator.resolution)
    samples = generator.synthesize(generator.sample(args.samples, SAMPLE_SEED), "z")
    own = invert_pictures(bench, args.out / "samples", samples.numpy(), args.steps, args.starts)
    found = invert_pictures(bench, args.out / "renders", renders.numpy(), args.steps, args.starts)
    codes = torch.from_numpy(np.array(read_array(args.out / "renders" / "wp.npy")))
    boundaries = [read_boundary(path) for path in boundary_files(BOUNDARIES)]

    print("| pictures | number | mean dB | 5 % | median | 95 % | least |\n|---|---:|---:|---:|---:|---:|---:|")
    print_nearness("unseen renders", found)
    print_nearness("its own samples", own)
    print()
    print_factors(bench, label_matrix(factors).double().numpy(), renders, generator.synthesize(codes))
    print_effects(bench, boundaries, codes)
    print_truth(bench, boundaries, codes[: args.truth])


if __name__ == "__main__":
    main()
