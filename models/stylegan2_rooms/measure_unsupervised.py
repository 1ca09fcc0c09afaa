"""Measure directions that are found without labels: how many of the predictor's 20 scores they serve, by method.

python measure_unsupervised.py OUT               every method, 20 directions each; prints a Markdown table
python measure_unsupervised.py OUT --num 40 --methods pca random              sooner, and less sure

A direction serves a score if moving by 3 standard deviations of w along it, one way or the other, raises the score by
at least 1 of its own, and the others by at most 0.3 per unit of that, in the mean of their |mean rise|. Every
direction is so moved as far as samples vary along it (GANSpace counts in these units too). For every score the
direction is chosen on one half of the samples, among those that serve it there the one of least leak; whether it still
serves is said by the other half. The stricter count asks the largest leak, not the mean one, to be at most 0.3. OUT
keeps what is measured of each method; stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import higan
from higan.devices import keep_freed_memory
from higan.directions.boundaries import Boundary
from higan.directions.unsupervised import find_directions
from higan.files import write_array
from higan.predictors import Predictor

DIRECTIONS, REACH = 20, 3.0  # how many, and how far, in standard deviations of w along each
LEAST_EFFECT, MOST_LEAK = 1.0, 0.3
SEED, SPREAD_SEED = 15, 16  # of the samples that are moved, and of those that give the scores' standard deviations
SPREAD = 1000
# method, layers (of `activations` the one that they leave, of `closed_form` those factorised and moved), and in words
METHODS: dict[str, tuple[str, str | None, str]] = {
    "random": ("random", None, "random directions (the control)"),
    "pca": ("pca", None, "principal components of w (GANSpace)"),
    "activations": ("activations", "0", "principal components of what leaves layer 0 (GANSpace)"),
    "closed_form": ("closed_form", None, "eigenvectors of the style weights, all layers (SeFa)"),
    "closed_form 3-5": ("closed_form", "3-5", "eigenvectors of the style weights, layers 3-5 (SeFa)"),
    "closed_form 0-2": ("closed_form", "0-2", "eigenvectors of the style weights, layers 0-2 (SeFa)"),
    "closed_form 6-11": ("closed_form", "6-11", "eigenvectors of the style weights, layers 6-11 (SeFa)"),
}


class Bench:
    """The model, its predictor, and the samples that are moved."""

    def __init__(self, num: int) -> None:
        self.generator = higan.load_generator("stylegan2_rooms", truncation_psi=1.0)
        self.predictor: Predictor = higan.load_predictor("rooms")
        self.names = [name for members in self.predictor.names.values() for name in members]
        self.spread = self.generator.map(self.generator.sample(SPREAD, SPREAD_SEED))  # w
        self.std = self.score(self.generator.broadcast(self.spread)).std(axis=0)
        self.codes = self.generator.to_wp(self.generator.sample(num, SEED), "z")
        self.base = self.score(self.codes)

    def score(self, codes: Tensor) -> NDArray[np.float64]:
        """Return raw scores [N, K] of codes wp [N, L, D]."""
        found = self.predictor.predict(self.generator.synthesize(codes))
        return torch.cat(list(found.values()), dim=1).double().numpy()

    def rises(self, boundary: Boundary) -> NDArray[np.float32]:
        """Return how far the scores rise in standard deviations when moved forth and back, [2, N, K]."""
        found = []
        reach = REACH * float((self.spread @ torch.from_numpy(boundary.direction[0])).std())
        for distance in (reach, -reach):
            moved = higan.manipulate(self.codes, boundary, [distance])[:, 0]
            found.append((self.score(moved) - self.base) / self.std)
        return np.stack(found).astype(np.float32)

    def measure(self, name: str) -> NDArray[np.float32]:
        """Return the rises of a method's directions both ways, [2 * 20, N, K]."""
        method, layers, _ = METHODS[name]
        boundaries = find_directions(self.generator, method, DIRECTIONS, layers)
        return np.concatenate([self.rises(boundary) for boundary in boundaries])


def effects(rises: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Return effect, mean leak and largest leak per unit of it, of every move on every score, [M, K] each.

    Parameters
    ----------
    rises
        [M, N, K]. Leaks are infinite where a score does not rise.
    """
    own = rises.mean(axis=1, dtype=np.float64)
    others = np.abs(own)[:, None, :].repeat(own.shape[1], axis=1)  # [M, K, K]: what moves along, by score
    others[:, np.arange(own.shape[1]), np.arange(own.shape[1])] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, largest = others.sum(axis=2) / (own.shape[1] - 1) / own, others.max(axis=2) / own
    return own, np.where(own > 0, mean, np.inf), np.where(own > 0, largest, np.inf)


def served(rises: NDArray[np.float32], strict: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which scores [K] a move serves on the first half of samples, and which the chosen serves on the other."""
    half = rises.shape[1] // 2
    (own, *leaks), (own_after, *leaks_after) = effects(rises[:, :half]), effects(rises[:, half:])
    leak, leak_after = leaks[strict], leaks_after[strict]
    passes = (own >= LEAST_EFFECT) & (leak <= MOST_LEAK)
    best = np.where(passes, leak, np.inf).argmin(axis=0)
    scores = np.arange(own.shape[1])
    after = (own_after[best, scores] >= LEAST_EFFECT) & (leak_after[best, scores] <= MOST_LEAK)
    return passes.any(axis=0), passes.any(axis=0) & after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD", help=", ".join(METHODS))
    add("--num", type=int, default=80, help="samples, half of them to choose directions (default: 80)")
    args = parser.parse_args()
    keep_freed_memory()
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.num)
    print("| directions | chosen | serve | strictly | scores |\n|---|---:|---:|---:|---|")
    for name in args.methods:
        path = args.out / f"{name.replace(' ', '_')}_{args.num}.npy"
        if not path.exists():
            write_array(path, bench.measure(name))
        rises = np.load(path)
        chosen, still = served(rises, strict=False)
        strictly = served(rises, strict=True)[1]
        scores = ", ".join(np.array(bench.names)[still]) or "–"
        print(f"| {METHODS[name][2]} | {chosen.sum()} | {still.sum()} | {strictly.sum()} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
