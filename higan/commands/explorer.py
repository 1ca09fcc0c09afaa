"""Explore a model live, in a browser on this machine: one slider per direction, scores beside the picture.

  python -m higan.explorer stylegan2_rooms
  python -m higan.explorer MODEL --boundaries results/boundaries --predictor_name scene

Prints an address with a token; open it. Nothing is fetched from anywhere and nothing is told to anyone. Ctrl-C ends it.
Needs the extra `explorer`: pip install -e '.[explorer]'.
"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from higan.commands.options import ArgumentParser, require_range
from higan.errors import HiganError


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__, "python -m higan.explorer")
    parser.add_model()
    words = "a list of boundaries, a folder of them, or one (default: those that come with the model)"
    parser.under("explorer")("--boundaries", type=Path, metavar="LIST", help=words)
    parser.add_predictor()
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
    from higan.devices import keep_freed_memory
    from higan.directions.lists import read_boundary_list
    from higan.explorer.session import Session
    from higan.generators import load_generator
    from higan.generators.zoo import MODELS
    from higan.predictors import load_predictor

    keep_freed_memory()
    generator = load_generator(args.model_name, device=args.device, class_idx=args.class_idx)
    places = [place / generator.name for place in (Path("boundaries"), MODELS.parent / "boundaries")]
    place = args.boundaries or next((place for place in places if place.is_dir()), places[0])
    entries = read_boundary_list(place, generator.num_layers or None)
    boundaries = {entry.boundary.name: entry.boundary for entry in reversed(entries)}
    name = args.predictor_name or generator.predictor
    predictor = load_predictor(name, args.device) if name else None
    session = Session(generator, list(reversed(boundaries.values())), predictor)
    serve(session, secrets.token_urlsafe(16), args.port, lambda address: log.info("open %s", address))
