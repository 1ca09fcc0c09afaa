"""Statistics over samples: bootstrap intervals, where scores lie over the layers, and shares of their variation.

Samples are resampled in groups, which bounds the memory: sums by group [G, ...], multiplied by weights [1 + R, G], give
the measured sums and those of R resamplings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from higan.predictors.predictor import LEVELS

RESAMPLES = 1000
GROUPS = 200
COLUMNS = 4096  # of the resampled table at a time


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


def group_rows(num: int) -> np.ndarray:
    """Return the group of each sample, int64 [num]: `GROUPS` runs of samples, or each its own."""
    return np.arange(num) * min(num, GROUPS) // num


def resampling_weights(num: int, seed: int) -> np.ndarray:
    """Return float64 [1 + R, num]: how often each group counts: once in row 0, as drawn with replacement below."""
    drawn = np.random.default_rng([seed, 2]).multinomial(num, np.full(num, 1 / num), size=RESAMPLES)
    return np.concatenate([np.ones((1, num)), drawn])


def estimate_means(sums: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the means over samples [...] of sums by group [G, ...]; `sizes` [G] are the samples in each group."""
    flat = sums.reshape(len(sums), -1)
    counts = (weights @ sizes)[:, None]
    parts = [
        interval((weights @ flat[:, start : start + COLUMNS]) / counts)
        for start in range(0, max(flat.shape[1], 1), COLUMNS)
    ]
    joined = (np.concatenate([getattr(part, field) for part in parts]) for field in ("value", "low", "high"))
    return Estimate(*(array.reshape(sums.shape[1:]) for array in joined))


def interval(samples: np.ndarray) -> Estimate:
    """Return the first of samples [1 + R, ...] with the central 95 % of the others."""
    low, high = np.quantile(samples[1:], (0.025, 0.975), axis=0)
    return Estimate(*(array.astype(np.float32) for array in (samples[0], low, high)))


def find_hierarchy(samples: np.ndarray, levels: Sequence[str]) -> Hierarchy:
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


def swap_shares(squares: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each layer's share of every score's variation, float64 [1 + R, K, L].

    Parameters
    ----------
    squares
        float64 [G, L, K]: squared changes of the scores, summed by group, when a layer's code is another sample's.
    scores
        [N, K] of the unmoved samples; `groups` [N] says where each belongs.
    weights
        [1 + R, G], of `resampling_weights`.

    Returns
    -------
    E[(score change)^2] / (2 Var score), NaN where the score does not vary.
    """
    num_groups, layers, outputs = squares.shape
    centered = scores.astype(np.float64) - scores.mean(axis=0, dtype=np.float64)
    sums = np.zeros((3, num_groups, outputs))
    for power, values in enumerate((np.ones_like(centered), centered, centered**2)):
        np.add.at(sums[power], groups, values)
    count, first, second = (weights @ part for part in sums)  # [1 + R, K] each
    variance = second / count - (first / count) ** 2
    means = (weights @ squares.reshape(num_groups, -1)).reshape(-1, layers, outputs) / count[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = means / (2 * variance[:, None])
    return np.where(np.isfinite(shares), shares, np.nan).transpose(0, 2, 1)
