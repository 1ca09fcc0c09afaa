"""Measure the embedded model: the numbers of its card, as Markdown.

python measure.py                               samples against renders, the predictor on unseen ones
python measure.py --sheets ../../docs           also the pictures of samples, renders and an edit
python measure.py --analysis DIR                what make_boundaries.sh left in DIR as well
python measure.py --analysis DIR --parts levels swap --card README.md
                                                some of it, written to the card between its markers
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import scenes
from compare_recipes import card_table, layer_rises, random_steps
from train_generator import rotation
from train_predictor import degrade, evaluate, label_matrix, render_many, resize

import higan
from higan.devices import keep_freed_memory
from higan.directions.boundaries import read_boundary, read_scores
from higan.directions.move import choose_layers
from higan.directions.ridge import ridge_slopes
from higan.generators.layer_sets import format_layers
from higan.predictors.rooms import PATH, RoomsPredictor, read_rooms
from higan.rescoring.statistics import (
    CONTROL_LEVEL,
    NONE,
    UNKNOWN,
    VERIFIED,
    Estimate,
    Hierarchy,
    chance_limit,
    chosen_limit,
    chosen_masks,
)
from higan.runs.run import read_array

ROOT = Path(__file__).resolve().parents[2]
RENDER_SEEDS = (3, 4)  # neither the generator's nor the predictor's training scenes
SAMPLE_SEED = 3
BATCH = 250
PAIRED_SCENES, PAIRED_BATCH = 500, 25  # scenes of which one factor at a time is drawn anew
PLANTED_CODES, PLANTED_STEP = 4096, 0.5  # codes z that move by half a standard deviation either way
LIMIT_DIRECTIONS = 20  # random ones that a limit of chance is estimated from, as rescore.py does by default
CHANCE_DIRECTIONS, CHANCE_SAMPLES = 240, 40  # random ones that are tested against such limits, and on how many samples
CHANCE_SEED = 8


def sample_images(generator: higan.Generator, num: int) -> Tensor:
    """uint8 [num, R, R, 3], without truncation."""
    images = [
        generator.synthesize(generator.map(generator.sample(BATCH, SAMPLE_SEED, start)), space="w").cpu()
        for start in range(0, num, BATCH)
    ]
    return torch.cat(images)


def render_images(resolution: int, num: int, seed: int) -> Tensor:
    """uint8 [num, R, R, 3]."""
    return render_many(scenes.sample_factors(num, seed=seed), resolution).permute(0, 2, 3, 1)


@torch.inference_mode()
def scores_and_features(network: RoomsPredictor, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores [N, K] and features [N, F] of uint8 images [N, R, R, 3]."""
    features = torch.cat([network.features(network.prepare(block)) for block in images.split(BATCH)])
    return network.head(features).numpy(), features.double().numpy()


def judged(network: RoomsPredictor, judge: RoomsPredictor, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores [N, K] of the predictor and features [N, F] of the judge, of uint8 images [N, R, R, 3]."""
    return scores_and_features(network, images)[0], scores_and_features(judge, images)[1]


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two feature sets [N, F] (Heusel et al. 2017, equation 6)."""
    mean = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # trace of the root of one @ two through the symmetric root of one: eigenvalues stay real
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(min=0)).sum()
    return float(mean @ mean + np.trace(one) + np.trace(two) - 2 * cross)


@dataclass
class Sources:
    """Where numbers come from: the model, the predictor, a `judge`, and what make_boundaries.sh left in `analysis`."""

    model: str
    num: int
    analysis: Path | None
    judge: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the analysis."""
        if self.analysis is None:
            raise SystemExit("give the folder of make_boundaries.sh: --analysis DIR")
        return self.analysis

    @cached_property
    def resolution(self) -> int:
        """Side of the model's pictures, at which renders are drawn and degraded."""
        return higan.load_generator(self.model, device="cpu").resolution

    @cached_property
    def record(self) -> dict[str, Any]:
        """What rescore.json says, its boundaries in the order of the predictor's scores."""
        record: dict[str, Any] = json.loads((self.folder / "rescore" / "rescore.json").read_text())
        order = {name: place for place, name in enumerate(record["outputs"])}
        for row, boundary in enumerate(record["boundaries"]):
            boundary |= {"row": row, "target": order[boundary["name"]]}
        record["boundaries"].sort(key=lambda boundary: boundary["target"])
        return record

    def table(self, name: str) -> NDArray[np.floating]:
        """Return one of the tables of the re-scoring."""
        return np.load(self.folder / "rescore" / f"rescore_{name}.npy")


def markdown(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table; `align` has an "l" or an "r" for each column."""
    lines = [head, ["---:" if side == "r" else "---" for side in align], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def compare(names: list[str], samples: np.ndarray, renders: np.ndarray) -> str:
    """Return, per score, how often (binary) or how much (continuous) samples and renders show it."""
    rows = []
    for column, name in enumerate(names):
        first, second = renders[:, column], samples[:, column]
        if scenes.KINDS[name] == "binary":
            shares = (first > 0).mean(), (second > 0).mean()
            both, difference = [f"{share:.3f}" for share in shares], f"{shares[1] - shares[0]:+.3f}"
        else:
            both = [f"{values.mean():+.2f} ± {values.std():.2f}" for values in (first, second)]
            difference = f"{second.mean() - first.mean():+.3f}, {second.std() - first.std():+.3f}"
        rows.append([name, scenes.LEVELS[name], *both, difference])
    return markdown(["score", "level", "renders", "samples", "difference"], "llrrr", rows)


def measure_lighting(generator: higan.Generator, network: RoomsPredictor, names: list[str], num: int = 500) -> str:
    """Say in how many rooms an `indoor_lighting` edit brightens the picture, and leaves the bed where it is."""
    boundary = read_boundary(ROOT / "boundaries" / "stylegan2_rooms" / "indoor_lighting_boundary.npy")
    layers, _ = choose_layers(boundary, generator.num_layers)
    codes = generator.broadcast(generator.map(generator.sample(num, SAMPLE_SEED)))
    moved = higan.manipulate(codes, boundary, [2.0], layers=layers, strength=generator.psi())[:, 0]
    before, after = generator.synthesize(codes), generator.synthesize(moved)
    brighter = (after.float().mean(dim=(1, 2, 3)) > before.float().mean(dim=(1, 2, 3))).float().mean().item()
    scores = [scores_and_features(network, images)[0] for images in (before, after)]
    side, view = names.index("bed_left"), names.index("viewpoint")
    stays = ((scores[0][:, side] > 0) == (scores[1][:, side] > 0)) & (
        abs(scores[1][:, view] - scores[0][:, view]) < 0.25
    )
    return (
        f"Moved by 2 along the shipped `indoor_lighting`, {brighter:.1%} of {num} rooms are brighter, and the bed "
        f"stays in {stays.mean():.1%}.\n"
    )


def samples_part(sources: Sources) -> str:
    """Return samples against renders of two other seeds, in the predictor's scores and the judge's features."""
    generator = higan.load_generator(sources.model, truncation_psi=1.0, device="cpu")
    network, names, _, _ = read_rooms(PATH)
    judge = read_rooms(sources.judge or PATH)[0]
    for each in (network, judge):
        each.fold()
    samples, sample_features = judged(network, judge, sample_images(generator, sources.num))
    (first, first_features), (_, second_features) = (
        judged(network, judge, render_images(generator.resolution, sources.num, seed)) for seed in RENDER_SEEDS
    )
    floor = frechet_distance(first_features, second_features)
    distance = frechet_distance(sample_features, first_features)
    text = compare(names, samples, first)
    text += (
        f"\n{sources.num:,} samples and twice as many renders. Fréchet distance in the features of "
        f"{'a judge trained on other renders' if sources.judge else 'the predictor'}, which looks at "
        f"{judge.resolution}x{judge.resolution} pixels: samples to renders {distance:.2f}, renders to renders "
        f"{floor:.2f}, ratio {distance / floor:.1f}.\n"
    )
    return text + (measure_lighting(generator, network, names) if sources.model == "stylegan2_rooms" else "")


def predictor_part(sources: Sources) -> str:
    """Return how well the predictor reads renders that it has not seen."""
    rows = [
        [
            name,
            scenes.LEVELS[name],
            "accuracy" if scenes.KINDS[name] == "binary" else "R²",
            *(f"{value:.4f}" for value in values),
        ]
        for name, values in evaluate(PATH, sources.resolution).items()
    ]
    return markdown(["score", "level", "measure", "clean", "degraded"], "lllrr", rows)


def training_part(sources: Sources) -> str:
    """Return how well each score follows the codes, and how sure its direction is."""
    synthesis = sources.folder / "synthesis"
    accuracies = tell_tenths(read_array(synthesis / "w.npy"), read_scores(synthesis / "attribute.npy"))
    rows = []
    for boundary in sources.record["boundaries"]:
        name = boundary["name"]
        info = json.loads((sources.folder / "boundaries" / f"{name}_boundary.json").read_text())
        numbers = [f"{info['r2']:.3f}", f"{accuracies[name]:.3f}", f"{info['bootstrap_angle']:.0f}°"]
        rows.append([name, boundary["level"], *numbers, f"{info['reach']:.1f}"])
    head = [
        "score",
        "level",
        "R², held out",
        "tenths told apart",
        "angle of resampled directions",
        "standard deviations of w in 2",
    ]
    return markdown(head, "llrrrr", rows) + (
        f"\nTrained on {info['samples']:,} samples. *Tenths told apart*: the balanced accuracy with which the slope of "
        "one half of them tells the highest tenth of the other half from the lowest.\n"
    )


def tell_tenths(codes: NDArray[np.floating], scores: dict[str, NDArray[np.floating]]) -> dict[str, float]:
    """Return the balanced accuracy of each score's slope, found on one half, on the extreme tenths of the other."""
    half = len(codes) // 2
    slopes = ridge_slopes(codes[:half], {name: values[:half] for name, values in scores.items()}, resamples=0)
    found = {}
    for name, slope in zip(slopes.names, slopes.values, strict=True):
        along = np.asarray(codes, np.float64) @ slope
        sides = []
        for part in (slice(half), slice(half, None)):
            low, high = np.quantile(scores[name][part], (0.1, 0.9))
            sides.append((along[part][scores[name][part] <= low], along[part][scores[name][part] >= high]))
        threshold = np.mean([np.median(side) for side in sides[0]])
        found[name] = float(((sides[1][0] < threshold).mean() + (sides[1][1] > threshold).mean()) / 2)
    return found


def effects_part(sources: Sources) -> str:
    """Return how far each boundary moves its own score, at which layers, and what else it moves."""
    record, spread = sources.record, sources.table("base_std")
    signed, chosen = sources.table("signed"), sources.table("chosen_signed") / spread
    rows, own, leaks, found = [], [], [], {mark: [] for mark in (VERIFIED, UNKNOWN, NONE)}
    for boundary in record["boundaries"]:
        row, target, name = boundary["row"], boundary["target"], boundary["name"]
        found[boundary["verdict"]].append(name)
        own.append(chosen[row, target])
        others = np.abs(np.delete(chosen[row], target))
        leaks.append((others.mean(), others.max()))
        most = int(np.argsort(-np.abs(chosen[row]))[1 if np.abs(chosen[row]).argmax() == target else 0])
        low, high, limit = (
            boundary[key] / spread[target] for key in ("chosen_signed_low", "chosen_signed_high", "chosen_limit")
        )
        cells = [name, boundary["level"], format_layers(boundary["chosen_layers"]) or "–", boundary["verdict"]]
        cells += [f"{own[-1]:.2f} ({low:.2f} to {high:.2f})", f"{limit:.2f}", f"{others.mean():.3f}"]
        cells.append(f"{record['outputs'][most]} {chosen[row, most]:+.2f}")
        rows.append([*cells, *bold_best(signed[row, :, target] / spread[target], 1)])
    head = ["boundary", "level", "layers", "verdict", "effect (95 %)", "chance", "mean leak", "largest leak", "all"]
    text = markdown([*head, *map(str, record["columns"][1:])], "llllrrrlr" + "r" * len(record["columns"][1:]), rows)
    mean, (leak, largest) = np.mean(own), np.mean(leaks, axis=0)
    text += (
        f"\nRe-scored on {record['num']:,} samples at distance {record['distance']:g} against {record['controls']} "
        f"random directions. At exactly the layers named, {len(found[VERIFIED])} of {len(rows)} are verified. There a "
        f"boundary moves its own score by {mean:.2f} on average and, per unit of that, the others by "
        f"{leak / mean:.3f} (mean) and {largest / mean:.3f} (largest).\n"
    )
    for mark, words in ((UNKNOWN, "Could not be told from chance"), (NONE, "Not obeyed")):
        text += f"{words}: {', '.join(found[mark])}.\n" if found[mark] else ""
    return text


def swap_part(sources: Sources) -> str:
    """Return each layer's total effect on every score."""
    record, swap = sources.record, sources.table("swap")
    rows = [
        [name, level, f"{swap[row].sum():.2f}", *bold_best(swap[row])]
        for row, (name, level) in enumerate(zip(record["outputs"], record["output_levels"], strict=True))
    ]
    layers = [str(layer) for layer in range(swap.shape[1])]
    return markdown(["score", "level", "sum", *layers], "llr" + "r" * len(layers), rows)


def levels_part(sources: Sources) -> str:
    """Return where the levels lie over the layers, by boundaries and by layer swap."""
    rows, said = [], {}
    for title, key in (("boundaries", "hierarchy"), ("layer swap", "swap_hierarchy")):
        found = read_hierarchy(sources.record[key])
        for index, level in enumerate(found.levels):
            cells = [title, level, str(found.counts[index]), with_interval(found.level_center, index)]
            cells += [with_interval(found.level_step, index - 1), found.verdict(index - 1)] if index else ["", ""]
            rows.append(cells)
            if index:
                said.setdefault(f"{found.levels[index - 1]} to {level}", []).append(cells[-1])
    head = ["measured by", "level", "scores", "centre of mass (95 %)", "step from the last (95 %)", "so it comes"]
    text = markdown(head, "llrlll", rows)
    sure = [step for step, verdicts in said.items() if set(verdicts) == {"later"}]
    return text + f"\nBoth measures show the steps from {' and from '.join(sure)}.\n" * bool(sure)


def read_hierarchy(found: dict[str, Any]) -> Hierarchy:
    """Return the levels that a rescore.json holds."""
    parts = {
        name: Estimate(*(np.array(found[f"{name}{end}"], float) for end in ("", "_low", "_high")))
        for name in ("center", "level_center", "level_step")
    }
    return Hierarchy(levels=tuple(found["levels"]), counts=tuple(found["counts"]), **parts)


def with_interval(estimate: Estimate, index: int) -> str:
    """Return one number of an estimate with its interval."""
    return f"{estimate.value[index]:.2f} ({estimate.low[index]:.2f} to {estimate.high[index]:.2f})"


def bold_best(values: np.ndarray, start: int = 0) -> list[str]:
    """Return the cells of a row, the largest from `start` on in bold."""
    best = start + int(np.argmax(values[start:]))
    cells = [f"{value:.2f}".replace("-0.00", "0.00") for value in values]
    return [f"**{cell}**" if place == best else cell for place, cell in enumerate(cells)]


def planted_part(sources: Sources) -> str:
    """Return how near the directions come to those that training gave z, as the mapping network brings them to w."""
    generator = higan.load_generator(sources.model, truncation_psi=1.0, device="cpu")
    z = generator.sample(PLANTED_CODES, SAMPLE_SEED)
    rows, cosines = [], []
    for boundary in sources.record["boundaries"]:
        name = boundary["name"]
        step = PLANTED_STEP * scenes.score_directions()[name] @ rotation()[: scenes.NUM_NORMALS]
        truth = (generator.map(z + step) - generator.map(z - step)).double().mean(dim=0)
        found = read_boundary(sources.folder / "boundaries" / f"{name}_boundary.npy").direction[0]
        direction = torch.from_numpy(found).double()
        cosines.append(float(direction @ truth / (direction.norm() * truth.norm())))
        rows.append([name, boundary["level"], f"{cosines[-1]:.2f}"])
    return markdown(["score", "level", "cosine"], "llr", rows) + f"\nOn average {np.mean(cosines):.2f}.\n"


def recipes_part(sources: Sources) -> str:
    """Return how ways to find directions compare, as compare_recipes.py measured it."""
    return card_table(json.loads((sources.folder / "recipes.json").read_text()))


def stretched_part(sources: Sources) -> str:
    """Return how ways to find directions compare where w varies unevenly, as compare_recipes.py measured it."""
    return card_table(json.loads((sources.folder / "recipes_stretched.json").read_text()))


def chance_part(sources: Sources) -> str:
    """Say how often a random direction passes the limit of chance that others give."""
    rises = measure_random(sources.model, sources.folder / "chance.npy")
    kinds = np.array([scenes.KINDS[name] for name in scenes.SCORE_NAMES])
    rows = []
    for words, count in (
        ("each layer alone", count_passes),
        ("layers chosen", count_chosen_passes),
        ("verdict", partial(count_chosen_passes, sure=True)),
    ):
        for kind, called in (("continuous", "continuous"), ("binary", "yes/no")):
            passes = count(rises[..., kinds == kind])
            rate, low, high = passes.rate()
            numbers = [f"{passes.passed.sum():,} of {passes.tests * len(passes.passed):,}", f"{rate:.1e}"]
            # the rule of three (Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?")
            none = f"under {3 / len(rises):.1%} of directions"
            bounds = f"{low:.1e} to {high:.1e}" if passes.passed.any() else none
            rows.append([words, called, *numbers, bounds, f"{(passes.passed > 0).sum()}"])
    head = ["test", "scores", "passed", "rate", "95 %", "directions that pass any"]
    return markdown(head, "llrrrr", rows) + (
        f"\n{len(rises)} random directions on {rises.shape[2]} samples, {rises.shape[1]} layers, {len(kinds)} scores; "
        f"each limit from {LIMIT_DIRECTIONS} of them, meant for a rate of {CONTROL_LEVEL:.0e}. The interval resamples "
        "directions.\n"
    )


def measure_random(model: str, path: Path) -> NDArray[np.float32]:
    """Return how far random directions raise the scores at each layer, [R, L, N, K], from `path` if it is there."""
    if not path.exists():
        generator = higan.load_generator(model, truncation_psi=1.0, device="cpu")
        wp = generator.to_wp(generator.sample(CHANCE_SAMPLES, CHANCE_SEED), "z")
        steps = random_steps(CHANCE_DIRECTIONS, wp.shape[2], generator.num_layers, CHANCE_SEED)
        np.save(path, layer_rises(generator, higan.load_predictor("rooms", "cpu"), wp, steps))
    return np.load(path)


@dataclass
class Passes:
    """How many of each direction's tests passed, int [R], and how many tests each had."""

    passed: NDArray[np.int64]
    tests: int

    def rate(self, seed: int = 0) -> tuple[float, float, float]:
        """Return the share of tests passed with the central 95 % of resampled directions, which share nothing."""
        shares = self.passed / self.tests
        drawn = np.random.default_rng(seed).integers(0, len(shares), (10_000, len(shares)))
        low, high = np.quantile(shares[drawn].mean(axis=1), (0.025, 0.975))
        return float(shares.mean()), float(low), float(high)


def count_passes(rises: NDArray[np.floating], group: int = LIMIT_DIRECTIONS) -> Passes:
    """Count how often random directions pass the limit that others give, layer by layer and score by score.

    Parameters
    ----------
    rises
        [R, L, N, K]: how far each random direction raises the scores of N samples at each layer alone. Every `group` of
        them gives a limit, and all the others are tested against it, as they are and turned round: both are equally
        random.
    """
    effects = rises.mean(axis=2, dtype=np.float64)
    passed = np.zeros(len(effects), np.int64)
    groups = len(effects) // group
    for first in range(0, groups * group, group):
        own = np.arange(len(effects)) // group == first // group
        beyond = np.abs(effects) > chance_limit(effects[own])
        passed[~own] += beyond[~own].sum(axis=(1, 2))
    return Passes(passed, 2 * (groups - 1) * effects[0].size)


def count_chosen_passes(rises: NDArray[np.floating], group: int = LIMIT_DIRECTIONS, sure: bool = False) -> Passes:
    """Count as `count_passes` does, at the layers that each direction's own effects choose, where effects add up.

    If `sure`, the whole 95 % interval of an effect has to lie above the limit, as a verdict asks for.
    """
    effects = rises.mean(axis=2, dtype=np.float64)
    passed = np.zeros(len(effects), np.int64)
    groups = len(effects) // group
    for score in range(effects.shape[2]):
        sums = []
        for sign in (1, -1):
            chosen = chosen_masks(sign * effects[:, :, score])
            moved = sign * (rises[..., score] * chosen[:, :, None]).sum(axis=1, dtype=np.float64)  # [R, N]
            half = 1.96 * moved.std(axis=1, ddof=1) / np.sqrt(moved.shape[1]) if sure else 0.0
            sums.append(moved.mean(axis=1) - half)
        for first in range(0, groups * group, group):
            own = np.arange(len(effects)) // group == first // group
            limit = chosen_limit(effects[own, :, score])
            passed[~own] += sum((reached > limit)[~own].astype(np.int64) for reached in sums)
    return Passes(passed, 2 * (groups - 1) * effects.shape[2])


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
def draw_factors_anew(network: RoomsPredictor, num: int, resolution: int) -> PairedChanges:
    """Render `num` scenes and, for every factor, the same scenes with that factor of other scenes; score them all."""
    generator = torch.Generator().manual_seed(RENDER_SEEDS[0])
    labels: dict[str, list[np.ndarray]] = {factor.name: [] for factor in scenes.FACTORS}
    scores: dict[str, list[np.ndarray]] = {factor.name: [] for factor in scenes.FACTORS}
    for start in range(0, num, PAIRED_BATCH):
        first, second = (scenes.sample_factors(PAIRED_BATCH, seed=seed, start=start) for seed in RENDER_SEEDS)
        changed = [first, *(first | {factor.name: second[factor.name]} for factor in scenes.FACTORS)]
        every = {name: torch.cat([factors[name] for factors in changed]) for name in first}
        images = render_many(every, resolution).float() / 127.5 - 1
        # one degradation for the batch: a generator's flaws do not come and go with a factor
        raw = torch.stack([network(resize(seen, network.resolution)) for seen in (images, degrade(images, generator))])
        raw = raw.numpy().reshape(2, len(changed), PAIRED_BATCH, -1)
        truth = torch.stack([label_matrix(factors) for factors in changed]).numpy()
        for row, factor in enumerate(scenes.FACTORS, start=1):
            labels[factor.name].append(truth[row] - truth[0])
            scores[factor.name].append(raw[:, row] - raw[:, 0])
    return PairedChanges(
        {name: np.concatenate(parts) for name, parts in labels.items()},
        {name: np.concatenate(parts, axis=1) for name, parts in scores.items()},
    )


def truth_part(sources: Sources) -> str:
    """Return, per score, what the predictor makes of a change of its factor alone, and a boundary's rise in that light.

    Generated images have no labels, but the predictor can be asked about renders of which one factor alone changes:
    how far its score follows the label, and which other scores move although their labels do not. That turns a
    boundary's Δ into a rise of the label, and its leakage into labels per label, beside what the predictor alone
    makes of it. "Follows" is the share of changed labels that the score follows in sign, on degraded renders.
    """
    network, names, _, _ = read_rooms(PATH)
    network.fold()
    changes = draw_factors_anew(network, PAIRED_SCENES, sources.resolution)
    factors = [scenes.FACTOR_OF[name] for name in names]
    own = [(changes.labels[factor][:, k], changes.scores[factor][..., k]) for k, factor in enumerate(factors)]
    units = np.array([[slope(label, part) for part in score] for label, score in own])  # [K, 2], degraded last
    delta, signed = (sources.table(name)[:, 0] for name in ("delta", "signed"))
    found = {boundary["name"]: boundary for boundary in sources.record["boundaries"]}
    rows = []
    for k, name in enumerate(names):
        label, score = own[k]
        moved = label != 0
        agrees = (np.sign(score[1, moved]) == np.sign(label[moved])).mean()
        cells = [name, scenes.LEVELS[name], f"{units[k, 0]:.2f}", f"{units[k, 1]:.2f}", f"{agrees:.1%}"]
        if name in found:
            row = found[name]["row"]
            leaks = (signed[row] / units[:, 1]) / (signed[row, k] / units[k, 1])
            others = [other for other, factor in enumerate(factors) if factor != factors[k]]
            most = max(others, key=lambda other: abs(leaks[other]))
            rest = changes.scores[factors[k]][1, :, most] / units[most, 1] - changes.labels[factors[k]][:, most]
            rise = delta[row, k] / units[k, 1]
            if scenes.KINDS[name] == "binary":  # a label of 0 or 1 rises where the score crosses zero
                before, after = np.load(sources.folder / "rescore" / f"{name}_w_scores.npy")[:, :2].T
                rise = ((before <= 0) & (after > 0)).mean()
            cells += [f"{delta[row, k]:.2f}", f"{rise:.2f}"]
            cells += [f"{names[most]} {leaks[most]:+.2f}", f"{slope(label, rest):+.2f}"]
        else:
            cells += ["–"] * 4
        rows.append(cells)
    head = ["score", "level", "score per label, clean", "degraded", "follows", "Δ", "Δ in labels"]
    return markdown([*head, "boundary's largest leak", "the predictor's"], "llrrrrrlr", rows)


def slope(changes: np.ndarray, responses: np.ndarray) -> float:
    """Return how far responses [N] go per unit of changes [N], by least squares through the origin."""
    return float(changes @ responses / (changes @ changes))


def save_sheets(model: str, folder: Path) -> None:
    """Write samples.jpg, renders.jpg, and six samples moved by -4 to 4 as indoor_lighting.jpg."""
    generator = higan.load_generator(model, truncation_psi=1.0, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    save_sheet(sample_images(generator, BATCH)[:48], folder / "samples.jpg")
    save_sheet(render_images(generator.resolution, BATCH, RENDER_SEEDS[0])[:48], folder / "renders.jpg")
    boundary = read_boundary(ROOT / "boundaries" / "stylegan2_rooms" / "indoor_lighting_boundary.npy")
    layers, _ = choose_layers(boundary, generator.num_layers)
    codes = generator.to_wp(generator.sample(6, 0), "z")
    moved = higan.manipulate(codes, boundary, [-4, -2, 0, 2, 4], layers=layers, strength=generator.psi())
    images = generator.synthesize(moved.flatten(0, 1)).cpu().unflatten(0, (3, 10))  # two samples a row
    rows = images.transpose(1, 2).flatten(2, 3)  # [3, R, 10 R, 3]
    half = rows.shape[2] // 2
    gap = torch.full_like(rows[:, :, :8], 255)
    rows = torch.cat([rows[:, :, :half], gap, rows[:, :, half:]], dim=2)
    save_sheet(rows, folder / "indoor_lighting.jpg", columns=1)


def save_sheet(images: Tensor, path: Path, columns: int = 8) -> None:
    """Write uint8 images [N, H, W, 3] as one sheet."""
    rows, (height, width) = len(images) // columns, images.shape[1:3]
    sheet = images[: rows * columns].reshape(rows, columns, height, width, 3).permute(0, 2, 1, 3, 4)
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width, 3).numpy())
    picture.save(path, quality=90)


PARTS: dict[str, Callable[[Sources], str]] = {
    "samples": samples_part,
    "predictor": predictor_part,
    "training": training_part,
    "effects": effects_part,
    "swap": swap_part,
    "levels": levels_part,
    "truth": truth_part,
    "planted": planted_part,
    "recipes": recipes_part,
    "stretched": stretched_part,
    "chance": chance_part,
}
WITHOUT_ANALYSIS = ("samples", "predictor")


def write_parts(path: Path, found: dict[str, str]) -> set[str]:
    """Put each part between the markers that a page has for it; return the names of those that it has."""
    text = path.read_text(encoding="utf-8")
    written = set()
    for name, part in found.items():
        begin, end = f"<!-- {name}, by measure.py -->\n", f"<!-- end of {name} -->"
        before, marker, rest = text.partition(begin)
        if marker and end in rest:
            text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
            written.add(name)
    path.write_text(text, encoding="utf-8")
    return written


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num", type=int, default=10_000, help="samples, and renders of each of two sets (default: 10000)"
    )
    parser.add_argument("--model", default="stylegan2_rooms", help="name or file (default: stylegan2_rooms)")
    parser.add_argument("--sheets", type=Path, help="folder for samples.jpg, renders.jpg and indoor_lighting.jpg")
    parser.add_argument("--analysis", type=Path, metavar="DIR", help="output folder of make_boundaries.sh")
    parser.add_argument(
        "--judge", type=Path, help="whose features the Fréchet distance is of (default: the predictor's)"
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--card", type=Path, nargs="+", metavar="PAGE", help="pages to write to; default: print")
    return parser.parse_args()


def main() -> None:
    """Measure, and print or write."""
    args = parse_args()
    keep_freed_memory()
    if args.sheets:
        save_sheets(args.model, args.sheets)
    sources = Sources(args.model, args.num, args.analysis, args.judge)
    wanted = args.parts or (list(PARTS) if args.analysis else WITHOUT_ANALYSIS)
    found = {}
    for name in wanted:
        found[name] = PARTS[name](sources)
        print(f"{name}\n\n{found[name]}", flush=True)
    if args.card:
        written = set().union(*(write_parts(page, found) for page in args.card))
        if missing := set(found) - written:
            raise SystemExit(f"no page has markers for {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
