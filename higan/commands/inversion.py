"""Find the codes of pictures: optimise until the model draws what a picture shows, so that boundaries can edit it.

  python -m higan.inversion stylegan2_rooms bedroom.jpg -o results/inversion
  python manipulate.py stylegan2_rooms boundaries/stylegan2_rooms -c results/inversion/wp.npy

Writes into the output folder wp.npy (z.npy of a model without layers), inversion.npy (psnr, code_percentile,
image_percentile of each picture), loss.npy, per picture NAME_before.png, NAME_after.png and NAME_difference.png, a
page, run.json and the log. Killed or stopped with Ctrl-C, the same command goes on where it was.

--tune weights then changes the model until it draws the pictures of these codes (PTI); what it draws of other codes
changes too. --tune noise changes its noise images alone. Written is tuned/MODEL.pth, which every script opens:

  python -m higan.inversion stylegan2_rooms bedroom.jpg --tune weights -o results/inversion
  python manipulate.py results/inversion/tuned/stylegan2_rooms.pth boundaries/stylegan2_rooms \\
      -c results/inversion/wp.npy
"""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.commands.options import ArgumentParser, require_file_names, require_range
from higan.errors import HiganError


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__, "python -m higan.inversion")
    parser.add_model()
    words = "picture files, or folders of them"
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help=words)
    add = parser.under("inversion")
    add("--steps", type=int, default=500, help="steps of the optimisation (default: 500)")
    add("--starts", type=int, default=3, help="codes to start from, of which the best is kept (default: 3)")
    words = "part of each picture: center, stretch, or X,Y,W,H in pixels (default: center)"
    add("--crop", default="center", help=words)
    words = "rooms, module:callable or none (default: the model's own predictor, if it has features)"
    add("--features", metavar="NAME", help=f"network whose features are compared as well: {words}")
    add("--seed", type=int, default=0, help="seed of the samples that pictures are compared with (default: 0)")
    add("--tune", choices=("noise", "weights", "both"), default="", help="what of the model to tune (default: nothing)")
    add("--tune_steps", type=int, default=350, help="steps of --tune (default: 350)")
    parser.add_truncation()
    add("--batch_size", type=int, default=0, help="pictures at a time (default 0: as memory allows)")
    parser.add_output("MODEL_inversion")
    add = parser.under("output")
    add("--overwrite", action="store_true", help="remove the run that is in the output folder first")
    add("--html_name", default="inversion.html", help="the page's file name (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    least = {"steps": 10, "starts": 1, "seed": 0, "batch_size": 0, "tune_steps": 1}
    require_range(args, least, {"steps": 10**6, "starts": 100, "tune_steps": 10**6})
    if args.noise == "random":
        raise HiganError("--noise is random: a picture that changes at every step cannot be approached; give another")
    require_file_names(args, "html_name", "logfile_name")
    from higan.logs import command_line, log_written, open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.commands.drawing import load_model
    from higan.devices import keep_freed_memory
    from higan.editing.inversion_files import InversionRun
    from higan.editing.pictures import find_pictures
    from higan.generators.loading import read_network
    from higan.generators.zoo import find_weights
    from higan.predictors.features import load_features

    keep_freed_memory()
    paths = find_pictures(args.pictures)
    generator = load_model(args)
    features = load_features(args.features, generator.predictor, generator.device)
    folder = args.output_dir or Path(f"{generator.name}_inversion")
    task = InversionRun(
        generator,
        paths,
        folder,
        steps=args.steps,
        starts=args.starts,
        crop=args.crop,
        features=features,
        seed=args.seed,
        batch_size=args.batch_size,
        tuning=args.tune,
        tune_steps=args.tune_steps,
    )
    with task.run as run:
        blocks = run.begin(args.overwrite)
        log = open_log(folder, args.logfile_name)
        log.info("%s", command_line())
        log.info("%d of %d pictures are done", run.num_done(), run.num)
        task.work(blocks)
        if args.tune:
            settings = read_network(find_weights(args.model_name)[0])[0].settings
            task.tune(settings, anew=bool(blocks))
            log.info("tuned: %s", folder / task.tuned_path)
        run.complete()
        for line in task.answers():
            log.info("%s", line)
        log_written(folder, [task.write_views(args.html_name)])
