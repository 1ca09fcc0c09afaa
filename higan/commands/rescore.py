"""Step 3: re-score boundaries: which of them the generator obeys, at which layer, and what else changes.

  python rescore.py stylegan2_rooms boundaries.txt --layerwise_rescoring
  python rescore.py stylegan2_rooms boundaries.txt --layerwise_rescoring --layer_swap --control 20 --write_layers
  python rescore.py stylegan2_rooms svm/boundary_list.txt ridge/boundary_list.txt --layerwise_rescoring --control 20

A boundary list has a line per boundary, `(name, space): path`; lines that start with DISABLE or # are left out. A
boundary stands for the score of its name, if the predictor has one. Written are {name}_{space}_scores.npy (that score
of every sample: unmoved, all layers moved, then each layer; NaN where --interval left a sample out), the table of all
scores as rescore_*.npy, rescore.csv and rescore.json, the page rescore.html, and the log. Killed or stopped with
Ctrl-C, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.commands.options import ArgumentParser, require_range
from higan.commands.scripts import run_script
from higan.errors import HiganError

CONTROLS = 20  # random directions that --write_layers compares with, if not told otherwise


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_model()
    words = "list of boundaries (see above), a folder of them, or one; several are put side by side"
    parser.add_argument("boundary_list_path", type=Path, nargs="+", help=words)
    parser.add_predictor()
    parser.add_drawing()
    parser.add_samples(2000, "-i", "to use")
    parser.add_space()
    add = parser.under("rescoring")
    add("--distance", type=float, default=2.0, help="how far codes move (default: 2)")
    add("--layerwise_rescoring", action="store_true", help="move each layer alone as well")
    add(
        "--layer_swap", action="store_true", help="measure each layer's total effect on every score, without boundaries"
    )
    add(
        "--control",
        type=int,
        metavar="K",
        help=f"re-score K random directions too, to compare with (default: {CONTROLS} with --write_layers, else 0)",
    )
    add(
        "--interval",
        type=float,
        metavar="WIDTH",
        help="stop measuring a move once the 95 %% interval of its effect is at most WIDTH standard deviations of the "
        "score wide; looked at after an eighth, a quarter and half of --num, at 100 samples or more (default: never)",
    )
    add(
        "--write_layers",
        action="store_true",
        help="write into each boundary's .json at which layers it acts, and whether more than random directions do; "
        "implies --layerwise_rescoring",
    )
    parser.add_cost()
    parser.add_output("MODEL_rescore")
    words = "begin anew, where the output folder holds another re-scoring that was stopped"
    parser.under("output")("--overwrite", action="store_true", help=words)
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    control = (CONTROLS if args.write_layers else 0) if args.control is None else args.control
    require_range(args, {"num": 1, "seed": 0, "batch_size": 0})
    if args.interval is not None and not 0 < args.interval < float("inf"):
        raise HiganError(f"--interval is {args.interval:g}; expected standard deviations of the score, more than 0")
    if not 0 <= control <= 1000:
        raise HiganError(f"--control is {control}; expected 0 to 1000")
    if args.write_layers and control < 2:
        raise HiganError(f"--write_layers compares with random directions; expected --control from 2, found {control}")

    from higan.logs import command_line, log_written, open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    import shutil

    from higan.commands.drawing import boundary_origins, compare_files, load_model
    from higan.devices import keep_freed_memory
    from higan.directions.boundaries import check_name
    from higan.directions.lists import listed_files, read_boundary_list
    from higan.editing.files import write_codes
    from higan.generators.codes import Codes
    from higan.predictors import load_predictor
    from higan.report import write_rescoring_page
    from higan.rescoring import files as rescoring_files
    from higan.rescoring.blocks import FOLDER
    from higan.rescoring.rescore import rescore
    from higan.runs.folders import output_folder
    from higan.runs.provenance import compare_predictor_files

    keep_freed_memory()
    generator = load_model(args, [file for path in args.boundary_list_path for file in listed_files(path)])
    if (args.layerwise_rescoring or args.write_layers) and not generator.has_layers:
        asked = "--write_layers" if args.write_layers else "--layerwise_rescoring"
        raise HiganError(f"{generator.name} ({generator.family}) has no layers; leave {asked} out")
    lists = {path: read_boundary_list(path, generator.num_layers, generator.spaces) for path in args.boundary_list_path}
    boundaries = [entry.boundary for entries in lists.values() for entry in entries]
    names = name_lists(args.boundary_list_path)
    recipes = [names[path] for path, entries in lists.items() for _ in entries] if len(lists) > 1 else []
    for recipe, boundary in zip(recipes, boundaries, strict=False):
        check_name(f"{recipe}_{boundary.name}")  # which files are called after, once all is measured
    source = Codes(generator, args.num, args.seed, args.latent_codes_path, args.latent_space_type)
    name = args.predictor_name or generator.predictor or "scene"
    compare_files(generator, source, boundaries, name, args.force)
    predictor = load_predictor(name, args.device)
    compare_predictor_files(boundary_origins(boundaries), predictor)
    changed = [Path(boundary.info["path"]).parent for boundary in boundaries] if args.write_layers else []
    with output_folder(args.output_dir or f"{generator.name}_rescore", changed) as folder:
        log = open_log(folder, args.logfile_name)
        log.info("%s", command_line())
        log.info("codes: %s", source.source)
        write_codes(source.follow(), folder, generator, program="rescore")
        result = rescore(
            generator,
            predictor,
            boundaries,
            num=args.num,
            distance=args.distance,
            layerwise=args.layerwise_rescoring or args.write_layers,
            control=control,
            layer_swap=args.layer_swap,
            seed=args.seed,
            batch_size=args.batch_size,
            codes=None if source.path is None else source.rows(0, source.num),
            space=source.space,
            folder=folder,
            overwrite=args.overwrite,
            recipes=recipes,
            interval_width=args.interval,
        )
        result.provenance |= {"command": command_line(), "codes": source.source}
        rescoring_files.write_rescoring(result, folder)
        write_rescoring_page(folder / "rescore.html", result)
        for line in rescoring_files.log_lines(result):
            log.info("%s", line)
        if args.write_layers:
            for line in rescoring_files.write_layers(result, boundaries):
                log.info("%s", line)
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        log_written(folder, [folder / "rescore.html"])


def name_lists(paths: list[Path]) -> dict[Path, str]:
    """Return what lists are called: their files or, where these are called the same, their folders.

    >>> name_lists([Path("svm/boundary_list.txt"), Path("ridge/boundary_list.txt")])
    {PosixPath('svm/boundary_list.txt'): 'svm', PosixPath('ridge/boundary_list.txt'): 'ridge'}

    Raises HiganError where that does not tell them apart.
    """
    places = [path.resolve() for path in paths]
    for names in ([place.stem for place in places], [place.parent.name for place in places]):
        if len(set(names)) == len(paths):
            return dict(zip(paths, names, strict=True))
    raise HiganError(f"lists {', '.join(map(str, paths))} are called the same; give them names of their own")


def run() -> None:
    """Run the step as a program."""
    run_script(main)
