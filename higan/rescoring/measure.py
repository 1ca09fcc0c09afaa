"""What re-scoring measures: samples moved along directions, and how far their scores and pictures change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from higan.devices import within_memory
from higan.directions.boundaries import Boundary
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.generator import NotFiniteError
from higan.generators.network import State, layered
from higan.predictors import Predictor
from higan.rescoring.statistics import group_rows


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
    if codes is not None:
        given = generator.normalize(given, space)
    prepared: dict[str, Tensor] = {}
    if generator.has_layers:
        blocks = given.split(1024)
        prepared[generator.entry] = torch.cat([generator.to_wp(block, space) for block in blocks])
    if any(not layered(boundary.space) for boundary in boundaries) or not prepared:
        if layered(space):
            raise HiganError(f"a z boundary moves codes of space z, but the codes are of {space}")
        prepared[space] = given.to(generator.device, torch.float32)
    return prepared


def random_boundaries(generator: Generator, boundaries: Sequence[Boundary], num: int, seed: int) -> list[Boundary]:
    """Return `num` random unit directions, in w unless all boundaries are of z."""
    space = "w" if any(layered(boundary.space) for boundary in boundaries) else "z"
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


class Tally:
    """What is added up over the samples: by group of samples for the boundaries, as one for the controls."""

    def __init__(self, num: int, targets: list[int], controls: int, columns: int, outputs: int) -> None:
        boundaries = len(targets)
        self.groups = group_rows(num)
        self.group_sizes = np.bincount(self.groups).astype(np.float64)
        self.targets = targets
        self.columns = columns
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

    def begin(self, rows: slice, scores: np.ndarray) -> None:
        """Take the scores [n, K] of the samples `rows`, unmoved."""
        self.base[rows] = scores
        for own, target in zip(self.own, self.targets, strict=True):
            own[rows, 0] = scores[:, target]

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
    """What a layer swap adds up: squared score changes by group of samples, and how far images change."""

    def __init__(self, num: int, layers: int, outputs: int) -> None:
        self.groups = group_rows(num)
        self.squares = np.zeros((int(self.groups[-1]) + 1, layers, outputs))
        self.change = np.zeros(layers)

    def add(self, rows: slice, layer: int, rise: np.ndarray, change: float) -> None:
        """Add the score changes [n, K] of the samples `rows`, whose code of `layer` was replaced."""
        np.add.at(self.squares[:, layer], self.groups[rows], rise.astype(np.float64) ** 2)
        self.change[layer] += change


def measure(
    generator: Generator,
    predictor: Predictor,
    base: dict[str, Tensor],
    steps: Sequence[Tensor],
    tally: Tally,
    swaps: SwapTally | None,
    starts: Iterable[int],
    batch_size: int,
) -> None:
    """Measure all samples and add them up in `tally` and `swaps`; lack of memory halves the batch and goes on.

    Parameters
    ----------
    base
        The samples, as `prepare_codes` returns them.
    steps
        How they move: those of the boundaries, then those of the controls, as `make_step` returns them.
    starts
        First sample of every batch of `batch_size`.

    Raises
    ------
    NotFiniteError, HiganError
        An image or a score is not finite, or memory does not suffice for one sample.
    """
    size = batch_size
    for start in starts:
        stop = min(start + batch_size, len(tally.base))
        while start < stop:
            try:
                sums, size = within_memory(
                    partial(measure_batch, generator, predictor, base, steps, tally, swaps, range(start, stop)), size
                )
            except NotFiniteError as error:
                raise error.after(start) from None
            for add in sums:
                add()
            start += size


def measure_batch(
    generator: Generator,
    predictor: Predictor,
    base: dict[str, Tensor],
    steps: Sequence[Tensor],
    tally: Tally,
    swaps: SwapTally | None,
    samples: range,
    size: int,
) -> list[Callable[[], None]]:
    """Score the first `size` samples unmoved, moved along every direction as a whole and, if tallied, at each layer.

    Returned are the calls that add the scores up: nothing has been added where memory runs out on the way. The state
    below the layer that moves, or whose code another sample gives, is that of the unmoved samples: it is computed once,
    and only the layers from there on again.
    """
    last = generator.num_layers
    rows = slice(samples.start, min(samples.start + size, samples.stop))
    wp = base["wp"][rows] if "wp" in base else None
    sums: list[Callable[[], None]] = []

    def draw(state: State, codes: Tensor, layer: int) -> Tensor:
        return generator.image(generator.advance(state, codes, layer, last))

    if wp is None:
        images = generator.synthesize(base["z"][rows], "z")
    else:
        below = generator.initial(wp)
        images = draw(below, wp, 0)
    scores = predict(predictor, images, rows.start)
    sums.append(partial(tally.begin, rows, scores))

    for index, step in enumerate(steps):
        if wp is not None and step.ndim == 2:
            moved = draw(below, wp + step, 0)
        else:
            moved = generator.synthesize(base["z"][rows] + step, "z")
        moved_scores = predict(predictor, moved, rows.start)
        sums.append(partial(tally.add, rows, index, 0, moved_scores, image_change(images, moved)))
    if wp is None or (tally.columns == 1 and swaps is None):
        return sums
    for layer in range(last):
        for index, step in enumerate(steps if tally.columns > 1 else ()):
            if step.ndim == 2:
                codes = wp.clone()
                codes[:, layer] += step[layer]
                moved = draw(below, codes, layer)
                moved_scores = predict(predictor, moved, rows.start)
                sums.append(partial(tally.add, rows, index, 1 + layer, moved_scores, image_change(images, moved)))
        if swaps is not None:
            codes = wp.clone()
            codes[:, layer] = base["wp"][:, layer].roll(-1, dims=0)[rows]
            moved = draw(below, codes, layer)
            rise = predict(predictor, moved, rows.start) - scores
            sums.append(partial(swaps.add, rows, layer, rise, image_change(images, moved)))
        below = generator.advance(below, wp, layer, layer + 1)
    return sums


def image_change(before: Tensor, after: Tensor) -> float:
    """Return the mean absolute difference of uint8 images [N, H, W, C], in grey levels, summed over the images."""
    return float((after.int() - before.int()).abs_().float().mean(dim=(1, 2, 3)).sum())


def predict(predictor: Predictor, images: Tensor, start: int) -> np.ndarray:
    """Return the scores of all groups side by side, float32 [N, K], of images of the samples from `start` on."""
    found = {group: scores.cpu().numpy() for group, scores in predictor.predict(images).items()}
    for group, scores in found.items():
        predictor.require_finite(group, scores, start)
    return np.concatenate([found[group] for group in predictor.names], axis=1)
