"""Inversion: the code whose picture is nearest to a given one, found by optimisation alone.

The code starts at the average and is first one for all layers (w), then one per layer (w+), as in Abdal et al. 2019
("Image2StyleGAN", section 3). The learning rate follows the official projector (stylegan2-ada-pytorch, projector.py).
What no code draws, the generator can be tuned to (Roich et al. 2021, "Pivotal tuning", section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from higan.errors import HiganError
from higan.logs import counted

if TYPE_CHECKING:
    from higan.generators import Generator

Features = Callable[[Tensor], list[Tensor]]  # float images [N, 3, H, W] in [-1, 1] -> maps [N, C, h, w]

TUNE_STEPS = 350  # of PTI's program (danielroich/PTI, hyperparameters.py: max_pti_steps)
WEIGHTS_RATE = 3e-4  # pti_learning_rate there
NOISE_RATE, NOISE_WEIGHT = 0.1, 1e5  # initial_learning_rate and regularize_noise_weight of the projector
LEARNING_RATE = 0.085  # in standard deviations of w; the projector's 0.1 is in units of w, whose deviation is near 1
BETAS = (0.9, 0.99)  # of Adam; the projector's 0.999 remembers the first steps for longer than a run has
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps: lr_rampup_length and lr_rampdown_length of the projector
SCALES = 4  # of the pixel loss, each half the size of the one before
PULL = 0.002  # weight of the mean squared distance from the average, in standard deviations
FEATURE_WEIGHT = 1.0
SHARE_OF_STARTS, SHARE_OF_W = 0.1, 0.3  # of the steps: until the best start is kept; until every layer is free
FAR = 99.5  # percentile from which on a picture is said to lie outside of what the model draws
TUNED = ("noise", "weights", "both")
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
        uint8 [N, H, W, C]: the pictures of the codes.
    psnr
        float64 [N]: peak signal-to-noise ratio of these against the given pictures, in dB; see `visible`.
    losses
        float32 [T, N]: what was minimised, at every step.
    code_percentile
        float64 [N]: share of the model's samples, in percent, that are nearer to the average than the code is.
    image_percentile
        float64 [N]: share of the model's samples, in percent, that have another sample nearer to them than the given
        picture has any, at 16 x 16 pixels.

    >>> higan.invert(generator, pictures)  # doctest: +SKIP
    Inversion of 1 picture: 41.2 dB, codes of wp
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
        num, mean = len(self.psnr), f"{self.psnr.mean():.1f} dB"
        average = " on average" if num > 1 else ""
        return f"Inversion of {counted(num, 'picture')}: {mean}{average}, codes of {self.space}"


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
        float32 [1000, C * 256]: their pictures at 16 x 16 pixels.
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
        uint8 [N, H, W, C], of the generator's own size and channels (see `higan.editing.pictures.read_picture`).
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
            f"[N, {', '.join(map(str, size))}]"
        )
    statistics = statistics or sample_statistics(generator, seed)
    target = to_float(given.to(generator.device))
    distance = distance_to(target, features)

    def loss_of(code: Tensor) -> Tensor:
        """Return the loss [M] of codes [M, ...] in deviations from the mean; M is a multiple of the pictures."""
        picture = generator.render(statistics.place(code, generator))
        return distance(picture) + PULL * code.square().flatten(1).mean(dim=1)

    losses: list[NDArray[np.float32]] = []
    every = iter((progress or iter)(range(steps)))
    shared, split = math.ceil(SHARE_OF_STARTS * steps), math.ceil(SHARE_OF_W * steps)
    code = first_codes(generator, statistics, target, starts)  # [starts * N, 1, D] or [starts * N, D]
    code = descend(loss_of, code, islice(every, shared), steps, losses)
    with torch.no_grad():
        best = loss_of(code).view(starts, -1).argmin(dim=0)
    code = code[best * len(target) + torch.arange(len(target), device=best.device)]
    code = descend(loss_of, code, islice(every, split - shared), steps, losses)
    if code.ndim == 3:
        code = code.repeat(1, generator.num_layers, 1)
    code = descend(loss_of, code, every, steps, losses)

    codes = statistics.place(code, generator)
    space = generator.entry
    found = generator.synthesize(codes, space)
    gaps = torch.cdist(thumbnails(target), statistics.thumbnails).amin(dim=1).double().cpu().numpy()
    return Inversion(
        codes=codes.cpu(),
        space=space,
        images=found.cpu().numpy(),
        psnr=signal_to_noise(to_float(found), target),
        losses=np.stack([loss.reshape(-1, len(target)).min(axis=0) for loss in losses]),
        code_percentile=percentile(statistics.distances, statistics.distance(codes)),
        image_percentile=percentile(statistics.gaps, gaps),
    )


def distance_to(target: Tensor, features: Features | None) -> Callable[[Tensor], Tensor]:
    """Return the function that gives the distance [M] of images [M, C, H, W], M a multiple of N, to `target`, N."""
    seen = visible(target)
    wanted = [] if features is None else normalized(features(to_rgb(target)))

    def distance(images: Tensor) -> Tensor:
        copies = len(images) // len(target)
        loss = pixel_loss(visible(images), seen.repeat(copies, 1, 1, 1))
        found = [] if features is None else normalized(features(to_rgb(images)))
        for maps, others in zip(found, wanted, strict=True):
            difference = (maps - others.repeat(copies, 1, 1, 1)).square().sum(dim=1)
            loss = loss + FEATURE_WEIGHT * difference.mean(dim=(1, 2))
        return loss

    return distance


def tune(
    generator: Generator,
    codes: NDArray[np.float32] | Tensor,
    images: NDArray[np.uint8] | Tensor,
    what: str = "weights",
    steps: int = TUNE_STEPS,
    features: Features | None = None,
    batch_size: int = 8,
    progress: Callable[[range], Iterable[int]] | None = None,
) -> NDArray[np.float64]:
    """Change a generator, in place, so that it draws `images` of `codes`; its other pictures change with it.

    Parameters
    ----------
    codes
        float32 [N, L, D] of the generator's entry, as `invert` finds them; they stay as they are.
    images
        uint8 [N, H, W, C].
    what
        "weights": as in Roich et al. 2021 ("Pivotal tuning", section 3.2), without their locality term, which their
        program leaves out as well. "noise": the noise images, as the official projector does along with w, kept white
        by its regularisation (Karras et al. 2020, appendix D). "both".
    steps
        Steps of Adam, each on the next `batch_size` pictures.
    features, progress
        As `invert`.

    Returns
    -------
    NDArray
        float64 [N]: the peak signal-to-noise ratio of each picture afterwards, in dB.

    Raises
    ------
    HiganError
        There is nothing of the kind to tune, or what is given does not fit.

    >>> psnr = tune(generator, inversion.codes, pictures, steps=5)  # a few hundred for a good one
    """
    given, codes = torch.as_tensor(np.array(images)), torch.as_tensor(codes).to(generator.device)
    if what not in TUNED or steps < 1 or batch_size < 1 or len(codes) != len(given):
        raise HiganError(
            f"{what!r}, {steps} steps, {batch_size} of {len(given)} pictures at a time, {len(codes)} codes; expected "
            f"one of {', '.join(TUNED)}, numbers from 1, and a code for each picture"
        )
    network = generator.network
    noises = noise_images(generator) if what != "weights" else []
    weights = list(network.parameters()) if what != "noise" else []
    optimizer = torch.optim.Adam(
        [{"params": weights, "lr": WEIGHTS_RATE}, {"params": noises, "lr": NOISE_RATE}], betas=(0.9, 0.999)
    )
    try:
        for tensor in (*weights, *noises):
            tensor.requires_grad_(True)
        for step in (progress or iter)(range(steps)):
            optimizer.param_groups[1]["lr"] = NOISE_RATE * ramp((step + 1) / steps, step / steps)
            rows = torch.arange(step * batch_size, step * batch_size + min(batch_size, len(codes))) % len(codes)
            target = to_float(given[rows].to(generator.device))
            network.prepare(generator.dtype)  # so that gradients reach the weights
            loss = distance_to(target, features)(generator.render(codes[rows])).mean()
            loss = loss + NOISE_WEIGHT * sum((autocorrelation(noise) for noise in noises), torch.zeros_like(loss))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for noise in noises:
                    noise.sub_(noise.mean()).mul_(noise.square().mean().rsqrt())
    finally:
        for tensor in (*weights, *noises):
            tensor.requires_grad_(False)
        network.prepare(generator.dtype)
    found = [generator.synthesize(codes[row : row + 1], generator.entry) for row in range(len(codes))]
    return np.concatenate(
        [signal_to_noise(to_float(image.cpu()), to_float(given[row : row + 1])) for row, image in enumerate(found)]
    )


def noise_images(generator: Generator) -> list[Tensor]:
    """Return the noise images that a generator holds, [1, 1, H, W] each; raise HiganError if it draws none of them."""
    noises = [noise for name, noise in generator.network.named_buffers() if name.endswith(".noise")]
    if not noises or generator.noise != "const":
        raise HiganError(f"{generator.name} draws no noise of its own; tune its weights alone")
    return noises


def autocorrelation(noise: Tensor) -> Tensor:
    """Return the squared correlation of noise [1, 1, H, W] with itself one pixel on, summed over scales.

    As in the official projector (projector.py of stylegan2-ada; Karras et al. 2020, appendix D).
    """
    total = torch.zeros((), device=noise.device)
    while True:
        for dimension in (2, 3):
            total = total + (noise * noise.roll(1, dims=dimension)).mean().square()
        if min(noise.shape[2:]) <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)


def descend(
    loss_of: Callable[[Tensor], Tensor],
    code: Tensor,
    some: Iterable[int],
    steps: int,
    losses: list[NDArray[np.float32]],
) -> Tensor:
    """Return a code after `some` of the `steps` of Adam, and append the losses [M] before each to `losses`."""
    code = code.detach().requires_grad_()
    optimizer = torch.optim.Adam([code], betas=BETAS)
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


def sample_statistics(
    generator: Generator, seed: int = 0, progress: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter
) -> Statistics:
    """Return what 1,000 untruncated samples of a generator are like; `progress` wraps their batches."""
    z = generator.sample(STATISTICS, seed)
    codes = untruncated(generator, z)
    mean = codes.flatten(0, -2).mean(dim=0)
    deviation = float(codes.flatten(0, -2).var(dim=0).mean().sqrt())
    batches = progress(codes.split(generator.batch_size))
    small = torch.cat([thumbnails(to_float(generator.synthesize(batch, generator.entry))) for batch in batches])
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
    """Return images [N, C, H, W] at 16 x 16 pixels, as rows [N, C * 256]."""
    return F.adaptive_avg_pool2d(visible(images), 16).flatten(1)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images [N, H, W, C] as floats in [-1, 1], [N, C, H, W]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_rgb(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] in [-1, 1] as RGB, [N, 3, H, W]: grey repeated, what is transparent on white."""
    if images.shape[1] < 4:
        return images.expand(-1, 3, -1, -1)
    opacity = (images[:, 3:] + 1) / 2
    return images[:, :3] * opacity + 1 - opacity


def visible(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] in [-1, 1] as they are compared: RGBA on white, so that no hidden colour counts."""
    return images if images.shape[1] < 4 else torch.cat([to_rgb(images), images[:, 3:]], dim=1)


def signal_to_noise(found: Tensor, wanted: Tensor) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio, float64 [N] in dB, of images [N, C, H, W] in [-1, 1]."""
    error = ((visible(found) - visible(wanted)) * 127.5).double().square().flatten(1).mean(dim=1)
    return 10 * np.log10(255**2 / error.clamp(min=1e-10).cpu().numpy())


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
        far.append(f"{image_percentile:.1f} % of its samples lie nearer to another one than this picture does to any")
    if code_percentile >= FAR:
        far.append(f"the code lies farther out than {code_percentile:.1f} % of theirs")
    return f"{psnr:.1f} dB" + (f"; outside of what the model draws: {' and '.join(far)}" if far else "")


def percentile(known: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of sorted `known` values below each of `values`, in percent."""
    return 100.0 * np.searchsorted(known, values) / len(known)
