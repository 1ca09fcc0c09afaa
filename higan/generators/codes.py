"""Latent codes, drawn or of a file: which space they are of, how they are shaped, how they become a generator's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.checkpoints.arrays import read_arrays
from higan.devices import require_memory
from higan.errors import HiganError
from higan.files import digest, map_array
from higan.generators.network import SPACES, layered
from higan.runs.provenance import origin_of

if TYPE_CHECKING:
    from torch import Tensor

    from higan.generators import Generator

CHECK_ROWS = 4096
RECORDED, BY_NAME = "by its record", "by the file's name"  # how the space of a file is known
# names that programs give codes in dictionaries: the paper's, NVlabs' projectors, rosinality's, encoders
KEYS = ("wp", "w", "z", "dlatents", "latents", "latent", "latent_code", "latent_codes", "codes", "code")


class Codes:
    """N latent codes as a generator takes them: drawn from a seed, or those of a file.

    For z of a conditional model their classes are there too, as "labels", int64 [N].

    Parameters
    ----------
    generator
        Whose codes they are.
    num, seed
        How many are drawn in z, where there is no `path`.
    path
        A file of codes [N, *row], [N, S, *row] (S steps of each, as edits are written) or [*row], where a row is [D] in
        z and w and [L, D] in wp; floats or integers. .npy, .npz and .pt, also dictionaries of codes by picture.
    space
        "z", "w" or "wp"; None: the space that is written beside the file or in its run's run.json, else that of its
        name (`w.npy`, `faces_w.npy`), else the one space that its shape fits.

    Attributes
    ----------
    num, space
        As above, once it is known; drawn codes are of "z".
    source
        What they are in words, for logs and pages: "drawn in z from seed 0", "w.npy: 12 codes of w (by its name)".

    Examples
    --------
    >>> codes = Codes(generator, path="faces_w.npy")
    >>> images = generator.synthesize(codes.rows(0, 4), codes.space)

    Raises
    ------
    HiganError
        The model lacks the space, the file holds no finite codes of it, several spaces fit, or `num` is not positive.
    """

    def __init__(
        self,
        generator: Generator,
        num: int = 0,
        seed: int = 0,
        path: str | Path | None = None,
        space: str | None = None,
    ) -> None:
        self.generator, self.seed, self.path = generator, seed, Path(path) if path is not None else None
        if space is not None and space not in generator.spaces:
            raise HiganError(f"{generator.name} has no space {space!r}; expected {', '.join(generator.spaces)}")
        if self.path is None:
            if num < 1:
                raise HiganError(f"the number of samples is {num}; give --num of at least 1, or --latent_codes_path")
            self.num, self.space = num, generator.spaces[0]
            self.source = f"drawn in {self.space} from seed {seed}"
            self.labels(num - 1, num)
            return
        array = code_array(self.path, space)
        self.space, why = find_space(self.path, array.shape, generator, space)
        row = generator.code_shape(self.space)
        self.num = int(np.prod(array.shape[: array.ndim - len(row)], dtype=np.int64))
        if array.dtype.kind not in "fiu" or not self.num:
            raise HiganError(
                f"{self.path} holds {array.dtype} {list(array.shape)}; expected numbers, {describe_row(row)}, codes of "
                f"space {self.space}"
            )
        self.array = None if isinstance(array, np.memmap) else array.reshape(self.num, *row)
        self.row = row
        self.source = f"{self.path}: {self.num} codes of {self.space} ({why})"
        self.require_finite()
        self.labels(self.num - 1, self.num)

    @property
    def sha256(self) -> str | None:
        """Digest of the file, None for drawn codes."""
        return None if self.path is None else digest(self.path)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return codes `start` to `stop`, float32 [n, *row], z as the model draws it; the others stay on the disk."""
        if self.path is None:
            return self.generator.sample(min(stop, self.num) - start, self.seed, start)
        import torch

        return self.generator.normalize(torch.from_numpy(self.values(start, stop)), self.space)

    def labels(self, start: int, stop: int) -> Tensor | None:
        """Return the classes of codes `start` to `stop`, int64, of z of a conditional model, else None."""
        return None if layered(self.space) else self.generator.labels(stop - start, start)

    def follow(self, samples: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Return codes in their space and in every one that follows: {"z": [N, z_dim], "w": ..., "wp": ...}.

        `samples` are the numbers of those to take, None for all; HiganError where a file has no such number. With z of
        a conditional model come their classes, "labels", int64 [N].
        """
        import torch

        if samples is not None and self.path is not None and max(samples) >= self.num:
            raise HiganError(f"{self.path} has no sample {max(samples)}: its {self.num} codes are numbered from 0")
        generator = self.generator
        size = 2 * generator.z_dim + generator.num_layers * generator.w_dim
        spans = [(0, self.num)] if samples is None else [(number, number + 1) for number in samples]
        count = self.num if samples is None else len(samples)
        require_memory(4 * count * size, f"{count} samples")
        classes = [found for span in spans if (found := self.labels(*span)) is not None]
        labels = torch.cat(classes) if classes else None
        codes = generator.follow(torch.cat([self.rows(*span) for span in spans]), self.space, labels)
        return codes if labels is None else codes | {"labels": labels}

    def values(self, start: int, stop: int) -> np.ndarray:
        """Return a copy of rows of the file as they stand, float32."""
        array = self.array if self.array is not None else map_array(str(self.path)).reshape(self.num, *self.row)
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found there
            return np.array(array[start:stop], np.float32)

    def require_finite(self) -> None:
        """Raise HiganError, with the code's number, if one of the file is NaN or infinite."""
        for start in range(0, self.num, CHECK_ROWS):
            values = self.values(start, start + CHECK_ROWS)
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if not finite.all():
                code = start + int(np.argmin(finite))
                raise HiganError(f"{self.path}: code {code} holds NaN or infinity; expected finite numbers")


def code_array(path: str | Path, space: str | None = None) -> np.ndarray:
    """Return the one array of codes in a file, memory-mapped where it can be.

    Of several arrays by name, the one called `space` or, if it alone is there, as programs call codes (`KEYS`); arrays
    of one shape under other names are codes by picture, and stacked. Raises HiganError if that leaves none or several.
    """
    content = read_arrays(path)
    if isinstance(content, np.ndarray):
        return content
    arrays = {name: found for name, value in content.items() if (found := one_array(value)) is not None}
    if space in arrays:
        return arrays[space]
    known = [name for name in KEYS if name in arrays]
    if len(arrays) == 1 or len(known) == 1:
        return arrays[known[0] if known else next(iter(arrays))]
    if arrays and not known and len({array.shape for array in arrays.values()}) == 1:
        return np.stack([array[0] if len(array) == 1 and array.ndim > 1 else array for array in arrays.values()])
    listed = ", ".join(list(arrays)[:10]) or "no arrays"
    hint = f"; choose with --latent_space_type {'/'.join(set(known) & set(SPACES))}" if set(known) & set(SPACES) else ""
    raise HiganError(f"{path} holds {listed}; expected one array of codes, or codes of one shape by picture{hint}")


def one_array(value: Any) -> np.ndarray | None:
    """Return an array, or the code in what rosinality's projector writes of a picture; None if `value` is neither."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in KEYS if name in value), None)
    return value if isinstance(value, np.ndarray) and value.ndim else None


def find_space(path: Path, shape: tuple[int, ...], generator: Generator, asked: str | None) -> tuple[str, str]:
    """Return the latent space of codes of `shape`, and in words how it is known; HiganError if it is not.

    A space of the file's name counts where the shape allows it: an official projector calls codes of w+ `w`.
    """
    stated, why = stated_space(path)
    edited = stated is not None and path.stem.lower().endswith(f"manipulated_{stated}")
    if asked is not None:
        if why == RECORDED and asked != stated:
            raise HiganError(
                f"{path} holds codes of space {stated} ({why}), but {asked} was asked for; leave the space out"
            )
        stated, why = asked, "as asked for"
    if stated is not None and stated not in generator.spaces:
        raise HiganError(
            f"{path} holds codes of space {stated} ({why}); {generator.name} ({generator.family}) has "
            f"{', '.join(generator.spaces)}: give --latent_space_type if they are of another space"
        )
    rows = {space: generator.code_shape(space) for space in generator.spaces}
    # [N, L, D] may be codes of w at L steps, but only a record or an edit's own name says so
    steps = why == RECORDED or edited or tuple(shape[1:-1]) != (generator.num_layers,)
    if stated is not None and fits(shape, rows[stated], steps):
        return stated, why
    possible = [space for space, row in rows.items() if fits(shape, row, steps=len(row) > 1)]
    if possible and why in ("", BY_NAME):
        if len(possible) == 1:
            return possible[0], "by its shape"
        raise HiganError(
            f"{path} holds codes {list(shape)}, which may be of {' or '.join(possible)}: say which with "
            "--latent_space_type"
        )
    expected = " or ".join(f"{describe_row(row)} in {space}" for space, row in rows.items() if stated in (None, space))
    raise HiganError(f"{path} holds codes {list(shape)}; {generator.name} expects {expected}")


def stated_space(path: str | Path) -> tuple[str | None, str]:
    """Return the space that is recorded of a file of codes, else that of its name, and which; None for neither."""
    path = Path(path)
    if (space := origin_of(path).get("space")) in SPACES:
        return space, RECORDED
    last = re.split(r"[_\-. ]", path.stem.lower())[-1].replace("w+", "wp")
    return (last, BY_NAME) if last in SPACES else (None, "")


def fits(shape: tuple[int, ...], row: tuple[int, ...], steps: bool) -> bool:
    """Whether an array of `shape` holds codes [*row], [N, *row], [N, 1, *row] or, with `steps`, [N, S, *row]."""
    extra = len(shape) - len(row)
    if extra not in (0, 1, 2) or tuple(shape[extra:]) != tuple(row):
        return False
    return extra < 2 or steps or shape[1] == 1


def describe_row(row: tuple[int, ...]) -> str:
    """Return the shape of codes of `row` in words: "[N, 14, 512]"."""
    return f"[{', '.join(map(str, ('N', *row)))}]"
