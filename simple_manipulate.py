"""Edit random samples of a model along one boundary that comes with it, and write one page.

  python simple_manipulate.py stylegan2_rooms indoor_lighting
  python simple_manipulate.py stylegan2_rooms window -N 20 -S 11 --start_distance=0 --end_distance=5

The boundary is boundaries/MODEL/ATTRIBUTE_boundary.npy. Everything is written into the output folder, the page
as MODEL_ATTRIBUTE.html, which opens in any browser. `manipulate.py` has more options and takes boundaries of your own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.errors import ArgumentParser, HiganError, run_script

BOUNDARIES = (Path("boundaries"), Path(__file__).resolve().parent / "boundaries")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_argument("model_name", help="a model of models/zoo.toml, or the path of a weight file")
    parser.add_argument("boundary_name", help="the attribute to change, one of boundaries/MODEL/")
    parser.add_argument(
        "-o",
        "--output_dir",
        type=Path,
        default=Path("manipulation_results"),
        help="folder for everything written (default: %(default)s)",
    )
    parser.add_argument("-c", "--latent_codes_path", type=Path, help=".npy of codes (default: draw them from --seed)")
    parser.add_argument(
        "--latent_space_type",
        default="w",
        choices=("z", "w", "wp"),
        help="space of the codes of -c; codes are drawn in z (default: w)",
    )
    parser.add_argument("-N", "--num", type=int, default=10, help="samples to draw (default: 10); not used with -c")
    parser.add_argument("-S", "--step", type=int, default=5, help="steps of each sample, made odd (default: 5)")
    parser.add_argument("--start_distance", type=float, default=-3.0, help="distance of the first step (default: -3)")
    parser.add_argument("--end_distance", type=float, default=3.0, help="distance of the last step (default: 3)")
    parser.add_argument(
        "--manipulate_layers",
        default="",
        help="layers to move, such as 6-11 or 2,4-5 or upper (default: those verified for the "
        "boundary, else those in its file, else the upper group)",
    )
    parser.add_argument("--class_idx", type=int, help="class to draw, for a conditional model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto, a GPU if any)")
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    from higan import editing
    from higan.logs import open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.boundaries import write_boundary
    from higan.devices import keep_freed_memory
    from higan.files import write_array
    from higan.folders import output_folder
    from higan.generators import load_generator
    from higan.layer_sets import format_layers
    from higan.manipulation import Move, along_boundary, find_boundary
    from higan.report import describe_origin, write_manipulation_page

    keep_freed_memory()
    distances = editing.spaced_distances(args.start_distance, args.end_distance, args.step)
    generator = load_generator(args.model_name, device=args.device, class_idx=args.class_idx)
    places = [place / generator.name for place in BOUNDARIES]
    boundary = find_boundary(args.boundary_name, next((place for place in places if place.is_dir()), places[0]))
    space = args.latent_space_type if args.latent_codes_path else "z"
    codes = editing.draw_codes(generator, space, args.num, args.seed, args.latent_codes_path)
    layers, chosen = None, ""
    if boundary.space != "z":
        layers, chosen = editing.choose_layers(boundary, generator.num_layers, args.manipulate_layers, "upper")
        log.info("boundary %s: layers %s (%s)", boundary.name, format_layers(layers), chosen)
    elif args.manipulate_layers:
        raise HiganError(f"boundary {boundary.name} is of space z, which has no layers; leave --manipulate_layers out")
    edited = along_boundary(generator, codes, Move(boundary, distances, layers, chosen))

    prefix = f"{generator.name}_{args.boundary_name}"
    with output_folder(args.output_dir) as folder:
        for name, values in codes.items():
            write_array(folder / f"{prefix}_{name}.npy", values.cpu().numpy())
        write_array(folder / f"{prefix}_manipulated_{edited.space}.npy", edited.codes.cpu().numpy())
        write_boundary(boundary, folder, f"{prefix}_boundary.npy")
        log.info("%s", edited.summary)
        write_manipulation_page(
            folder / f"{prefix}.html",
            editing.synthesize_steps(generator, edited.codes, edited.space),
            edited.headings,
            num=len(edited.codes),
            title=edited.title,
            summary=edited.summary,
            origin=edited.origin,
            details={
                **edited.details,
                "Codes": str(args.latent_codes_path or f"seed {args.seed}"),
                **describe_origin(generator),
            },
        )
        log.info("page: %s", folder / f"{prefix}.html")


if __name__ == "__main__":
    run_script(main)
