"""Statistics of re-scoring: bootstrap intervals, what chance reaches, layers to edit, levels, and total effects.

Samples are resampled in groups, which bounds the memory: sums by group [G, ...], multiplied by weights [1 + R, G], give
the measured sums and those of R resamplings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from higan.predictors.predictor import LEVELS

RESAMPLES = 1000
GROUPS = 200
AT_ONCE = 4096  # columns of the resampled table
CONTROL_LEVEL = 1e-4  # chance of a random direction to pass the limit
SHARE = 0.8  # of the summed positive effects, that the chosen layers reach
DRAWS = 8192  # random directions that are simulated for the limit of chosen layers
VERIFIED, NONE, UNKNOWN = MARKS = ("verified", "none", "could not tell")
FEWEST = 3  # boundaries of a level, below which nothing is said of it


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
    counts
        How many boundaries (or outputs) each level has, length V.
    level_center
        [V]: mean of the centres of a level's boundaries (or outputs). The interval resamples these and the samples.
    level_step
        [V - 1]: level_center[v + 1] - level_center[v]; the order of the paper holds where `low` is above zero.
    """

    center: Estimate
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    level_center: Estimate
    level_step: Estimate

    def verdict(self, step: int) -> str:
        """Return in words how level `step` + 1 lies to level `step`, "" where too few boundaries speak of either."""
        if min(self.counts[step : step + 2]) < FEWEST:
            return ""
        low, high = self.level_step.low[step], self.level_step.high[step]
        return "later" if low > 0 else "earlier" if high < 0 else "not told apart"


def group_rows(num: int, looks: Sequence[int] = ()) -> NDArray[np.int64]:
    """Return the group of each sample, int64 [num]: `GROUPS` runs of samples, or each its own.

    No group goes across one of the `looks`, numbers of samples: there are `GROUPS` / 2 before, between and after them.
    """
    most, first, groups = GROUPS // 2 if looks else GROUPS, 0, []
    for size in np.diff([0, *looks, num]):
        groups.append(first + np.arange(size) * min(size, most) // size)
        first = groups[-1][-1] + 1
    return np.concatenate(groups)


def resampling_weights(num: int, seed: int) -> np.ndarray:
    """Return float64 [1 + R, num]: how often each group counts: once in row 0, as drawn with replacement below."""
    drawn = np.random.default_rng([seed, 2]).multinomial(num, np.full(num, 1 / num), size=RESAMPLES)
    return np.concatenate([np.ones((1, num)), drawn])


def estimate_means(sums: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> Estimate:
    """Return the means over samples [M, ...] of sums by group [G, M, ...].

    `sizes` [G, M] are the samples of each group that are in the sums. The first G groups of `weights` count.
    """
    flat, weights = sums.reshape(len(sums), -1), weights[:, : len(sums)]
    counts = weights @ sizes
    moves = np.repeat(np.arange(sums.shape[1]), int(np.prod(sums.shape[2:])))
    parts = [
        interval((weights @ flat[:, start : start + AT_ONCE]) / counts[:, moves[start : start + AT_ONCE]])
        for start in range(0, max(flat.shape[1], 1), AT_ONCE)
    ]
    joined = (np.concatenate([getattr(part, field) for part in parts]) for field in ("value", "low", "high"))
    return Estimate(*(array.reshape(sums.shape[1:]) for array in joined))


def interval(samples: np.ndarray) -> Estimate:
    """Return the first of samples [1 + R, ...] with the central 95 % of the others."""
    low, high = np.quantile(samples[1:], (0.025, 0.975), axis=0)
    return Estimate(*(array.astype(np.float32) for array in (samples[0], low, high)))


def find_hierarchy(samples: np.ndarray, levels: Sequence[str], seed: int = 0) -> Hierarchy:
    """Return where samples [1 + R, X, L] of non-negative amounts lie over the layers; `levels` has X entries.

    The intervals of a level answer for other boundaries of its kind too: every resampling of the samples draws the
    level's boundaries anew, with replacement.
    """
    amounts = np.nan_to_num(samples)
    totals = amounts.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        centers = amounts @ np.arange(samples.shape[2]) / totals  # [1 + R, X]
    known = np.isfinite(centers).all(axis=0)
    rows = {level: [row for row, of in enumerate(levels) if of == level and known[row]] for level in LEVELS}
    present = tuple(level for level in LEVELS if rows[level])
    random = np.random.default_rng([seed, 4])
    of_levels = np.empty((len(centers), len(present)))
    for column, level in enumerate(present):
        of_level = centers[:, rows[level]]
        drawn = random.integers(0, of_level.shape[1], of_level.shape)
        drawn[0] = np.arange(of_level.shape[1])
        of_levels[:, column] = np.take_along_axis(of_level, drawn, axis=1).mean(axis=1)
    counts = tuple(len(rows[level]) for level in present)
    return Hierarchy(interval(centers), present, counts, interval(of_levels), interval(np.diff(of_levels, axis=1)))


def total_effects(squares: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each layer's total effect on every score, float64 [1 + R, K, L]: the total-effect Sobol index.

    E[(f(A) - f(A with layer l of B))²] / (2 Var f(A)), the estimator of Jansen (1999, "Analysis of variance designs for
    model output"; the last line of table 2 of Saltelli et al. 2010). It is the share of a score's variance that is
    left when all other layers are known: 0 where a layer does not matter, 1 where it decides alone. The indices of a
    score add up to 1 where its layers act independently of each other, and to more where they work together.

    Parameters
    ----------
    squares
        float64 [G, L, K]: squared changes of the scores, summed by group, when a layer's code is another sample's.
    scores
        [N, K] of the unmoved bases, whose layers have independent codes; `groups` [N] says where each belongs.
    weights
        [1 + R, G], of `resampling_weights`.

    Returns
    -------
    NaN where the score does not vary.
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
        effects = means / (2 * variance[:, None])
    return np.where(np.isfinite(effects), effects, np.nan).transpose(0, 2, 1)


def choose_layers(effects: NDArray[np.floating], share: float = SHARE) -> tuple[int, ...]:
    """Return the fewest layers, largest signed effect [L] first, that reach `share` of the summed positive effects.

    Ascending; () where no effect is positive.

    >>> choose_layers(np.array([0.1, 0.5, -0.2, 0.4]))
    (1, 3)
    """
    chosen = chosen_masks(np.asarray(effects, np.float64)[None], share)[0]
    return tuple(np.flatnonzero(chosen).tolist())


def chosen_masks(effects: NDArray[np.floating], share: float = SHARE) -> NDArray[np.bool_]:
    """Return which layers `choose_layers` takes, bool [N, L], of effects [N, L]."""
    positive = np.maximum(np.nan_to_num(effects), 0)
    order = np.argsort(-positive, axis=1, kind="stable")
    ranked = np.take_along_axis(positive, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    taken = (ranked > 0) & (before < share * ranked.sum(axis=1, keepdims=True) * (1 - 1e-9))
    masks = np.zeros(effects.shape, bool)
    np.put_along_axis(masks, order, taken, axis=1)
    return masks


def control_limit(delta: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Return the delta [...] that a random direction passes with chance `CONTROL_LEVEL`, from R of them [R, ...].

    A direction and its opposite are equally random, and delta - signed, how far scores fall, is what the opposite
    would make them rise. The larger of the two spreads about as a normal value without its sign does; the limit is what
    Student's t of R degrees of freedom gives for it at a level small enough for every layer of every boundary to be
    compared with it. NaN without directions.
    """
    return chance_limit(np.maximum(delta, delta - signed))


def chance_limit(effects: np.ndarray, level: float = CONTROL_LEVEL) -> np.ndarray:
    """Return what a random direction's effect [...] passes with chance `level`, from the effects [R, ...] of R of them.

    Random directions of a high-dimensional space have normal effects, the scale of which R of them leave uncertain:
    Student's t of R degrees of freedom. NaN without directions.
    """
    from scipy.special import stdtrit

    if not len(effects):
        return np.full(effects.shape[1:], np.nan)
    return float(stdtrit(len(effects), 1 - level)) * np.sqrt(np.square(effects).mean(axis=0))


def chosen_limit(effects: NDArray[np.floating], level: float = CONTROL_LEVEL, seed: int = 0) -> float:
    """Return the effect that a random direction passes with chance `level` at layers chosen by its own effects.

    Layers that are chosen by a direction's effects (`choose_layers`) show more of it than layers named beforehand. So
    random directions are simulated that do the same: their effects at the layers are normal, with the covariance of
    the R measured ones, and effects add up over layers. How uncertain R directions leave their scale is taken into
    account as Student's t does: the limit t is where the mean over the draws of P(chi² <= R sum² / t²) is `level`.

    Parameters
    ----------
    effects
        [R, L]: signed effect of each random direction at each layer.

    Returns
    -------
    float
        NaN without directions or layers.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtr

    controls = len(effects)
    if not effects.size or not np.isfinite(effects).all():
        return float("nan")
    drawn = np.random.default_rng([seed, 5]).standard_normal((DRAWS, controls)) @ effects / np.sqrt(controls)
    sums = (drawn * chosen_masks(drawn)).sum(axis=1)
    scale = float(sums.mean())
    if scale <= 0:
        return 0.0
    squares = controls * np.square(sums / scale)

    def surplus(log: float) -> float:
        return float(chdtr(controls, squares / np.exp(2 * log)).mean()) - level

    return scale * float(np.exp(brentq(surplus, -5, 30, xtol=1e-4)))


def judge(low: float, high: float, limit: float, reach: float) -> str:
    """Return what an effect's interval says against the limit of chance: one of `MARKS`, "" without a limit.

    Parameters
    ----------
    reach
        How far the score can rise at all: with a limit beyond it, nothing could pass.
    """
    if not np.isfinite(limit):
        return ""
    if low > limit:
        return VERIFIED
    return NONE if high < limit < reach else UNKNOWN
