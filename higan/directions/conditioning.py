"""Directions that leave other scores as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from higan.directions.boundaries import Boundary
from higan.errors import HiganError


def condition(boundary: Boundary, others: Sequence[Boundary], covariance: np.ndarray | None = None) -> Boundary:
    """Return `boundary` made orthogonal to all `others` and scaled back to its norm, layer by layer for [1, L, D].

    Moving along the result leaves the other boundaries' decision values as they are (to first order, the scores
    behind them). The directions of `others` are orthonormalised by QR, so that any number may be given.

    Parameters
    ----------
    covariance
        [D, D] of the codes, [L, D, D] for a boundary per layer: of all orthogonal directions take the nearest in its
        metric, d = n - C N (NT C N)^-1 NT n, which changes the boundary n where codes vary, not where they hardly do.
        None: the nearest in Euclid's metric, as the paper's program does.

    Raises
    ------
    HiganError
        The others have another shape, or leave nothing of the boundary.
    """
    if not others:
        return boundary
    direction = boundary.direction.astype(np.float64)
    for other in others:
        if other.direction.shape[-1] != direction.shape[-1] or other.direction.ndim > direction.ndim:
            raise HiganError(
                f"boundary {boundary.name} {list(direction.shape)} cannot be conditioned on {other.name} "
                f"{list(other.direction.shape)}; both have to be of the same space and model"
            )
    rows = direction.reshape(-1, direction.shape[-1])
    against = np.stack([np.broadcast_to(other.direction[0], rows.shape) for other in others])
    if boundary.info.get("norm") == "all layers":  # the layers keep their weights: one long direction
        rows, against = rows.reshape(1, -1), against.reshape(len(others), 1, -1)
        covariance = None
    result = np.empty_like(rows)
    for layer, row in enumerate(rows):
        basis, _ = np.linalg.qr(against[:, layer].T.astype(np.float64))
        along = basis  # [D, J]: how the boundary may be changed
        if covariance is not None:
            along = (covariance if covariance.ndim == 2 else covariance[layer]) @ basis
        rest = row - along @ np.linalg.lstsq(basis.T @ along, basis.T @ row, rcond=None)[0]
        norm = np.linalg.norm(row)
        if np.linalg.norm(rest) < 1e-4 * norm:
            raise HiganError(
                f"boundary {boundary.name} lies in the span of {', '.join(other.name for other in others)}; "
                "nothing is left of it: condition on fewer boundaries"
            )
        result[layer] = rest * (norm / np.linalg.norm(rest))
    info = boundary.info | {"conditioned_on": [other.name for other in others]}
    return replace(boundary, direction=result.reshape(direction.shape).astype(np.float32), info=info)


def disentangle(slope: np.ndarray, others: np.ndarray, covariance: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Return the direction that raises a score as far as codes vary, and leaves other scores alone.

    d = (C^-1 + strength * sum_j g_j g_jT)^-1 g maximises g d - dT C^-1 d / 2 - strength * sum_j (g_j d)² / 2: what it
    raises the score by, less how unusual a step it is among codes of covariance C, less what it moves the others by.
    Where `condition` makes d orthogonal to a few others whatever is left of it, this weighs all of them. At strength 0
    it is C g, the pattern that belongs to the slope (Haufe et al. 2014, "On the interpretation of weight vectors of
    linear models in multivariate neuroimaging", section 2.3). A linear change of the codes changes d as it does them.

    Parameters
    ----------
    slope
        [D] or [L, D], per unit of the code.
    others
        [J, ...], the slopes of the other scores in their standard deviations per unit of the code.
    covariance
        [D, D] of the codes, [L, D, D] for a slope per layer of codes that differ by layer.
    strength
        From 0 upwards; in the units of the scores, whatever those of the codes are.

    Raises
    ------
    HiganError
        The strength is negative or not finite.
    """
    if not 0 <= strength < np.inf:
        raise HiganError(f"--disentangle is {strength}; expected a number from 0")

    def patterns(rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float64)[..., None, :] @ covariance)[..., 0, :].reshape(len(rows), -1)

    along, [pattern] = patterns(others), patterns(slope[None])
    rows = others.reshape(len(others), -1).astype(np.float64)
    inner = np.eye(len(rows)) + strength * (rows @ along.T)  # Woodbury's identity: as small as there are scores
    return (pattern - strength * (np.linalg.solve(inner, rows @ pattern) @ along)).reshape(slope.shape)
