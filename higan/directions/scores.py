"""Scores as they are trained on: which are valid, which are labels, which do not vary."""

from __future__ import annotations

import numpy as np

MOST_CLASSES = 10  # values of labels; what has more is a score
ROUNDING = 16 * float(np.finfo(np.float32).eps)  # scores that differ less, relative to their size, are constant


def find_classes(values: np.ndarray) -> list[float]:
    """Return the values of labels [N] in ascending order; [] where there are more than a few: those are scores."""
    if len(np.unique(values[: 10 * MOST_CLASSES])) > MOST_CLASSES:
        return []
    classes = np.unique(values)
    few = len(classes) == 2 or (len(classes) <= MOST_CLASSES and len(values) >= 10 * len(classes))
    return [float(value) for value in classes] if few else []


def valid_rows(scores: np.ndarray, invalid_value: float | None) -> np.ndarray | None:
    """Return the indices of the valid scores, or None where all are."""
    if invalid_value is None:
        return None
    invalid = is_invalid(scores, invalid_value)
    return np.flatnonzero(~invalid) if invalid.any() else None


def is_invalid(scores: np.ndarray, invalid_value: float) -> np.ndarray:
    """Return which scores are `invalid_value`, in their own precision; NaN is equal to itself here."""
    with np.errstate(over="ignore"):
        return np.isnan(scores) if np.isnan(invalid_value) else scores == scores.dtype.type(invalid_value)


def say_unfit(num: int, bad: int, low: float, high: float) -> str:
    """Return why `num` scores cannot be trained on, "" if they can.

    `bad` of them are not finite, and the others lie from `low` to `high`.
    """
    if bad:
        return f"{bad} of {num} scores are not finite; leave them out with --invalid_value"
    if high - low <= ROUNDING * max(abs(low), abs(high)):
        same = "" if low == high else " up to rounding"
        return f"all {num} scores are {low:g}{same}: a single class; expected scores that differ"
    return ""
