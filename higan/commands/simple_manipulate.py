"""Edit random samples of a model along one boundary that comes with it, and write one page.

  python simple_manipulate.py stylegan2_rooms indoor_lighting
  python simple_manipulate.py stylegan2_rooms window -N 20 -S 11 --start_distance=0 --end_distance=5
  python simple_manipulate.py stylegan2_rooms indoor_lighting --picture bedroom.jpg --blend

The boundary is boundaries/MODEL/ATTRIBUTE_boundary.npy. Everything is written into the output folder, the page
as MODEL_ATTRIBUTE.html, which opens in any browser. `manipulate.py` has more options and takes boundaries of your own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from higan.commands.options import ArgumentParser, require_range
from higan.commands.scripts import run_script
from higan.errors import HiganError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from higan.editing.pictures import Picture
    from higan.generators import Generator

LARGEST_PHOTO = 512  # longest side of the pictures on the page of --blend


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_model()
    parser.add_argument("boundary_name", help="the attribute to change, one of boundaries/MODEL/")
    parser.add_samples(10, "-c")
    parser.add_numbers()
    parser.add_space()
    add = parser.under("picture")
    add("--picture", type=Path, metavar="FILE", help="edit this picture of yours, whose code is found first")
    add("--crop", default="center", help="part of --picture: center, stretch, or X,Y,W,H in pixels (default: center)")
    add("--invert_steps", type=int, default=300, help="steps in which the code of --picture is found (default: 300)")
    add("--blend", action="store_true", help="keep --picture itself wherever the edit changes nothing")
    parser.add_drawing()
    parser.add_steps(5, clear=True)
    parser.under("edit")(
        "--manipulate_layers",
        default="",
        help="layers to move, such as 6-11 or 2,4-5 or upper (default: those verified for the "
        "boundary, else those in its file, else the upper group)",
    )
    folder, words = Path("manipulation_results"), "folder for everything written (default: %(default)s)"
    parser.under("output")("-o", "--output_dir", type=Path, default=folder, help=words)
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    if args.picture and args.latent_codes_path:
        raise HiganError("--picture and --latent_codes_path both say what to edit; leave one out")
    if args.picture and args.samples:
        raise HiganError("--samples chooses among samples; with --picture there is one picture: leave it out")
    if (args.blend or args.crop != "center") and not args.picture:
        raise HiganError("--blend and --crop are about a picture of yours: give --picture FILE")
    require_range(args, {"invert_steps": 10}, {"invert_steps": 10**6})
    from higan.logs import log_written, open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.commands.drawing import compare_files, load_model
    from higan.devices import keep_freed_memory
    from higan.directions.boundaries import read_boundary, write_boundary
    from higan.directions.lists import find_boundary_file, model_folder
    from higan.directions.move import choose_layers, spaced_distances, telling_distance
    from higan.editing.edits import synthesize_steps
    from higan.editing.files import write_codes, write_edit, write_page
    from higan.editing.manipulation import Move, along_boundary
    from higan.generators.codes import Codes
    from higan.generators.layer_sets import format_layers
    from higan.generators.network import layered
    from higan.runs.folders import output_folder

    keep_freed_memory()
    folder = model_folder(args.model_name)
    files = []
    with suppress(HiganError):  # of the weights, which are read first, is to be told first
        files.append(find_boundary_file(args.boundary_name, folder))
    generator = load_model(args, files)
    boundary = read_boundary(find_boundary_file(args.boundary_name, folder), spaces=generator.spaces)
    picture = None
    if args.picture:
        compare_files(generator, None, [boundary], force=args.force)
        picture, codes = invert_picture(args, generator)
        source = str(args.picture)
    else:
        num = max(args.samples) + 1 if args.samples else args.num
        drawn = Codes(generator, num, args.seed, args.latent_codes_path, args.latent_space_type)
        compare_files(generator, drawn, [boundary], force=args.force)
        codes, source = drawn.follow(args.samples), drawn.source
    log.info("codes: %s", source)
    layers, chosen = None, ""
    if layered(boundary.space):
        layers, chosen = choose_layers(boundary, generator.num_layers, args.manipulate_layers, "upper")
        log.info("boundary %s: layers %s (%s)", boundary.name, format_layers(layers), chosen)
    elif args.manipulate_layers:
        raise HiganError(
            f"boundary {boundary.name} is of space {boundary.space}, which has no layers; leave --manipulate_layers out"
        )
    clear, why = telling_distance(boundary)
    end = clear if args.end_distance is None else args.end_distance
    start = -end if args.start_distance is None else args.start_distance
    distances = spaced_distances(start, end, args.step)
    edited = along_boundary(generator, codes, Move(boundary, distances, layers, chosen))
    if why and args.end_distance is None:
        edited.summary += f" At distance {clear:g} {why}."

    edited.numbers = args.samples
    prefix = f"{generator.name}_{args.boundary_name}"
    with output_folder(args.output_dir) as folder:
        log.info("%s", edited.summary)
        write_codes(codes, folder, generator, f"{prefix}_")
        write_edit(edited, folder, prefix, generator)
        write_boundary(boundary, folder, f"{prefix}_boundary.npy")
        rows: Iterable[NDArray[np.uint8]] = synthesize_steps(generator, edited.codes, edited.space, edited.labels)
        if args.blend and picture is not None:
            from higan.editing.pictures import blended

            before = generator.synthesize(codes[edited.space], edited.space, edited.labels)[0].cpu().numpy()
            rows = blended(rows, picture.photo, before)
        page = folder / f"{prefix}.html"
        write_page(page, rows, edited, generator, source)
        log_written(folder, [page])


def invert_picture(args: argparse.Namespace, generator: Generator) -> tuple[Picture, dict[str, Tensor]]:
    """Return the picture and its codes, found by optimisation, by space; log how near they come."""
    import logging

    from higan.editing.inversion import invert
    from higan.editing.pictures import read_picture
    from higan.predictors.features import load_features

    log = logging.getLogger("higan")
    picture = read_picture(args.picture, generator.image_size, args.crop, LARGEST_PHOTO, generator.image_channels)
    _, features = load_features(None, generator.predictor, generator.device)
    log.info("looking for the code of %s in %d steps", args.picture, args.invert_steps)
    found = invert(generator, picture.image[None], args.invert_steps, features=features)
    log.info("%s: %s", args.picture, found.remark(0))
    return picture, generator.follow(found.codes, found.space)


def run() -> None:
    """Run the step as a program."""
    run_script(main)
