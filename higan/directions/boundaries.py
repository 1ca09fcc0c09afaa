"""Boundaries: unit directions in a latent space, their files, and the scores they are trained on.

Everything is plain arrays and JSON; the paper's pickled forms are read, through an allow-list, and never written.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from higan.checkpoints.arrays import read_arrays
from higan.errors import HiganError
from higan.files import SMALL_FILE, is_file, read_json, write_array, write_atomic
from higan.generators.layer_sets import MOST_LAYERS, format_layers, parse_layers
from higan.generators.network import SPACES, per_layer, single

UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')  # characters that some file system does not take
BLOCK_BYTES = 2**25  # how much of a memory-mapped file is looked at before its pages are given back


@dataclass(repr=False)
class Boundary:
    """A direction along which one property of the image changes.

    Attributes
    ----------
    name
        What the direction is called; its files are called after it.
    direction
        float32 [1, D] of norm 1; or [1, L, D], one direction per layer.
    space
        "z", "w" or "wp".
    layers
        The layers to edit: those verified by re-scoring, else those its file recommends; None if unknown.
    info
        What is known of its making, JSON values: how it was trained and scored, `level`, `layers_from` ("rescoring"
        or "file"), `path`, ...
    target
        The score that the direction stands for, as the predictor calls it; None for a direction that was found without
        one. Default: the score of the direction's own name.

    >>> Boundary("wood", np.eye(1, 8, dtype=np.float32)).target
    'wood'
    """

    name: str
    direction: np.ndarray
    space: str = "w"
    layers: tuple[int, ...] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    target: str | None = ""

    def __post_init__(self) -> None:
        if self.target == "":
            self.target = self.name

    def __repr__(self) -> str:
        parts = [f"{self.name} of {self.space} {list(self.direction.shape)}"]
        if self.layers:
            verified = " (verified)" if self.info.get("layers_from") == "rescoring" else ""
            parts.append(f"layers {format_layers(self.layers)}{verified}")
        if self.target != self.name:
            parts.append(f"stands for {self.target}" if self.target else "stands for no score")
        return f"<Boundary {', '.join(parts)}>"


def read_boundary(
    path: str | Path, space: str | None = None, name: str | None = None, spaces: Sequence[str] = SPACES
) -> Boundary:
    """Read a direction of any tool and, where there is one, the `.json` beside it.

    Parameters
    ----------
    path
        .npy, .npz or PyTorch file of floats [D], [1, D], [L, D] or [1, L, D], or of a dictionary with `boundary` and
        `meta_data`, as the paper's program, InterFaceGAN and idinvert publish theirs.
    space
        None: as the JSON says, else as the file's name (`age_w_boundary.npy`), else "wp" for a direction per layer, and
        the last other space that the model has for one direction. A direction that is the same at every layer is one of
        "w" or "z" too, where these are asked for.
    name
        None: as the JSON says, else the file's name without `_boundary.npy`. A list may give another name than the
        boundary's own: that of the score it stands for.
    spaces
        Those that the model has.

    Raises
    ------
    HiganError
        The file is missing, damaged, of another shape, not finite or zero, or of another space than asked for.

    >>> higan.read_boundary("boundaries/stylegan2_rooms/indoor_lighting_boundary.npy")
    <Boundary indoor_lighting of w [1, ...]...>
    """
    path = Path(path)
    array, info = read_direction(path)
    description = path.with_suffix(".json")
    info = info | read_description(description)
    if (
        array.ndim not in (1, 2, 3)
        or (array.ndim == 3 and len(array) != 1)
        or not array.size
        or array.dtype.kind != "f"
    ):
        raise HiganError(
            f"{path} holds {array.dtype} {list(array.shape)}; expected floats [D], [1, D], [L, D] or [1, L, D]"
        )
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are found there
        direction = np.array(array, np.float32)
    if direction.ndim == 1 or (direction.ndim == 2 and len(direction) > 1):
        direction = direction[None]
    if not np.isfinite(direction).all() or not direction.any():
        raise HiganError(f"{path} holds a direction that is zero or not finite; train the boundary again")
    if info.get("direction_sha256") not in (None, direction_digest(direction)):
        raise HiganError(f"{description} describes another direction than {path.name} holds; train the boundary again")
    stated = info.get("space")
    if stated is not None and stated not in SPACES:
        raise HiganError(f"{description}: space is {stated!r}; expected one of {', '.join(SPACES)}")
    if space is not None and stated is not None and space != stated:
        raise HiganError(f"{path} is a boundary of space {stated}, but {space} was asked for; correct the space")
    own, named = name_and_space(path)
    if named is not None and per_layer(named) != (direction.ndim == 3):
        own, named = f"{own}_{named}", None
    space = space or stated or named or (SPACES[-1] if direction.ndim == 3 else single(spaces))
    if not per_layer(space) and direction.ndim == 3 and (direction == direction[:, :1]).all():
        direction = direction[:, 0]
    if per_layer(space) != (direction.ndim == 3):
        expected = "[1, L, D]" if per_layer(space) else "[1, D]"
        raise HiganError(f"{path} is {list(direction.shape)}; a boundary of space {space} is {expected}")
    layers = info.get("layers")
    own = info.get("name") or own
    return Boundary(
        name=fit_for_files(name or own),
        direction=direction,
        space=space,
        layers=None if layers is None else tuple(layers),
        info=info | {"path": str(path)},
        target=info.get("target", own) if name in (None, own, fit_for_files(own)) else name,
    )


def name_and_space(path: Path) -> tuple[str, str | None]:
    """Return the name of a boundary's file and the space that ends it: ("age", "w") of age_w_boundary.npy."""
    name = path.stem.removesuffix("_boundary")
    own, _, space = name.rpartition("_")
    return (own, space) if own and space in SPACES else (name, None)


def write_boundary(boundary: Boundary, folder: str | Path, file_name: str | None = None) -> Path:
    """Write `NAME_boundary.npy` (float32) and `NAME_boundary.json` into `folder`; return the first's path.

    `file_name` replaces the first's name. Each file is whole or not there; the folder is made if need be. Raises
    HiganError if a file cannot be written or cannot be called after the boundary.

    >>> higan.write_boundary(boundary, folder).name
    'indoor_lighting_boundary.npy'
    """
    path = Path(folder) / (file_name or f"{check_name(boundary.name)}_boundary.npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_array(path, boundary.direction.astype(np.float32))
    write_description(boundary, path.with_suffix(".json"))
    return path


def write_description(boundary: Boundary, path: str | Path) -> None:
    """Write the JSON of a boundary: name, target, space, layers, and all of `info` but the path it was read from."""
    content: dict[str, Any] = {
        "name": boundary.name,
        "target": boundary.target,
        "space": boundary.space,
        "shape": list(boundary.direction.shape),
        "direction_sha256": direction_digest(boundary.direction),
    }
    content |= {key: value for key, value in boundary.info.items() if key not in (*content, "path", "layers")}
    if boundary.layers is not None:
        content["layers"] = list(boundary.layers)
    write_atomic(Path(path), json.dumps(content, indent=2, allow_nan=False) + "\n")


def direction_digest(direction: np.ndarray) -> str:
    """Return the SHA-256 of a direction as float32: it tells which file a description belongs to."""
    return hashlib.sha256(direction.astype("<f4").tobytes()).hexdigest()


def read_scores(path: str | Path) -> dict[str, np.ndarray]:
    """Return the scores in a file by name, float [N] each; memory-mapped where the file is a plain array.

    Read are one structured array (a field per name), a plain array [N] (its one name is ""), and the paper's pickled
    dictionaries: {"score": [N, K], "name_to_idx": ..., "idx_to_name": ...} or {name: [N]}.

    Raises
    ------
    HiganError
        The file is missing, damaged or of none of these forms.
    """
    path = Path(path)
    array = read_arrays(path)
    if isinstance(array, dict):
        return scores_of_dictionary(path, array)
    if array.dtype.names and array.ndim == 1:
        for name in array.dtype.names:
            if array.dtype[name].kind not in "fiub" or array.dtype[name].shape:
                raise HiganError(f"{path}: field {name!r} is {array.dtype[name]}; expected one number per sample")
        return {name: array[name] for name in array.dtype.names}
    if array.dtype.kind in "fiub" and array.ndim == 1:
        return {"": array}
    if array.dtype.kind in "fiub" and array.ndim == 2 and array.shape[1] == 1:
        return {"": array[:, 0]}
    raise HiganError(
        f"{path} holds {array.dtype if not array.dtype.names else 'fields'} {list(array.shape)}; expected scores: a "
        "structured array [N] with a field per name, or one score per sample [N]"
    )


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `array[rows]` in memory, giving the pages of a memory-mapped file back on the way."""
    taken = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    if isinstance(array, np.memmap) and is_whole_file(array) and array.ndim > 1:
        with Path(str(array.filename)).open("rb") as file:  # a call per row costs a tenth of its page faults
            row_bytes = taken[:1].nbytes
            for index in np.argsort(rows).tolist():  # in the order of the file, which a disk reads faster
                place = array.offset + int(rows[index]) * row_bytes
                if os.preadv(file.fileno(), [taken[index]], place) != row_bytes:
                    raise HiganError(f"{array.filename} was cut short while it was read; write it again")
        return taken
    row_bytes = max(mmap.PAGESIZE * 16, array[:1].nbytes)  # the kernel maps 16 pages around each page touched
    block = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, len(rows), block):
        taken[start : start + block] = array[rows[start : start + block]]
        release_pages(array)
    return taken


def is_whole_file(array: np.memmap[Any, Any]) -> bool:
    """Whether rows of `array` can be read from its file by position: it is no view, and the system can do so."""
    return isinstance(array.base, mmap.mmap) and array.flags.c_contiguous and hasattr(os, "preadv")


def release_pages(array: np.ndarray) -> None:
    """Drop a memory-mapped array's pages from this process; they come back from the file when touched again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def find_name(name: str, names: Iterable[str], kind: str, origin: str) -> str:
    """Return `name` if it is among `names`, else raise a HiganError that suggests the nearest of them."""
    known = list(names)
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    all_known = f"{', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"
    hint = f"nearest: {', '.join(close)}" if close else f"there are {all_known}"
    raise HiganError(f"{origin} has no {kind} {name[:60]!r}; {hint}")


def find_score(name: str, names: Mapping[str, Sequence[str]], origin: str) -> int:
    """Return the index of a score among the `names` of all groups side by side, of a predictor called `origin`.

    A name that several groups have is found as `group/name` alone.

    >>> find_score("attribute/wood", {"category": ["wood"], "attribute": ["wood"]}, "predictor scene")
    1

    Raises
    ------
    HiganError
        No score has the name, or several have it.
    """
    outputs = [(group, member) for group, members in names.items() for member in members]
    found = [index for index, (_, member) in enumerate(outputs) if member == name]
    if len(found) > 1:
        full = ", ".join("/".join(outputs[index]) for index in found)
        raise HiganError(f"{origin} has several scores {name!r}: say which by {full}")
    qualified = ["/".join(output) for output in outputs]
    if not found and name in qualified:
        return qualified.index(name)
    members = [member for _, member in outputs]
    return found[0] if found else members.index(find_name(name, members, "score", origin))


def check_name(name: str) -> str:
    """Return `name` if it can be part of a file's name, else raise a HiganError."""
    if not name or len(name) > 150 or name.startswith(".") or UNFIT.search(name):
        raise HiganError(f"{name[:60]!r} cannot be part of a file's name; expected letters, digits, `_` and `-`")
    return name


def fit_for_files(name: str) -> str:
    """Return `name` as a file may be called after it: `_` for characters such as `/`; raise HiganError if none is left.

    >>> fit_for_files("studying/ learning")
    'studying_ learning'
    """
    return check_name(UNFIT.sub("_", name).lstrip("."))


def read_direction(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array of a direction's file, and what the file itself says of it."""
    if not is_file(path):
        raise HiganError(f"boundary {path} is not there; train it with train_boundary.py")
    if path.stat().st_size > SMALL_FILE:
        raise HiganError(f"{path} has {path.stat().st_size} bytes; expected a boundary, floats [1, D] or [1, L, D]")
    content = read_arrays(path)
    if isinstance(content, np.ndarray):
        return content, {}
    arrays = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
    if "boundary" not in arrays and len(arrays) != 1:
        raise HiganError(f"{path} holds a dictionary without an array `boundary`; expected a direction")
    said = content.get("meta_data")
    layers = said.get("manipulate_layers") if isinstance(said, Mapping) else None
    try:
        chosen = parse_layers(layers.astype(int) if isinstance(layers, np.ndarray) else layers, MOST_LAYERS)
    except HiganError as error:
        raise HiganError(f"{path}: its manipulate_layers cannot be used: {error}") from None
    info: dict[str, Any] = {"layers": chosen, "layers_from": "file"} if chosen else {}
    return arrays.get("boundary", next(iter(arrays.values()))), info


def read_description(path: Path) -> dict[str, Any]:
    """Return the JSON of a boundary, {} if there is none, once it is sure that it can be written again."""
    try:
        info = read_json(path)
        json.dumps(info, indent=2, allow_nan=False)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise HiganError(f"{path} is not readable JSON ({error}); correct it or delete it") from None
    layers, others = info.get("layers"), info.get("conditioned_on")
    if layers is not None and not (
        isinstance(layers, list) and all(type(layer) is int and layer >= 0 for layer in layers)
    ):
        raise HiganError(f"{path}: layers is {str(layers)[:60]!r}; expected a list of layers, counted from 0")
    if others is not None and not (isinstance(others, list) and all(isinstance(other, str) for other in others)):
        raise HiganError(f"{path}: conditioned_on is {str(others)[:60]!r}; expected a list of names")
    for key in ("name", "target", "space", "level", "layers_from"):
        if info.get(key) is not None and not isinstance(info[key], str):
            raise HiganError(f"{path}: {key} is {str(info[key])[:60]!r}; expected text")
    return info


def scores_of_dictionary(path: Path, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the scores by name, float [N] each, of what `read_arrays` returned; raise HiganError if it has none."""
    table, index = content.get("score"), content.get("name_to_idx")
    if isinstance(table, np.ndarray) and table.ndim == 2 and isinstance(index, Mapping):
        if not all(type(column) is int and 0 <= column < table.shape[1] for column in index.values()):
            raise HiganError(f"{path}: name_to_idx points outside the {table.shape[1]} columns of score")
        return {str(name): table[:, column] for name, column in index.items()}
    named = {str(name): value for name, value in content.items() if isinstance(value, np.ndarray) and value.ndim == 1}
    if not named:
        raise HiganError(f"{path} holds a dictionary without scores; expected score and name_to_idx, or name: scores")
    return named
