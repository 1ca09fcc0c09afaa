"""Step 2: train boundaries, the directions along which scores change, on the latent codes and scores of step 1.

  python train_boundary.py SYNTHESIS/w.npy SYNTHESIS/attribute.npy --score_name=indoor_lighting -o boundaries/MODEL
  python train_boundary.py SYNTHESIS/w.npy SYNTHESIS/attribute.npy --score_name all --jobs 2 -o boundaries/MODEL

Writes {score_name}_boundary.npy (float32 [1, D]; [1, L, D] for layer-wise codes) and a .json beside it that says how it
was trained and how well it separates. Codes and scores are memory-mapped: their number is bounded by the disk.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script
from higan.errors import HiganError

if TYPE_CHECKING:
    import numpy as np

    from higan.directions.boundaries import Boundary

OPTIONS = ("chosen_num_or_ratio", "split_ratio", "invalid_value", "verbose_test", "solver", "C", "seed", "bootstrap")
FEW_SAMPLES = 20  # whose accuracy is said as a count
NAMES_AT_ONCE = 64  # scores held in memory


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("data_path", type=Path, help=".npy of codes: [N, D], or [N, L, D] for a direction per layer")
    add("scores_path", type=Path, help=".npy of scores: a field per name (or [N] without --score_name)")
    add("--score_name", nargs="+", default=[], metavar="NAME", help="scores to train on, or `all`")
    add("-o", "--output_dir", type=Path, default=Path("results"), help="folder to write to (default: results)")
    add("-T", "--boundary_type", default="linear", choices=("linear",), help="kind of boundary (default: linear)")
    add(
        "-N",
        "--chosen_num_or_ratio",
        type=float,
        default=2000,
        help="samples of highest and of lowest score to use, or their share, up to 1 (default: 2000)",
    )
    add("-r", "--split_ratio", type=float, default=0.7, help="share of them that is trained on (default: 0.7)")
    add("-v", "--invalid_value", type=float, help="leave out samples of this score (nan: those without one)")
    add("-V", "--verbose_test", action="store_true", help="judge all the other samples as well")
    add("--save_name", default="boundary.npy", help="file name after the score's and `_` (default: %(default)s)")
    add("--logfile_name", default="", help="the log's file name (default: the boundary's, or train_boundary.log)")
    add("--seed", type=int, default=0, help="of the split (default: 0)")
    add("--C", type=float, default=1.0, help="weight of the hinge loss (default: 1)")
    add(
        "--solver",
        default="newton",
        choices=("newton", "liblinear", "libsvm"),
        help="of the SVM, hinge loss all; libsvm gives the paper's numbers exactly, slowly (default: newton)",
    )
    parser.add_force()
    add("--jobs", type=int, default=1, help="boundaries to train at a time (default: 1)")
    add(
        "--condition",
        nargs="+",
        default=[],
        metavar="NAME",
        help="make each boundary orthogonal to these: scores of the same file, or paths of boundaries",
    )
    add(
        "--bootstrap",
        type=int,
        default=0,
        metavar="K",
        help="train on K resampled training sets and tell the mean angle between the boundaries",
    )
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    if args.jobs < 1 or not 0 <= args.seed < 2**32 or args.bootstrap not in (0, *range(2, 1001)):
        raise HiganError("expected --jobs from 1, --seed from 0 to 4294967295, --bootstrap from 2 to 1000 (0 for none)")

    from higan.directions.boundaries import find_name, read_scores, write_boundary
    from higan.directions.lists import extend_boundary_list
    from higan.generators.codes import code_array
    from higan.logs import open_log
    from higan.runs.folders import output_folder
    from higan.runs.provenance import require_same_codes

    codes, scores = code_array(args.data_path), read_scores(args.scores_path)
    every = args.score_name == ["all"] or (not args.score_name and len(scores) == 1)
    chosen = list(scores) if every else args.score_name
    names = [find_name(name, scores, "score", str(args.scores_path)) for name in chosen]
    if not names:
        raise HiganError(f"{args.scores_path} holds {len(scores)} scores; choose with --score_name NAME, or all")
    files, unfit = name_files(names, args.save_name)
    if unfit and not every:
        raise next(iter(unfit.values()))
    names = list(files)
    with output_folder(args.output_dir) as folder, closing(trained(args, codes, scores, names)) as results:
        one = files[names[0]].removesuffix(".npy") + ".log"
        log = open_log(folder, args.logfile_name or (one if len(names) == 1 else "train_boundary.log"))
        log.info("%s", shlex.join(sys.argv))
        log.info("codes %s, %d boundaries to train", list(codes.shape), len(names))

        require_same_codes(args.data_path, args.scores_path, args.force)
        source = describe_source(args)
        for name, error in unfit.items():
            log.info("%s is left out: %s", name, error)
        failed: list[str] = []
        written: dict[str, Boundary] = {}
        for name, result in results:
            if isinstance(result, HiganError):
                if args.score_name != ["all"]:
                    raise HiganError(f"{name}: {result}" if name else str(result))
                log.info("%s is left out: %s", name, result)
                failed.append(name)
                continue
            result.info |= source
            path = write_boundary(result, folder, files[name])
            written |= {files[name]: result} if name else {}
            log.info("%s", describe(result))
            for note in result.info.get("notes", ()):
                log.warning("  %s: %s", name or "boundary", note)
            log.info("  written to %s", path)
        if written:
            log.info("list of the folder's boundaries: %s", extend_boundary_list(folder, written))
        if len(failed) == len(names):
            raise HiganError(f"none of the {len(names)} scores can be trained on; the reasons are in {folder}")


def trained(
    args: argparse.Namespace, codes: Any, scores: Any, names: list[str]
) -> Generator[tuple[str, Any], None, None]:
    """Yield each name with its boundary, or with the error that kept it from being trained, in the order of `names`."""
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    from higan.directions.boundaries import find_name, read_boundary
    from higan.directions.conditioning import condition
    from higan.directions.training import load_columns, train_boundary
    from higan.generators.codes import stated_space

    options = {name: getattr(args, name) for name in OPTIONS}
    space = stated_space(args.data_path)[0]
    options["space"] = space if (space == "wp") == (codes.ndim == 3) else None
    others: list[Boundary] = []

    def train(item: tuple[str, np.ndarray]) -> tuple[str, Boundary | HiganError]:
        name, values = item
        try:
            boundary = train_boundary(codes, values, name, **options)
            return name, condition(boundary, [other for other in others if other.target != name])
        except HiganError as error:
            return name, error

    threadpool_limits(1, "blas")  # products of a matrix and a vector, which more threads only slow down
    conditions: list[Boundary] = []
    for name in args.condition:
        if name.endswith(".npy"):
            conditions.append(read_boundary(Path(name)))
            continue
        found = find_name(name, scores, "score", str(args.scores_path))
        _, result = train((found, scores[found]))
        if isinstance(result, HiganError):
            raise HiganError(f"--condition {name}: {result}")
        conditions.append(result)
    others += conditions
    pool = ThreadPoolExecutor(min(args.jobs, os.cpu_count() or 1))  # the arithmetic runs outside of Python's lock
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a filter in a thread is everyone's; the accuracies say what matters
            for start in range(0, len(names), NAMES_AT_ONCE):
                columns = load_columns(scores, names[start : start + NAMES_AT_ONCE])
                yield from pool.map(train, columns.items())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error nothing more is to be trained


def name_files(names: list[str], suffix: str) -> tuple[dict[str, str], dict[str, HiganError]]:
    """Return the file of each score's boundary, and why there is none for the others."""
    from higan.directions.boundaries import check_name, fit_for_files

    suffix = check_name(suffix if suffix.endswith(".npy") else f"{suffix}.npy")
    files: dict[str, str] = {}
    unfit: dict[str, HiganError] = {}
    for name in names:
        try:
            file = check_name(f"{fit_for_files(name)}_{suffix}" if name else suffix)
            if file in files.values():
                raise HiganError(f"{name!r} would be written to {file}, as another score is; rename one of them")
            files[name] = file
        except HiganError as error:
            unfit[name] = error
    return files, unfit


def describe(boundary: Boundary) -> str:
    """Return a line on how a boundary was trained and how well it separates."""
    info = boundary.info
    sizes = info["training"]
    parts = [f"{boundary.name or 'boundary'}: {sizes['positive']} positive and {sizes['negative']} negative"]
    for part in ("training", "validation", "remaining"):
        num = sum(info[part].values()) if part in info and part != "remaining" else info.get(part, 0)
        if not num or info[f"{part}_accuracy"] is None:
            continue
        if part != "remaining" and num < FEW_SAMPLES:
            parts.append(f"{part} {say(info[f'{part}_right'], 'd')} of {num} right")
        else:
            parts.append(f"balanced {part} accuracy {say(info[f'{part}_accuracy'], '.4f')} (of {num})")
    if info.get("bootstrap_angle") is not None:
        parts.append(f"bootstrap angle {say(info['bootstrap_angle'], '.1f')}")
    return ", ".join(parts)


def say(values: float | list[float], form: str) -> str:
    """Return a number, or those of several layers, as text."""
    return " ".join(f"{value:{form}}" for value in (values if isinstance(values, list) else [values]))


def describe_source(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the boundaries are trained on: the files and, if it is recorded, what made them."""
    from higan.runs.provenance import origin_of

    source: dict[str, Any] = {"data_path": str(args.data_path), "scores_path": str(args.scores_path)}
    source |= origin_of(args.data_path) | origin_of(args.scores_path)
    source.pop("space", None)
    return source


def run() -> None:
    """Run the step as a program."""
    run_script(main)
