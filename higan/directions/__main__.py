"""Find directions without scores, for re-scoring to tell what they move.

    python -m higan.directions stylegan2_rooms --method closed_form --num 20 -o directions
    python rescore.py stylegan2_rooms directions/boundary_list.txt --layerwise_rescoring

pca: principal components of w. activations: of what leaves a layer. closed_form: eigenvectors of the style weights.
random: random directions, as a control. Written are NAME_boundary.npy, NAME_boundary.json and boundary_list.txt.

    python -m higan.directions stylegan2_rooms --method channels --score_name window --num 3 -o channels

channels asks a predictor: the single style channels that move each score most and the others least.
"""

from __future__ import annotations

import argparse
import shlex
from functools import partial
from typing import TYPE_CHECKING

from higan.commands.options import ArgumentParser, require_range
from higan.commands.scripts import run_script
from higan.errors import HiganError

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary
    from higan.generators import Generator


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__, "python -m higan.directions")
    parser.add_model()
    add = parser.under("directions")
    methods = ("pca", "activations", "closed_form", "random", "channels")
    add("--method", default="pca", choices=methods, help="see above (default: pca)")
    add("-K", "--num", type=int, default=20, help="directions to find; channels: for each score (default: 20)")
    add("--score_name", nargs="+", default=[], metavar="NAME", help="channels: scores to find them for (default: all)")
    parser.add_predictor()
    add("--probes", type=int, default=64, help="channels: samples to take gradients of (default: 64)")
    words = "closed_form: layers to factorise, such as 2-5 (default: all); activations: one layer (default: 0)"
    add("--layers", help=words)
    add("--samples", type=int, default=10_000, help="pca, activations: samples to analyse (default: 10000)")
    add("--seed", type=int, default=0, help="of the samples and of random directions (default: 0)")
    parser.add_output("MODEL_METHOD")
    return parser.parse_args()


def main() -> None:
    """Find the directions and write them."""
    args = parse_args()
    require_range(args, {"num": 1, "samples": 2, "seed": 0, "probes": 2})

    from higan.commands.drawing import load_model
    from higan.directions.boundaries import write_boundary
    from higan.directions.lists import extend_boundary_list
    from higan.directions.unsupervised import find_directions
    from higan.logs import command_line, log_written, open_log
    from higan.runs.folders import output_folder

    generator = load_model(args)
    if args.method == "channels":
        boundaries = channels(args, generator)
    else:
        boundaries = find_directions(generator, args.method, args.num, args.layers, args.samples, args.seed)
    with output_folder(args.output_dir or f"{generator.name}_{args.method}") as folder:
        log = open_log(folder, args.logfile_name)
        log.info("%s", command_line())
        written = {}
        for boundary in boundaries:
            boundary.info |= {"model_name": generator.name, "model_sha256": generator.sha256}
            path = write_boundary(boundary, folder)
            written[path.name] = boundary
            share = boundary.info.get("share")
            log.info("%s%s", boundary.name, "" if share is None else f": {100 * share:.1f} % of the whole")
        path = extend_boundary_list(folder, written)
        rescore = shlex.join(["python", "rescore.py", args.model_name, str(path)])
        log_written(folder, otherwise=f"{rescore} tells what they move")


def channels(args: argparse.Namespace, generator: Generator) -> list[Boundary]:
    """Return the channels of the scores that are asked for, found by gradients of all scores."""
    from higan.directions.channels import find_channels
    from higan.directions.gradient import gradient_slopes
    from higan.logs import progress
    from higan.predictors import load_predictor

    if not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no styles; channels need a StyleGAN")
    predictor = load_predictor(args.predictor_name or generator.predictor or "scene", args.device)
    names = [name for members in predictor.names.values() for name in members]
    first, entry = generator.spaces[0], generator.entry
    codes = generator.to_entry(generator.sample(args.probes, args.seed), first)
    shown = partial(progress, desc="gradients", unit="batch")
    slopes = gradient_slopes(generator, predictor, codes, entry, names, True, lambda rows: shown(iterable=rows))
    more = generator.to_entry(generator.sample(min(args.samples, 1000), args.seed), first)
    return find_channels(generator, slopes, more, args.score_name or names, args.num)


if __name__ == "__main__":
    run_script(main)
