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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.errors import ArgumentParser, HiganError, run_script

if TYPE_CHECKING:
    from higan.generators import Generator
    from higan.manipulation import Edited, Move


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("model_name", help="a model of models/zoo.toml, or the path of a weight file")
    add("boundary_list_path", nargs="?", help="list of boundaries (see above), unless --interpolate or --mix_style")
    add("-o", "--output_dir", type=Path, help="folder for everything written (default: MODEL_manipulation)")
    add("-c", "--latent_codes_path", type=Path, help=".npy of codes to move (default: draw them from --seed)")
    add(
        "--latent_space_type",
        default="z",
        choices=("z", "w", "wp"),
        help="space of the codes of -c, and that of --interpolate; codes are drawn in z (default: z)",
    )
    add("-N", "--num", type=int, default=0, help="samples to draw; needed without -c")
    add("-S", "--step", type=int, default=7, help="steps of each sample, made odd (default: 7)")
    add("--start_distance", type=float, default=-3.0, help="distance of the first step (default: -3)")
    add("--end_distance", type=float, default=3.0, help="distance of the last step (default: 3)")
    add("--layerwise_manipulation", action="store_true", help="move layers of w+; --manipulate_layers implies it")
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
    add("--mix_style", action="store_true", help="mix the samples' layers (default: upper), in place of boundaries")
    add("--class_idx", type=int, help="class to draw, for a conditional model")
    add("--seed", type=int, default=0, help="seed of the samples (default: 0)")
    add("--batch_size", type=int, default=0, help="images at a time (default 0: as memory allows)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the activations (default: fp32)")
    add("--save_raw_synthesis", action="store_true", help="write every picture, {name}_{space}_{sample}_{step}.jpg")
    add("--generate_html", action="store_true", help="write a page, {name}_{space}_{html_name}")
    add("--html_name", default="viz.html", help="(default: %(default)s)")
    add("--generate_video", action="store_true", help="write a video, {name}_{space}_{video_name}, a frame per step")
    add("--video_name", default="viz.mp4", help=".mp4, .avi, .mkv, .mov (H.264), .webp or .gif (default: %(default)s)")
    add("--fps", type=int, default=24, help="frames per second of the video (default: 24)")
    add("--row", type=int, default=0, help="rows of samples in the video (default 0: as square as they divide)")
    add("--col", type=int, default=0, help="columns of samples in the video (default 0: likewise)")
    for name in ("row_spacing", "col_spacing", "border_left", "border_right", "border_top", "border_bottom"):
        add(f"--{name}", type=int, default=0, help="pixels in the video (default: 0)")
    add("--white_background", action="store_true", help="white behind the video's pictures (default: black)")
    add("--viz_size", type=int, default=0, help="height of pictures on page and video (default 0: their own)")
    add("--logfile_name", default="log.txt", help="the log's file name (default: %(default)s)")
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Raise HiganError where arguments are out of range or contradict each other."""
    lowest = dict.fromkeys(("seed", "num", "batch_size", "row", "col", "row_spacing", "col_spacing", "viz_size"), 0)
    lowest |= dict.fromkeys(("border_left", "border_right", "border_top", "border_bottom"), 0) | {"step": 1, "fps": 1}
    for name, least in lowest.items():
        if getattr(args, name) < least:
            raise HiganError(f"--{name} is {getattr(args, name)}; expected {least} or more")
    for name, most in (("viz_size", 2048), ("fps", 1000)):
        if getattr(args, name) > most:
            raise HiganError(f"--{name} is {getattr(args, name)}; expected {most} at most")
    if args.num == 0 and args.latent_codes_path is None:
        raise HiganError("--num is 0; give the number of samples to draw, or codes with --latent_codes_path")
    for name in ("html_name", "video_name", "logfile_name"):
        if not getattr(args, name) or Path(getattr(args, name)).name != getattr(args, name):
            raise HiganError(f"--{name} is {getattr(args, name)!r}; expected a file name without a folder")
    if Path(args.html_name).suffix not in (".html", ".htm"):
        raise HiganError(f"--html_name is {args.html_name!r}; expected a name that ends in .html")
    if (args.boundary_list_path is None) != (args.interpolate or args.mix_style):
        raise HiganError("give one of: a boundary list, --interpolate, --mix_style")
    if args.interpolate + args.mix_style + args.combine > 1:
        raise HiganError("--interpolate, --mix_style and --combine exclude each other; leave two out")


def main() -> None:
    """Run the step."""
    args = parse_args()
    check_args(args)
    from higan.logs import open_log

    log = open_log()
    log.info("loading %s", args.model_name)

    from higan.boundaries import write_boundary
    from higan.devices import keep_freed_memory
    from higan.editing import draw_codes, synthesize_steps
    from higan.files import write_array
    from higan.folders import output_folder
    from higan.generators import load_generator
    from higan.video import check_video_name

    keep_freed_memory()
    check_video_name(args.video_name)
    generator = load_generator(args.model_name, device=args.device, precision=args.precision, class_idx=args.class_idx)
    generator.batch_size = args.batch_size or generator.batch_size
    with output_folder(args.output_dir or f"{generator.name}_manipulation") as folder:
        log = open_log(folder, args.logfile_name)
        codes = draw_codes(generator, args.latent_space_type, args.num, args.seed, args.latent_codes_path)
        todo = edits(args, generator, codes, log)
        for space, values in codes.items():
            write_array(folder / f"{space}.npy", values.cpu().numpy())
        for edited in todo:
            log.info("%s", edited.summary)
            write_array(folder / f"{edited.prefix}_manipulated_{edited.space}.npy", edited.codes.cpu().numpy())
            for boundary in edited.boundaries:
                write_boundary(boundary, folder, f"{boundary.name}_{boundary.space}_boundary.npy")
            rows = synthesize_steps(generator, edited.codes, edited.space)
            show(args, edited, generator, rows, folder, log)


def edits(args: argparse.Namespace, generator: Generator, codes: dict[str, Any], log: Any) -> Iterable[Edited]:
    """Return what is asked for: one edit per boundary, all of them in one, an interpolation, or mixed styles."""
    from higan import manipulation
    from higan.editing import spaced_distances

    if args.interpolate:
        steps = len(spaced_distances(0, 1, args.step))
        return [manipulation.between_samples(generator, codes, args.latent_space_type, steps)]
    if args.mix_style:
        return [manipulation.with_mixed_styles(generator, codes, args.manipulate_layers or "upper")]
    moves = plan(args, generator, log)
    one = {space: values[:1] for space, values in codes.items()}
    tried = [manipulation.along_boundary(generator, one, move) for move in moves]  # refused before anything is written
    if not args.combine:
        return (manipulation.along_boundary(generator, codes, move) for move in moves)
    manipulation.jointly(generator, one, tried)
    every = [manipulation.along_boundary(generator, codes, move) for move in moves]
    return [manipulation.jointly(generator, codes, every)]


def plan(args: argparse.Namespace, generator: Generator, log: Any) -> list[Move]:
    """Return how to move along each boundary of the list: conditioned, at which layers, how far."""
    from higan import boundaries, editing
    from higan.layer_sets import format_layers
    from higan.manipulation import Move, find_boundary

    if args.layerwise_manipulation and "wp" not in generator.spaces:
        raise HiganError(f"{generator.name} ({generator.family}) has no layers; leave --layerwise_manipulation out")
    distances = editing.spaced_distances(args.start_distance, args.end_distance, args.step)
    entries = boundaries.read_boundary_list(args.boundary_list_path, generator.num_layers or None)
    moves = []
    for entry in entries:
        name, space = entry.boundary.name, entry.boundary.space
        known = [other.boundary for other in entries if other.boundary.space == space]
        folder = Path(entry.boundary.info["path"]).parent
        others = [find_boundary(other, folder, known, space) for other in args.condition if other != name]
        asked = entry.layers or args.manipulate_layers
        layers, chosen = None, ""
        if space == "z":
            if asked or args.layerwise_manipulation:
                log.warning("boundary %s is of space z, which has no layers: the code moves as a whole", name)
        elif asked or args.layerwise_manipulation or args.combine:
            layers, chosen = editing.choose_layers(entry.boundary, generator.num_layers, asked)
            log.info("boundary %s: layers %s (%s)", name, format_layers(layers), chosen)
        elif own := entry.boundary.layers:
            log.info(
                "boundary %s: the code moves as a whole; with --layerwise_manipulation it moves at layers %s",
                name,
                format_layers(own),
            )
        reach = distances if entry.distance is None else editing.scaled_distances(distances, entry.distance)
        boundary = boundaries.condition(entry.boundary, others)
        moves.append(Move(boundary, reach, layers, chosen, keep_pace=not args.disable_manipulation_truncation))
    return moves


def show(args: argparse.Namespace, edited: Edited, generator: Generator, rows: Any, folder: Path, log: Any) -> None:
    """Write the pictures, the page and the video of `rows`, uint8 [S, H, W, 3] per sample, as they are asked for."""
    from higan.logs import progress
    from higan.report import describe_origin, write_manipulation_page

    if not (args.save_raw_synthesis or args.generate_html or args.generate_video):
        return
    rows = progress(iterable=rows, total=len(edited.codes), unit="sample", leave=False)
    if args.save_raw_synthesis:
        rows = saved(rows, folder, edited.prefix)
    if args.generate_video:
        from higan.video import Mosaic, has_video, write_video

        mosaic = Mosaic(**{field: getattr(args, field) for field in Mosaic.__dataclass_fields__})
        rows = list(rows)
        frames = [mosaic.frame([row[step] for row in rows]) for step in range(len(rows[0]))]
        path = write_video(folder / f"{edited.prefix}_{args.video_name}", frames, args.fps)
        missing = "" if path.suffix == Path(args.video_name).suffix or has_video() else "; PyAV is not installed"
        log.info("video: %s%s", path, missing and f"{missing}: pip install -e '.[video]' for {args.video_name}")
    if args.generate_html:
        path = folder / f"{edited.prefix}_{args.html_name}"
        write_manipulation_page(
            path,
            rows,
            edited.headings,
            num=len(edited.codes),
            title=edited.title,
            summary=edited.summary,
            origin=edited.origin,
            names=edited.names,
            size=args.viz_size,
            stem=edited.prefix,
            details={
                **edited.details,
                "Codes": str(args.latent_codes_path or f"seed {args.seed}"),
                **describe_origin(generator),
            },
        )
        log.info("page: %s", path)
    for _ in rows:
        pass


def saved(rows: Any, folder: Path, prefix: str) -> Iterator[Any]:
    """Pass rows of pictures on, and write each picture."""
    from higan.files import encode_image, write_atomic

    for sample, row in enumerate(rows):
        for step, picture in enumerate(row):
            write_atomic(folder / f"{prefix}_{sample:05d}_{step:03d}.jpg", encode_image(picture, "jpg"))
        yield row


if __name__ == "__main__":
    run_script(main)
