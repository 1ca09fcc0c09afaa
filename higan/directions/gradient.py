"""The mean gradient of scores through generator and predictor, for predictors that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.directions.boundaries import find_name
from higan.directions.slopes import Slopes, find_covariance, mean_angle
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.network import layered
from higan.predictors import Predictor

GROUPS = 8  # of samples, whose directions are compared
AGREES = 0.05  # standard deviations that a score may differ from the stored one


def gradient_slopes(
    generator: Generator,
    predictor: Predictor,
    codes: Tensor,
    space: str,
    names: Sequence[str],
    per_layer: bool = False,
    progress: Callable[[range], Any] | None = None,
    covariance: np.ndarray | None = None,
) -> Slopes:
    """Return the slope of every score as the mean of its gradient over samples.

    Parameters
    ----------
    codes
        Samples, [N, D] or [N, L, D], in `space`: "z" (of a generator without other spaces), "w" or "wp".
    names
        Scores of the predictor's.
    per_layer
        Return a slope per layer of w+, [K, L, D], which keep their weights; else one of the codes' own space.
    progress
        Wraps the range of batches, such as `tqdm.tqdm`.
    covariance
        [D, D], or [L, D, D] of layer-wise codes: that of more codes than these (`find_covariance`, the default).

    Raises
    ------
    HiganError
        The predictor cannot be differentiated, lacks a score, or codes do not fit the model.
    """
    if generator.has_layers and not layered(space):
        raise HiganError("gradients are taken in w or w+; give codes of w (w.npy of the same run)")
    if per_layer and not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers; leave --latent_space_type wp out")
    columns = find_columns(predictor, names)
    entry = generator.to_entry(codes, space)
    require_gradient(generator, predictor, entry[:2])
    num, groups = len(entry), np.arange(len(entry)) * GROUPS // len(entry)
    sums = np.zeros((GROUPS, len(columns), *entry.shape[1:]))
    squares, scores = np.zeros(len(columns)), np.zeros((num, len(columns)))
    batches = range(0, num, max(1, generator.batch_size // 4))
    for start in (progress or iter)(batches):
        rows = slice(start, min(start + batches.step, num))
        part = entry[rows].clone().requires_grad_(True)
        found = score_floats(predictor, to_grey_levels(generator.render(part)))
        scores[rows] = found[:, columns].detach().double().cpu().numpy()
        for index, column in enumerate(columns):
            (gradient,) = torch.autograd.grad(found[:, column].sum(), part, retain_graph=True)
            each = gradient.double().cpu().numpy()
            np.add.at(sums[:, index], groups[rows], each)
            squares[index] += np.square(each).sum()
    common = np.square(sums.sum(axis=0) / num).reshape(len(columns), -1).sum(axis=1) / (squares / num).clip(min=1e-300)
    if not per_layer and (strength := generator.strength(space)) is not None:
        sums = np.tensordot(sums, strength.double().numpy(), ([2], [0]))
    std = scores.std(axis=0)
    std[std == 0] = 1
    values = sums.sum(axis=0) / num / std.reshape(-1, *[1] * (sums.ndim - 2))
    angle = mean_angle(sums.reshape(GROUPS, len(columns), -1)[np.bincount(groups, minlength=GROUPS) > 0])
    info: list[dict[str, Any]] = [
        {
            "solver": "gradient",
            "samples": num,
            "common_gradient": float(f"{common[index]:.4g}"),
            "group_angle": float(f"{angle[index]:.4g}"),
        }
        for index in range(len(columns))
    ]
    covariance = find_covariance(codes.cpu().numpy()) if covariance is None else covariance
    return Slopes(list(names), values, std, covariance, info, {}, whole=values.ndim == 3)


def score_floats(predictor: Predictor, images: Tensor) -> Tensor:
    """Return the scores of all groups side by side, [N, K], of float images [N, H, W, 3] from 0 to 255, with gradients.

    Raises what the predictor raises where it takes uint8 alone.
    """
    found = predictor.score(images.to(predictor.device))
    return torch.cat([found[group].float() for group in predictor.names], dim=1)


def to_grey_levels(images: Tensor) -> Tensor:
    """Return images [N, 3, H, W] from -1 to 1 as [N, H, W, 3] from 0 to 255, with gradients but where they clip."""
    return (images * 127.5 + 127.5).clamp(0, 255).permute(0, 2, 3, 1)


def require_gradient(generator: Generator, predictor: Predictor, entry: Tensor) -> None:
    """Raise HiganError unless the predictor scores float images as it scores uint8 ones, and can be differentiated."""
    reason = ""
    images = to_grey_levels(generator.render(entry))
    whole = images.round().to(torch.uint8)
    expected = torch.cat(list(predictor.predict(whole).values()), dim=1)
    try:
        images = images.detach().requires_grad_(True)
        same = score_floats(predictor, whole.float())
        if not torch.allclose(same.to(expected), expected, rtol=1e-3, atol=1e-3):
            reason = "it scores float images otherwise than the same ones in uint8"
        elif not score_floats(predictor, images).requires_grad:
            reason = "its scores carry no gradient"
    except Exception as error:  # of a user's own code
        reason = f"it does not take float images: {type(error).__name__}: {error}".splitlines()[0][:200]
    if reason:
        raise HiganError(
            f"predictor {predictor.name} cannot be differentiated ({reason}); --solver steps needs scores alone"
        )


def find_columns(predictor: Predictor, names: Sequence[str]) -> list[int]:
    """Return where scores stand among all of the predictor's; raise HiganError if it lacks one."""
    outputs = [name for members in predictor.names.values() for name in members]
    return [outputs.index(find_name(name, outputs, "score", f"predictor {predictor.name}")) for name in names]


def require_same_scores(
    generator: Generator, predictor: Predictor, codes: Tensor, space: str, scores: Mapping[str, np.ndarray]
) -> None:
    """Raise HiganError unless model and predictor give the stored scores, [n] by name, of codes [n, ...]."""
    columns = find_columns(predictor, list(scores))
    images = generator.synthesize(codes, space)
    found = torch.cat(list(predictor.predict(images).values()), dim=1).double().cpu().numpy()
    for column, (name, stored) in zip(columns, scores.items(), strict=True):
        apart = np.abs(found[:, column] - stored)
        if apart.max() > AGREES * max(float(stored.std()), 1e-3):
            worst = int(apart.argmax())
            raise HiganError(
                f"{name} of sample {worst} is {stored[worst]:.4g} in the file, but {generator.name} and predictor "
                f"{predictor.name} give {found[worst, column]:.4g}; give codes, scores, --model_name and "
                "--predictor_name of one run"
            )
