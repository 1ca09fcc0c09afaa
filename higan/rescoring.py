"""Re-scoring: how far every score rises when codes move along a boundary, over all layers and at each one alone.

The measure is that of Yang, Shen and Zhou (2021, "Semantic hierarchy emerges in deep generative representations for
scene synthesis"): delta = mean over samples of max(F(G(code moved by `distance`)) - F(G(code)), 0).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.boundaries import Boundary, check_name, find_name, write_description
from higan.errors import HiganError
from higan.generators import Generator, digest
from higan.predictors import Predictor
from higan.predictors.predictor import LEVELS
from higan.runs import versions, write_array, write_atomic

RESAMPLES = 1000
GROUPS = 200  # samples are resampled in so many groups, which bounds the memory of the bootstrap
CONTROL_LEVEL = 1e-4  # chance of a random direction to pass the control's limit at a layer


@dataclass
class Estimate:
    """Numbers with the central 95 % of their bootstrap over samples; three float32 arrays of one shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class Hierarchy:
    """Where in the network a set of scores lives: centres of mass over the layers, in layers.

    Attributes
    ----------
    center
        [B] or [K]: centre of each boundary (or output); NaN where nothing rises or there are no layers.
    levels
        The V levels met, in the order of `LEVELS`.
    level_center
        [V]: mean of the centres of a level's boundaries (or outputs).
    level_step
        [V - 1]: level_center[v + 1] - level_center[v]; the order of the paper holds where `low` is above zero.
    """

    center: Estimate
    levels: tuple[str, ...]
    level_center: Estimate
    level_step: Estimate


@dataclass
class Rescoring:
    """What re-scoring measured. B boundaries, L layers, C = 1 + L columns, K outputs (all groups side by side).

    Column 0 of a table moves all layers at once, column 1 + l moves layer l alone. Without a layer-wise run C is 1 and
    `layers` is empty; the layer columns of a z boundary are NaN, since z has no layers. Arrays are float32 unless said
    otherwise.

    Attributes
    ----------
    names, spaces
        Name and latent space ("z", "w", "wp") of each boundary, length B. Names may repeat, (name, space) does not.
    targets
        int64 [B]: the output each boundary is named after, an index into `outputs`.
    boundary_levels
        Level of each boundary ("layout", "object", "attribute", "color", or "" where unknown), length B.
    layers
        The layers of the table, 0 to L - 1, or empty.
    outputs, output_groups, output_levels
        Name, predictor group ("attribute", "category", ...) and level ("" where unknown) of each output, length K.
    num, distance, seed
        Samples, distance moved, seed of the samples (None when codes were given).
    delta
        [B, C, K]: mean clamped rise, the paper's measure.
    signed
        [B, C, K]: mean rise with its sign.
    risen
        [B, C, K]: share of the samples whose score rose.
    scores
        B arrays [num, 1 + C]: each boundary's own score of every sample: base, all layers, then each layer.
    base_mean, base_std
        [K]: mean and standard deviation of every output over the unmoved samples.
    image_change
        [B, C]: mean absolute difference from the unmoved image, in grey levels (0 to 255).
    verified
        Per boundary the layers at which it is effective (see `verified_layers`); empty where there are none, or no
        control.
    control_delta, control_signed
        [R, C, K]: the same two means for R random unit directions; R is 0 without a control.
    control_mean, control_high
        [C, K]: mean of `control_delta`, and the most that a random direction reaches (see `control_limit`); NaN
        without a control.
    control_image_change
        [R, C]
    hierarchy
        Centres of mass of each boundary's own delta; None without a layer-wise run.
    swap
        [K, L]: layer swap, E[(score change)^2] / (2 Var score) when one layer's code is replaced by another sample's:
        0 where the layer does not matter to the score, 1 where it carries all its variation. None when not asked for,
        like the next two.
    swap_image_change
        [L]
    swap_hierarchy
        Centres of mass of each output's swap shares.
    strips
        uint8 [B, 1 + C, H, W, 3]: one sample of each boundary: unmoved, all layers moved, then each layer moved (the
        layer columns of a z boundary repeat the unmoved image).
    strip_samples
        int64 [B]: which sample that is: the one whose own score has the median rise over all layers.
    provenance
        What made the numbers, JSON values: model, model_sha256, family, resolution, predictor, truncation_psi,
        truncation_layers, predictor_sha256, versions, boundaries (path and sha256 of each); the script adds command.
    """

    names: tuple[str, ...]
    spaces: tuple[str, ...]
    targets: np.ndarray
    boundary_levels: tuple[str, ...]
    layers: tuple[int, ...]
    outputs: tuple[str, ...]
    output_groups: tuple[str, ...]
    output_levels: tuple[str, ...]
    num: int
    distance: float
    seed: int | None
    delta: Estimate
    signed: Estimate
    risen: np.ndarray
    scores: list[np.ndarray]
    base_mean: np.ndarray
    base_std: np.ndarray
    image_change: np.ndarray
    verified: tuple[tuple[int, ...], ...]
    control_delta: np.ndarray
    control_signed: np.ndarray
    control_mean: np.ndarray
    control_high: np.ndarray
    control_image_change: np.ndarray
    hierarchy: Hierarchy | None
    swap: Estimate | None
    swap_image_change: np.ndarray | None
    swap_hierarchy: Hierarchy | None
    strips: np.ndarray
    strip_samples: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)


def rescore(
    generator: Generator,
    predictor: Predictor,
    boundaries: Sequence[Boundary],
    num: int = 2000,
    distance: float = 2.0,
    layerwise: bool = True,
    control: int = 0,
    layer_swap: bool = False,
    seed: int = 0,
    batch_size: int = 0,
    codes: np.ndarray | Tensor | None = None,
    space: str = "z",
    progress: Callable[[range], Any] | None = None,
) -> Rescoring:
    """Measure how far every score rises when samples move along each boundary.

    The unmoved images are made and scored once for all boundaries. To move layer l alone, only the layers from l on are
    computed again; the activations below are shared by all boundaries. The scores are those of a full synthesis.

    Parameters
    ----------
    boundaries
        Each is named after one of the predictor's scores. A z boundary moves z; a w boundary moves layer l of w+ by
        `distance` times the layer's truncation psi; a wp boundary by `distance`.
    num, seed
        Samples to draw, without `codes`.
    layerwise
        Move each layer alone as well.
    control
        Number of random unit directions of w (of z if all boundaries are of z) to put through the same procedure.
    layer_swap
        Measure each layer's share of every score's variation.
    batch_size
        0: as memory allows.
    codes, space
        Codes to use instead of drawn ones, in "z", "w" or "wp".
    progress
        Wraps the range of batches, such as `tqdm.tqdm`.

    Raises
    ------
    HiganError
        A boundary does not fit the model or names no score of the predictor's; codes or numbers out of range.
    """
    if num < 1 or control < 0 or batch_size < 0 or not math.isfinite(distance) or distance == 0:
        raise HiganError(
            f"num {num}, control {control}, batch_size {batch_size}, distance {distance}: expected num from 1, control "
            "and batch_size from 0, a distance other than 0"
        )
    outputs = [(name, group) for group, names in predictor.names.items() for name in names]
    targets = [check_boundary(generator, boundary, predictor) for boundary in boundaries]
    has_layers = "wp" in generator.spaces
    if layer_swap and not has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers to swap: its only latent space is z")
    base = prepare_codes(generator, boundaries, num, seed, codes, space)
    num = len(next(iter(base.values())))
    if layer_swap and num < 2:
        raise HiganError("a layer swap needs 2 samples at least; give a larger num")
    layerwise = layerwise and any(boundary.space != "z" for boundary in boundaries)
    layers = tuple(range(generator.num_layers)) if layerwise else ()
    controls = random_boundaries(generator, boundaries, control, seed)
    steps = [make_step(generator, boundary, distance) for boundary in (*boundaries, *controls)]

    tally = Tally(num, targets, len(controls), 1 + len(layers), len(outputs))
    swap_tally = SwapTally(num, generator.num_layers, len(outputs)) if layer_swap else None
    batch_size = batch_size or generator.batch_size
    for start in (progress or iter)(range(0, num, batch_size)):
        rows = slice(start, min(start + batch_size, num))
        part = {key: value[rows] for key, value in base.items()}
        measure_batch(generator, predictor, part, rows, steps, layers, tally)
        if swap_tally is not None:
            swap_batch(generator, predictor, base["wp"], rows, tally.base[rows], swap_tally)

    levels = tuple(predictor.levels.get(name, "") for name, _ in outputs)
    boundary_levels = tuple(
        str(boundary.info.get("level") or levels[target]) for boundary, target in zip(boundaries, targets, strict=True)
    )
    weights = resampling_weights(tally.group_sizes, seed)
    delta, signed = (estimate(sums, tally.group_sizes, weights) for sums in (tally.clamped, tally.signed))
    risen, image_change = (sums / num for sums in (tally.risen, tally.change))
    for index, boundary in enumerate(boundaries):
        if boundary.space == "z":
            for table in (*vars(delta).values(), *vars(signed).values(), risen, image_change):
                table[index, 1:] = np.nan
    control_delta, control_signed = (sums / num for sums in (tally.control_clamped, tally.control_signed))
    control_high = control_limit(control_delta, control_signed)
    own = [(index, target) for index, target in enumerate(targets)]
    samples = [median_row(scores[:, 1] - scores[:, 0]) for scores in tally.own]
    swaps = None if swap_tally is None else swap_tally.samples(tally.base, weights)
    return Rescoring(
        names=tuple(boundary.name for boundary in boundaries),
        spaces=tuple(boundary.space for boundary in boundaries),
        targets=np.array(targets, dtype=np.int64),
        boundary_levels=boundary_levels,
        layers=layers,
        outputs=tuple(name for name, _ in outputs),
        output_groups=tuple(group for _, group in outputs),
        output_levels=levels,
        num=num,
        distance=distance,
        seed=seed if codes is None else None,
        delta=delta,
        signed=signed,
        risen=risen.astype(np.float32),
        scores=[
            scores[:, :2] if boundary.space == "z" else scores
            for boundary, scores in zip(boundaries, tally.own, strict=True)
        ],
        base_mean=tally.base.mean(axis=0),
        base_std=tally.base.std(axis=0),
        image_change=image_change.astype(np.float32),
        verified=tuple(
            () if boundary.space == "z" else verified_layers(delta.value[index, 1:, target], control_high[1:, target])
            for boundary, (index, target) in zip(boundaries, own, strict=True)
        ),
        control_delta=control_delta.astype(np.float32),
        control_signed=control_signed.astype(np.float32),
        control_mean=(control_delta.mean(axis=0) if controls else control_high).astype(np.float32),
        control_high=control_high.astype(np.float32),
        control_image_change=(tally.control_change / num).astype(np.float32),
        hierarchy=hierarchy(
            np.stack([tally.clamped[:, index, 1:, target] for index, target in own], axis=1), weights, boundary_levels
        )
        if layers
        else None,
        swap=None if swaps is None else interval(swaps),
        swap_image_change=None if swap_tally is None else (swap_tally.change / num).astype(np.float32),
        swap_hierarchy=None if swaps is None else hierarchy_of(swaps, levels),
        strips=make_strips(generator, base, boundaries, steps, samples, layers),
        strip_samples=np.array(samples, dtype=np.int64),
        provenance=describe(generator, predictor, boundaries),
    )


def verified_layers(delta: np.ndarray, limit: np.ndarray) -> tuple[int, ...]:
    """Return the layers at which a boundary is effective: the one range from the first that qualifies to the last.

    A layer qualifies when its delta [L] is above what a random direction reaches there (limit [L]) and at least half
    of the best layer's. Empty where the best layer does not qualify; NaN limits (no control) are never passed.
    """
    if len(delta) == 0:
        return ()
    best = int(np.argmax(delta))
    passes = np.flatnonzero((delta > limit) & (delta >= delta[best] / 2))
    if best not in passes:
        return ()
    return tuple(range(int(passes[0]), int(passes[-1]) + 1))


def control_limit(delta: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Return the most that a random direction's delta reaches, [...], of the measures [R, ...] of R of them.

    A direction and its opposite are equally random, and delta - signed, how far scores fall, is what the opposite
    would make them rise. The larger of the two spreads about as a normal value without its sign does; the limit is what
    Student's t of R degrees of freedom gives for it at a level small enough for every layer of every boundary to be
    compared with it. NaN without directions.
    """
    from scipy.special import stdtrit

    if not len(delta):
        return np.full(delta.shape[1:], np.nan)
    larger = np.maximum(delta, delta - signed)
    return float(stdtrit(len(delta), 1 - CONTROL_LEVEL)) * np.sqrt(np.square(larger).mean(axis=0))


def write_rescoring(rescoring: Rescoring, folder: Path) -> None:
    """Write `{name}_{space}_scores.npy` (float32 [N, 2 + L]), the tables as `rescore_*.npy`, rescore.csv and .json."""
    for name, space, scores in zip(rescoring.names, rescoring.spaces, rescoring.scores, strict=True):
        write_array(folder / f"{check_name(name)}_{space}_scores.npy", scores)
    for name, table in tables(rescoring).items():
        write_array(folder / f"rescore_{name}.npy", table)
    write_atomic(folder / "rescore.csv", to_csv(rescoring))
    write_atomic(folder / "rescore.json", json.dumps(to_json(rescoring), indent=2, allow_nan=False) + "\n")


def write_layers(rescoring: Rescoring, boundaries: Sequence[Boundary]) -> list[Path]:
    """Store the verified layers in each boundary's JSON, with the numbers they rest on; return the files written.

    A boundary without verified layers loses those of an earlier re-scoring, and gains none.
    """
    written = []
    for index, boundary in enumerate(boundaries):
        target = rescoring.targets[index]
        layers = rescoring.verified[index]
        if not layers and boundary.info.get("layers_from") != "rescoring":
            continue
        boundary.layers = layers or None
        boundary.info.pop("layers_from", None)
        if layers:
            boundary.info["layers_from"] = "rescoring"
        if rescoring.boundary_levels[index]:
            boundary.info["level"] = rescoring.boundary_levels[index]
        boundary.info["rescoring"] = {
            "num": rescoring.num,
            "distance": rescoring.distance,
            "predictor": rescoring.provenance["predictor"],
            "model_sha256": rescoring.provenance["model_sha256"],
            "delta": rounded(rescoring.delta.value[index, :, target]),
            "control_high": rounded(rescoring.control_high[:, target]),
        }
        path = Path(boundary.info["path"]).with_suffix(".json")
        try:
            write_description(boundary, path)
        except OSError as error:
            raise HiganError(f"the layers of {boundary.name} cannot be written to {path}: {error.strerror}") from None
        written.append(path)
    return written


def log_lines(rescoring: Rescoring) -> list[str]:
    """Return the paper's report: each boundary's layers, then the boundaries, by how far they raise the score."""
    lines = []
    overall = []
    for index, (name, space) in enumerate(zip(rescoring.names, rescoring.spaces, strict=True)):
        own = rescoring.delta.value[index, :, rescoring.targets[index]]
        lines.append(f"Boundary `{name}` from {space.upper()} space.")
        if space != "z":
            ranked = sorted(rescoring.layers, key=lambda layer: -own[1 + layer])
            lines += [f"  Layer {layer:02d}: {own[1 + layer]:7.4f}" for layer in ranked]
        overall.append((name, own[0]))
    lines.append("Most relevant semantics:")
    lines += [f"  {name.ljust(15)}: {rise:7.4f}" for name, rise in sorted(overall, key=lambda pair: -pair[1])]
    return lines


class Tally:
    """What is added up over the samples: by group of samples for the boundaries, as one for the controls."""

    def __init__(self, num: int, targets: list[int], controls: int, columns: int, outputs: int) -> None:
        boundaries = len(targets)
        self.groups = group_rows(num)
        self.group_sizes = np.bincount(self.groups).astype(np.float64)
        self.targets = targets
        table = (columns, outputs)
        self.clamped = np.zeros((len(self.group_sizes), boundaries, *table))
        self.signed = np.zeros_like(self.clamped)
        self.risen = np.zeros((boundaries, *table))
        self.change = np.zeros((boundaries, columns))
        self.control_clamped = np.zeros((controls, *table))
        self.control_signed = np.zeros_like(self.control_clamped)
        self.control_change = np.zeros((controls, columns))
        self.base = np.zeros((num, outputs), dtype=np.float32)
        self.own = [np.zeros((num, 1 + columns), dtype=np.float32) for _ in range(boundaries)]

    def add(self, rows: slice, index: int, column: int, scores: np.ndarray, change: float) -> None:
        """Add the scores [n, K] of the samples `rows`, moved along direction `index`, and their images' change."""
        rise = scores - self.base[rows]
        clamped = np.maximum(rise, 0)
        boundaries = len(self.own)
        if index >= boundaries:
            self.control_clamped[index - boundaries, column] += clamped.sum(axis=0, dtype=np.float64)
            self.control_signed[index - boundaries, column] += rise.sum(axis=0, dtype=np.float64)
            self.control_change[index - boundaries, column] += change
            return
        np.add.at(self.clamped[:, index, column], self.groups[rows], clamped)
        np.add.at(self.signed[:, index, column], self.groups[rows], rise)
        self.risen[index, column] += (rise > 0).sum(axis=0)
        self.change[index, column] += change
        self.own[index][rows, 1 + column] = scores[:, self.targets[index]]


class SwapTally:
    """Squared score changes when one layer's code is replaced, by group of samples."""

    def __init__(self, num: int, layers: int, outputs: int) -> None:
        self.groups = group_rows(num)
        self.squares = np.zeros((int(self.groups[-1]) + 1, layers, outputs))
        self.change = np.zeros(layers)

    def samples(self, base: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return shares [1 + R, K, L]: the measured ones, then those of R resamplings of the groups."""
        num_groups, layers, outputs = self.squares.shape
        centered = base.astype(np.float64) - base.mean(axis=0, dtype=np.float64)
        sums = np.zeros((3, num_groups, outputs))
        np.add.at(sums[0], self.groups, np.ones_like(centered))
        np.add.at(sums[1], self.groups, centered)
        np.add.at(sums[2], self.groups, centered**2)
        count, first, second = (weights @ part for part in sums)  # [1 + R, K] each
        variance = second / count - (first / count) ** 2
        squares = (weights @ self.squares.reshape(num_groups, -1)).reshape(-1, layers, outputs) / count[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = squares / (2 * variance[:, None])
        return np.where(np.isfinite(shares), shares, np.nan).transpose(0, 2, 1)


def measure_batch(
    generator: Generator,
    predictor: Predictor,
    base: dict[str, Tensor],
    rows: slice,
    steps: Sequence[Tensor],
    layers: Sequence[int],
    tally: Tally,
) -> None:
    """Score one batch unmoved, moved as a whole, and moved at each layer, along every direction."""
    if "wp" not in base:
        unmoved = generator.synthesize(base["z"], "z")
    else:
        wp = base["wp"]
        num, last = len(wp), generator.num_layers
        unmoved = generator.image(generator.advance(generator.initial(num), wp, 0, last))
    tally.base[rows] = predict(predictor, unmoved)
    if not np.isfinite(tally.base[rows]).all():
        raise HiganError(f"predictor {predictor.name} gives scores that are not finite")
    def add(index: int, column: int, images: Tensor) -> None:
        change = (images.int() - unmoved.int()).abs_().float().mean(dim=(1, 2, 3)).sum()
        tally.add(rows, index, column, predict(predictor, images), float(change))

    for index, own in enumerate(tally.own):
        own[rows, 0] = tally.base[rows, tally.targets[index]]
    for index, step in enumerate(steps):
        if step.ndim == 1:
            add(index, 0, generator.synthesize(base["z"] + step.to(base["z"]), "z"))
        else:
            moved = wp + step
            add(index, 0, generator.image(generator.advance(generator.initial(num), moved, 0, last)))
    if not layers:
        return
    below = generator.initial(num)
    for layer in layers:
        for index, step in enumerate(steps):
            if step.ndim == 2:
                moved = wp.clone()
                moved[:, layer] += step[layer]
                add(index, 1 + layer, generator.image(generator.advance(below, moved, layer, last)))
        below = generator.advance(below, wp, layer, layer + 1)


def swap_batch(
    generator: Generator, predictor: Predictor, wp: Tensor, rows: slice, base: np.ndarray, tally: SwapTally
) -> None:
    """Replace each layer's code of one batch by the next sample's, and add up the squared changes of its scores."""
    own, donors = wp[rows], wp.roll(-1, dims=0)[rows]
    last = generator.num_layers
    below = generator.initial(len(own))
    unmoved = generator.image(generator.advance(below, own, 0, last))
    for layer in range(last):
        mixed = own.clone()
        mixed[:, layer] = donors[:, layer]
        images = generator.image(generator.advance(below, mixed, layer, last))
        squares = (predict(predictor, images) - base).astype(np.float64) ** 2
        np.add.at(tally.squares[:, layer], tally.groups[rows], squares)
        tally.change[layer] += float((images.int() - unmoved.int()).abs_().float().mean(dim=(1, 2, 3)).sum())
        below = generator.advance(below, own, layer, layer + 1)


def predict(predictor: Predictor, images: Tensor) -> np.ndarray:
    """Return the scores of all groups side by side, float32 [N, K]."""
    scores = predictor.predict(images)
    return torch.cat([scores[group] for group in predictor.names], dim=1).cpu().numpy()


def check_boundary(generator: Generator, boundary: Boundary, predictor: Predictor) -> int:
    """Return the output that a boundary is named after; raise HiganError unless it fits the model."""
    if boundary.space not in generator.spaces:
        raise HiganError(
            f"boundary {boundary.name} is of space {boundary.space}; {generator.name} ({generator.family}) has "
            f"{', '.join(generator.spaces)}"
        )
    expected = {
        "z": (1, generator.z_dim),
        "w": (1, generator.w_dim),
        "wp": (1, generator.num_layers, generator.w_dim),
    }[boundary.space]
    if boundary.direction.shape != expected:
        raise HiganError(
            f"boundary {boundary.name} is {list(boundary.direction.shape)}; {generator.name} expects {list(expected)} "
            f"in space {boundary.space}: train it on this model's codes"
        )
    outputs = [name for names in predictor.names.values() for name in names]
    return outputs.index(find_name(boundary.name, outputs, "score", f"predictor {predictor.name}"))


def prepare_codes(
    generator: Generator,
    boundaries: Sequence[Boundary],
    num: int,
    seed: int,
    codes: np.ndarray | Tensor | None,
    space: str,
) -> dict[str, Tensor]:
    """Return what synthesis starts from: "wp" where the model has it, and "z" if it is moved, on the device."""
    given = generator.sample(num, seed) if codes is None else torch.as_tensor(np.array(codes, dtype=np.float32))
    if codes is None:
        space = "z"
    if not len(given) or not bool(torch.isfinite(given).all()):
        raise HiganError("codes are empty or not finite; expected finite numbers")
    prepared: dict[str, Tensor] = {}
    if "wp" in generator.spaces:
        blocks = given.split(1024)
        prepared["wp"] = torch.cat([generator.to_wp(block, space) for block in blocks])
    if any(boundary.space == "z" for boundary in boundaries) or not prepared:
        if space != "z":
            raise HiganError(f"a z boundary moves codes of space z, but the codes are of {space}")
        prepared["z"] = given.to(generator.device, torch.float32)
    return prepared


def random_boundaries(generator: Generator, boundaries: Sequence[Boundary], num: int, seed: int) -> list[Boundary]:
    """Return `num` random unit directions, in w unless all boundaries are of z."""
    space = "w" if any(boundary.space != "z" for boundary in boundaries) else "z"
    random = np.random.default_rng([seed, 1])
    directions = random.standard_normal((num, 1, generator.w_dim if space == "w" else generator.z_dim))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return [Boundary("random", direction.astype(np.float32), space) for direction in directions]


def make_step(generator: Generator, boundary: Boundary, distance: float) -> Tensor:
    """Return how codes move, float32 on the device: [D] in z, [L, W] in w+."""
    direction = torch.from_numpy(boundary.direction[0].astype(np.float64))
    if boundary.space == "w":
        direction = generator.psi().double()[:, None] * direction
    return (distance * direction).to(generator.device, torch.float32)


def make_strips(
    generator: Generator,
    base: dict[str, Tensor],
    boundaries: Sequence[Boundary],
    steps: Sequence[Tensor],
    samples: Sequence[int],
    layers: Sequence[int],
) -> np.ndarray:
    """Return uint8 [B, 2 + L, H, W, 3]: a sample unmoved, moved as a whole, and moved at each layer."""
    strips = []
    for boundary, step, sample in zip(boundaries, steps, samples, strict=False):
        code = base["z" if boundary.space == "z" else "wp"][sample]
        codes = torch.stack([code, code + step, *[code] * len(layers)])
        if boundary.space != "z":
            for layer in layers:
                codes[2 + layer, layer] += step[layer]
        strips.append(generator.synthesize(codes, "z" if boundary.space == "z" else "wp").cpu().numpy())
    size = generator.resolution
    return np.stack(strips) if strips else np.zeros((0, 2 + len(layers), size, size, 3), dtype=np.uint8)


def group_rows(num: int) -> np.ndarray:
    """Return the group of each sample, int64 [num]: `GROUPS` runs of samples, or each its own."""
    return np.arange(num) * min(num, GROUPS) // num


def resampling_weights(sizes: np.ndarray, seed: int) -> np.ndarray:
    """Return float64 [1 + R, G]: how often each group counts: once in row 0, as drawn with replacement below."""
    num = len(sizes)
    drawn = np.random.default_rng([seed, 2]).multinomial(num, np.full(num, 1 / num), size=RESAMPLES)
    return np.concatenate([np.ones((1, num)), drawn])


def estimate(sums: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the mean over samples, with its interval, of sums by group [G, ...]."""
    flat = sums.reshape(len(sums), -1)
    counts = (weights @ sizes)[:, None]
    parts = [
        interval((weights @ flat[:, start : start + 4096]) / counts) for start in range(0, max(flat.shape[1], 1), 4096)
    ]
    joined = (np.concatenate([getattr(part, field) for part in parts]) for field in ("value", "low", "high"))
    return Estimate(*(array.reshape(sums.shape[1:]) for array in joined))


def interval(samples: np.ndarray) -> Estimate:
    """Return the first of samples [1 + R, ...] with the central 95 % of the others."""
    low, high = np.quantile(samples[1:], (0.025, 0.975), axis=0)
    return Estimate(*(array.astype(np.float32) for array in (samples[0], low, high)))


def hierarchy(sums: np.ndarray, weights: np.ndarray, levels: Sequence[str]) -> Hierarchy:
    """Return where sums by group [G, X, L] lie over the layers."""
    return hierarchy_of(np.tensordot(weights, sums, axes=1), levels)


def hierarchy_of(samples: np.ndarray, levels: Sequence[str]) -> Hierarchy:
    """Return where samples [1 + R, X, L] of non-negative amounts lie over the layers; `levels` has X entries."""
    amounts = np.nan_to_num(samples)
    totals = amounts.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        centers = amounts @ np.arange(samples.shape[2]) / totals  # [1 + R, X]
    known = np.isfinite(centers).all(axis=0)
    rows = {level: [row for row, of in enumerate(levels) if of == level and known[row]] for level in LEVELS}
    present = tuple(level for level in LEVELS if rows[level])
    of_levels = np.empty((len(centers), len(present)))
    for column, level in enumerate(present):
        of_levels[:, column] = centers[:, rows[level]].mean(axis=1)
    return Hierarchy(interval(centers), present, interval(of_levels), interval(np.diff(of_levels, axis=1)))


def median_row(values: np.ndarray) -> int:
    """Return the row of the (upper) median value."""
    return int(np.argsort(values, kind="stable")[len(values) // 2])


def describe(generator: Generator, predictor: Predictor, boundaries: Sequence[Boundary]) -> dict[str, Any]:
    """Return what the numbers were made with."""
    files = []
    for boundary in boundaries:
        path = boundary.info.get("path")
        sha256 = digest(Path(path)) if path and Path(path).is_file() else ""
        files.append({"path": path or "", "sha256": sha256})
    return {
        "model": generator.name,
        "model_sha256": generator.sha256,
        "family": generator.family,
        "resolution": generator.resolution,
        "truncation_psi": generator.truncation_psi,
        "truncation_layers": generator.truncation_layers,
        "predictor": predictor.name,
        "predictor_sha256": predictor.sha256,
        "boundaries": files,
        "versions": versions(),
    }


def tables(rescoring: Rescoring) -> dict[str, np.ndarray]:
    """Return the arrays that are written, by name."""
    found: dict[str, np.ndarray] = {}
    for name in ("delta", "signed", "swap"):
        part = getattr(rescoring, name)
        if part is not None:
            found |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
    for name in ("risen", "image_change", "control_delta", "control_signed", "control_high", "base_mean", "base_std"):
        found[name] = getattr(rescoring, name)
    return found


def to_csv(rescoring: Rescoring) -> str:
    """Return the table with a line per boundary, column and output."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("delta", "delta_low", "delta_high", "signed", "signed_low", "signed_high", "risen", "control_high")
    writer.writerow(("boundary", "space", "layer", "group", "output", *names))
    found = tables(rescoring)
    columns = ("all", *rescoring.layers)
    found["control_high"] = np.broadcast_to(found["control_high"], rescoring.delta.value.shape)
    for b, (name, space) in enumerate(zip(rescoring.names, rescoring.spaces, strict=True)):
        for c, layer in enumerate(columns if space != "z" else columns[:1]):
            for k, (group, output) in enumerate(zip(rescoring.output_groups, rescoring.outputs, strict=True)):
                values = [found[column][b, c, k] for column in names]
                row = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
                writer.writerow((name, space, layer, group, output, *row))
    return text.getvalue()


def to_json(rescoring: Rescoring) -> dict[str, Any]:
    """Return the names of rows and columns of the tables, each boundary's own numbers, and what made them."""
    own = []
    for b, target in enumerate(rescoring.targets):
        delta = rescoring.delta
        own.append(
            {
                "name": rescoring.names[b],
                "space": rescoring.spaces[b],
                "level": rescoring.boundary_levels[b],
                "delta": rounded(delta.value[b, :, target]),
                "delta_low": rounded(delta.low[b, :, target]),
                "delta_high": rounded(delta.high[b, :, target]),
                "image_change": rounded(rescoring.image_change[b]),
                "verified_layers": list(rescoring.verified[b]),
            }
            | rescoring.provenance["boundaries"][b]
        )
    content: dict[str, Any] = {
        "num": rescoring.num,
        "distance": rescoring.distance,
        "seed": rescoring.seed,
        "columns": ["all", *rescoring.layers],
        "outputs": list(rescoring.outputs),
        "output_groups": list(rescoring.output_groups),
        "output_levels": list(rescoring.output_levels),
        "boundaries": own,
        "controls": len(rescoring.control_delta),
    }
    for name in ("hierarchy", "swap_hierarchy"):
        found = getattr(rescoring, name)
        if found is not None:
            content[name] = {"levels": list(found.levels)} | {
                f"{key}{suffix}": rounded(getattr(getattr(found, key), part))
                for key in ("center", "level_center", "level_step")
                for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
    return content | {key: value for key, value in rescoring.provenance.items() if key != "boundaries"}


def rounded(values: np.ndarray) -> list[float | None]:
    """Return float32 [N] as JSON values, null for NaN."""
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in values]
