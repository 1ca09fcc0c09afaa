"""Inversion: the code whose picture is nearest to a given one, found by optimisation alone.

The code starts at the average and is first one for all layers (w), then one per layer (w+), as in Abdal et al. 2019
("Image2StyleGAN", section 3). The learning rate follows the official projector (stylegan2-ada-pytorch, projector.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from higan.errors import HiganError

if TYPE_CHECKING:
    from higan.generators import Generator

Features = Callable[[Tensor], list[Tensor]]  # float images [N, 3, H, W] in [-1, 1] -> maps [N, C, h, w]

LEARNING_RATE = 0.085  # in standard deviations of w; the projector's 0.1 is in units of w, whose deviation is near 1
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps: lr_rampup_length and lr_rampdown_length of the projector
SCALES = 4  # of the pixel loss, each half the size of the one before
PULL = 0.002  # weight of the mean squared distance from the average, in standard deviations
FEATURE_WEIGHT = 1.0
SHARE_OF_STARTS, SHARE_OF_W = 0.1, 0.3  # of the steps: until the best start is kept; until every layer is free
FAR = 99.5  # percentile from which on a picture is said to lie outside of what the model draws
STATISTICS = 1000  # samples that the average, the deviation and the percentiles come from


@dataclass
class Inversion:
    """Codes whose pictures are near to given ones. N pictures, T steps.

    Attributes
    ----------
    codes
        float32 [N, L, D], or [N, D] of a model without layers; in `space`.
    space
        The model's last latent space: "wp" where it has layers.
    images
        uint8 [N, H, W, 3]: the pictures of the codes.
    psnr
        float64 [N]: peak signal-to-noise ratio of these against the given pictures, in dB.
    losses
        float32 [T, N]: what was minimised, at every step.
    code_percentile
        float64 [N]: share of the model's samples, in percent, that are nearer to the average than the code is.
    image_percentile
        float64 [N]: share of the model's samples, in percent, that have another sample nearer to them than the given
        picture has any, at 16 x 16 pixels.

    >>> higan.invert(generator, pictures)  # doctest: +SKIP
    Inversion of 1 pictures: 41.2 dB on average, codes of wp
    """

    codes: Tensor
    space: str
    images: NDArray[np.uint8]
    psnr: NDArray[np.float64]
    losses: NDArray[np.float32]
    code_percentile: NDArray[np.float64]
    image_percentile: NDArray[np.float64]

    def remark(self, index: int) -> str:
        """Return in words how near picture `index` was found, and whether the model draws such pictures at all."""
        return remark(self.psnr[index], self.code_percentile[index], self.image_percentile[index])

    def __repr__(self) -> str:
        return f"Inversion of {len(self.psnr)} pictures: {self.psnr.mean():.1f} dB on average, codes of {self.space}"


@dataclass
class Statistics:
    """What the model's own samples are like.

    Attributes
    ----------
    codes
        float32 [1000, ...]: untruncated entry codes of the samples.
    mean, deviation
        Their mean [D], and the root mean square over dimensions of their standard deviations, a number.
    distances
        float64 [1000], sorted: how far each sample lies from the mean, see `distance`.
    gaps
        float64 [1000], sorted: how far each sample's thumbnail is from the nearest other one.
    thumbnails
        float32 [1000, 3 * 256]: their pictures at 16 x 16 pixels.
    """

    codes: Tensor
    mean: Tensor
    deviation: float
    distances: NDArray[np.float64]
    gaps: NDArray[np.float64]
    thumbnails: Tensor

    def place(self, code: Tensor, generator: Generator) -> Tensor:
        """Return the entry codes of `code` [M, 1 or L, D] or [M, D], given in deviations from the mean."""
        codes = self.mean + self.deviation * code
        return codes.expand(-1, generator.num_layers, -1) if codes.ndim == 3 else codes

    def distance(self, codes: Tensor) -> NDArray[np.float64]:
        """Return the root mean square distance of codes [N, ..., D] from the mean, per dimension, float64 [N]."""
        return (codes - self.mean).square().flatten(1).mean(dim=1).sqrt().double().cpu().numpy()


def invert(
    generator: Generator,
    images: NDArray[np.uint8] | Tensor,
    steps: int = 500,
    starts: int = 3,
    features: Features | None = None,
    seed: int = 0,
    statistics: Statistics | None = None,
    progress: Callable[[range], Iterable[int]] | None = None,
) -> Inversion:
    """Return the codes whose pictures are nearest to `images`, all of them optimised at once.

    Parameters
    ----------
    images
        uint8 [N, H, W, 3], of the generator's own size (see `higan.editing.pictures.read_picture`).
    steps
        Steps of Adam. The first tenth tries every start, the first 30 % have one code for all layers.
    starts
        Codes to begin with, per picture: the average, then the samples (of 1000) that look most like the picture.
    features
        Maps whose distance is added to that of the pixels; each location's channels are scaled to norm 1 (Zhang et
        al. 2018, LPIPS, equation 1, without learned weights).
    seed
        Of the samples that the statistics come from.
    statistics
        Of this generator, where they are at hand.
    progress
        Wraps the range of steps, such as `tqdm.tqdm`.

    Returns
    -------
    Inversion

    Raises
    ------
    HiganError
        Pictures of another type or size, or numbers out of range.

    Examples
    --------
    >>> inversion = higan.invert(generator, pictures, steps=10, starts=1)  # a few hundred steps for a good one
    >>> moved = higan.manipulate(inversion.codes, direction, [-3, 0, 3])  # and see `higan.edit`
    """
    if steps < 10 or starts < 1:
        raise HiganError(f"steps {steps}, starts {starts}: expected steps from 10, starts from 1")
    given = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    size = (*generator.image_size, generator.image_channels)
    if given.dtype != torch.uint8 or given.ndim != 4 or tuple(given.shape[1:]) != size or not len(given):
        raise HiganError(
            f"pictures of {given.dtype} {list(given.shape)}; {generator.name} is inverted from uint8 "
            f"[N, {size[0]}, {size[1]}, {size[2]}]"
        )
    statistics = statistics or sample_statistics(generator, seed)
    target = given.to(generator.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = None if features is None else normalized(features(target))

    def loss_of(code: Tensor) -> Tensor:
        """Return the loss [M] of codes [M, ...] in deviations from the mean; M is a multiple of the pictures."""
        picture = generator.render(statistics.place(code, generator))
        copies = len(code) // len(target)
        loss = pixel_loss(picture, target.repeat(copies, 1, 1, 1))
        if features is not None and wanted is not None:
            for found, other in zip(normalized(features(picture)), wanted, strict=True):
                difference = (found - other.repeat(copies, 1, 1, 1)).square().sum(dim=1)
                loss = loss + FEATURE_WEIGHT * difference.mean(dim=(1, 2))
        return loss + PULL * code.square().flatten(1).mean(dim=1)

    losses: list[NDArray[np.float32]] = []
    every = iter((progress or iter)(range(steps)))
    shared, split = math.ceil(SHARE_OF_STARTS * steps), math.ceil(SHARE_OF_W * steps)
    code = first_codes(generator, statistics, target, starts)  # [starts * N, 1, D] or [starts * N, D]
    code = descend(loss_of, code, [next(every) for _ in range(shared)], steps, losses)
    with torch.no_grad():
        best = loss_of(code).view(starts, -1).argmin(dim=0)
    code = code[best * len(target) + torch.arange(len(target), device=best.device)]
    code = descend(loss_of, code, [next(every) for _ in range(split - shared)], steps, losses)
    if code.ndim == 3:
        code = code.repeat(1, generator.num_layers, 1)
    code = descend(loss_of, code, every, steps, losses)

    codes = statistics.place(code, generator)
    space = generator.entry
    found = generator.synthesize(codes, space)
    gaps = torch.cdist(thumbnails(target), statistics.thumbnails).amin(dim=1).double().cpu().numpy()
    error = (found.cpu().float() - given.float()).square().mean(dim=(1, 2, 3)).double().numpy()
    return Inversion(
        codes=codes.cpu(),
        space=space,
        images=found.cpu().numpy(),
        psnr=10 * np.log10(255**2 / np.maximum(error, 1e-10)),
        losses=np.stack([loss.reshape(-1, len(target)).min(axis=0) for loss in losses]),
        code_percentile=percentile(statistics.distances, statistics.distance(codes)),
        image_percentile=percentile(statistics.gaps, gaps),
    )


def descend(
    loss_of: Callable[[Tensor], Tensor],
    code: Tensor,
    some: Iterable[int],
    steps: int,
    losses: list[NDArray[np.float32]],
) -> Tensor:
    """Return a code after `some` of the `steps` of Adam, and append the losses [M] before each to `losses`."""
    code = code.detach().requires_grad_()
    optimizer = torch.optim.Adam([code], betas=(0.9, 0.999))
    for since, step in enumerate(some):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * ramp((since + 1) / steps, step / steps)
        loss = loss_of(code)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach().float().cpu().numpy())
    return code.detach()


def ramp(since: float, done: float) -> float:
    """Return the learning rate's factor (projector.py of stylegan2-ada).

    It rises with the share of steps `since` the optimiser is new, and falls before a share `done` of 1 is over.
    """
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / RAMP_DOWN))
    return falling * min(1.0, since / RAMP_UP)


def first_codes(generator: Generator, statistics: Statistics, target: Tensor, starts: int) -> Tensor:
    """Return codes to begin with, in deviations from the mean: [starts * N, 1, D], or [starts * N, D] without layers.

    The first is the mean, which is no code where z is normalised; the others are the samples whose pictures, at 16 x
    16 pixels, are nearest to the target.
    """
    layered = statistics.codes.ndim == 3
    nearest = (
        torch.cdist(thumbnails(target), statistics.thumbnails).topk(starts - layered, largest=False).indices.T.flatten()
    )
    samples = (statistics.codes[nearest] - statistics.mean) / statistics.deviation
    if not layered:
        return samples
    return torch.cat([torch.zeros(len(target), 1, statistics.codes.shape[-1], device=target.device), samples[:, :1]])


def sample_statistics(generator: Generator, seed: int = 0) -> Statistics:
    """Return what 1,000 untruncated samples of a generator are like."""
    z = generator.sample(STATISTICS, seed)
    codes = untruncated(generator, z)
    mean = codes.flatten(0, -2).mean(dim=0)
    deviation = float(codes.flatten(0, -2).var(dim=0).mean().sqrt())
    images = generator.synthesize(codes, generator.entry)
    pictures = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    small = thumbnails(pictures)
    between = torch.cdist(small, small).fill_diagonal_(math.inf)
    statistics = Statistics(
        codes=codes,
        mean=mean,
        deviation=deviation,
        distances=np.empty(0),
        gaps=np.sort(between.amin(dim=1).double().cpu().numpy()),
        thumbnails=small,
    )
    statistics.distances = np.sort(statistics.distance(codes))
    return statistics


def untruncated(generator: Generator, z: Tensor) -> Tensor:
    """Return entry codes of z as the network makes them without truncation."""
    psi, generator.truncation_psi = generator.truncation_psi, 1.0
    try:
        return generator.to_entry(z, generator.spaces[0], generator.labels(len(z)))
    finally:
        generator.truncation_psi = psi


def thumbnails(images: Tensor) -> Tensor:
    """Return images [N, 3, H, W] at 16 x 16 pixels, as rows [N, 768]."""
    return F.adaptive_avg_pool2d(images, 16).flatten(1)


def pixel_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return mean |difference| + 2 mean difference² over four scales, float [N], of images [N, C, H, W] in [-1, 1]."""
    total = torch.zeros(len(found), device=found.device)
    for scale in range(SCALES):
        difference = (found - wanted).flatten(1)
        total = total + difference.abs().mean(dim=1) + 2 * difference.square().mean(dim=1)
        if min(found.shape[2:]) < 4 or scale == SCALES - 1:
            break
        found, wanted = F.avg_pool2d(found, 2), F.avg_pool2d(wanted, 2)
    return total


def normalized(maps: list[Tensor]) -> list[Tensor]:
    """Scale the channels at every location of maps [N, C, h, w] to norm 1 (Zhang et al. 2018, section 3)."""
    return [values / (values.square().sum(dim=1, keepdim=True).sqrt() + 1e-6) for values in maps]


def remark(psnr: float, code_percentile: float, image_percentile: float) -> str:
    """Return the attributes of an `Inversion` of one picture in words."""
    far = []
    if image_percentile >= FAR:
        far.append(f"{image_percentile:.1f} % of its samples have a nearer neighbour among them")
    if code_percentile >= FAR:
        far.append(f"the code lies farther out than {code_percentile:.1f} % of theirs")
    return f"{psnr:.1f} dB" + (f"; outside of what the model draws: {' and '.join(far)}" if far else "")


def percentile(known: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of sorted `known` values below each of `values`, in percent."""
    return 100.0 * np.searchsorted(known, values) / len(known)
