"""Scores to boundary: the most and the least convincing samples, and the linear SVM that separates them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from higan.directions.boundaries import Boundary, fit_for_files, release_pages, take_rows
from higan.directions.ridge import RESAMPLES, ridge_slopes
from higan.directions.scores import find_classes, say_unfit, valid_rows
from higan.directions.slopes import mean_angle, plain, spread_rows
from higan.directions.svm import MOST_C, SOLVERS, Plane, blocks_of, fit_hyperplane, scale_free
from higan.errors import HiganError
from higan.generators.network import space_of

FAR = 3.0  # standard deviations
BLOCK_ROWS = 2**14


@dataclass
class Selection:
    """Rows of the data to train on: the positive ones first, in both sets.

    Attributes
    ----------
    train, validation
        int64 indices of rows.
    train_labels, validation_labels
        bool, True where the score is high.
    chosen
        Samples on each side before the split (on the smaller side, for labels).
    threshold
        The score that halves the range: the remaining samples are judged by it.
    invalid
        Samples left out because of their value.
    notes
        What a user should know of the choice, a sentence each.
    """

    train: np.ndarray
    train_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    chosen: int
    threshold: float
    invalid: int
    notes: list[str]


def select_samples(
    scores: np.ndarray,
    chosen_num_or_ratio: float = 2000,
    split_ratio: float = 0.7,
    invalid_value: float | None = None,
    seed: int = 0,
) -> Selection:
    """Choose the samples of highest and of lowest score, and split each side into training and validation.

    Parameters
    ----------
    scores
        [N]. Scores of two values are labels: rows are drawn from each side. Of three to ten values, a note says
        which are trained against which.
    chosen_num_or_ratio
        Samples per side, or, up to 1, their share of all; at most half of all.
    split_ratio
        Share of the chosen samples that is trained on.
    invalid_value
        Samples of this score are left out.
    seed
        Of numpy's legacy generator, which shuffles the positive, then the negative side.

    Raises
    ------
    HiganError
        Scores that are not finite, do not differ, tie between the sides, or are too few.
    """
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise HiganError(f"scores are {list(scores.shape)}; expected one per sample, [N]")
    if not chosen_num_or_ratio > 0 or not np.isfinite(chosen_num_or_ratio):
        raise HiganError(f"the number (or ratio) of chosen samples is {chosen_num_or_ratio}; expected more than 0")
    if not 0 < split_ratio <= 1:
        raise HiganError(f"the split ratio is {split_ratio}; expected more than 0, at most 1")
    rows = valid_rows(scores, invalid_value)
    values = scores if rows is None else scores[rows]
    if len(values) < 4:
        raise HiganError(f"{len(values)} scores are too few; expected 4 at least")
    low, high = values.min(), values.max()
    if reason := say_unfit(len(values), int((~np.isfinite(values)).sum()), float(low), float(high)):
        raise HiganError(reason)
    chosen = int(len(values) * chosen_num_or_ratio) if chosen_num_or_ratio <= 1 else int(chosen_num_or_ratio)
    random = np.random.RandomState(seed)
    classes = find_classes(values)
    notes = []
    if len(classes) == 2:
        positive, negative = np.flatnonzero(values == high), np.flatnonzero(values == low)
        random.shuffle(positive)
        random.shuffle(negative)
        positive, negative = positive[: max(chosen, 2)], negative[: max(chosen, 2)]
    else:
        chosen = min(chosen, len(values) // 2)
        positive, negative = extreme_rows(values, chosen)
        shared = values[negative].max(initial=low)
        if chosen and values[positive].min() == shared:
            raise HiganError(
                f"the {chosen} highest and the {chosen} lowest scores share the value {float(shared):g}; "
                "choose fewer samples, or leave that value out with --invalid_value"
            )
        if classes:
            above, below = (
                ", ".join(f"{value:g}" for value in np.unique(values[side])) for side in (positive, negative)
            )
            notes.append(
                f"the scores are labels of {len(classes)} classes: {above} is trained against {below}; for one class "
                "against all others give labels of 0 and 1"
            )
        random.shuffle(positive)
        random.shuffle(negative)
    sizes = [int(len(side) * split_ratio) for side in (positive, negative)]
    if min(sizes) < 1:
        raise HiganError(
            f"{min(len(positive), len(negative))} samples per side leave none to train on; choose more than "
            f"{chosen_num_or_ratio:g} or a larger split ratio than {split_ratio:g}"
        )
    if rows is not None:
        positive, negative = rows[positive], rows[negative]
    train = positive[: sizes[0]], negative[: sizes[1]]
    validation = positive[sizes[0] :], negative[sizes[1] :]
    return Selection(
        train=np.concatenate(train),
        train_labels=np.repeat([True, False], [len(side) for side in train]),
        validation=np.concatenate(validation),
        validation_labels=np.repeat([True, False], [len(side) for side in validation]),
        chosen=min(len(positive), len(negative)),
        threshold=(float(low) + float(high)) / 2,
        invalid=len(scores) - len(values),
        notes=notes,
    )


def train_boundary(
    codes: np.ndarray,
    scores: np.ndarray,
    name: str = "",
    space: str | None = None,
    chosen_num_or_ratio: float = 2000,
    split_ratio: float = 0.7,
    invalid_value: float | None = None,
    verbose_test: bool = False,
    solver: str = "newton",
    C: float | str = 1.0,
    seed: int = 0,
    bootstrap: int = 0,
) -> Boundary:
    """Return the unit direction along which a score rises: the normal of the plane between high and low scores.

    By default that plane is the paper's, a linear SVM of the highest and the lowest scores.

    Parameters
    ----------
    codes
        [N, D], or [N, L, D] for one boundary per layer; may be memory-mapped.
    scores
        [N], one per code; see `select_samples` for it and the options that are not named here.
    name, space
        What to call the boundary; its latent space, None for "w" ("wp" if the codes are layer-wise).
    verbose_test
        Judge all samples that were not chosen as well.
    solver
        "newton", "liblinear" or "libsvm", all with hinge loss (that of "newton" is rounded inside the margin).
        "libsvm" gives the paper's boundaries exactly and is slow beyond a few thousand samples; "liblinear" takes many
        times longer than "newton" where the classes overlap (see `fit_newton`). "ridge" regresses the score on all
        codes instead: then only `invalid_value`, `seed` and `bootstrap` apply (see `ridge_slopes`).
    C
        Weight of the hinge loss against the margin; "auto" for one that does not depend on the units of the codes
        (see `scale_free`).
    bootstrap
        Number of boundaries to train on resampled training sets, to measure how far the direction turns.

    Returns
    -------
    Boundary
        float32 [1, D] or [1, L, D], of norm 1 in every layer; `info` holds sizes, accuracies, settings and notes.
        Accuracies are balanced, the mean of the shares of both classes that lie on their side: 0.5 is chance, however
        rare a class is.

    Raises
    ------
    HiganError
        Codes and scores of different length, codes of another shape, not finite; and as `select_samples`.

    >>> codes = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> higan.train_boundary(codes, codes[:, 0], "first", chosen_num_or_ratio=0.2)
    <Boundary first of w [1, 8]>
    """
    if codes.ndim not in (2, 3) or codes.dtype.kind != "f" or not codes.size:
        raise HiganError(f"codes are {codes.dtype} {list(codes.shape)}; expected float codes [N, D] or [N, L, D]")
    if len(codes) != len(scores):
        raise HiganError(f"there are {len(codes)} codes but {len(scores)} scores; give those of the same run")
    if bootstrap == 1:
        raise HiganError("--bootstrap is 1; an angle needs at least 2 resampled boundaries")
    if solver == "ridge":
        slopes = ridge_slopes(codes, {name: scores}, invalid_value, bootstrap or RESAMPLES, seed)
        return with_reach(slopes.boundary(name, space or space_of(codes.ndim)), codes)
    if solver not in SOLVERS:
        raise HiganError(f"unknown solver {solver!r}; expected one of {', '.join((*SOLVERS, 'ridge'))}")
    if C != "auto" and not (isinstance(C, int | float) and 0 < C <= MOST_C):
        raise HiganError(f"C is {C}; expected auto or a number above 0, at most {MOST_C:g}")
    selection = select_samples(scores, chosen_num_or_ratio, split_ratio, invalid_value, seed)
    train, validation = (layerwise_rows(codes, rows) for rows in (selection.train, selection.validation))
    weights = [scale_free(train[:, layer]) if C == "auto" else float(C) for layer in range(train.shape[1])]
    planes = [
        fit_hyperplane(train[:, layer], selection.train_labels, solver, weight, seed)
        for layer, weight in enumerate(weights)
    ]
    info: dict[str, Any] = {
        "samples": len(codes),
        "invalid": selection.invalid,
        "chosen_per_side": selection.chosen,
        "training": count_classes(selection.train_labels),
        "validation": count_classes(selection.validation_labels),
        **judge("training", planes, train, selection.train_labels),
        **judge("validation", planes, validation, selection.validation_labels),
        "split_ratio": split_ratio,
        "solver": solver,
        "C": plain(weights),
        "seed": seed,
    }
    notes = [*selection.notes, *note_repeats(train, validation)]
    if notes:
        info["notes"] = notes
    if verbose_test:
        info |= judge_remaining(planes, codes, scores, selection, invalid_value)
    if bootstrap:
        info["bootstrap"] = bootstrap
        info["bootstrap_angle"] = bootstrap_angle(train, selection.train_labels, solver, weights, seed, bootstrap)
    direction = np.stack([normal for normal, _ in planes]).reshape(1, *codes.shape[1:]).astype(np.float32)
    space = space or space_of(codes.ndim)
    return with_reach(Boundary(fit_for_files(name) if name else name, direction, space, None, info, name), codes)


def with_reach(boundary: Boundary, codes: np.ndarray, distance: float = 2.0) -> Boundary:
    """Return the boundary with its reach: how many standard deviations of the codes lie in a distance along it.

    Far beyond 3, a code that moves so far looks like none that the generator was trained on, and pictures leave the
    data. Measured on `COVARIANCE_ROWS` codes at most; for a direction per layer, in each.
    """
    sample = spread_rows(codes)
    found = []
    for layer, step in enumerate(boundary.direction.reshape(-1, codes.shape[-1])):
        length = float(np.linalg.norm(step))
        along = (sample[:, layer] if sample.ndim == 3 else sample) @ step
        if length and (std := float(along.std(dtype=np.float64))):
            found.append(distance * length**2 / std)
    notes = [note for note in boundary.info.get("notes", ()) if not note.startswith("distance ")]
    if found:
        boundary.info["reach"] = plain(round(value, 3) for value in found)
    if found and max(found) > FAR:
        notes.append(
            f"distance {distance:g} reaches {max(found):.1f} standard deviations of the codes along this direction: "
            f"beyond {FAR:g} pictures may leave what the model draws; move less far"
        )
    boundary.info.pop("notes", None)
    boundary.info |= {"notes": notes} if notes else {}
    return boundary


def load_columns(scores: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Return several scores as contiguous float32 [N], in one pass over their file."""
    num = len(scores[names[0]])
    loaded = {name: np.empty(num, dtype=np.float32) for name in names}
    for start in range(0, num, BLOCK_ROWS):
        for name, column in loaded.items():
            with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found there
                column[start : start + BLOCK_ROWS] = scores[name][start : start + BLOCK_ROWS]
        release_pages(scores[names[0]])
    return loaded


def layerwise_rows(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows of codes as float32 [N, L, D], L = 1 of codes [N, D]; raise HiganError unless they are finite."""
    layers = codes.shape[1] if codes.ndim == 3 else 1
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found here
        taken = take_rows(codes, rows).reshape(len(rows), layers, codes.shape[-1]).astype(np.float32, copy=False)
    if not np.isfinite(taken).all():
        raise HiganError("codes hold values that are not finite; write them again")
    return taken


def extreme_rows(values: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the `num` highest and the `num` lowest values, each in descending order of value."""
    order = np.argpartition(values, [num - 1, len(values) - num]) if num else np.empty(0, dtype=np.int64)
    highest, lowest = order[len(values) - num :], order[:num]
    return tuple(rows[np.argsort(values[rows], kind="stable")[::-1]] for rows in (highest, lowest))  # type: ignore[return-value]


def count_right(planes: list[Plane], data: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many samples of data [N, L, D] lie on their side of each layer's plane: int [L, 2], positive first."""
    right = np.zeros((len(planes), 2), dtype=np.int64)
    for layer, (normal, offset) in enumerate(planes):
        if len(labels):
            sides = np.concatenate([block @ normal + offset > 0 for block in blocks_of(data[:, layer])])
            right[layer] = (sides & labels).sum(), (~sides & ~labels).sum()
    return right


def judge(part: str, planes: list[Plane], data: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return balanced accuracy, and the samples on their side, of a `part` of the samples [N, L, D], per layer."""
    right = count_right(planes, data, labels)
    return {f"{part}_accuracy": balanced(right, labels), f"{part}_right": plain(right.sum(axis=1))}


def balanced(right: np.ndarray, labels: np.ndarray) -> float | list[float] | None:
    """Return the mean of the shares that are `right` of both classes, one number per layer; None without a class."""
    sizes = np.array([labels.sum(), (~labels).sum()])
    return plain((right / sizes).mean(axis=1)) if sizes.all() else None


def note_repeats(train: np.ndarray, validation: np.ndarray) -> list[str]:
    """Return a note if codes [N, L, D] to train on are among those to validate with."""
    known = {row[0, :4].tobytes() for row in train}  # rows that begin alike are few: only these are compared whole
    alike = [row for row in validation if row[0, :4].tobytes() in known]
    if not alike:
        return []
    whole = {row.tobytes() for row in train}
    repeats = sum(row.tobytes() in whole for row in alike)
    return [
        f"{repeats} of the {len(validation)} codes held out are among those trained on too: the validation accuracy "
        "says too much; give every code once"
    ] * bool(repeats)


def judge_remaining(
    planes: list[Plane],
    codes: np.ndarray,
    scores: np.ndarray,
    selection: Selection,
    invalid_value: float | None,
) -> dict[str, Any]:
    """Return the balanced accuracy on all samples not chosen, by the score that halves the range."""
    chosen = np.zeros(len(codes), dtype=bool)
    chosen[selection.train] = chosen[selection.validation] = True
    rows = valid_rows(scores, invalid_value)
    remaining = np.flatnonzero(~chosen) if rows is None else rows[~chosen[rows]]
    if len(remaining) == 0:
        return {"remaining": 0, "remaining_accuracy": None}
    right = np.zeros((len(planes), 2), dtype=np.int64)
    labels = scores[remaining] > selection.threshold
    for start in range(0, len(remaining), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        data = take_rows(codes, remaining[block]).reshape(-1, len(planes), codes.shape[-1])
        right += count_right(planes, data, labels[block])
    return {"remaining": len(remaining), "remaining_accuracy": balanced(right, labels)}


def bootstrap_angle(
    train: np.ndarray, labels: np.ndarray, solver: str, weights: list[float], seed: int, num: int
) -> float | list[float]:
    """Return the mean angle, in degrees, between boundaries trained on `num` resampled training sets, per layer."""
    random = np.random.default_rng(seed)
    sides = np.flatnonzero(labels), np.flatnonzero(~labels)
    draws = [np.concatenate([random.choice(side, len(side)) for side in sides]) for _ in range(num)]
    normals = [
        [
            fit_hyperplane(train[rows, layer], labels[rows], solver, weight, seed)[0]
            for layer, weight in enumerate(weights)
        ]
        for rows in draws
    ]
    return plain(mean_angle(np.array(normals)))


def count_classes(labels: np.ndarray) -> dict[str, int]:
    return {"positive": int(labels.sum()), "negative": int((~labels).sum())}
