"""Re-scoring: how far every score rises when codes move along a boundary, over all layers and at each one alone.

The measure is that of Yang, Shen and Zhou (2020, "Semantic hierarchy emerges in deep generative representations for
scene synthesis"): delta = mean over samples of max(F(G(code moved by `distance`)) - F(G(code)), 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.directions.boundaries import Boundary, find_score
from higan.directions.move import MOST_DISTANCE
from higan.errors import HiganError
from higan.files import digest
from higan.generators import Generator
from higan.generators.network import layered
from higan.logs import progress
from higan.predictors import Predictor
from higan.rescoring.blocks import Blocks
from higan.rescoring.looks import FEWEST, estimate_moves, find_looks, noise, noise_of_limit, too_wide
from higan.rescoring.measure import (
    Move,
    Plan,
    Step,
    Sums,
    make_step,
    measure,
    prepare_codes,
    random_boundaries,
    swap_plan,
)
from higan.rescoring.result import Direction, Output, Rescoring
from higan.rescoring.statistics import (
    CONTROL_LEVEL,
    UNKNOWN,
    VERIFIED,
    Hierarchy,
    chance_limit,
    choose_layers,
    chosen_limit,
    control_limit,
    find_hierarchy,
    interval,
    judge,
    resampling_weights,
    total_effects,
)
from higan.runs.run import versions

Table = dict[str, NDArray[np.float32]]
REACHED = 0.99  # quantile of the samples' scores that counts as the highest a score can rise to


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
    recipes: Sequence[str] = (),
    folder: str | Path | None = None,
    overwrite: bool = False,
    interval_width: float | None = None,
) -> Rescoring:
    """Measure how far every score rises when samples move along each boundary.

    The unmoved images are made and scored once for all boundaries. To move layer l alone, only the layers from l on are
    computed again; the activations below are shared by all boundaries. The scores are those of a full synthesis. Then
    every boundary is moved at exactly the layers that carry most of its effect (`choose_layers`), which the control
    judges.

    Parameters
    ----------
    boundaries
        Each stands for one of the predictor's scores, or for none: then it is told by re-scoring what it moves. A z
        boundary moves z; a w boundary moves layer l of w+ by `distance` times the layer's truncation psi; a wp boundary
        by `distance`.
    num, seed
        Samples to draw, without `codes`.
    layerwise
        Move each layer alone as well.
    control
        Number of random unit directions of w (of z if all boundaries are of z) to put through the same procedure.
    layer_swap
        Measure each layer's total effect on every score (see `total_effects`), which needs no boundary.
    batch_size
        0: as memory allows.
    codes, space
        Codes to use instead of drawn ones, in "z", "w" or "wp".
    recipes
        Which of several lists each boundary is of.
    folder
        Where what was measured is kept, in `measured/`: the same call, once more after a kill, goes on where it was.
    overwrite
        Begin anew where the folder holds another unfinished run.
    interval_width
        Measure a move (a boundary at all layers, at one, at the chosen ones) no further once the 95 % interval of its
        effect is at most this wide, in standard deviations of the score that its boundary stands for; the width is
        looked at after an eighth, a quarter and half of the samples, 100 at least. Of a boundary without a score and
        of random directions, the intervals of all scores that count have to be as narrow: the former's all, the
        latter's those of the boundaries. The layer swap takes all samples. None: everything does.

    Raises
    ------
    HiganError
        A boundary does not fit the model or names no score of the predictor's; codes or numbers out of range.

    >>> rescore(generator, predictor, [boundary], num=200, control=20).answers()[0].sentence()  # doctest: +SKIP
    'window is obeyed at layers 0 and 1: +1.31 sd (+1.24 to +1.38; chance limit 0.59), leaks nothing'
    """
    check_request(num, distance, control, batch_size, interval_width)
    levels = predictor.levels
    outputs = tuple(
        Output(name, group, levels.get(name, "")) for group, names in predictor.names.items() for name in names
    )
    targets = [check_boundary(generator, boundary, predictor) for boundary in boundaries]
    if layer_swap and not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers to swap")
    base = prepare_codes(generator, boundaries, num, seed, codes, space)
    num = len(next(iter(base.values())))
    if layer_swap and num < 2:
        raise HiganError("a layer swap needs 2 samples at least; give a larger num")
    looks = () if interval_width is None else find_looks(num)
    if interval_width is not None and not looks:
        raise HiganError(
            f"intervals are looked at after half of the samples at the latest and {FEWEST} at least; found num {num}, "
            f"expected {2 * FEWEST} at least"
        )
    layerwise = layerwise and any(layered(boundary.space) for boundary in boundaries)
    layers = tuple(range(generator.num_layers)) if layerwise else ()
    controls = random_boundaries(generator, boundaries, control, seed)
    steps = [make_step(generator, boundary, distance) for boundary in (*boundaries, *controls)]

    plan, places = plan_columns(base, steps, targets, layers, len(outputs), looks)
    swaps = swap_plan(base[generator.entry], generator.entry, seed, len(outputs)) if layer_swap else None
    blocks = None
    if folder is not None:
        asked: dict[str, Any] = {"num": num, "distance": distance, "seed": seed, "control": control}
        asked["boundaries"] = [boundary.name for boundary in boundaries]
        if interval_width is not None:
            asked["interval_width"] = interval_width
        blocks = Blocks(Path(folder), measured_with(generator, predictor) | asked, overwrite)
        batch_size = batch_size or blocks.batch_size
    batch_size = batch_size or generator.batch_size

    def measured(name: str, plan: Plan, judged: NDArray[np.bool_] | None = None) -> Sums:
        """Return the sums of a plan, whose moves have to be narrow in the scores `judged`.

        Some of its blocks may have been measured before.
        """
        wide = None
        if interval_width is not None and judged is not None:
            wide = partial(too_wide, judged=judged, width=interval_width, weights=weights)
        with blocks.of(name, plan, batch_size) if blocks is not None else nullcontext() as kept:
            return measure(generator, predictor, plan, batch_size, bar.update, kept, wide)

    repeated = sum(layered(boundary.space) for boundary in boundaries) if layers else 0
    total = num * (len(plan.moves) + repeated + (len(swaps.moves) if swaps else 0))
    bar = progress(total=total, desc="rescoring", unit="move")

    weights = resampling_weights(int(plan.groups[-1]) + 1, seed)
    sums = measured("columns", plan, judged_scores(plan, places, targets))
    table = column_table(sums, places, weights, control)
    directions = []
    for index, (boundary, target) in enumerate(zip(boundaries, targets, strict=True)):
        recipe = recipes[index] if recipes else ""
        direction = describe_direction(boundary, recipe, table, index, target, outputs)
        kept = places[index][places[index] >= 0] if direction.named else []
        direction.scores = np.concatenate([sums.values["base"][:, [direction.target]], sums.values["own"][:, kept]], 1)
        directions.append(direction)

    rows = [index for index, direction in enumerate(directions) if direction.chosen]

    def repeat(name: str, rows: Sequence[int], part: float) -> Sums:
        """Measure the directions `rows` at exactly their chosen layers, moved by `part` of the distance."""
        moves: list[Move] = [Step(steps[row] * part, directions[row].chosen) for row in rows]
        own = [directions[row].target for row in rows]
        again = Plan(base, moves, len(outputs), own, looks=looks)
        return measured(name, again, np.eye(len(outputs), dtype=np.bool_)[own])

    norms = [step.double().norm(dim=-1).cpu().numpy() for step in steps]

    def judge_rows(rows: Sequence[int]) -> None:
        """Judge the directions `rows` by what was measured of them."""
        for row in rows:
            of_layers = control and layered(directions[row].space)
            scale = norms[row] / np.maximum(norms[-1], 1e-12) if of_layers else None
            judge_direction(table, directions[row], row, scale, sums.values["base"], distance, seed)

    chosen = repeat("chosen", rows, 1.0) if rows else None
    add_chosen(table, rows, chosen, weights)
    judge_rows(range(len(directions)))
    doubtful = [row for row in rows if control and directions[row].mark != VERIFIED]
    if doubtful:
        # A score that saturates may show at half of the distance what it cannot show at the whole.
        bar.total += num * len(doubtful)
        add_half(table, doubtful, repeat("half", doubtful, 0.5), weights)
        judge_rows(doubtful)

    hierarchies = {}
    if layers:
        hierarchies["hierarchy"] = layer_hierarchy(sums, places, directions, weights, seed)
    if swaps is not None:
        swapped = measured("swap", swaps).values
        swap_weights = resampling_weights(int(swaps.groups[-1]) + 1, seed)
        shares = total_effects(swapped["squares"], swapped["base"], swaps.groups, swap_weights)
        table |= named("swap", interval(shares))
        table["swap_image_change"] = (swapped["change"] / num).astype(np.float32)
        hierarchies["swap_hierarchy"] = find_hierarchy(shares, [output.level for output in outputs], seed)

    bar.close()
    samples = telling_samples(directions, rows, chosen)
    return Rescoring(
        directions=tuple(directions),
        outputs=outputs,
        layers=layers,
        num=num,
        distance=distance,
        seed=seed if codes is None else None,
        controls=control,
        interval_width=interval_width,
        table=table,
        hierarchies=hierarchies,
        strips=make_strips(generator, base, directions, steps, samples, layers),
        strip_samples=np.array(samples, dtype=np.int64),
        provenance=describe(generator, predictor),
    )


def check_request(
    num: int, distance: float, control: int, batch_size: int, interval_width: float | None = None
) -> None:
    """Raise HiganError unless numbers, distance and width are in range."""
    if interval_width is not None and not 0 < interval_width < np.inf:
        raise HiganError(
            f"the interval's width is {interval_width:g}; expected standard deviations of the score, more than 0"
        )
    if num < 1 or control < 0 or batch_size < 0 or not 0 < abs(distance) <= MOST_DISTANCE:
        raise HiganError(
            f"num {num}, control {control}, batch_size {batch_size}, distance {distance}: expected num from 1, control "
            f"and batch_size from 0, a distance other than 0, {MOST_DISTANCE:g} at most"
        )


def plan_columns(
    base: dict[str, Tensor],
    steps: Sequence[Tensor],
    targets: Sequence[int | None],
    layers: tuple[int, ...],
    outputs: int,
    looks: tuple[int, ...] = (),
) -> tuple[Plan, NDArray[np.int64]]:
    """Return the moves of every direction, at all layers and at each; and which move is at direction and column [B, C].

    `steps` are those of the B boundaries and then of the random directions. -1 stands where there is no move.
    """
    moves: list[Move] = []
    own: list[int] = []
    places = np.full((len(targets), 1 + len(layers)), -1)
    for index, step in enumerate(steps):
        whole = tuple(range(len(step))) if step.ndim == 2 else ()
        columns = [whole, *((layer,) for layer in (layers if whole else ()))]
        if index < len(targets):
            places[index, : len(columns)] = range(len(moves), len(moves) + len(columns))
            own += [targets[index] or 0] * len(columns)
        moves += [Step(step, column) for column in columns]
    return Plan(base, moves, outputs, own, looks=looks), places


def judged_scores(plan: Plan, places: NDArray[np.int64], targets: Sequence[int | None]) -> NDArray[np.bool_]:
    """Return which scores of a plan's moves have to have narrow intervals, bool [M, K].

    A boundary's own, all of one that stands for none, and for random directions those that count for any boundary.
    """
    judged = np.zeros((len(plan.moves), plan.outputs), np.bool_)
    for of_boundary, target in zip(places, targets, strict=True):
        judged[of_boundary[of_boundary >= 0], slice(None) if target is None else target] = True
    judged[len(plan.own) :] = judged.any(axis=0)
    return judged


def column_table(sums: Sums, places: NDArray[np.int64], weights: NDArray[np.float64], controls: int) -> Table:
    """Return the tables of all columns, and what chance reaches at each of them."""
    values, counts = sums.values, sums.counts
    grouped = len(sums.plan.own)

    def spread(of_moves: NDArray[Any]) -> NDArray[np.float32]:
        """Return [M', ...] as [B, C, ...], NaN where there is no move."""
        padded = np.concatenate([of_moves, np.full((1, *of_moves.shape[1:]), np.nan)])
        return padded[places].astype(np.float32)

    table: Table = {}
    for name, source in (("delta", "clamped"), ("signed", "signed")):
        estimate = estimate_moves(sums, source, weights)
        table |= {key: spread(part) for key, part in named(name, estimate).items()}
    table["risen"] = spread(values["risen"] / counts[:grouped, None])
    shape = (controls, places.shape[1])
    by_control = {
        name: (values[f"all_{name}"] / counts[grouped:, None]).reshape(*shape, sums.plan.outputs)
        for name in ("clamped", "signed")
    }
    table["control_high"] = control_limit(by_control["clamped"], by_control["signed"]).astype(np.float32)
    limit = chance_limit(by_control["signed"])
    table["signed_limit"] = limit.astype(np.float32)
    table["base_mean"], table["base_std"] = values["base"].mean(axis=0), values["base"].std(axis=0)
    change = values["change"] / counts
    table["image_change"] = spread(change[:grouped])
    table["control_delta"] = by_control["clamped"].astype(np.float32)
    table["control_signed"] = by_control["signed"].astype(np.float32)
    table["control_image_change"] = change[grouped:].reshape(shape).astype(np.float32)
    if sums.plan.looks:
        table["samples"] = spread(counts[:grouped])
        table["control_samples"] = counts[grouped:].reshape(shape).astype(np.float32)
    if sums.plan.looks and controls:
        of_controls = noise(sums).reshape(by_control["signed"].shape)
        table["limit_noise"] = noise_of_limit(limit, by_control["signed"], of_controls).astype(np.float32)
    return table


def add_chosen(table: Table, rows: Sequence[int], chosen: Sums | None, weights: NDArray[np.float64]) -> None:
    """Add what was measured at exactly the chosen layers of the directions `rows`; the others have all layers moved."""
    for name in ("delta", "signed"):
        for part in ("", "_low", "_high"):
            table[f"chosen_{name}{part}"] = table[f"{name}{part}"][:, 0].copy()
    table["chosen_risen"] = table["risen"][:, 0].copy()
    table["chosen_image_change"] = table["image_change"][:, 0].copy()
    for part in ("", "_low", "_high"):
        table[f"half_signed{part}"] = np.full_like(table["signed"][:, 0], np.nan)
    if "samples" in table:
        table["chosen_samples"] = table["samples"][:, 0].copy()
    if chosen is None:
        return
    values, counts = chosen.values, chosen.counts
    found: dict[str, NDArray[Any]] = {
        "chosen_risen": values["risen"] / counts[:, None],
        "chosen_image_change": values["change"] / counts,
    }
    if "samples" in table:
        found["chosen_samples"] = counts
    for name, source in (("delta", "clamped"), ("signed", "signed")):
        found |= named(f"chosen_{name}", estimate_moves(chosen, source, weights))
    for name, of_moves in found.items():
        table[name][list(rows)] = of_moves


def add_half(table: Table, rows: Sequence[int], half: Sums, weights: NDArray[np.float64]) -> None:
    """Add what was measured of the directions `rows` by half of the distance; the others have NaN."""
    for name, of_moves in named("half_signed", estimate_moves(half, "signed", weights)).items():
        table[name][list(rows)] = of_moves


def judge_direction(
    table: Table,
    direction: Direction,
    index: int,
    scale: NDArray[np.float64] | None,
    scores: NDArray[np.float32],
    distance: float,
    seed: int,
) -> None:
    """Compare a direction's effect at exactly its chosen layers with that of random directions; set mark and tested.

    A direction that stands for no score was measured by the one, of K, that it moves most, up or down: its chance is
    divided by 2 K.

    Parameters
    ----------
    scale
        float64 [L]: length of the direction's step at each layer over that of a random one's.
    scores
        [N, K] of the unmoved samples.
    """
    target, sign = direction.target, direction.sign
    controls = table["control_signed"].astype(np.float64)
    level = CONTROL_LEVEL if direction.named else CONTROL_LEVEL / (2 * controls.shape[2])
    if direction.chosen and scale is not None:
        of_layers = controls[:, 1:] * scale[None, :, None]
        limits = chance_limit(of_layers[:, list(direction.chosen)].sum(axis=1))
        limits[target] = chosen_limit(of_layers[:, :, target], level, seed)
    else:
        limits = chance_limit(controls[:, 0])
        limits[target] = chance_limit(controls[:, 0, target], level)
    table.setdefault("chosen_limit", np.full_like(table["chosen_signed"], np.nan))[index] = limits
    limit = float(limits[target])
    own = np.sort(sign * scores[:, target].astype(np.float64))
    reach = float(np.maximum(np.quantile(own, REACHED) - own, 0).mean())
    found = {}
    for name, part in (("chosen", 1.0), ("half", 0.5)):
        ends = [float(sign * table[f"{name}_signed_{end}"][index, target]) for end in ("low", "high")]
        if np.isfinite(ends).all():
            found[part] = judge(min(ends), max(ends), part * limit, reach)
    best = VERIFIED if VERIFIED in found.values() else UNKNOWN if UNKNOWN in found.values() else found[1.0]
    direction.mark = best
    direction.tested = distance * next(part for part, mark in found.items() if mark == best)


def layer_hierarchy(
    sums: Sums,
    places: NDArray[np.int64],
    directions: Sequence[Direction],
    weights: NDArray[np.float64],
    seed: int,
) -> Hierarchy:
    """Return what `find_hierarchy` finds in the directions' effects at each layer alone, on their own scores."""
    of_layers = [
        sums.values["clamped"][:, place[1:], direction.target] * (place[1:] >= 0)
        for place, direction in zip(places, directions, strict=True)
    ]
    weights = weights[:, : len(of_layers[0])]
    resampled = np.tensordot(weights, np.stack(of_layers, axis=1), axes=1)
    counts = np.tensordot(weights, sums.sizes[:, places[:, 1:]], axes=1)  # of samples; layers may differ in them
    resampled /= counts / counts[..., :1]
    return find_hierarchy(resampled, [direction.level for direction in directions], seed)


def describe_direction(
    boundary: Boundary, recipe: str, table: Table, index: int, target: int | None, outputs: Sequence[Output]
) -> Direction:
    """Return what is known of a direction before its layers are tested: its score and its chosen layers."""
    sign = 1
    if named_score := target is not None:
        score = target
    else:
        effects, limits = table["signed"][index, 0], table["signed_limit"][0]
        against = limits if np.isfinite(limits).all() else table["base_std"]
        score = int(np.argmax(np.abs(effects) / np.maximum(against, 1e-12)))
        sign = -1 if effects[score] < 0 else 1
    path = boundary.info.get("path") or ""
    chosen = choose_layers(sign * table["signed"][index, 1:, score]) if layered(boundary.space) else ()
    return Direction(
        name=boundary.name,
        space=boundary.space,
        target=score,
        sign=sign,
        named=named_score,
        level=str(boundary.info.get("level") or (outputs[score].level if named_score else "")),
        recipe=recipe,
        chosen=chosen,
        path=path,
        sha256=digest(Path(path)) if path and Path(path).is_file() else "",
    )


def named(name: str, estimate: Any) -> Table:
    """Return an estimate's three arrays by the names that they have in a table."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def check_boundary(generator: Generator, boundary: Boundary, predictor: Predictor) -> int | None:
    """Return the output that a boundary stands for, None if it stands for none; raise HiganError unless it fits."""
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
    if boundary.target is None:
        return None
    return find_score(boundary.target, predictor.names, f"predictor {predictor.name}")


def telling_samples(directions: Sequence[Direction], rows: Sequence[int], chosen: Sums | None) -> list[int]:
    """Return for each direction the sample that shows what it does, at the chosen layers where it has them.

    `chosen` is what was measured of the directions `rows` at their chosen layers.
    """
    samples = []
    for index, direction in enumerate(directions):
        before, after = direction.scores[:, 0], direction.scores[:, int(direction.named)]
        if chosen is not None and index in rows:
            after = chosen.values["own"][:, rows.index(index)]
        num = min(len(before), int(np.isfinite(after).sum()))  # samples that it was moved in
        samples.append(telling_sample(direction.sign * before[:num], direction.sign * after[:num]))
    return samples


def telling_sample(before: NDArray[np.floating], after: NDArray[np.floating]) -> int:
    """Return a sample that shows what a direction does: of those that score low, three quarters rise less.

    Scores [N] before and after the move; half of the samples score low: of a yes/no score, those without it.
    """
    low = np.flatnonzero(before <= np.median(before))
    ranked = low[np.argsort((after - before)[low], kind="stable")]
    return int(ranked[len(ranked) * 3 // 4])


def make_strips(
    generator: Generator,
    base: dict[str, Tensor],
    directions: Sequence[Direction],
    steps: Sequence[Tensor],
    samples: Sequence[int],
    layers: Sequence[int],
) -> NDArray[np.uint8]:
    """Return uint8 [B, 3 + L, H, W, C]: a sample unmoved, moved at the chosen layers, at all, and at each.

    Without layers there is no picture of chosen ones; a code of z moves as a whole, wherever layers would move.
    """
    strips = []
    for direction, step, sample in zip(directions, steps, samples, strict=False):
        space = generator.entry if layered(direction.space) else direction.space
        code = base[space][sample : sample + 1]
        whole = tuple(range(len(step))) if step.ndim == 2 else ()
        columns = [whole] if not layers else [direction.chosen or whole, whole, *((layer,) for layer in layers)]
        rows = slice(sample, sample + 1)
        moved = [Step(step, column if whole else ()).apply(code, rows) for column in columns]
        label = int(base["labels"][sample]) if "labels" in base and not layered(space) else None
        strips.append(generator.synthesize(torch.cat([code, *moved]), space, label).cpu().numpy())
    return np.stack(strips) if strips else np.zeros((0, 0, 0, 0, 3), dtype=np.uint8)


def measured_with(generator: Generator, predictor: Predictor) -> dict[str, Any]:
    """Return what has to be the same for measured blocks to fit each other; a newer version of a library may be."""
    described = describe(generator, predictor)
    del described["versions"]
    return described | {
        "device": generator.device.type,
        "dtype": str(generator.dtype),
        "noise": generator.noise,
    }


def describe(generator: Generator, predictor: Predictor) -> dict[str, Any]:
    """Return what the numbers were made with."""
    return {
        "model": generator.name,
        "model_sha256": generator.sha256,
        "family": generator.family,
        "resolution": generator.resolution,
        "truncation_psi": generator.truncation_psi,
        "truncation_layers": generator.truncation_layers,
        "class_idx": generator.class_idx,
        "labels_sha256": generator.labels_sha256,
        "predictor": predictor.name,
        "predictor_sha256": predictor.sha256,
        "versions": versions(),
    }
