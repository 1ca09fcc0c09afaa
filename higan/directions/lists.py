"""Lists of boundaries: a line per boundary, `(name, space): path`, and what to do with it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from higan.directions.boundaries import Boundary, check_name, read_boundary
from higan.errors import HiganError
from higan.files import is_file, read_small
from higan.generators.layer_sets import MOST_LAYERS, parse_layers
from higan.generators.network import SPACES

LINE_LENGTH = 10_000  # characters; a path has 4096 at most
LIST_LINE = re.compile(r"\(([^,()]+),([^,()]+)\)\s*:\s*(\S.*)")
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


def read_boundary_list(path: str | Path, num_layers: int | None = None) -> list[BoundaryEntry]:
    """Read a boundary list and every boundary it names; paths are relative to the working folder, else to the list.

    Parameters
    ----------
    num_layers
        Layers of the model, to check the lines' `layers=` against.

    Raises
    ------
    HiganError
        The list or one of its boundaries cannot be used; the line's number is given.
    """
    path = Path(path)
    try:
        text = read_small(path).decode("utf-8-sig")
    except OSError as error:
        raise HiganError(f"boundary list {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise HiganError(f"boundary list {path} is not text; expected lines like `(name, space): path.npy`") from None
    entries = []
    for line in parse_boundary_list(text, str(path)):
        file = Path(os.fsdecode(line.path.encode()))  # the list is UTF-8, whatever the locale takes file names for
        with contextlib.suppress(RuntimeError):  # ~ of a user who is not known: a file that begins so
            file = file.expanduser()
        if not is_file(file) and is_file(path.parent / file):
            file = path.parent / file
        try:
            boundary = read_boundary(file, line.space, line.name)
            layers = None if line.layers is None else tuple(parse_layers(line.layers, num_layers or MOST_LAYERS))
        except HiganError as error:
            raise HiganError(f"{path}, line {line.number}: {error}") from None
        entries.append(BoundaryEntry(boundary, layers, line.distance))
    return entries


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
        check_name(name)
    except HiganError as error:
        raise HiganError(f"{origin}: {error}") from None
    return ListLine(name, space, path, options.get("layers"), distance, number)
