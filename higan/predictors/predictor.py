"""A predictor as the steps see it: uint8 images in, one named float32 score per image and name out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from higan.devices import is_out_of_memory, within_memory
from higan.errors import HiganError
from higan.generators.network import SPACES

LONGEST = 150  # characters of a name: files are called after it
LEVELS = ("layout", "object", "attribute", "color")


class Predictor:
    """Scores images; every score has a name, every name belongs to one group.

    Parameters
    ----------
    name
        What `load_predictor` was asked for.
    names
        Names of the scores of each group, in column order: {"attribute": ["indoor_lighting", ...], ...}.
    score
        Images [N, H, W, 3] (RGB) on `device`, uint8 -> {group: [N, K]}, K = len(names[group]). The project's own
        predictors take float images from 0 to 255 too, and their scores carry gradients, which
        `train_boundary.py --solver gradient` needs.
    device
        Where `score` expects its images.
    levels
        Level of a name in the generator's hierarchy, for names whose level is known: "layout", "object", "attribute"
        or "color".
    sha256
        Digest of the weights, "" if unknown.

    >>> predictor.predict(generator.synthesize(generator.sample(2, seed=0), "z"))["attribute"].shape[0]
    2
    """

    def __init__(
        self,
        name: str,
        names: Mapping[str, list[str]],
        score: Callable[[Tensor], Mapping[str, Tensor]],
        device: torch.device,
        levels: Mapping[str, str] | None = None,
        sha256: str = "",
    ) -> None:
        self.name = name
        if not isinstance(names, Mapping) or not all(isinstance(members, list | tuple) for members in names.values()):
            raise HiganError(f"predictor {name!r} has the names {str(names)[:60]}; expected {{group: [name, ...]}}")
        if not isinstance(levels or {}, Mapping) or not callable(score):
            raise HiganError(f"predictor {name!r}: expected levels {{name: level}} and a function that scores images")
        self.names: dict[str, list[str]] = {group: list(members) for group, members in names.items()}
        self.levels: dict[str, str] = dict(levels or {})
        self.device = device
        self.sha256 = sha256
        self.score = score
        everything = [member for members in self.names.values() for member in members]
        if not everything:
            raise HiganError(f"predictor {name!r} has no score names; expected {{group: [name, ...]}}")
        for group, members in self.names.items():
            word = isinstance(group, str) and group.isidentifier()
            if not word or group in SPACES or group.startswith("style"):
                raise HiganError(f"predictor {name!r} has the group {group!r}; expected a word that can name a file")
            for member in members:
                check_member(name, member)
            repeated = {member for member in members if members.count(member) > 1}
            if repeated:
                raise HiganError(f"predictor {name!r} repeats the name {min(repeated)!r} in its group {group!r}")
        for member, level in self.levels.items():
            if not isinstance(level, str) or level not in LEVELS:
                raise HiganError(f"predictor {name!r}: level {level!r} of {member!r} is not one of {', '.join(LEVELS)}")

    def __repr__(self) -> str:
        groups = ", ".join(f"{len(members)} of {group}" for group, members in self.names.items())
        return f"<Predictor {self.name}: scores {groups}, {self.device}>"

    @torch.inference_mode()
    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Return {group: float32 [N, K]} on the predictor's device for uint8 images [N, H, W, C].

        The function that scores sees RGB: grey is repeated, and what is transparent lies on white. Lack of memory
        halves the number of images that are scored at once.

        Raises
        ------
        HiganError
            The images are of another type or shape, the function that scores fails or gives other scores than `names`
            promises, or memory does not suffice for one image.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4):
            raise HiganError(
                f"predictor {self.name!r} was given {images.dtype} {list(images.shape)}; expected uint8 [N, H, W, 3], "
                "or 1 (grey) or 4 (RGBA) in place of 3"
            )
        images = on_white(images)
        parts: list[dict[str, Tensor]] = []
        start, size = 0, max(1, len(images))
        while not parts or start < len(images):
            part, size = within_memory(partial(self._predict, images[start:]), size)
            parts.append(part)
            start += size
        if len(parts) == 1:
            return parts[0]
        return {group: torch.cat([part[group] for part in parts]) for group in self.names}

    def require_finite(self, group: str, scores: np.ndarray, start: int = 0) -> None:
        """Raise HiganError, with the sample's number, unless scores [N, K] of `group` are finite.

        `start` is the number of the first sample.
        """
        if np.isfinite(scores).all():
            return
        row, column = np.argwhere(~np.isfinite(scores))[0].tolist()
        raise HiganError(
            f"predictor {self.name} gives {scores[row, column]} as {self.names[group][column]} for sample "
            f"{start + row}; expected finite numbers (a sample without a score may have a number of its own, which "
            "train_boundary.py --invalid_value leaves out)"
        )

    def _predict(self, images: Tensor, size: int) -> dict[str, Tensor]:
        """Return the scores of the first `size` images."""
        images = images[:size]
        try:
            scores = self.score(images.to(self.device))
        except Exception as error:  # of a user's own code, or of a library's network that takes no such pictures
            lack = isinstance(error, RuntimeError) and is_out_of_memory(error)  # which a smaller batch may mend
            if lack or isinstance(error, HiganError | MemoryError):
                raise
            raise HiganError(f"predictor {self.name!r} failed ({type(error).__name__}: {error})") from error
        checked: dict[str, Tensor] = {}
        for group, members in self.names.items():
            expected = (images.shape[0], len(members))
            values = scores.get(group) if isinstance(scores, Mapping) else None
            if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":  # of a predictor that is no PyTorch
                values = torch.from_numpy(values.astype(np.float32)).to(self.device)
            if not isinstance(values, Tensor) or tuple(values.shape) != expected:
                found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise HiganError(
                    f"predictor {self.name!r} returned {found} for group {group!r}; expected a tensor {list(expected)}"
                )
            checked[group] = values.float()
        return checked


def on_white(images: Tensor) -> Tensor:
    """Return uint8 images [N, H, W, C] as RGB, [N, H, W, 3]: grey repeated, what is transparent on white."""
    channels = images.shape[3]
    if channels == 1:
        return images.expand(-1, -1, -1, 3)
    if channels == 3:
        return images
    opacity = images[..., 3:] / 255
    return (images[..., :3] * opacity + 255 * (1 - opacity)).round().to(torch.uint8)


def check_member(predictor: str, member: object) -> None:
    """Raise HiganError unless `member` can be the name of a score."""
    if isinstance(member, str) and member.strip() and len(member) <= LONGEST and member.isprintable():
        return
    raise HiganError(
        f"predictor {predictor!r} has a score called {str(member)[:60]!r}; expected 1 to {LONGEST} printable characters"
    )
