"""Step 4: move samples along boundaries; write the codes, and pictures, pages and videos of them.

  python manipulate.py stylegan2_rooms boundaries.txt --num=10 --layerwise_manipulation --generate_html
  python manipulate.py stylegan2_rooms boundaries.txt --num=10 --combine --generate_html
  python manipulate.py stylegan2_rooms --num=10 --interpolate --generate_html
  python manipulate.py stylegan2_rooms --num=6 --mix_style --manipulate_layers=top --generate_html

A boundary list has a line per boundary, `(name, space): path`; it may end in `layers=4-8` and `distance=2`, the
distance of the last step. Lines that start with DISABLE or # are left out.

Without --layerwise_manipulation the code moves as a whole. With it, a boundary of w or w+ moves the layers asked for
(in the list's line or by --manipulate_layers), else those verified for it, else those in its file, else all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from higan.commands.options import ArgumentParser, require_file_names, require_range
from higan.commands.scripts import run_script
from higan.errors import HiganError

if TYPE_CHECKING:
    from torch import Tensor

    from higan.directions.lists import BoundaryEntry
    from higan.editing.files import Views
    from higan.editing.manipulation import Edited
    from higan.generators import Generator

MARGINS = ("row_spacing", "col_spacing", "border_left", "border_right", "border_top", "border_bottom")


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_model()
    parser.add_argument(
        "boundary_list_path",
        nargs="?",
        help="list of boundaries (see above), a folder of them, or one; none with --interpolate, --mix_style",
    )
    parser.add_samples(0, "-c", "to move (default: draw them from --seed)")
    parser.add_numbers()
    parser.add_space("; with --interpolate also the space to go through (default for drawn codes: z)")
    parser.add_drawing()
    parser.add_steps(7)
    add = parser.under("edit")
    words = "move single layers, in w+ (see above); --manipulate_layers implies it"
    add("--layerwise_manipulation", action="store_true", help=words)
    add(
        "--disable_manipulation_truncation",
        action="store_true",
        help="move every layer by the full distance (default: a w boundary's step is truncated as the codes are)",
    )
    add("--manipulate_layers", default="", help="layers to move or to mix: 6-11, 2,4-5, bottom, lower, upper, top")
    add("--combine", action="store_true", help="move along all boundaries at once, each on its own layers")
    add(
        "--condition",
        nargs="+",
        default=[],
        metavar="NAME",
        help="make each boundary orthogonal to these, of the list or of the folder that the boundary lies in",
    )
    add("--interpolate", action="store_true", help="go from each sample to the next, in place of boundaries")
    words = "give each sample the layers of every other (default: upper), in place of boundaries"
    add("--mix_style", action="store_true", help=words)
    parser.add_cost()
    parser.add_output("MODEL_manipulation")
    words = "write every picture, {name}_{space}_{sample}_{step}.jpg"
    parser.under("output")("--save_raw_synthesis", action="store_true", help=words)
    add = parser.under("page")
    add("--generate_html", action="store_true", help="write a page, {name}_{space}_{html_name}")
    words = "what follows the boundary and its space in the page's file name (default: %(default)s)"
    add("--html_name", default="viz.html", help=words)
    add("--viz_size", type=int, default=0, help="height of pictures on page and video (default 0: their own)")
    add = parser.under("video")
    add("--generate_video", action="store_true", help="write a video, {name}_{space}_{video_name}, a frame per step")
    words = ".mp4, .avi, .mkv, .mov (H.264, by PyAV), .webp or .gif (default: viz.mp4, without PyAV viz.webp)"
    add("--video_name", help=words)
    add("--fps", type=int, default=24, help="frames per second of the video (default: 24)")
    add("--row", type=int, default=0, help="rows of samples in the video (default 0: those of the squarest grid)")
    add("--col", type=int, default=0, help="columns of samples in the video (default 0: likewise)")
    for name in MARGINS:
        words = f"{name.replace('_', ' ')} of the video in pixels (default: 0)"
        add(f"--{name}", type=int, default=0, help=words)
    add("--white_background", action="store_true", help="white behind the video's pictures (default: black)")
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Raise HiganError where arguments are out of range or contradict each other."""
    least = dict.fromkeys(("seed", "num", "batch_size", "row", "col", *MARGINS, "viz_size"), 0)
    require_range(args, least | {"step": 1, "fps": 1}, {"viz_size": 2048, "fps": 1000})
    if args.samples and (args.interpolate or args.mix_style):
        raise HiganError("--samples chooses samples to move along boundaries; --interpolate and --mix_style take all")
    if args.num == 0 and not args.samples and args.latent_codes_path is None:
        raise HiganError("--num is 0; give the number of samples to draw, or codes with --latent_codes_path")
    require_file_names(args, "html_name", "logfile_name", *(["video_name"] if args.video_name is not None else []))
    if (args.boundary_list_path is None) != (args.interpolate or args.mix_style):
        raise HiganError("give one of: a boundary list, --interpolate, --mix_style")
    if args.interpolate + args.mix_style + args.combine > 1:
        raise HiganError("--interpolate, --mix_style and --combine exclude each other; leave two out")


def main() -> None:
    """Run the step."""
    args = parse_args()
    check_args(args)
    from higan.logs import command_line, log_written, open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.commands.drawing import compare_files, load_model
    from higan.devices import keep_freed_memory
    from higan.directions.lists import listed_files, read_boundary_list
    from higan.editing.files import write_boundaries, write_codes, write_edit, write_views
    from higan.generators.codes import Codes
    from higan.runs.folders import output_folder

    keep_freed_memory()
    views = make_views(args)
    listed = args.boundary_list_path
    generator = load_model(args, listed_files(listed) if listed else ())
    entries = read_boundary_list(listed, generator.num_layers or None, generator.spaces) if listed else []
    source = Codes(
        generator,
        max(args.samples) + 1 if args.samples else args.num,
        args.seed,
        args.latent_codes_path,
        args.latent_space_type,
    )
    compare_files(generator, source, [entry.boundary for entry in entries], force=args.force)
    generator.batch_size = args.batch_size or generator.batch_size
    with output_folder(args.output_dir or f"{generator.name}_manipulation") as folder:
        log = open_log(folder, args.logfile_name)
        log.info("%s", command_line())
        log.info("codes: %s", source.source)
        codes = source.follow(args.samples)
        todo = edits(args, generator, codes, entries)
        write_codes(codes, folder, generator)
        written: list[Path] = []
        for edited in todo:
            edited.numbers = args.samples
            log.info("%s", edited.summary)
            write_edit(edited, folder, edited.prefix, generator)
            write_boundaries(edited, folder)
            written += write_views(edited, generator, folder, views, source.source)
        log_written(folder, written, "--generate_html makes a page of the pictures")


def make_views(args: argparse.Namespace) -> Views:
    """Return how the pictures are to be shown; raise HiganError if a video cannot be called so."""
    from higan.editing.files import Views
    from higan.report.video import Mosaic, check_video_name, has_video

    video_name = check_video_name(args.video_name or ("viz.mp4" if has_video() else "viz.webp"))
    return Views(
        pictures=args.save_raw_synthesis,
        page=args.html_name if args.generate_html else "",
        video=video_name if args.generate_video else "",
        mosaic=Mosaic(**{name: getattr(args, name) for name in Mosaic.__dataclass_fields__}),
        fps=args.fps,
        size=args.viz_size,
    )


def edits(
    args: argparse.Namespace, generator: Generator, codes: Mapping[str, Tensor], entries: Sequence[BoundaryEntry]
) -> Iterable[Edited]:
    """Return what is asked for: one edit per boundary, all of them in one, an interpolation, or mixed styles."""
    from higan.directions.move import spaced_distances
    from higan.editing import manipulation

    if args.interpolate:
        steps = len(spaced_distances(0, 1, args.step))
        return [manipulation.between_samples(generator, codes, args.latent_space_type or next(iter(codes)), steps)]
    if args.mix_style:
        return [manipulation.with_mixed_styles(generator, codes, args.manipulate_layers or "upper")]
    moves = manipulation.plan_moves(
        generator,
        entries,
        spaced_distances(args.start_distance, args.end_distance, args.step),
        layerwise=args.layerwise_manipulation,
        layers=args.manipulate_layers,
        together=args.combine,
        condition_on=args.condition,
        keep_pace=not args.disable_manipulation_truncation,
    )
    return manipulation.along_boundaries(generator, codes, moves, args.combine)


def run() -> None:
    """Run the step as a program."""
    run_script(main)
