"""Looks: numbers of samples after which a move is measured no further if the interval of its effect is narrow.

The width of the interval decides, never where it lies: stopping on large effects would make effects look large. A move
whose samples happen to spread little stops too early; the intervals of moves that stopped are stretched for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higan.rescoring.measure import Sums
from higan.rescoring.statistics import Estimate, estimate_means

PARTS = (8, 4, 2)  # a look is after this part of the samples,
FEWEST = 100  # if it has that many: below, bootstrap intervals hold the true effect too seldom
STRETCH = 1.1  # of early intervals; chosen by simulation: see test_looks.py
NORMAL = 1.959964  # half the width of a normal 95 % interval, in standard errors


def find_looks(num: int) -> tuple[int, ...]:
    """Return the looks at a re-scoring of `num` samples.

    >>> find_looks(2000), find_looks(400), find_looks(199)
    ((250, 500, 1000), (100, 200), ())
    """
    return tuple(num // part for part in PARTS if num // part >= FEWEST)


def estimate_moves(sums: Sums, name: str, weights: NDArray[np.float64]) -> Estimate:
    """Return the means [B', K] over samples of what is summed by group as `name`, each over its move's own samples.

    Intervals of moves that were measured on a part of the plan's samples are stretched.
    """
    found = estimate_means(sums.values[name], sums.sizes, weights)
    early = sums.counts[: len(sums.plan.own)] < sums.plan.num
    for end in (found.low, found.high):
        end[early] += np.float32(STRETCH - 1) * (end[early] - found.value[early])
    return found


def too_wide(sums: Sums, judged: NDArray[np.bool_], width: float, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which moves, bool [M], have an effect whose 95 % interval, stretched, is wider than `width`.

    Parameters
    ----------
    judged
        bool [M, K]: the scores whose intervals count for a move; all of them have to be narrow.
    width
        In standard deviations of the scores of the unmoved samples.
    """
    grouped = len(sums.plan.own)
    limits = width * np.maximum(sums.values["base"].std(axis=0, dtype=np.float64), 1e-12)
    moves, scores = np.nonzero(judged[:grouped])
    found = estimate_means(sums.values["signed"][:, moves, scores], sums.sizes[:, moves], weights)
    wide = np.zeros(judged.shape, np.bool_)
    wide[moves, scores] = STRETCH * (found.high - found.low) > limits[scores]
    wide[grouped:] = judged[grouped:] & (2 * NORMAL * STRETCH * np.sqrt(noise(sums)) > limits)
    return np.logical_or.reduce(wide, axis=1)


def noise(sums: Sums) -> NDArray[np.float64]:
    """Return the variance [M - B', K] that sampling gives to the mean effects of the random directions."""
    count = sums.counts[len(sums.plan.own) :, None]
    variance = sums.values["all_squares"] / count - np.square(sums.values["all_signed"] / count)
    return np.maximum(variance, 0) / np.maximum(count - 1, 1)


def noise_of_limit(
    limit: NDArray[np.float64], effects: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much sampling noise raises a limit of chance [...], in the units of the score.

    The limit goes with the root of the mean square of the random directions' measured `effects` [R, ...]; their `noise`
    [R, ...], a variance, is a part of that square.
    """
    square = np.maximum(np.square(effects).mean(axis=0), 1e-300)
    return limit * (1 - np.sqrt(np.maximum(1 - noise.mean(axis=0) / square, 0)))
