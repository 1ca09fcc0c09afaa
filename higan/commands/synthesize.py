"""Step 1: sample latent codes; write them and what they lead to: styles, images, scores, a page.

  python synthesize.py stylegan2_rooms --num=2000 --generate_prediction
  torchrun --nproc-per-node=8 synthesize.py stylegan2_church -N 500000 --generate_prediction

Writes into the output folder z.npy and w.npy (wp.npy and styleNN.npy on request), one structured array per group of
scores (`np.load("attribute.npy")["indoor_lighting"]`), raw pictures as 000000.jpg, run.json and the log. Killed or
stopped with Ctrl-C, the same command goes on where it was. Sample i depends on the seed and i alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.commands.options import ArgumentParser, require_file_names, require_range
from higan.commands.scripts import run_script
from higan.errors import HiganError

if TYPE_CHECKING:
    from higan.synthesis import Synthesis


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_model()
    parser.add_samples(1, "-i")
    parser.add_space("; without -i: drawn codes are of z, and are mapped and written up to this space", "-s")
    parser.add_drawing()
    parser.add_cost(", rounded up to a multiple of 8")
    parser.add_output("MODEL_synthesis")
    add = parser.under("output")
    add("--overwrite", action="store_true", help="remove the run that is in the output folder first")
    add("--skip_image", action="store_true", help="write codes (and styles) only")
    add("--generate_style", action="store_true", help="write the style of every layer, styleNN.npy")
    add("--save_wp", action="store_true", help="write wp.npy as well (it follows from w.npy)")
    add("--save_raw_synthesis", action="store_true", help="write every image, as 000000.jpg")
    add("--image_format", default="jpg", choices=("jpg", "png", "webp"), help="of raw images (default: jpg)")
    words = "score the images: one .npy per group of scores"
    parser.under("scores")("--generate_prediction", action="store_true", help=words)
    parser.add_predictor()
    add = parser.under("page")
    add("--generate_html", action="store_true", help="write a page of the samples, the first 2000 at most")
    add("--html_row", type=int, default=0, help="rows of the page (default 0: what the samples need)")
    add("--html_col", type=int, default=0, help="columns of the page (default 0: what the window holds)")
    add("--viz_size", type=int, default=0, help="height of the page's images (default 0: their own)")
    add("--html_name", default="viz.html", help="the page's file name (default: %(default)s)")
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Raise HiganError where arguments are out of range or contradict each other."""
    least = {"num": 1, "seed": 0, "batch_size": 0, "html_row": 0, "html_col": 0, "viz_size": 0}
    require_range(args, least, {"num": 10**9, "viz_size": 2048})
    require_file_names(args, "html_name", "logfile_name")
    if args.skip_image:
        for name in ("generate_prediction", "save_raw_synthesis", "generate_html"):
            if getattr(args, name):
                raise HiganError(f"--skip_image and --{name} contradict each other; leave one out")


def main() -> None:
    """Run the step."""
    args = parse_args()
    check_args(args)
    from higan.logs import command_line, log_written, open_log
    from higan.runs.ranks import Ranks

    with Ranks() as ranks:
        log = open_log(quiet=ranks.rank > 0)
        log.info("loading %s", args.model_name)

        from higan.commands.drawing import compare_files, load_model
        from higan.devices import keep_freed_memory
        from higan.predictors import load_predictor
        from higan.runs.run import Run, earlier_batch_size
        from higan.synthesis import Synthesis, synthesize

        keep_freed_memory()
        device = ranks.device(args.device)
        generator = load_model(args, device=device)
        name = args.predictor_name or generator.predictor or "scene"
        predictor = load_predictor(name, device) if args.generate_prediction else None
        folder = args.output_dir or Path(f"{generator.name}_synthesis")
        synthesis = Synthesis(
            generator,
            num=args.num,
            seed=args.seed,
            predictor=predictor,
            space=args.latent_space_type,
            codes_path=args.latent_codes_path,
            batch_size=args.batch_size or (0 if args.overwrite else earlier_batch_size(folder)),
            images=args.save_raw_synthesis,
            styles=args.generate_style,
            wp=args.save_wp,
        )
        compare_files(generator, synthesis.source, force=args.force)
        synthesis.batch_size = ranks.first(lambda: synthesis.batch_size)
        with Run(
            folder,
            describe(args, synthesis),
            synthesis.arrays(),
            synthesis.num,
            synthesis.block_size,
            args.image_format if args.save_raw_synthesis else None,
            generator.resolution,
        ) as run:
            blocks = ranks.first(lambda: run.begin(args.overwrite))
            run.join(ranks.rank)
            log = open_log(folder, args.logfile_name, quiet=ranks.rank > 0)
            log.info("%s", command_line())
            log.info("codes: %s", synthesis.source.source)
            log.info(
                "%d of %d samples are done; %s, batches of %d", run.num_done(), run.num, device, synthesis.batch_size
            )
            synthesize(synthesis, run, blocks, ranks)
            ranks.wait()
            if ranks.rank == 0:
                run.complete()
                if args.generate_html:
                    write_page(args, synthesis, folder)
                    log_written(folder, [folder / args.html_name])
                else:
                    log_written(folder, otherwise="the same command with --generate_html makes a page of the samples")


def describe(args: argparse.Namespace, synthesis: Synthesis) -> dict[str, Any]:
    """Return everything that decides what the bytes of the run are, under the names of the arguments."""
    from higan.generators.network import per_layer

    generator, predictor = synthesis.generator, synthesis.predictor
    return {
        "program": "synthesize",
        "model_name": generator.name,
        "model_sha256": generator.sha256,
        "latent_codes_sha256": synthesis.codes_sha256,
        "latent_space_type": synthesis.space,
        "seed": args.seed if args.latent_codes_path is None else None,
        "class_idx": generator.class_idx,
        "labels_sha256": generator.labels_sha256,
        "generate_style": args.generate_style,
        "predictor_name": predictor and predictor.name,
        "predictor_sha256": predictor and predictor.sha256,
        "save_raw_synthesis": args.save_raw_synthesis,
        "image_format": args.image_format if args.save_raw_synthesis else None,
        "save_wp": synthesis.wp and not per_layer(synthesis.space),  # codes of wp are written anyway
        "batch_size": synthesis.batch_size,
        "device": generator.device.type,
        "precision": args.precision,
        "truncation_psi": generator.truncation_psi,
        "truncation_layers": generator.truncation_layers,
        "noise": generator.noise,
        "translate": generator.translate,
        "rotate": generator.rotate,
    }


def write_page(args: argparse.Namespace, synthesis: Synthesis, folder: Path) -> None:
    """Write the page of the first samples."""
    from higan.logs import counted
    from higan.report import describe_origin, grid_size, write_grid_page

    num, columns = grid_size(synthesis.num, args.html_row, args.html_col)
    generator, source = synthesis.generator, synthesis.source.source
    write_grid_page(
        folder / args.html_name,
        synthesis.pictures(num),
        num=num,
        title=f"{generator.name}: samples",
        summary=f"{counted(synthesis.num, 'sample')} of {generator.name}, {source}.",
        columns=columns,
        size=args.viz_size,
        total=synthesis.num,
        details={"Codes": source, **describe_origin(generator)},
    )


def run() -> None:
    """Run the step as a program."""
    run_script(main)
