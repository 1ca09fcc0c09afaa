"""What re-scoring measures: samples moved in many ways, and how far their scores and pictures change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from higan.devices import within_memory
from higan.directions.boundaries import Boundary
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.generator import NotFiniteError
from higan.generators.network import State, layered, single
from higan.predictors import Predictor
from higan.rescoring.statistics import group_rows

Rise = NDArray[np.float64]


def clamp(rise: Rise) -> Rise:
    """Return rises, falls counted as zero."""
    return np.maximum(rise, 0)


SUMS: dict[str, Callable[[Rise], Rise]] = {"clamped": clamp, "signed": lambda rise: rise, "squares": np.square}


@dataclass(frozen=True)
class Step:
    """A step that is added to every sample's code.

    Attributes
    ----------
    step
        float32 on the device: [L, W], added to w+ at the layers moved, or [D], added to z.
    layers
        The layers that move, ascending; () in z.
    """

    step: Tensor
    layers: tuple[int, ...] = ()

    @property
    def first(self) -> int | None:
        """The lowest layer that changes, None in z."""
        return self.layers[0] if self.layers else None

    def apply(self, codes: Tensor, rows: slice) -> Tensor:
        """Return wp [n, L, W] (or z [n, D]) of the samples `rows`, moved."""
        if not self.layers:
            return codes + self.step
        moved = codes.clone()
        for layer in self.layers:
            moved[:, layer] += self.step[layer]
        return moved


@dataclass(frozen=True)
class Swap:
    """Another code at one layer: `codes` [N, W], a row per sample."""

    codes: Tensor
    first: int

    def apply(self, codes: Tensor, rows: slice) -> Tensor:
        """Return wp [n, L, W] of the samples `rows` with the other code."""
        moved = codes.clone()
        moved[:, self.first] = self.codes[rows]
        return moved


Move = Step | Swap


@dataclass
class Plan:
    """Samples, how they move, and what is kept of it.

    Attributes
    ----------
    base
        The unmoved samples on the device by space: wp [N, L, W] where the model has layers, and z [N, D] if z moves.
    moves
        M ways to move every sample.
    outputs
        Number K of the predictor's outputs.
    own
        The output whose score of every moved sample is kept, for each of the first B' moves; these are also summed by
        group of samples, for intervals. The other moves, those of random directions, are summed as a whole.
    sums
        What is summed of a rise, names of `SUMS`.
    looks
        Numbers of samples, ascending, after which moves may be left out of what follows; () if all are measured on all.
    """

    base: dict[str, Tensor]
    moves: Sequence[Move]
    outputs: int
    own: Sequence[int]
    sums: tuple[str, ...] = ("clamped", "signed")
    looks: tuple[int, ...] = ()
    groups: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = group_rows(self.num, self.looks)

    @property
    def num(self) -> int:
        """Number of samples."""
        return len(next(iter(self.base.values())))

    def blocks(self, batch_size: int) -> list[range]:
        """Return the samples in blocks of `batch_size`, smaller ones before a look and at the end."""
        return [
            range(start, min(start + batch_size, stop))
            for first, stop in pairwise((0, *self.looks, self.num))
            for start in range(first, stop, batch_size)
        ]


class Sums:
    """What is added up over the samples `rows` of a plan: of a batch, of a block, of all.

    Attributes
    ----------
    values
        base [n, K] and own [n, B'], the scores of every sample, float32, NaN where not measured; by name of `SUMS` the
        sums by group [g, B', K], and as "all_..." those of the other moves [M - B', K]; risen [B', K], how many rose;
        change [M], how far the images changed, in grey levels; all float64. Of a plan with looks also count [M], the
        samples that each move was measured on, and "all_squares".
    """

    def __init__(self, plan: Plan, rows: range) -> None:
        self.plan, self.rows = plan, rows
        self.first_group = int(plan.groups[rows.start])
        self.values: dict[str, NDArray[np.floating]] = {
            name: np.full(shape, np.nan, np.float32) if name in ("base", "own") else np.zeros(shape)
            for name, shape in self.shapes(plan, rows).items()
        }

    @staticmethod
    def shapes(plan: Plan, rows: range) -> dict[str, tuple[int, ...]]:
        """Return the shapes of `values`."""
        groups = int(plan.groups[rows.stop - 1]) - int(plan.groups[rows.start]) + 1
        grouped, others, outputs = len(plan.own), len(plan.moves) - len(plan.own), plan.outputs
        shapes: dict[str, tuple[int, ...]] = {"base": (len(rows), outputs), "own": (len(rows), grouped)}
        shapes |= {"risen": (grouped, outputs), "change": (len(plan.moves),)}
        for name in plan.sums:
            shapes |= {name: (groups, grouped, outputs), f"all_{name}": (others, outputs)}
        if plan.looks:
            shapes |= {"count": (len(plan.moves),), "all_squares": (others, outputs)}
        return shapes

    @property
    def counts(self) -> NDArray[np.float64]:
        """How many samples each move was measured on, float64 [M]."""
        return self.values.get("count", np.full(len(self.plan.moves), len(self.rows))).astype(np.float64)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """How many samples of each group each of the first B' moves was measured on, float64 [g, B'].

        Holds for sums from sample 0 on.
        """
        sizes = np.bincount(self.plan.groups[: self.rows.stop])[:, None]
        return np.where(np.cumsum(sizes, axis=0) <= self.counts[: len(self.plan.own)], sizes, 0.0)

    def first(self, num: int) -> Sums:
        """Return these sums as those of the first `num` samples, while no others are in them."""
        part = Sums(self.plan, range(num))
        part.values = {name: self.values[name][: len(values)] for name, values in part.values.items()}
        return part

    def add(self, move: int, scores: NDArray[np.float32], change: float) -> None:
        """Add the scores [n, K] of the samples `rows`, moved by `move`, and their images' change."""
        plan, values = self.plan, self.values
        rise = (scores - values["base"]).astype(np.float64)
        values["change"][move] += change
        if plan.looks:
            values["count"][move] += len(scores)
        if move >= len(plan.own):
            for name, function in SUMS.items():
                if f"all_{name}" in values:
                    values[f"all_{name}"][move - len(plan.own)] += function(rise).sum(axis=0)
            return
        groups = plan.groups[self.rows.start : self.rows.stop] - self.first_group
        for name in plan.sums:
            np.add.at(values[name][:, move], groups, SUMS[name](rise))
        values["risen"][move] += (rise > 0).sum(axis=0)
        values["own"][:, move] = scores[:, plan.own[move]]

    def merge(self, part: Sums) -> None:
        """Add what was summed over some of these samples."""
        rows = slice(part.rows.start - self.rows.start, part.rows.stop - self.rows.start)
        start = part.first_group - self.first_group
        for name, values in part.values.items():
            if name in ("base", "own"):
                self.values[name][rows] = values
            elif name in self.plan.sums:
                self.values[name][start : start + len(values)] += values
            else:
                self.values[name] += values


def prepare_codes(
    generator: Generator,
    boundaries: Sequence[Boundary],
    num: int,
    seed: int,
    codes: np.ndarray | Tensor | None,
    space: str,
) -> dict[str, Tensor]:
    """Return what synthesis starts from, wp where the model has it, and z if it is moved, by space, on the device.

    With z of a conditional model come their classes, "labels", int64 [N].
    """
    given = generator.sample(num, seed) if codes is None else torch.as_tensor(codes).to(torch.float32)
    if codes is None:
        space = generator.spaces[0]
    if not len(given) or not bool(torch.isfinite(given).all()):
        raise HiganError("codes are empty or not finite; expected finite numbers")
    if codes is not None:
        given = generator.normalize(given, space)
    labels = None if layered(space) else generator.labels(len(given))
    prepared: dict[str, Tensor] = {}
    if generator.has_layers:
        blocks = zip(given.split(1024), repeat(None) if labels is None else labels.split(1024), strict=False)
        prepared[generator.entry] = torch.cat([generator.to_wp(block, space, of) for block, of in blocks])
    if any(not layered(boundary.space) for boundary in boundaries) or not prepared:
        if layered(space):
            raise HiganError(f"a z boundary moves codes of space z, but the codes are of {space}")
        prepared[space] = given.to(generator.device, torch.float32)
    return prepared | ({} if labels is None else {"labels": labels})


def random_boundaries(generator: Generator, boundaries: Sequence[Boundary], num: int, seed: int) -> list[Boundary]:
    """Return `num` random unit directions, in w unless all boundaries are of z."""
    of_layers = any(layered(boundary.space) for boundary in boundaries)
    space = single(generator.spaces) if of_layers else generator.spaces[0]
    random = np.random.default_rng([seed, 1])
    directions = random.standard_normal((num, 1, *generator.code_shape(space)))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return [Boundary("random", direction.astype(np.float32), space) for direction in directions]


def make_step(generator: Generator, boundary: Boundary, distance: float) -> Tensor:
    """Return how codes move, float32 on the device: [D] in z, [L, W] in w+."""
    direction = torch.from_numpy(boundary.direction[0].astype(np.float64))
    if (strength := generator.strength(boundary.space)) is not None:
        direction = strength.double()[:, None] * direction
    return (distance * direction).to(generator.device, torch.float32)


def swap_plan(wp: Tensor, entry: str, seed: int, outputs: int) -> Plan:
    """Return the layer swap of samples wp [N, L, W], N >= 2: bases whose layers have independent codes.

    Each layer of a base has the code of a sample of its own, drawn without repetition; a swap replaces one layer's by
    that of yet another sample. So the layers are independent inputs, as Jansen's estimator asks for.
    """
    num, layers = wp.shape[:2]
    random = np.random.default_rng([seed, 3])
    base = torch.empty_like(wp)
    moves = []
    for layer in range(layers):
        base[:, layer] = wp[torch.from_numpy(random.permutation(num)).to(wp.device), layer]
        moves.append(Swap(base[:, layer].roll(-1, dims=0), layer))
    return Plan({entry: base}, moves, outputs, [0] * layers, ("squares",))


class Store(Protocol):
    """Where blocks are kept that were measured before."""

    def read(self, block: int) -> Sums | None: ...

    def write(self, block: int, sums: Sums) -> None: ...


def measure(
    generator: Generator,
    predictor: Predictor,
    plan: Plan,
    batch_size: int,
    tick: Callable[[int], object] = lambda moved: None,
    store: Store | None = None,
    wide: Callable[[Sums], NDArray[np.bool_]] | None = None,
) -> Sums:
    """Measure all samples, `batch_size` at a time, and add them up.

    Parameters
    ----------
    tick
        Called after every move of a batch with the number of samples moved, less where they have to be moved again.
    store
        Where batches are kept, and read where they were measured before.
    wide
        Which moves to go on with, bool [M]; asked at every look of the plan, of the sums so far. A move that is left
        out stays out. Once none is left, the sums of the samples so far are returned.

    Raises
    ------
    NotFiniteError, HiganError
        An image or a score is not finite, or memory does not suffice for one sample.
    """
    total = Sums(plan, range(plan.num))
    moves = list(range(len(plan.moves)))
    for number, rows in enumerate(plan.blocks(batch_size)):
        block = store.read(number) if store is not None else None
        if block is None:
            block = measure_block(generator, predictor, plan, rows, tick, moves)
            tick(len(rows) * (len(plan.moves) - len(moves)))
            if store is not None:
                store.write(number, block)
        else:
            tick(len(rows) * len(plan.moves))
            moves = np.flatnonzero(block.counts).tolist()  # whatever would be decided now
        total.merge(block)
        if wide is not None and rows.stop in plan.looks:
            going_on = wide(total.first(rows.stop))
            moves = [move for move in moves if going_on[move]]
            if not moves:
                tick((plan.num - rows.stop) * len(plan.moves))
                return total.first(rows.stop)
    return total


def measure_block(
    generator: Generator,
    predictor: Predictor,
    plan: Plan,
    rows: range,
    tick: Callable[[int], object],
    moves: Sequence[int],
) -> Sums:
    """Measure the samples `rows`, all at once or, where memory is short, in halves.

    `moves` are those of the plan's to measure, `tick` and errors as `measure` has them.
    """
    block = Sums(plan, rows)
    start, size = rows.start, len(rows)
    ticked: list[int] = []

    def told(moved: int) -> None:
        ticked.append(moved)
        tick(moved)

    def attempt(size: int) -> Sums:
        tick(-sum(ticked))  # of a larger size, for which there was too little memory
        ticked.clear()
        return measure_batch(generator, predictor, plan, range(start, rows.stop), told, size, moves)

    while start < rows.stop:
        try:
            part, size = within_memory(attempt, size)
        except NotFiniteError as error:
            raise error.after(start) from None
        block.merge(part)
        start += len(part.rows)
        ticked.clear()
    return block


def measure_batch(
    generator: Generator,
    predictor: Predictor,
    plan: Plan,
    samples: range,
    tick: Callable[[int], object],
    size: int,
    moves: Sequence[int],
) -> Sums:
    """Score the first `size` samples unmoved and moved in each of the ways `moves`, and add them up.

    The state below the lowest layer that a move changes is that of the unmoved samples: it is computed once, and only
    the layers from there on again.
    """
    first, last = generator.spaces[0], generator.num_layers
    sums = Sums(plan, samples[:size])
    rows = slice(sums.rows.start, sums.rows.stop)
    wp = plan.base[generator.entry][rows] if generator.has_layers else None
    labels = plan.base["labels"][rows] if "labels" in plan.base else None

    def draw(state: State, codes: Tensor, layer: int) -> Tensor:
        return generator.image(generator.advance(state, codes, layer, last))

    def add(move: int, moved: Tensor) -> None:
        sums.add(move, predict(predictor, moved, rows.start), image_change(images, moved))
        tick(len(moved))

    if wp is None:
        images = generator.synthesize(plan.base[first][rows], first, labels)
    else:
        below = generator.initial(wp)
        images = draw(below, wp, 0)
    sums.values["base"] = predict(predictor, images, rows.start)
    ways = [(index, plan.moves[index]) for index in moves]
    for index, move in ways:
        if move.first is None:
            add(index, generator.synthesize(move.apply(plan.base[first][rows], rows), first, labels))
    if wp is None:
        return sums
    for layer in range(1 + max((move.first for _, move in ways if move.first is not None), default=-1)):
        for index, move in ways:
            if move.first == layer:
                add(index, draw(below, move.apply(wp, rows), layer))
        below = generator.advance(below, wp, layer, layer + 1)
    return sums


def image_change(before: Tensor, after: Tensor) -> float:
    """Return the mean absolute difference of uint8 images [N, H, W, C], in grey levels, summed over the images."""
    return float((after.int() - before.int()).abs_().float().mean(dim=(1, 2, 3)).sum())


def predict(predictor: Predictor, images: Tensor, start: int) -> NDArray[np.float32]:
    """Return the scores of all groups side by side, float32 [N, K], of images of the samples from `start` on."""
    found = {group: scores.cpu().numpy() for group, scores in predictor.predict(images).items()}
    for group, scores in found.items():
        predictor.require_finite(group, scores, start)
    return np.concatenate([found[group] for group in predictor.names], axis=1)
