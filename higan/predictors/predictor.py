"""A predictor as the steps see it: uint8 images in, one named float32 score per image and name out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from higan.errors import HiganError

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
        uint8 images [N, H, W, 3] (RGB) on `device` -> {group: [N, K]}, K = len(names[group]).
    device
        Where `score` expects its images.
    levels
        Level of a name in the generator's hierarchy, for names whose level is known: "layout", "object", "attribute"
        or "color".
    sha256
        Digest of the weights, "" if unknown.
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
        self.names: dict[str, list[str]] = {group: list(members) for group, members in names.items()}
        self.levels: dict[str, str] = dict(levels or {})
        self.device = device
        self.sha256 = sha256
        self.score = score
        everything = [member for members in self.names.values() for member in members]
        if not everything:
            raise HiganError(f"predictor {name!r} has no score names; expected {{group: [name, ...]}}")
        for group, members in self.names.items():
            if not group.isidentifier() or group in ("z", "w", "wp") or group.startswith("style"):
                raise HiganError(f"predictor {name!r} has the group {group!r}; expected a word that can name a file")
            repeated = {member for member in members if members.count(member) > 1}
            if repeated:
                raise HiganError(f"predictor {name!r} repeats the name {min(repeated)!r} in its group {group!r}")
        for member, level in self.levels.items():
            if level not in LEVELS:
                raise HiganError(f"predictor {name!r}: level {level!r} of {member!r} is not one of {', '.join(LEVELS)}")

    @torch.inference_mode()
    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Return {group: float32 [N, K]} on the predictor's device for uint8 images [N, H, W, 3] (RGB).

        Raises
        ------
        HiganError
            The images are of another type or shape, or the scores are not what `names` promises.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise HiganError(
                f"predictor {self.name!r} was given {images.dtype} {list(images.shape)}; expected uint8 [N, H, W, 3]"
            )
        scores = self.score(images.to(self.device))
        checked: dict[str, Tensor] = {}
        for group, members in self.names.items():
            expected = (images.shape[0], len(members))
            values = scores.get(group) if isinstance(scores, Mapping) else None
            if not isinstance(values, Tensor) or tuple(values.shape) != expected:
                found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise HiganError(
                    f"predictor {self.name!r} returned {found} for group {group!r}; expected a tensor {list(expected)}"
                )
            checked[group] = values.float()
        return checked
