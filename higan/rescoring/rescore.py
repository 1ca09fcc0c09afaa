"""Re-scoring: how far every score rises when codes move along a boundary, over all layers and at each one alone.

The measure is that of Yang, Shen and Zhou (2020, "Semantic hierarchy emerges in deep generative representations for
scene synthesis"): delta = mean over samples of max(F(G(code moved by `distance`)) - F(G(code)), 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.directions.boundaries import Boundary, find_score
from higan.directions.move import MOST_DISTANCE
from higan.errors import HiganError
from higan.files import digest
from higan.generators import Generator
from higan.generators.network import layered
from higan.predictors import Predictor
from higan.rescoring.measure import SwapTally, Tally, make_step, measure, prepare_codes, random_boundaries
from higan.rescoring.statistics import (
    Estimate,
    Hierarchy,
    estimate_means,
    find_hierarchy,
    interval,
    resampling_weights,
    swap_shares,
)
from higan.runs.run import versions

CONTROL_LEVEL = 1e-4  # chance of a random direction to pass the control's limit at a layer


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
    control_high
        [C, K]: the most that a random direction reaches (see `control_limit`); NaN without a control.
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
        uint8 [B, 2 + L, H, W, C]: one sample of each boundary: unmoved, all layers moved, then each layer moved (the
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
    if num < 1 or control < 0 or batch_size < 0 or not 0 < abs(distance) <= MOST_DISTANCE:
        raise HiganError(
            f"num {num}, control {control}, batch_size {batch_size}, distance {distance}: expected num from 1, control "
            f"and batch_size from 0, a distance other than 0, {MOST_DISTANCE:g} at most"
        )
    outputs = [(name, group) for group, names in predictor.names.items() for name in names]
    targets = [check_boundary(generator, boundary, predictor) for boundary in boundaries]
    if layer_swap and not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers to swap")
    base = prepare_codes(generator, boundaries, num, seed, codes, space)
    num = len(next(iter(base.values())))
    if layer_swap and num < 2:
        raise HiganError("a layer swap needs 2 samples at least; give a larger num")
    layerwise = layerwise and any(layered(boundary.space) for boundary in boundaries)
    layers = tuple(range(generator.num_layers)) if layerwise else ()
    controls = random_boundaries(generator, boundaries, control, seed)
    steps = [make_step(generator, boundary, distance) for boundary in (*boundaries, *controls)]

    tally = Tally(num, targets, len(controls), 1 + len(layers), len(outputs))
    swaps = SwapTally(num, generator.num_layers, len(outputs)) if layer_swap else None
    batches = range(0, num, batch_size or generator.batch_size)
    measure(generator, predictor, base, steps, tally, swaps, (progress or iter)(batches), batches.step)

    levels = tuple(predictor.levels.get(name, "") for name, _ in outputs)
    boundary_levels = tuple(
        str(boundary.info.get("level") or levels[target]) for boundary, target in zip(boundaries, targets, strict=True)
    )
    weights = resampling_weights(len(tally.group_sizes), seed)
    delta, signed = (estimate_means(sums, tally.group_sizes, weights) for sums in (tally.clamped, tally.signed))
    risen, image_change = (sums / num for sums in (tally.risen, tally.change))
    of_z = np.array([not layered(boundary.space) for boundary in boundaries], dtype=bool)
    for table in (*vars(delta).values(), *vars(signed).values(), risen, image_change):
        table[of_z, 1:] = np.nan
    control_delta, control_signed = (sums / num for sums in (tally.control_clamped, tally.control_signed))
    control_high = control_limit(control_delta, control_signed)
    own_delta = [tally.clamped[:, index, 1:, target] for index, target in enumerate(targets)]
    shares = None if swaps is None else swap_shares(swaps.squares, tally.base, tally.groups, weights)
    samples = [median_row(scores[:, 1] - scores[:, 0]) for scores in tally.own]
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
        scores=[scores[:, :2] if z else scores for z, scores in zip(of_z, tally.own, strict=True)],
        base_mean=tally.base.mean(axis=0),
        base_std=tally.base.std(axis=0),
        image_change=image_change.astype(np.float32),
        verified=tuple(
            () if of_z[index] else verified_layers(delta.value[index, 1:, target], control_high[1:, target])
            for index, target in enumerate(targets)
        ),
        control_delta=control_delta.astype(np.float32),
        control_signed=control_signed.astype(np.float32),
        control_high=control_high.astype(np.float32),
        control_image_change=(tally.control_change / num).astype(np.float32),
        hierarchy=find_hierarchy(np.tensordot(weights, np.stack(own_delta, axis=1), axes=1), boundary_levels)
        if layers
        else None,
        swap=None if shares is None else interval(shares),
        swap_image_change=None if swaps is None else (swaps.change / num).astype(np.float32),
        swap_hierarchy=None if shares is None else find_hierarchy(shares, levels),
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


def check_boundary(generator: Generator, boundary: Boundary, predictor: Predictor) -> int:
    """Return the output that a boundary is named after; raise HiganError unless it fits the model."""
    if boundary.space not in generator.spaces:
        raise HiganError(
            f"boundary {boundary.name} is of space {boundary.space}; {generator.name} ({generator.family}) has "
            f"{', '.join(generator.spaces)}"
        )
    expected = (1, *generator.code_shape(boundary.space))
    if boundary.direction.shape != expected:
        raise HiganError(
            f"boundary {boundary.name} is {list(boundary.direction.shape)}; {generator.name} expects {list(expected)} "
            f"in space {boundary.space}: train it on this model's codes"
        )
    return find_score(boundary.target or boundary.name, predictor.names, f"predictor {predictor.name}")


def make_strips(
    generator: Generator,
    base: dict[str, Tensor],
    boundaries: Sequence[Boundary],
    steps: Sequence[Tensor],
    samples: Sequence[int],
    layers: Sequence[int],
) -> np.ndarray:
    """Return uint8 [B, 2 + L, H, W, C]: a sample unmoved, moved as a whole, and moved at each layer."""
    strips = []
    for boundary, step, sample in zip(boundaries, steps, samples, strict=False):
        space = generator.entry if layered(boundary.space) else boundary.space
        code = base[space][sample]
        codes = torch.stack([code, code + step, *[code] * len(layers)])
        if layered(boundary.space):
            for layer in layers:
                codes[2 + layer, layer] += step[layer]
        strips.append(generator.synthesize(codes, space).cpu().numpy())
    empty = np.zeros((0, 2 + len(layers), *generator.image_size, generator.image_channels), dtype=np.uint8)
    return np.stack(strips) if strips else empty


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
