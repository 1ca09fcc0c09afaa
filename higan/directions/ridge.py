"""Ridge regression of scores on codes: the slope of every score, from all samples in one pass over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from higan.directions.boundaries import release_pages, take_rows
from higan.directions.scores import find_classes, is_invalid, say_unfit, valid_rows
from higan.directions.slopes import WIDE_ANGLE, Slopes, find_covariance, mean_angle, plain
from higan.errors import HiganError

GROUPS, FOLDS = 20, 5  # groups of rows whose sums are kept apart: 4 a fold; a resampling draws groups
LEAST_ROWS = 10
RESAMPLES = 10
PENALTIES = np.logspace(-6, 2, 33)  # relative to the mean variance of a code's values
BLOCK_ROWS = 2**14


def ridge_slopes(
    codes: np.ndarray,
    scores: Mapping[str, np.ndarray],
    invalid_value: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Slopes:
    """Return the slope of every score by ridge regression on all codes.

    The penalty of each score is found by 5-fold cross-validation of R²: the largest within one standard error of the
    best (Breiman et al. 1984, "Classification and regression trees", section 3.4.3). With fewer samples than dimensions
    the penalty alone holds the slope; the angle between resampled slopes says how sure it is.

    Parameters
    ----------
    codes
        [N, D], or [N, L, D], each layer of them regressed on alone; may be memory-mapped.
    scores
        [N] by name. Labels are regressed on as numbers.
    invalid_value
        Samples of this score are left out.
    resamples
        How many times the samples are resampled for the angle, 0 for none.

    Raises
    ------
    HiganError
        Codes and scores are of different length, there are fewer than 10, or codes are not finite.
    """
    names = list(scores)
    if len(codes) != len(scores[names[0]]):
        raise HiganError(f"there are {len(codes)} codes but {len(scores[names[0]])} scores; give those of the same run")
    layers = codes.shape[1] if codes.ndim == 3 else 1
    failed: dict[str, HiganError] = {}
    found: dict[str, list[Regression]] = {name: [] for name in names}
    info: dict[str, dict[str, Any]] = {name: {} for name in names}
    for layer in range(layers):
        one = codes[:, layer] if codes.ndim == 3 else codes
        columns = {name: scores[name] for name in names if name not in failed}
        sums, table = add_up(one, columns, None, invalid_value, seed)
        partly = [name for name, column in table.items() if column.invalid]
        for name, regression in zip(columns, regress(sums, resamples, seed), strict=True):
            found[name].append(regression)
        for name in partly:
            rows = valid_rows(scores[name], invalid_value)
            alone, own = add_up(one, {name: scores[name]}, rows, None, seed)
            table |= own
            [found[name][-1]] = regress(alone, resamples, seed)
        for name, column in table.items():
            if reason := say_unfit(column.num, column.bad, column.low, column.high):
                failed[name] = HiganError(reason)
            info[name]["invalid"] = len(codes) - column.num
    names = [name for name in names if name not in failed]
    for name in names:
        info[name] |= describe(found[name], scores[name], seed, resamples)
    values = np.array([[part.slope / part.std for part in found[name]] for name in names])
    if not names:
        values = np.zeros((0, layers, codes.shape[-1]))
    std = np.array([found[name][0].std for name in names])
    values = values if codes.ndim == 3 else values[:, 0]
    return Slopes(names, values, std, find_covariance(codes), [info[name] for name in names], failed)


@dataclass
class Regression:
    """What ridge regression found of a score: `slope` float64 [D] per unit of the code, and its standard deviation.

    `penalty` is relative to the mean variance of a code's values; `r2` is that of held-out folds and `r2_error` its
    standard error; `angle` lies between the slopes of resampled samples, in degrees.
    """

    slope: np.ndarray
    std: float
    penalty: float
    r2: float
    r2_error: float
    angle: float
    rows: int


def describe(found: list[Regression], scores: np.ndarray, seed: int, resamples: int) -> dict[str, Any]:
    """Return what is known of a score's slope, a number or one for each layer, and notes where it is unsure."""
    rows, width = found[0].rows, len(found[0].slope)
    info: dict[str, Any] = {
        "samples": len(scores),
        "solver": "ridge",
        "r2": plain(part.r2 for part in found),
        "r2_error": plain(part.r2_error for part in found),
        "penalty": plain(part.penalty for part in found),
        "seed": seed,
    }
    if resamples:
        info |= {"bootstrap": resamples, "bootstrap_angle": plain(part.angle for part in found)}
    notes = []
    if classes := find_classes(scores):
        values = ", ".join(f"{value:g}" for value in classes)
        notes.append(
            f"the scores are labels ({values}), regressed on as numbers: this assumes that the classes differ in their "
            "mean code alone; for rare ones, --solver newton --C auto assumes less"
        )
    best, angle = max(part.r2 for part in found), min(part.angle for part in found)
    if rows < 2 * width or best <= 0 or (resamples and angle > WIDE_ANGLE):
        sure = f", and resampled directions lie {angle:.0f} degrees apart" if resamples else ""
        notes.append(
            f"{rows} samples of {width} numbers: R² is {best:.3f} on samples held out{sure}; more samples help, or the "
            "score does not follow the code linearly"
        )
    return info | ({"notes": notes} if notes else {})


@dataclass
class Column:
    """A score as it was met: samples, those not finite, those invalid, the least and the largest."""

    num: int
    bad: int = 0
    invalid: int = 0
    low: float = np.inf
    high: float = -np.inf


@dataclass
class Moments:
    """Sums over rows of codes x [N, D] and scores y [N, K], by group of rows, float64.

    x is taken less its rough mean, and y in units of its rough spread from its rough mean, so that the sums keep their
    digits.
    """

    count: np.ndarray  # [G]
    x: np.ndarray  # [G, D]
    y: np.ndarray  # [G, K]
    xx: np.ndarray  # [G, D, D]
    xy: np.ndarray  # [G, D, K]
    yy: np.ndarray  # [G, K]
    unit: np.ndarray  # [K], of y in that of the scores

    @classmethod
    def zeros(cls, groups: int, width: int, columns: int) -> Moments:
        """Return the sums over no rows."""
        return cls(
            count=np.zeros(groups),
            x=np.zeros((groups, width)),
            y=np.zeros((groups, columns)),
            xx=np.zeros((groups, width, width)),
            xy=np.zeros((groups, width, columns)),
            yy=np.zeros((groups, columns)),
            unit=np.ones(columns),
        )

    def add(self, group: int, x: np.ndarray, y: np.ndarray) -> None:
        """Add rows, float32 [n, D] and [n, K], to a group."""
        self.count[group] += len(x)
        self.x[group] += x.sum(axis=0, dtype=np.float64)
        self.y[group] += y.sum(axis=0, dtype=np.float64)
        self.xx[group] += x.T @ x
        self.xy[group] += x.T @ y
        self.yy[group] += np.square(y).sum(axis=0, dtype=np.float64)

    def means(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the means of x [D] and y [K], with groups weighted [G]."""
        count = weights @ self.count
        return weights @ self.x / count, weights @ self.y / count

    def about(
        self, weights: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows, and sums of x xT, x yT and y y about the points x [D] and y [K], with groups weighted."""
        count, sum_x, sum_y = float(weights @ self.count), weights @ self.x, weights @ self.y
        xx = np.tensordot(weights, self.xx, 1) - np.outer(sum_x, x) - np.outer(x, sum_x) + count * np.outer(x, x)
        xy = np.tensordot(weights, self.xy, 1) - np.outer(sum_x, y) - np.outer(x, sum_y) + count * np.outer(x, y)
        return count, xx, xy, weights @ self.yy - 2 * y * sum_y + count * y**2


def add_up(
    codes: np.ndarray,
    scores: Mapping[str, np.ndarray],
    rows: np.ndarray | None,
    invalid_value: float | None,
    seed: int,
) -> tuple[Moments, dict[str, Column]]:
    """Return the sums of `rows` (None: all) of codes [N, D] and of scores, [N] by name, and what was met of each.

    Rows are dealt to the groups by chance, so that the order of the samples does not matter. Scores that are not finite
    count as 0 in the sums.

    Raises
    ------
    HiganError
        There are too few rows, or codes are not finite.
    """
    num = len(codes) if rows is None else len(rows)
    if num < LEAST_ROWS:
        raise HiganError(f"{num} scores are too few; expected {LEAST_ROWS} at least")
    met = {name: Column(num) for name in scores}
    groups = GROUPS if num >= 2 * GROUPS else LEAST_ROWS
    sums = Moments.zeros(groups, codes.shape[1], len(scores))
    random = np.random.default_rng(seed)
    for start in range(0, num, BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, num))
        picked = block if rows is None else rows[block]
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found here
            x = (codes[block] if rows is None else take_rows(codes, rows[block])).astype(np.float32)
        y = np.empty((len(x), len(scores)))
        for index, (name, column) in enumerate(met.items()):
            y[:, index] = take_column(scores[name][picked], column, invalid_value)
        release_pages(codes)
        release_pages(next(iter(scores.values())))
        if not np.isfinite(x).all():
            raise HiganError("codes hold values that are not finite; write them again")
        if start == 0:
            center, level, sums.unit = x.mean(axis=0), y.mean(axis=0), y.std(axis=0)
            sums.unit[sums.unit == 0] = 1
        x -= center
        y = ((y - level) / sums.unit).astype(np.float32)
        for group, part in enumerate(np.array_split(random.permutation(len(x)), groups)):
            sums.add(group, x[part], y[part])
    return sums, met


def take_column(values: np.ndarray, column: Column, invalid_value: float | None) -> np.ndarray:
    """Return some of a score's values, 0 for those that are not finite, and note in `column` what was met."""
    if invalid_value is not None:
        column.invalid += int(is_invalid(values, invalid_value).sum())
    finite = np.isfinite(values)
    if not finite.all():
        column.bad += int((~finite).sum())
        values = np.where(finite, values, 0)
    column.low, column.high = min(column.low, float(values.min())), max(column.high, float(values.max()))
    return values


def regress(moments: Moments, resamples: int, seed: int) -> list[Regression]:
    """Return the regression of every score on the codes."""
    groups = len(moments.count)
    every = np.ones(groups)
    folds = [(np.arange(groups) % FOLDS == fold).astype(float) for fold in range(FOLDS)]
    r2 = np.stack([fold_r2(moments, every - fold, fold) for fold in folds])  # [F, P, K]
    mean, error = r2.mean(axis=0), r2.std(axis=0, ddof=1) / np.sqrt(FOLDS)
    best, columns = mean.argmax(axis=0), np.arange(mean.shape[1])
    enough = mean >= (mean - error)[best, columns]
    chosen = len(PENALTIES) - 1 - enough[::-1].argmax(axis=0)
    penalty = PENALTIES[chosen]
    slopes, variance = solve(moments, every, penalty)
    angles = np.full(len(columns), np.nan)
    if resamples:
        drawn = np.random.default_rng([seed, 3]).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
        angles = mean_angle(np.stack([solve(moments, weights.astype(float), penalty)[0] for weights in drawn]))
    return [
        Regression(
            slope=slopes[k] * moments.unit[k],
            std=float(np.sqrt(variance[k])) * float(moments.unit[k]),
            penalty=float(penalty[k]),
            r2=float(mean[chosen[k], k]),
            r2_error=float(error[chosen[k], k]),
            angle=float(angles[k]),
            rows=int(moments.count.sum()),
        )
        for k in columns
    ]


def solve(moments: Moments, weights: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes [K, D] and variances [K] of scores, with groups weighted; the penalties are one per score, [K]."""
    count, xx, xy, yy = moments.about(weights, *moments.means(weights))
    values, vectors = np.linalg.eigh(xx)
    ridge = penalty * np.trace(xx) / len(xx)
    return (vectors @ ((vectors.T @ xy) / (values.clip(min=0)[:, None] + ridge))).T, yy / count


def fold_r2(moments: Moments, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return R² [P, K] of every penalty on the groups `test`, of slopes that the groups `train` give."""
    x, y = moments.means(train)
    _, xx, xy, _ = moments.about(train, x, y)
    _, test_xx, test_xy, test_yy = moments.about(test, x, y)
    values, vectors = np.linalg.eigh(xx)
    along, scale = vectors.T @ xy, np.trace(xx) / len(xx)
    test_along, test_xx = vectors.T @ test_xy, vectors.T @ test_xx @ vectors
    result = np.zeros((len(PENALTIES), xy.shape[1]))
    for row, penalty in enumerate(PENALTIES):
        slopes = along / (values.clip(min=0)[:, None] + penalty * scale)  # [D, K], along the principal axes
        left = test_yy - 2 * (slopes * test_along).sum(axis=0) + (slopes * (test_xx @ slopes)).sum(axis=0)
        result[row] = 1 - left / np.where(test_yy > 0, test_yy, 1)
    return result
