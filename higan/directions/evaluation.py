"""How well directions do what they are named after and nothing else, as the literature measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-4, -0.5, 15)  # of the lasso, for standardised values
EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # of the groups of changes, in standard deviations


@dataclass
class AttributeDependency:
    """How far other scores change where a score changes by some amount: smaller is better.

    Attributes
    ----------
    edges
        [E + 1]: groups of images, by the change of the target in its standard deviations.
    images
        int [E]: images of each group.
    mean, largest
        [E]: mean-AD and max-AD of each group, NaN where there is no image.
    """

    edges: tuple[float, ...]
    images: np.ndarray
    mean: np.ndarray
    largest: np.ndarray


def attribute_dependency(rises: np.ndarray, target: int, edges: Sequence[float] = EDGES) -> AttributeDependency:
    """Return the attribute dependency of a direction (Wu, Lischinski and Shechtman 2021, "StyleSpace", section 6).

    Over the images whose target score rose by an amount, mean-AD is the mean of |change| of the other scores, and
    max-AD the mean of the largest of them.

    Parameters
    ----------
    rises
        [N, K]: change of every score, in its standard deviations, of images moved along the direction, best by several
        distances.
    target
        The score that the direction stands for.
    """
    others = np.abs(np.delete(rises, target, axis=1))
    group = np.digitize(rises[:, target], edges) - 1
    sums = np.zeros((2, len(edges) - 1))
    images = np.array([(group == index).sum() for index in range(len(edges) - 1)])
    for index in np.flatnonzero(images):
        members = others[group == index]
        sums[:, index] = members.mean(), members.max(axis=1).mean()
    with np.errstate(invalid="ignore"):
        mean, largest = np.where(images > 0, sums, np.nan)
    return AttributeDependency(tuple(edges), images, mean, largest)


@dataclass
class DCI:
    """Disentanglement, completeness and informativeness of a set of directions, 0 to 1 each: larger is better.

    Attributes
    ----------
    disentanglement
        Whether each direction matters to one score alone.
    completeness
        Whether one direction alone matters to each score.
    informativeness
        R² of the scores, on samples held out, of what the directions say of a code.
    importance
        [B, K]: how far each direction matters to each score.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def dci(codes: np.ndarray, directions: np.ndarray, scores: np.ndarray) -> DCI:
    """Return the DCI of directions (Eastwood and Williams 2018, "A framework for the quantitative evaluation of ...").

    A code is what the directions say of it, its projections on them. A lasso regresses every score on these; its
    absolute coefficients are their importance. One half of the samples is fitted on, the other judged.

    Parameters
    ----------
    codes
        [N, D].
    directions
        [B, D].
    scores
        [N, K].
    """
    from sklearn.linear_model import LassoCV

    said = codes.astype(np.float64) @ directions.T
    said = (said - said.mean(axis=0)) / said.std(axis=0)
    wanted = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    half = len(said) // 2
    importance, r2 = np.zeros((len(directions), wanted.shape[1])), np.zeros(wanted.shape[1])
    for column, values in enumerate(wanted.T):
        lasso = LassoCV(cv=5, alphas=PENALTIES).fit(said[:half], values[:half])
        importance[:, column] = np.abs(lasso.coef_)
        r2[column] = lasso.score(said[half:], values[half:])
    shares = importance / max(importance.sum(), 1e-300)
    return DCI(
        disentanglement=float(concentration(importance) @ shares.sum(axis=1)),
        completeness=float(concentration(importance.T) @ shares.sum(axis=0)),
        informativeness=float(r2.clip(min=0).mean()),
        importance=importance,
    )


def concentration(amounts: np.ndarray) -> np.ndarray:
    """Return 1 less the entropy of every row of amounts [A, B], to the base B: 1 where all of it is in one column."""
    totals = amounts.sum(axis=1, keepdims=True)
    shares = np.divide(amounts, totals, out=np.zeros_like(amounts), where=totals > 0)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logarithms).sum(axis=1) / np.log(amounts.shape[1])
    return np.where(totals[:, 0] > 0, 1 - entropy, 0)
