"""The classes of a conditional model's samples, as users write them: one class, several in turn, or one per sample."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from higan.errors import HiganError
from higan.files import is_file, map_array, read_small

EVERY = "all"
RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")


@dataclass(frozen=True)
class Classes:
    """Which class each sample is of.

    Attributes
    ----------
    indices
        int64 [C].
    source
        The file that holds a class for each sample, "" where the samples take `indices` in turn: sample i is of class
        indices[i % C], whatever block or process it is made in.
    """

    indices: np.ndarray
    source: str = ""

    def of(self, num: int, start: int = 0) -> np.ndarray:
        """Return the classes, int64 [num], of the samples from `start` on; HiganError if a file lacks some of them."""
        if self.source and start + num > len(self.indices):
            raise HiganError(f"{self.source} holds {len(self.indices)} classes; sample {len(self.indices)} has none")
        return self.indices[np.arange(start, start + num) % len(self.indices)]

    def in_turn(self) -> int | list[int] | None:
        """Return the class, or the classes that samples take in turn, as plain values; None for those of a file."""
        if self.source:
            return None
        return int(self.indices[0]) if len(self.indices) == 1 else self.indices.tolist()

    @property
    def sha256(self) -> str | None:
        """Digest of the classes of a file, else None."""
        return hashlib.sha256(self.indices.tobytes()).hexdigest() if self.source else None


def parse_classes(given: Any, count: int, names: Sequence[str] = (), model: str = "the model") -> Classes:
    """Return the classes that `given` means.

    Parameters
    ----------
    given
        A class, or several: numbers, names, ranges such as "3-7", lists of these in a text ("3,7,12"), "all", or one
        file of a class per sample: .npy of whole numbers [N], .txt of a number or name per line.
    count
        How many classes there are.
    names
        Their names, where the weight file knows them; capitals and small letters are the same.

    Raises
    ------
    HiganError
        There is no such class, or the file does not hold classes.
    """
    words = [given] if isinstance(given, str | Path) or not hasattr(given, "__iter__") else list(given)
    words = [word.item() if isinstance(word, np.generic) else word for word in words]
    known = {name.lower(): index for index, name in reversed(list(enumerate(names)))}

    def fail(word: Any) -> HiganError:
        close = difflib.get_close_matches(str(word).lower(), known, n=3, cutoff=0.5)
        hint = f" (close: {', '.join(close)})" if close else "" if names else "; its file has no names of them"
        return HiganError(f"class {str(word)[:60]}; {model} has classes 0 to {count - 1}{hint}")

    def find(word: Any) -> list[int]:
        if isinstance(word, str):
            word = word.strip()
            if word.lower() in known:
                return [known[word.lower()]]
            if word.lower() == EVERY:
                return list(range(count))
            if "," in word:
                return [index for part in word.split(",") if part.strip() for index in find(part)]
            if ends := RANGE.fullmatch(word):
                first, last = int(ends[1]), int(ends[2])
                if not first <= last < count:
                    raise fail(word)
                return list(range(first, last + 1))
            if not re.fullmatch(r"-?\d{1,9}", word):
                raise fail(word)
            word = int(word)
        if isinstance(word, bool) or not isinstance(word, int) or not 0 <= word < count:
            raise fail(word)
        return [word]

    path = Path(str(words[0])) if len(words) == 1 else None
    if path is not None and path.suffix in (".npy", ".txt") and str(path).lower() not in known:
        text = path.suffix == ".txt"
        labels = [index for line in read_lines(path) for index in find(line)] if text else read_labels(path, count)
        if not len(labels):
            raise HiganError(f"{path} holds no classes; expected one per sample")
        return Classes(np.asarray(labels, np.int64), str(path))
    indices = [index for word in words for index in find(word)]
    if not indices:
        raise HiganError(f"no class was given; {model} has classes 0 to {count - 1}")
    return Classes(np.asarray(indices, np.int64))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a small text file that are not empty."""
    if not is_file(path):
        raise HiganError(f"there is no file {path}; expected a class per line")
    try:
        return [line for line in read_small(path).decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise HiganError(f"{path} cannot be read ({error}); expected a text file with a class per line") from None


def read_labels(path: Path, count: int) -> np.ndarray:
    """Return the classes of an .npy file, int64 [N]."""
    labels = map_array(path)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise HiganError(f"{path} holds {labels.dtype} {list(labels.shape)}; expected whole numbers [N], a class each")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise HiganError(f"{path} holds classes from {labels.min()} to {labels.max()}; expected 0 to {count - 1}")
    return np.array(labels, np.int64)
