"""How scores rise with a code: what ridge regression, gradients and random steps find, and boundaries made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from higan.directions.boundaries import Boundary, fit_for_files, release_pages
from higan.directions.conditioning import disentangle
from higan.errors import HiganError

WIDE_ANGLE = 30.0  # degrees between resampled directions, from where on a note says so
COVARIANCE_ROWS = 10_000


@dataclass
class Slopes:
    """The rise of K scores per unit of a code, each in its own standard deviations.

    Attributes
    ----------
    names
        Of the K scores.
    values
        float64 [K, D], or [K, L, D] for codes of w+.
    std
        [K]: the standard deviation of each.
    covariance
        Of the codes, [D, D], or [L, D, D] where they differ by layer (`find_covariance`).
    info
        What is known of each, JSON values, as in `Boundary.info`.
    failed
        Why other scores have none, by name.
    whole
        The layers of a direction keep their weights: it has norm 1 over all of them, not in each.
    """

    names: list[str]
    values: np.ndarray
    std: np.ndarray
    covariance: np.ndarray
    info: list[dict[str, Any]]
    failed: dict[str, HiganError]
    whole: bool = False

    def boundary(self, name: str, space: str, strength: float | None = None) -> Boundary:
        """Return the slope of a score; with a `strength`, the direction that leaves the others alone (`disentangle`).

        Raises HiganError if the score has none.
        """
        if name in self.failed:
            raise self.failed[name]
        index = self.names.index(name)
        direction, info = self.values[index], dict(self.info[index])
        if not direction.any():
            raise HiganError("the score does not change with the codes; no direction raises it")
        if strength is not None:
            others = np.delete(self.values, index, axis=0)
            direction = disentangle(direction, others, self.covariance, strength)
            info |= {"disentangle": strength, "disentangled_from": len(others)}
        if direction.ndim == 2 and not self.whole:
            direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        else:
            direction = direction / np.linalg.norm(direction)
        if direction.ndim == 2:
            info["norm"] = "all layers" if self.whole else "each layer"
        target = name
        name = fit_for_files(name) if name else name
        return Boundary(name, direction[None].astype(np.float32), space, None, info, target)

    def disentangled(self, boundary: Boundary, strength: float) -> Boundary:
        """Return a boundary of another making that leaves all scores but its own target alone (`disentangle`)."""
        others = self.values[[name != boundary.target for name in self.names]]
        direction = disentangle(boundary.direction[0], others, self.covariance, strength)
        norm = np.linalg.norm(boundary.direction[0], axis=-1, keepdims=True)
        direction *= norm / np.linalg.norm(direction, axis=-1, keepdims=True)
        info = boundary.info | {"disentangle": strength, "disentangled_from": len(others)}
        return replace(boundary, direction=direction[None].astype(np.float32), info=info)


def find_covariance(codes: np.ndarray) -> np.ndarray:
    """Return the covariance of codes, float64 [D, D], or [L, D, D] of layer-wise ones; of `COVARIANCE_ROWS` at most.

    It is shrunk towards equal variances as far as so few codes ask for (Ledoit and Wolf 2004, "A well-conditioned
    estimator for large-dimensional covariance matrices"). Raises HiganError if codes are not finite.
    """
    from sklearn.covariance import ledoit_wolf

    sample = spread_rows(codes).astype(np.float64)
    if not np.isfinite(sample).all():
        raise HiganError("codes hold values that are not finite; write them again")
    if sample.ndim == 2:
        return np.asarray(ledoit_wolf(sample)[0])
    return np.stack([ledoit_wolf(sample[:, layer])[0] for layer in range(sample.shape[1])])


def spread_rows(codes: np.ndarray) -> np.ndarray:
    """Return `COVARIANCE_ROWS` of the codes, evenly spaced, or all if there are no more."""
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
        sample = np.array(codes[:: max(1, len(codes) // COVARIANCE_ROWS)][:COVARIANCE_ROWS], dtype=np.float32)
    release_pages(codes)
    return sample


def mean_angle(found: np.ndarray) -> np.ndarray:
    """Return the mean angle in degrees between directions [R, K, D] found R times, for each of K."""
    units = found / np.linalg.norm(found, axis=2, keepdims=True)
    cosines = np.einsum("rkd,skd->rsk", units, units)
    one, other = np.triu_indices(len(found), 1)
    return np.degrees(np.arccos(np.clip(cosines[one, other], -1, 1))).mean(axis=0)


def plain(values: Any) -> Any:
    """Return numbers [L], one per layer, as JSON values: the only one as itself."""
    numbers = [int(value) if isinstance(value, np.integer) else float(value) for value in values]
    return numbers[0] if len(numbers) == 1 else numbers
