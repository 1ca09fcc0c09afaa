"""Compare ways to find directions on the embedded model: how far each moves its own score, and how far the others.

python compare_recipes.py SYNTHESIS                    prints a table; SYNTHESIS is step 1's output, with predictions
python compare_recipes.py SYNTHESIS --num 60 --turns 1 --recipes svm ridge_soft_layers   sooner, and less sure
python compare_recipes.py SYNTHESIS --second judge.pth --json recipes.json   for the card
python compare_recipes.py SYNTHESIS --stretch 300 --recipes svm ridge ridge_soft    of a w that varies unevenly

A turn retrains every recipe on resampled samples and measures it on fresh ones, so that the intervals hold what the
training set decides. Own: mean rise of a direction's own score at distance 2. Leak, largest: mean and largest |mean
rise| of the others, per unit of own; where `svm` is the first recipe, also at the distance where each direction's own
effect is the one of `svm`. All in standard deviations of the scores, means over all names. mean_ad and max_ad:
attribute dependency where the own score rises by 0.5 to 1.5. dci: what w along the directions says of the scores.
verified: how many directions the control verifies at exactly the layers chosen. `_2`: judged by the second predictor,
which no recipe has seen: what fools the first alone does not move it. `--stretch` finds directions in turned and
stretched coordinates of w, as training leaves them in many generators, and measures them as before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import higan
from higan.devices import keep_freed_memory
from higan.directions.boundaries import read_scores
from higan.directions.evaluation import attribute_dependency, dci
from higan.directions.gradient import gradient_slopes
from higan.directions.ridge import ridge_slopes
from higan.directions.slopes import Slopes, find_covariance
from higan.directions.steps import step_slopes
from higan.directions.training import train_boundary
from higan.generators import Generator
from higan.predictors import Predictor
from higan.predictors.rooms import load_rooms
from higan.rescoring.statistics import VERIFIED, choose_layers, chosen_limit, judge
from higan.runs.run import read_array

DISTANCE, STRENGTH = 2.0, 10.0
PROBES, STEPS = 64, 2000  # samples that gradients are taken of, and random steps
CHOICE_SEED, FRESH_SEED = 11, 12  # samples that layers are chosen by, and those that are judged; step 1 has seed 0
CONTROLS = 20  # random directions that verify


@dataclass
class Recipe:
    """How directions are found, whether they are disentangled, and whether layers are chosen."""

    way: str
    soft: bool = False
    layers: bool = False


RECIPES = {
    "svm": Recipe("svm"),
    "svm_layers": Recipe("svm", layers=True),
    "svm_auto": Recipe("svm_auto"),
    "ridge": Recipe("ridge"),
    "ridge_soft": Recipe("ridge", soft=True),
    "ridge_soft_layers": Recipe("ridge", soft=True, layers=True),
    "steps_soft_layers": Recipe("steps", soft=True, layers=True),
    "gradient_soft_layers": Recipe("gradient", soft=True, layers=True),
    "gradient_wp_soft": Recipe("gradient_wp", soft=True),
}


class Bench:
    """The model, the predictors that judge, and the samples of one turn."""

    def __init__(
        self, judges: list[Predictor], codes: np.ndarray, scores: dict[str, np.ndarray], turn: int, stretch: float = 1.0
    ) -> None:
        self.generator = higan.load_generator("stylegan2_rooms", truncation_psi=1.0)
        self.judges, self.turn = judges, turn
        random = np.random.default_rng(turn)
        rows = np.arange(len(codes)) if turn == 0 else random.integers(len(codes), size=len(codes))
        self.samples, self.scores = codes[rows], {name: values[rows] for name, values in scores.items()}
        self.codes = self.samples  # in the coordinates that directions are found in
        self.back: np.ndarray | None = None  # from these to w
        if stretch != 1:
            turned = np.linalg.qr(np.random.default_rng(2).standard_normal((codes.shape[1],) * 2))[0]
            lengths = np.geomspace(1, 1 / stretch, codes.shape[1])
            self.codes = (self.codes @ (turned * lengths)).astype(np.float32)
            self.back = (turned / lengths).T
        self.names = list(scores)
        self.std = np.array([values.std() for values in scores.values()])
        self.found: dict[str, Slopes | np.ndarray] = {}

    def fresh(self, seed: int, num: int) -> Tensor:
        """Return wp [num, L, D] of samples that no other turn has."""
        return self.generator.to_wp(self.generator.sample(num, seed, self.turn * num), "z")

    def score(self, wp: Tensor) -> np.ndarray:
        """Return what every judge says of codes, [J, N, K] in standard deviations of the first one's scores."""
        images = self.generator.synthesize(wp)
        found = [torch.cat(list(judge.predict(images).values()), dim=1).double().numpy() for judge in self.judges]
        return np.stack(found) / self.std

    def rises(self, wp: Tensor, base: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return how far the scores rise, [B, J, N, K], when codes move by each of steps [B, L, D]."""
        return np.stack([self.score(wp + torch.from_numpy(step).float()) - base for step in steps])

    def layer_effects(self, wp: Tensor, steps: np.ndarray) -> np.ndarray:
        """Return how far every score rises on average when a direction moves each layer alone, [B, L, K]."""
        return layer_rises(self.generator, self.judges[0], wp, steps).mean(axis=2, dtype=np.float64) / self.std

    def limits(self, num: int) -> np.ndarray:
        """Return what a random direction's effect on each score passes by chance at layers of its choice, [K]."""
        steps = random_steps(CONTROLS, self.codes.shape[1], self.generator.num_layers, seed=0)
        effects = self.layer_effects(self.fresh(CHOICE_SEED, num), steps)
        return np.array([chosen_limit(effects[:, :, score]) for score in range(effects.shape[2])])

    def steps(self, recipe: Recipe) -> np.ndarray:
        """Return a recipe's steps at distance 1, [B, L, D], at all layers."""
        slopes = self.slopes(recipe.way)
        if isinstance(slopes, Slopes):
            boundaries = [slopes.boundary(name, "w", STRENGTH if recipe.soft else None) for name in self.names]
            directions = np.stack([boundary.direction[0] for boundary in boundaries])
        else:
            directions = slopes
        if self.back is not None:
            directions = directions @ self.back
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        layered = directions if directions.ndim == 3 else directions[:, None]
        return layered * np.ones((1, self.generator.num_layers, 1))

    def slopes(self, way: str) -> Slopes | np.ndarray:
        """Return what a way to find directions finds: slopes, or directions [B, D] without any."""
        if way not in self.found:
            self.found[way] = self.find(way)
        return self.found[way]

    def find(self, way: str) -> Slopes | np.ndarray:
        if way.startswith("svm"):
            weight: float | str = "auto" if way == "svm_auto" else 1.0
            options = {"C": weight, "seed": self.turn}
            return np.concatenate(
                [train_boundary(self.codes, self.scores[name], name, **options).direction for name in self.names]  # type: ignore[arg-type]
            )
        if way == "ridge":
            return ridge_slopes(self.codes, self.scores, resamples=0, seed=self.turn)
        rows = np.random.default_rng(self.turn).permutation(len(self.codes))
        judge = self.judges[0]
        if way == "steps":
            picked = rows[:STEPS]
            scores = {name: values[picked].astype(float) for name, values in self.scores.items()}
            samples, codes = self.slopes("ridge"), torch.from_numpy(self.codes[picked])
            if not isinstance(samples, Slopes):
                raise TypeError("ridge gives slopes")
            return step_slopes(
                self.generator, judge, codes, "w", scores, samples, find_covariance(self.codes), self.turn
            )
        codes = torch.from_numpy(self.codes[rows[:PROBES]])
        covariance = find_covariance(self.codes)
        per_layer = way == "gradient_wp"
        return gradient_slopes(
            self.generator, judge, codes, "w", self.names, per_layer=per_layer, covariance=covariance
        )


def layer_rises(generator: Generator, predictor: Predictor, wp: Tensor, steps: np.ndarray) -> np.ndarray:
    """Return how far the scores of codes wp [N, L, D] rise when a step of [B, L, D] moves each layer alone.

    float32 [B, L, N, K], in the units of the scores.
    """
    last = generator.num_layers

    def score(images: Tensor) -> np.ndarray:
        return torch.cat(list(predictor.predict(images).values()), dim=1).numpy()

    parts = []
    for part in wp.split(generator.batch_size):
        base, state = score(generator.synthesize(part)), generator.initial(part)
        rises = np.empty((*steps.shape[:2], *base.shape), np.float32)
        for layer in range(last):
            for index, step in enumerate(steps):
                moved = part.clone()
                moved[:, layer] += torch.from_numpy(step[layer]).float()
                images = generator.image(generator.advance(state, moved, layer, last))
                rises[index, layer] = score(images) - base
            state = generator.advance(state, part, layer, layer + 1)
        parts.append(rises)
    return np.concatenate(parts, axis=2)


def random_steps(num: int, width: int, layers: int, seed: int) -> np.ndarray:
    """Return steps by `DISTANCE` in random directions of w, the same at all layers, float64 [num, layers, width]."""
    random = np.random.default_rng([seed, 1]).standard_normal((num, 1, width))
    return random * DISTANCE / np.linalg.norm(random, axis=2, keepdims=True) * np.ones((1, layers, 1))


def measure(
    bench: Bench, recipe: Recipe, num: int, choice: int, baseline: np.ndarray | None, limits: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Return a recipe's numbers of one turn, and every direction's own effect [B].

    `num` fresh samples judge, `choice` others choose layers; `baseline` [B] are the effects to match, and `limits` [B]
    those that chance may reach.
    """
    steps = bench.steps(recipe) * DISTANCE
    if recipe.layers:
        effects = bench.layer_effects(bench.fresh(CHOICE_SEED, choice), steps)
        for index, step in enumerate(steps):
            step *= np.isin(np.arange(len(step)), choose_layers(effects[index, :, index]))[:, None]
    wp = bench.fresh(FRESH_SEED, num)
    base = bench.score(wp)
    rises = bench.rises(wp, base, steps)
    row: dict[str, float] = {}
    if recipe.layers:
        row["verified"] = sum(verified(rises[index, 0, :, index], limit) for index, limit in enumerate(limits))
    own = np.empty(0)
    for place in range(len(bench.judges)):
        of = f"_{place + 1}" if place else ""
        found = summarize(rises[:, place].mean(axis=1))
        row |= {f"{key}{of}": value for key, value in found.items()}
        own = np.diagonal(rises[:, 0].mean(axis=1)) if place == 0 else own
    dependency = [attribute_dependency(rises[index, 0], index, (0.5, 1.5)) for index in range(len(steps))]
    row["mean_ad"] = float(np.nanmean([found.mean[0] for found in dependency]))
    row["max_ad"] = float(np.nanmean([found.largest[0] for found in dependency]))
    if baseline is not None:
        scale = np.clip(baseline / np.maximum(own, 0.05), 0.25, 4)
        matched = summarize(bench.rises(wp, base, steps * scale[:, None, None])[:, 0].mean(axis=1))
        row |= {f"{key}_matched": value for key, value in matched.items()}
    return row, own


def verified(rises: np.ndarray, limit: float) -> bool:
    """Whether the interval of the mean of rises [N] lies above what chance may reach."""
    half = 1.96 * rises.std(ddof=1) / np.sqrt(len(rises))
    return judge(rises.mean() - half, rises.mean() + half, limit, np.inf) == VERIFIED


def summarize(effects: np.ndarray) -> dict[str, float]:
    """Return own, leak and largest leak per unit of own, of mean rises [B, K] of directions in the scores' order."""
    own = float(np.diagonal(effects).mean())
    others = np.abs(effects[~np.eye(len(effects), dtype=bool)].reshape(len(effects), -1))
    return {"own": own, "leak": float(others.mean()) / own, "largest": float(others.max(axis=1).mean()) / own}


def interval(values: list[float], digits: int = 3) -> str:
    """Return the mean of turns with the central 95 % of one, by Student's t; the number alone for one turn."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1))
    return f"{np.mean(values):.{digits}f} ± {half:.{digits}f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    words = "find directions (svm and ridge) in coordinates of w whose standard deviations differ by up to FACTOR"
    add("synthesis", type=Path)
    add("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="RECIPE", help=", ".join(RECIPES))
    add("--num", type=int, default=200, help="fresh samples of a turn (default: 200)")
    add("--choice", type=int, default=200, help="other samples, to choose layers by (default: 200)")
    add("--turns", type=int, default=5, help="resampled training sets; the first turn takes all (default: 5)")
    add("--samples", type=int, default=20_000, help="samples to train on (default: 20000)")
    add("--stretch", type=float, default=1.0, metavar="FACTOR", help=words)
    add("--second", type=Path, help="weights of another rooms predictor, as train_predictor.py writes them")
    add("--json", type=Path, help="write all numbers there too")
    args = parser.parse_args()
    if args.stretch != 1 and any(RECIPES[name].way.startswith(("gradient", "steps")) for name in args.recipes):
        parser.error("--stretch compares svm and ridge alone; name them with --recipes")
    keep_freed_memory()
    codes = read_array(args.synthesis / "w.npy")[: args.samples]
    scores = {name: values[: args.samples] for name, values in read_scores(args.synthesis / "attribute.npy").items()}
    judges = [higan.load_predictor("rooms"), *([load_rooms(args.second)] if args.second else [])]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in args.recipes}
    limits = np.empty(0)
    for turn in range(args.turns):
        bench = Bench(judges, codes, scores, turn, args.stretch)
        if turn == 0 and any(RECIPES[name].layers for name in args.recipes):
            limits = bench.limits(args.choice)  # in which the training set has no part
        baseline = None
        for name in args.recipes:
            row, own = measure(bench, RECIPES[name], args.num, args.choice, baseline, limits)
            baseline = own if name == "svm" else baseline
            directions = bench.steps(RECIPES[name])
            if (directions == directions[:, :1]).all():
                found = dci(
                    bench.samples[:4000], directions[:, 0], np.stack(list(bench.scores.values()), axis=1)[:4000]
                )
                row |= {"dci_d": found.disentanglement, "dci_c": found.completeness, "dci_i": found.informativeness}
            rows[name].append(row)
            print(f"turn {turn}: {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
        if args.json:
            numbers = {"num": args.num, "choice": args.choice, "turns": turn + 1, "samples": len(codes), "rows": rows}
            args.json.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"\n{table(rows)}")


def table(rows: dict[str, list[dict[str, float]]], keys: Sequence[str] = ()) -> str:
    """Return the numbers of all turns as a Markdown table, a line per recipe; all `keys` unless some are given."""
    keys = keys or list(dict.fromkeys(key for turns in rows.values() for row in turns for key in row))
    lines = [f"| recipe | {' | '.join(keys)} |", f"|---|{'---:|' * len(keys)}"]
    for name, turns in rows.items():
        cells = [
            interval([row[key] for row in turns], 1 if key == "verified" else 3) if key in turns[-1] else ""
            for key in keys
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def card_table(numbers: dict[str, Any]) -> str:
    """Return what the model card says of a comparison, as `--json` writes it."""
    rows, turns = numbers["rows"], numbers["turns"]
    second = [f"{key}_2" for key in ("own", "leak", "largest") if f"{key}_2" in next(iter(rows.values()))[0]]
    layered = any("verified" in row for turns in rows.values() for row in turns)
    text = table(rows, ["own", "leak", "largest", *(["verified"] if layered else []), *second])
    chosen = f"; layers chosen on {numbers['choice']} others" if layered else ""
    sets = (
        f"{turns} training sets, the first whole and the others resampled (±: where 95 % of them lie, by Student's t),"
    )
    return text + (
        f"\n{'One training set' if turns == 1 else sets} of {numbers['samples']:,} samples, judged on {numbers['num']} "
        f"fresh ones{chosen}.\n"
    )


if __name__ == "__main__":
    main()
