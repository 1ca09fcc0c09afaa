"""The linear support vector machine of the paper's boundaries, by three solvers."""

from __future__ import annotations

import warnings

import numpy as np

from higan.errors import HiganError

SOLVERS = ("newton", "liblinear", "libsvm")
MOST_C = 1e30  # far beyond what separates any data; near float64's end, sums overflow
SCALE_FREE = 0.07
STEPS = 50  # of Newton's method at most
DAMPING = 1e-6  # of the largest curvature, above the rounding error of float32
CACHED_ROWS = 256
Plane = tuple[np.ndarray, float]  # unit normal [D] and offset: positive where data @ normal + offset > 0


def fit_hyperplane(data: np.ndarray, labels: np.ndarray, solver: str, C: float, seed: int) -> Plane:
    """Return the plane that separates data [N, D] by labels [N] (bool), its normal towards the positive side."""
    if solver == "libsvm":
        from sklearn.svm import SVC

        machine = SVC(kernel="linear", C=C).fit(data, labels)
        normal, offset = machine.coef_[0].astype(np.float64), float(machine.intercept_[0])
    else:
        center = data.mean(axis=0, dtype=np.float64).astype(np.float32)
        fit = fit_liblinear if solver == "liblinear" else fit_newton
        normal, offset = fit(data - center, labels, C, seed)
        offset -= float(normal @ center)
    norm = float(np.linalg.norm(normal))
    if not norm > 0:
        raise HiganError("the samples of high and of low score have the same codes; no direction separates them")
    return normal / norm, offset / norm


def scale_free(data: np.ndarray) -> float:
    """Return a C for data [N, D] that gives the same plane whatever the data's unit: 0.07 / mean |x - mean x|².

    The factor gave the nearest directions to planted ones, labels of 5 % positives among them, where C = 1 lets the
    axes in along which codes hardly vary.
    """
    spread = float(data.var(axis=0, dtype=np.float64).sum())
    return min(SCALE_FREE / spread, MOST_C) if spread else 1.0


def fit_liblinear(data: np.ndarray, labels: np.ndarray, C: float, seed: int) -> Plane:
    """Return normal and offset by coordinate descent in the dual, for centred data: the offset is penalised too."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine = LinearSVC(loss="hinge", dual=True, C=C, tol=1e-3, random_state=seed).fit(data, labels)
    return machine.coef_[0].astype(np.float64), float(machine.intercept_[0])


def fit_newton(data: np.ndarray, labels: np.ndarray, C: float, _: int) -> Plane:
    """Return normal and offset by Newton's method in the primal, on a hinge rounded inside the margin (Chapelle 2007).

    Some twenty steps serve, however much the classes overlap, where the dual may need a thousand passes over the data:
    of 14,000 codes of width 512, liblinear takes 0.5 s where no sample lies on the wrong side and 9.9 s where 5 % do,
    this 0.4 and 0.2 s. scikit-learn has no solver that does both: 467 such names in two minutes on two cores, and the
    reference's directions to a cosine of 0.9968, which this reaches at least. Its hinge by liblinear reaches 0.9998 but
    has not converged after 1,000 passes where classes overlap; its squared hinge reaches 0.9947; its stochastic
    gradient descent 0.889 (all by `tests/benchmarks/analysis.py solvers`).

    Codes wider than they are many, such as w+ laid flat, are first turned into the space that they span: the normal
    lies in it, and a matrix of the width squared is not needed.
    """
    if data.shape[1] > len(data):
        basis, coordinates = np.linalg.qr(data.T)  # [D, N], [N, N]
        normal, offset = fit_newton(np.ascontiguousarray(coordinates.T), labels, C, _)
        return basis @ normal, offset
    squares = np.concatenate([np.square(block, dtype=np.float64).sum(axis=1) for block in blocks_of(data)])
    scale = float(np.sqrt(squares.mean())) or 1.0
    signs = np.where(labels, 1, -1).astype(np.float32)[:, None]
    rows = np.empty((len(data), data.shape[1] + 1), dtype=np.float32)  # the last column is the offset's
    np.divide(data, np.float32(scale), out=rows[:, :-1])
    rows[:, -1] = 1
    rows *= signs
    weight = C * scale**2
    ridge = np.append(np.ones(data.shape[1]), 0.0)
    plane, margins = np.zeros(rows.shape[1]), np.zeros(len(rows))
    before = np.inf
    room = np.empty_like(rows)
    for _ in range(STEPS):
        short = 1 - margins
        slope = np.clip(short, 0, 1)
        loss = ridge * plane @ plane / 2 + weight * (slope * (short - slope / 2)).sum()
        if before - loss <= 1e-3 * loss:
            break
        before = loss
        gradient = ridge * plane - weight * (slope.astype(np.float32) @ rows)
        near = np.flatnonzero((short > 0) & (short <= 1))
        curved = np.take(rows, near, axis=0, out=room[: len(near)], mode="clip")
        hessian = np.diag(ridge) + weight * (curved.T @ curved)
        hessian[np.diag_indices_from(hessian)] += DAMPING * hessian.diagonal().max()
        step = -np.linalg.solve(hessian, gradient)
        along = (rows @ step.astype(np.float32)).astype(np.float64)
        descent = float(ridge * plane @ step), float(ridge * step @ step)
        length = step_length(margins, along, weight, *descent)
        plane, margins = plane + length * step, margins + length * along
    return plane[:-1] / scale, float(plane[-1])


def step_length(margins: np.ndarray, along: np.ndarray, weight: float, first: float, second: float) -> float:
    """Return how many steps to go until the loss falls at a tenth of the rate at the start, or less.

    A step changes `margins` [N] by `along`; `first` and `second` are the derivatives of the ridge term. The loss is
    convex, so that its slope rises: the length is doubled past where it is zero, then halved in.
    """

    def slope(length: float) -> float:
        return first + length * second - weight * float(np.clip(1 - margins - length * along, 0, 1) @ along)

    enough = 0.1 * abs(slope(0.0))
    low, high, length = 0.0, np.inf, 1.0
    for _ in range(STEPS):
        found = slope(length)
        if abs(found) <= enough:
            break
        low, high = (length, high) if found < 0 else (low, length)
        length = 2 * low if high == np.inf else (low + high) / 2
    return length


def blocks_of(data: np.ndarray) -> list[np.ndarray]:
    """Return data [N, ...] in parts of which a copy as float64 fits into a processor's cache."""
    return [data[start : start + CACHED_ROWS] for start in range(0, len(data), CACHED_ROWS)]
