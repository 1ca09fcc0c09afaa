"""Slopes from scored random steps: what a gradient says, of predictors that give scores alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.directions.gradient import find_columns
from higan.directions.slopes import Slopes, mean_angle
from higan.errors import HiganError
from higan.generators import Generator
from higan.predictors import Predictor

STEP = 2.0  # norm of a step: the distance that re-scoring moves
DRAWS = 10  # of slopes as likely as the one found, whose angles are told


def step_slopes(
    generator: Generator,
    predictor: Predictor,
    codes: Tensor,
    space: str,
    scores: Mapping[str, np.ndarray],
    samples: Slopes,
    covariance: np.ndarray,
    seed: int = 0,
    progress: Callable[[range], Any] | None = None,
) -> Slopes:
    """Return the slope of every score from its rises along random steps, combined with what the samples say.

    Every code is moved once, by a step of norm 2 in a random direction; its picture serves all scores. Rises regressed
    on steps, and scores regressed on codes, are two measurements of one slope: they are added with the inverse of their
    residual variances as weights.

    Parameters
    ----------
    codes
        [M, D] in `space`, "w" or "z"; scores are theirs, [M] by name.
    samples
        Slopes of the same scores by ridge regression on all samples.
    covariance
        [D, D] of the codes (`find_covariance`).
    progress
        Wraps the range of batches, such as `tqdm.tqdm`.

    Raises
    ------
    HiganError
        Codes are layer-wise, the predictor lacks a score, or codes do not fit the model.
    """
    if codes.ndim != 2:
        raise HiganError("random steps find directions of w or z; for one per layer use --solver gradient")
    names = samples.names
    columns = find_columns(predictor, names)
    random = np.random.default_rng([seed, 4])
    steps = random.standard_normal(codes.shape)
    steps *= STEP / np.linalg.norm(steps, axis=1, keepdims=True)
    moved = codes.cpu() + torch.from_numpy(steps).to(torch.float32)
    found = np.empty((len(codes), len(names)))
    batches = range(0, len(codes), generator.batch_size)
    for start in (progress or iter)(batches):
        rows = slice(start, min(start + batches.step, len(codes)))
        images = generator.synthesize(moved[rows], space)
        found[rows] = torch.cat(list(predictor.predict(images).values()), dim=1).double().cpu().numpy()[:, columns]
    rises = np.stack([(found[:, k] - scores[name]) / samples.std[k] for k, name in enumerate(names)], axis=1)

    num, width = steps.shape
    inner, outer = steps.T @ steps, steps.T @ rises
    alone = np.linalg.solve(inner + 1e-6 * np.trace(inner) / width * np.eye(width), outer)  # [D, K]
    left = np.square(rises - steps @ alone).mean(axis=0) * num / (num - width) if num > 2 * width else None
    variance = np.square(rises).mean(axis=0) if left is None else left
    variance = variance.clip(min=1e-12)
    values, infos = np.empty_like(samples.values), []
    for k, info in enumerate(samples.info):
        known = info["samples"] - info["invalid"]
        of_samples = known * (covariance + info["penalty"] * np.trace(covariance) / width * np.eye(width))
        noise = max(1 - info["r2"], 1e-6)
        precision = of_samples / noise + inner / variance[k]
        values[k] = np.linalg.solve(precision, of_samples @ samples.values[k] / noise + outer[:, k] / variance[k])
        spread = np.linalg.cholesky(np.linalg.inv(precision))
        draws = values[k] + random.standard_normal((DRAWS, width)) @ spread.T
        explained = 1 - variance[k] / np.square(rises[:, k]).mean().clip(min=1e-12)
        infos.append(
            info
            | {
                "solver": "steps",
                "steps": num,
                "r2_steps": float(f"{explained:.4g}"),
                "bootstrap_angle": float(f"{mean_angle(draws[:, None])[0]:.4g}"),
            }
        )
    return Slopes(names, values, samples.std, covariance, infos, samples.failed)
