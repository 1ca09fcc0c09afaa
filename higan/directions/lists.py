"""Lists of boundaries: a line per boundary, `(name, space): path`, and what to do with it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from higan.checkpoints.beside import model_name
from higan.directions.boundaries import Boundary, check_name, read_boundary
from higan.errors import HiganError
from higan.files import digest, is_file, read_small, write_atomic
from higan.generators.layer_sets import MOST_LAYERS, parse_layers
from higan.generators.network import SPACES
from higan.generators.zoo import MODELS, find_weights

RELEASED = "github.com/genforce/higan, folder boundaries/MODEL"
LIST_NAME = "boundary_list.txt"
SUFFIXES = (".npy", ".npz", ".pt", ".pth")  # of a file that holds a boundary itself
LINE_LENGTH = 10_000  # characters; a path has 4096 at most
LIST_LINE = re.compile(r"\((.+?),([^,()]+)\)\s*:\s*(\S.*)")
LIST_OPTION = re.compile(r"(layers|distance)=(\S+)")


@dataclass
class BoundaryEntry:
    """One line of a boundary list: the boundary, and the layers and the distance that the line asks for, if any."""

    boundary: Boundary
    layers: tuple[int, ...] | None = None
    distance: float | None = None


@dataclass
class ListLine:
    """One line of a boundary list as it stands, before its file is read; `number` counts from 1."""

    name: str
    space: str
    path: str
    layers: str | None
    distance: float | None
    number: int


def read_boundary_list(
    path: str | Path, num_layers: int | None = None, spaces: Sequence[str] = SPACES
) -> list[BoundaryEntry]:
    """Read a boundary list and every boundary it names; paths are relative to the working folder, else to the list.

    Parameters
    ----------
    path
        The list; or a folder, to take every boundary in it; or the file of one boundary.
    num_layers
        Layers of the model, to check the lines' `layers=` against.
    spaces
        Latent spaces of the model; a boundary that does not state its space is of one of these.

    Raises
    ------
    HiganError
        The list or one of its boundaries cannot be used; the line's number is given.
    """
    path = Path(path)
    if is_boundary(path):
        entries = [BoundaryEntry(read_boundary(file, spaces=spaces)) for file in listed_files(path)]
        if len({(entry.boundary.name, entry.boundary.space) for entry in entries}) < len(entries):
            raise HiganError(f"{path} has two boundaries of one name and space; give a list of those to take")
        return entries
    entries = []
    for line in read_lines(path):
        try:
            boundary = read_boundary(find_listed(line.path, path.parent), line.space, line.name)
            layers = None if line.layers is None else tuple(parse_layers(line.layers, num_layers or MOST_LAYERS))
        except HiganError as error:
            raise HiganError(f"{path}, line {line.number}: {error}") from None
        entries.append(BoundaryEntry(boundary, layers, line.distance))
    return entries


def listed_files(path: str | Path) -> list[Path]:
    """Return the files of the boundaries of a list, a folder or one boundary, which need not be there.

    Raises HiganError if the list cannot be read, or a folder has none.
    """
    path = Path(path)
    if not is_boundary(path):
        return [find_listed(line.path, path.parent) for line in read_lines(path)]
    files = boundary_files(path) if path.is_dir() else [path]
    if not files:
        raise HiganError(f"there is no boundary in {path}; train some with train_boundary.py")
    return files


def is_boundary(path: Path) -> bool:
    """Whether `path` is a folder of boundaries, or the file of one, and no list."""
    return path.is_dir() or path.suffix in SUFFIXES


def read_lines(path: Path) -> list[ListLine]:
    """Return the lines of a list's file; raise HiganError if it cannot be read."""
    try:
        text = read_small(path).decode("utf-8-sig")
    except OSError as error:
        raise HiganError(f"boundary list {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise HiganError(f"boundary list {path} is not text; expected lines like `(name, space): path.npy`") from None
    return parse_boundary_list(text, str(path))


def boundary_files(folder: Path) -> list[Path]:
    """Return the files of the boundaries in a folder: NAME_boundary.npy and the like, or, without any, all arrays."""
    every = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and is_file(file)]
    return [file for file in every if file.stem.endswith("_boundary")] or every


def model_folder(model: str) -> Path:
    """Return the folder of the boundaries that come with a model: boundaries/MODEL here, else the project's own.

    `model` is a name or a path as in `load_generator`; HiganError if there is none.
    """
    weights, known = find_weights(model)
    name = known.get("name") or model_name(weights)
    places = [place / name for place in (Path("boundaries"), MODELS.parent / "boundaries")]
    return next((place for place in places if place.is_dir()), places[0])


def find_boundary_file(name: str, folder: str | Path, known: Sequence[str] = ()) -> Path:
    """Return the file of the boundary called `name` in a folder; raise HiganError with the names there, and `known`."""
    files = boundary_files(Path(folder)) if Path(folder).is_dir() else []
    found = {path.stem.removesuffix("_boundary"): path for path in files}
    if name in found:
        return found[name]
    names = sorted({*found, *known})
    if not names:
        raise HiganError(
            f"there is no boundary in {folder}; train some with train_boundary.py, or put those of the paper there "
            f"({RELEASED})"
        )
    raise HiganError(f"there is no boundary {name!r} in {folder}; it has {', '.join(names)}")


def find_listed(name: str, folder: Path) -> Path:
    """Return the file that a list in `folder` calls `name`: below the current folder, else beside the list.

    Raises HiganError if there are two files of the name, unless they are the same.
    """
    file = Path(os.fsdecode(name.encode()))  # the list is UTF-8, whatever the locale takes file names for
    with contextlib.suppress(RuntimeError):  # ~ of a user who is not known: a file that begins so
        file = file.expanduser()
    beside = folder / file
    if not is_file(beside):
        return file
    if is_file(file) and not file.samefile(beside) and digest(file) != digest(beside):
        raise HiganError(
            f"{name} is there below the current folder and beside the list, and differs; write its full path"
        )
    return file if is_file(file) else beside


def extend_boundary_list(folder: Path, files: Mapping[str, Boundary]) -> Path:
    """Add boundaries in `folder`, by the name of their file, to its boundary_list.txt; return the list's path.

    A line that is there already, also one that is disabled, stays as it is. Raises HiganError if it cannot be written.
    """
    path = folder / LIST_NAME
    try:
        text = read_small(path).decode("utf-8-sig")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise HiganError(f"{path} is not a list of boundaries ({error}); move it away") from None
    there = {(found[1].strip(), found[2].strip()) for found in LIST_LINE.finditer(text)}
    lines = [
        f"({boundary.name}, {boundary.space}): {file}\n"
        for file, boundary in files.items()
        if (boundary.name, boundary.space) not in there
    ]
    write_atomic(path, text + ("\n" if text and not text.endswith("\n") else "") + "".join(lines))
    return path


def parse_boundary_list(text: str, origin: str = "boundary list") -> list[ListLine]:
    """Return the lines of a boundary list that are neither blank, comments (`#`) nor disabled.

    A line is `(name, space): path`, optionally followed by `layers=2-5,7` and `distance=1.5`. `DISABLE` before the
    bracket switches it off. A later line with the same name and space replaces the earlier.

    Raises
    ------
    HiganError
        A line is malformed (its number is given), or none is left.
    """
    lines: dict[tuple[str, str], ListLine] = {}
    for number, text_line in enumerate(text.splitlines(), start=1):
        line = text_line.strip()
        if not line or line.startswith(("#", "DISABLE")):
            continue
        parsed = parse_list_line(line, f"{origin}, line {number}", number)
        lines[parsed.name, parsed.space] = parsed
    if not lines:
        raise HiganError(f"{origin} names no boundary; expected lines `(name, space): path/to/boundary.npy`")
    return list(lines.values())


def parse_list_line(line: str, origin: str, number: int) -> ListLine:
    """Return what a line says; raise HiganError, which begins with `origin`, if it is malformed."""
    if len(line) > LINE_LENGTH:
        raise HiganError(f"{origin}: a line of {len(line)} characters; expected `(name, space): path`")
    options: dict[str, str] = {}
    rest = line
    while found := LIST_OPTION.fullmatch(rest.split()[-1]):
        options.setdefault(found[1], found[2])
        rest = rest[: -len(found[0])].rstrip()
        if not rest:
            break
    matched = LIST_LINE.fullmatch(rest)
    if not matched or not matched[1].strip():
        raise HiganError(f"{origin}: expected `(name, space): path`, found {line[:80]!r}")
    name, space, path = matched[1].strip(), matched[2].strip().lower().replace("w+", "wp"), matched[3].strip()
    if space not in SPACES:
        raise HiganError(f"{origin}: {matched[2]!r} is no latent space; expected one of {', '.join(SPACES)}")
    try:
        distance = float(options["distance"]) if "distance" in options else None
    except ValueError:
        raise HiganError(f"{origin}: distance is {options['distance']!r}; expected a number") from None
    if distance is not None and not np.isfinite(distance):
        raise HiganError(f"{origin}: distance is {options['distance']}; expected a finite number")
    try:
        for part in name.split("/"):  # of `group/name`, or of a score's own name
            check_name(part.strip())
    except HiganError as error:
        raise HiganError(f"{origin}: {error}") from None
    return ListLine(name, space, path, options.get("layers"), distance, number)
