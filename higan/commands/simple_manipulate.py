"""Edit random samples of a model along one boundary that comes with it, and write one page.

  python simple_manipulate.py stylegan2_rooms indoor_lighting
  python simple_manipulate.py stylegan2_rooms window -N 20 -S 11 --start_distance=0 --end_distance=5

The boundary is boundaries/MODEL/ATTRIBUTE_boundary.npy. Everything is written into the output folder, the page
as MODEL_ATTRIBUTE.html, which opens in any browser. `manipulate.py` has more options and takes boundaries of your own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script
from higan.errors import HiganError


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    parser.add_model()
    add("boundary_name", help="the attribute to change, one of boundaries/MODEL/")
    folder = Path("manipulation_results")
    add("-o", "--output_dir", type=Path, default=folder, help="folder for everything written (default: %(default)s)")
    parser.add_samples(10, "-c")
    parser.add_space()
    parser.add_steps(5)
    add(
        "--manipulate_layers",
        default="",
        help="layers to move, such as 6-11 or 2,4-5 or upper (default: those verified for the "
        "boundary, else those in its file, else the upper group)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    from higan.logs import open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.devices import keep_freed_memory
    from higan.directions.boundaries import write_boundary
    from higan.directions.move import choose_layers, spaced_distances
    from higan.editing.edits import synthesize_steps
    from higan.editing.files import write_codes, write_edit, write_page
    from higan.editing.manipulation import Move, along_boundary, find_boundary
    from higan.generators import load_generator
    from higan.generators.codes import Codes
    from higan.generators.layer_sets import format_layers
    from higan.generators.network import layered
    from higan.generators.zoo import MODELS
    from higan.runs.folders import output_folder

    keep_freed_memory()
    distances = spaced_distances(args.start_distance, args.end_distance, args.step)
    generator = load_generator(args.model_name, device=args.device, class_idx=args.class_idx)
    places = [place / generator.name for place in (Path("boundaries"), MODELS.parent / "boundaries")]
    boundary = find_boundary(
        args.boundary_name, next((place for place in places if place.is_dir()), places[0]), spaces=generator.spaces
    )
    source = Codes(generator, args.num, args.seed, args.latent_codes_path, args.latent_space_type)
    log.info("codes: %s", source.source)
    codes = source.follow()
    layers, chosen = None, ""
    if layered(boundary.space):
        layers, chosen = choose_layers(boundary, generator.num_layers, args.manipulate_layers, "upper")
        log.info("boundary %s: layers %s (%s)", boundary.name, format_layers(layers), chosen)
    elif args.manipulate_layers:
        raise HiganError(
            f"boundary {boundary.name} is of space {boundary.space}, which has no layers; leave --manipulate_layers out"
        )
    edited = along_boundary(generator, codes, Move(boundary, distances, layers, chosen))

    prefix = f"{generator.name}_{args.boundary_name}"
    with output_folder(args.output_dir) as folder:
        log.info("%s", edited.summary)
        write_codes(codes, folder, f"{prefix}_")
        write_edit(edited, folder, prefix)
        write_boundary(boundary, folder, f"{prefix}_boundary.npy")
        rows = synthesize_steps(generator, edited.codes, edited.space)
        write_page(folder / f"{prefix}.html", rows, edited, generator, source.source)


def run() -> None:
    """Run the step as a program."""
    run_script(main)
