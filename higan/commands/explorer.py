"""Explore a model live, in a browser on this machine: one slider per direction, scores beside the picture.

  python -m higan.explorer stylegan2_rooms
  python -m higan.explorer MODEL --boundaries results/boundaries --predictor_name scene

Prints an address with a token; open it. Nothing is fetched from anywhere and nothing is told to anyone. Ctrl-C ends it.
Needs the extra `explorer`: pip install -e '.[explorer]'.
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from higan.commands.options import ArgumentParser, require_range
from higan.errors import HiganError

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__, "python -m higan.explorer")
    parser.add_model()
    words = "a list of boundaries, a folder of them, or one (default: those that come with the model)"
    parser.under("explorer")("--boundaries", type=Path, metavar="LIST", help=words)
    parser.add_predictor()
    parser.add_force()
    parser.under("explorer")("--port", type=int, default=0, help="port of this machine (default 0: any that is free)")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    require_range(args, {"port": 0}, {"port": 65535})
    from higan.logs import open_log

    log = open_log()
    log.info("loading %s", args.model_name)
    try:
        from higan.explorer.server import serve
    except ImportError as error:
        raise HiganError(f"{error.name} is not installed; the explorer needs: pip install -e '.[explorer]'") from None
    from higan.commands.drawing import compare_files, load_model
    from higan.devices import keep_freed_memory
    from higan.directions.lists import listed_files, model_folder, read_boundary_list
    from higan.explorer.session import Session
    from higan.predictors import load_predictor

    keep_freed_memory()
    place = args.boundaries or model_folder(args.model_name)
    if not place.exists():
        raise HiganError(f"there is no boundary in {place}; train some with train_boundary.py, or give --boundaries")
    generator = load_model(args, listed_files(place))
    entries = read_boundary_list(place, generator.num_layers or None, generator.spaces)
    boundaries = tell_apart([entry.boundary for entry in entries])
    name = args.predictor_name or generator.predictor or ""
    compare_files(generator, None, boundaries, name, args.force)
    predictor = load_predictor(name, args.device) if name else None
    session = Session(generator, boundaries, predictor, model_words(args))
    serve(session, secrets.token_urlsafe(16), args.port, lambda address: log.info("open %s", address))


def tell_apart(boundaries: Sequence[Boundary]) -> list[Boundary]:
    """Return boundaries of unique names: those of several spaces get theirs as an ending, a repeated one goes."""
    spaces: dict[str, dict[str, Boundary]] = {}
    for boundary in boundaries:
        spaces.setdefault(boundary.name, {}).setdefault(boundary.space, boundary)
    return [
        boundary if len(found) == 1 else replace(boundary, name=f"{name}_{space}")
        for name, found in spaces.items()
        for space, boundary in found.items()
    ]


def model_words(args: argparse.Namespace) -> list[str]:
    """Return the words of a command line that ask for the model, drawn as it is here."""
    words = [args.model_name]
    for name in ("class_idx", "translate", "rotate"):
        value = getattr(args, name)
        if value is not None:
            words.append(f"--{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    return words
