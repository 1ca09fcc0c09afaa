"""Step 2: train boundaries, the directions along which scores change, on the latent codes and scores of step 1.

  python train_boundary.py SYNTHESIS/w.npy SYNTHESIS/attribute.npy --score_name=indoor_lighting -o boundaries/MODEL
  python train_boundary.py SYNTHESIS/w.npy SYNTHESIS/attribute.npy --score_name all --jobs 2 -o boundaries/MODEL
  python train_boundary.py SYNTHESIS/w.npy SYNTHESIS/attribute.npy --score_name all --solver ridge --disentangle

The default is the paper's: a linear SVM between the highest and the lowest scores. --solver ridge regresses each score
on all codes, which follows a continuous score better; gradient and steps also ask generator and predictor.
--disentangle leaves the other scores of the file alone.

Writes {score_name}_boundary.npy (float32 [1, D]; [1, L, D] for layer-wise codes) and a .json beside it that says how it
was trained and how well it separates. Codes and scores are memory-mapped: their number is bounded by the disk.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script
from higan.errors import HiganError
from higan.generators.network import SPACES

if TYPE_CHECKING:
    import numpy as np

    from higan.directions.boundaries import Boundary
    from higan.directions.slopes import Slopes
    from higan.generators import Generator as Model
    from higan.predictors import Predictor

OPTIONS = ("chosen_num_or_ratio", "split_ratio", "invalid_value", "verbose_test", "solver", "C", "seed", "bootstrap")
SLOPE_SOLVERS = ("ridge", "gradient", "steps")
PROBES = {"gradient": 256, "steps": 2000}
FEW_SAMPLES = 20  # whose accuracy is said as a count
NAMES_AT_ONCE = 64  # scores held in memory


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__)
    parser.add_argument("data_path", type=Path, help=".npy of codes: [N, D], or [N, L, D] for a direction per layer")
    words = ".npy of scores: a field per name (or [N] without --score_name)"
    parser.add_argument("scores_path", type=Path, help=words)
    add = parser.under("samples")
    add("--score_name", nargs="+", default=[], metavar="NAME", help="scores to train on, or `all`")
    add(
        "-N",
        "--chosen_num_or_ratio",
        type=float,
        default=2000,
        help="samples of highest score to use, and as many of lowest; up to 1, their share of all (default: 2000)",
    )
    add("-r", "--split_ratio", type=float, default=0.7, help="share of these to train on (default: 0.7)")
    add("-v", "--invalid_value", type=float, help="leave out samples with this score; nan: those without a score")
    add("--seed", type=int, default=0, help="seed of the split (default: 0)")
    add = parser.under("direction")
    add(
        "--solver",
        default="newton",
        choices=("newton", "liblinear", "libsvm", *SLOPE_SOLVERS),
        help="newton, liblinear, libsvm: three ways to find the SVM; libsvm is slow and gives the paper's numbers "
        "exactly. ridge: regression on all codes. gradient: the mean gradient of the score through the generator. "
        "steps: ridge, corrected by how the score rises along random steps (default: newton)",
    )
    add(
        "--C",
        type=lambda text: text if text == "auto" else float(text),
        default=1.0,
        help="weight of the SVM's hinge loss; auto: found so that the units of the codes do not matter (default: 1)",
    )
    add("-T", "--boundary_type", default="linear", choices=("linear",), help="kind of boundary (default: linear)")
    add(
        "-s",
        "--latent_space_type",
        choices=SPACES,
        help="latent space of the directions (default: that of the codes); --solver gradient also makes wp of w codes",
    )
    add(
        "--disentangle",
        type=float,
        nargs="?",
        const=10.0,
        metavar="STRENGTH",
        help="as codes vary, raise the score and leave the other scores of the file alone (default strength: 10; 0: "
        "let them move)",
    )
    add(
        "--condition",
        nargs="+",
        default=[],
        metavar="NAME",
        help="make each boundary orthogonal, in the metric of the codes' covariance, to these: scores of the same "
        "file, or paths of boundaries",
    )
    add = parser.under("model, for gradient and steps")
    add("--probes", type=int, help="samples to take gradients of (default: 256), or random steps (default: 2000)")
    words = "(default: that of the run beside the codes)"
    add("--model_name", help=f"the model that made the codes {words}")
    add("--predictor_name", help=f"the predictor that made the scores {words}")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add = parser.under("test")
    add("-V", "--verbose_test", action="store_true", help="tell the accuracy on all samples that were not chosen, too")
    add(
        "--bootstrap",
        type=int,
        default=0,
        metavar="K",
        help="train on K resampled sets and tell the mean angle between their boundaries (default: 0; ridge: 10)",
    )
    add = parser.under("output")
    add("-o", "--output_dir", type=Path, default=Path("results"), help="folder to write to (default: results)")
    words = "what follows the score's name and `_` in file names (default: %(default)s)"
    add("--save_name", default="boundary.npy", help=words)
    add("--logfile_name", default="", help="the log's file name (default: the boundary's, or train_boundary.log)")
    add("--jobs", type=int, default=1, help="boundaries to train at a time (default: 1)")
    parser.add_force()
    return parser.parse_args()


def main() -> None:
    """Run the step."""
    args = parse_args()
    if args.jobs < 1 or not 0 <= args.seed < 2**32 or args.bootstrap not in (0, *range(2, 1001)):
        raise HiganError("expected --jobs from 1, --seed from 0 to 4294967295, --bootstrap from 2 to 1000 (0 for none)")
    if args.disentangle is not None and not 0 <= args.disentangle < float("inf"):
        raise HiganError(f"--disentangle is {args.disentangle:g}; expected a number from 0")
    if args.probes is not None and args.probes < 2:
        raise HiganError(f"--probes is {args.probes}; expected 2 or more")

    from higan.directions.boundaries import find_name, read_scores, write_boundary
    from higan.directions.lists import extend_boundary_list
    from higan.generators.codes import code_array
    from higan.logs import command_line, log_written, open_log
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
        log.info("%s", command_line())
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
            boundary_list = extend_boundary_list(folder, written)
            log.info("list of the folder's boundaries: %s", boundary_list)
        if len(failed) == len(names):
            raise HiganError(f"none of the {len(names)} scores can be trained on; the reasons are in {folder}")
        listed = boundary_list if written else path
        log_written(folder, otherwise=f"python rescore.py MODEL {listed} tells which of them the generator obeys")


def trained(
    args: argparse.Namespace, codes: Any, scores: Any, names: list[str]
) -> Generator[tuple[str, Any], None, None]:
    """Yield each name with its boundary, or with the error that kept it from being trained, in the order of `names`."""
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    from higan.directions.boundaries import find_name, read_boundary
    from higan.directions.conditioning import condition
    from higan.directions.slopes import find_covariance
    from higan.directions.training import load_columns, train_boundary, with_reach

    options = {name: getattr(args, name) for name in OPTIONS}
    options["space"] = space = space_of(args, codes)
    slopes = find_slopes(args, codes, scores, names, space)
    covariance = find_covariance(codes) if args.condition else None
    others: list[Boundary] = []

    def find_direction(name: str, values: np.ndarray, strength: float | None) -> Boundary:
        if slopes and args.solver in SLOPE_SOLVERS:
            return slopes.boundary(name, space, strength)
        boundary = train_boundary(codes, values, name, **options)
        return boundary if slopes is None or strength is None else slopes.disentangled(boundary, strength)

    def train(item: tuple[str, np.ndarray]) -> tuple[str, Boundary | HiganError]:
        name, values = item
        try:
            boundary = find_direction(name, values, args.disentangle)
            boundary = condition(boundary, [other for other in others if other.target != name], covariance)
            return name, with_reach(boundary, codes)
        except HiganError as error:
            return name, error

    for name in args.condition:
        if name.endswith(".npy"):
            others.append(read_boundary(Path(name)))
            continue
        found = find_name(name, scores, "score", str(args.scores_path))
        try:
            # the plane itself: what is orthogonal to it leaves the score alone, to a direction turned away it need not
            others.append(find_direction(found, scores[found], None))
        except HiganError as error:
            raise HiganError(f"--condition {name}: {error}") from error
    if args.solver in SLOPE_SOLVERS:
        yield from map(train, ((name, scores[name]) for name in names))
        return
    threadpool_limits(1, "blas")  # products of a matrix and a vector, which more threads only slow down
    pool = ThreadPoolExecutor(min(args.jobs, os.cpu_count() or 1))  # the arithmetic runs outside of Python's lock
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a filter in a thread is everyone's; the accuracies say what matters
            for start in range(0, len(names), NAMES_AT_ONCE):
                columns = load_columns(scores, names[start : start + NAMES_AT_ONCE])
                yield from pool.map(train, columns.items())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error nothing more is to be trained


def space_of(args: argparse.Namespace, codes: np.ndarray) -> str:
    """Return the latent space of the directions; raise HiganError where it is not that of the codes, and cannot be."""
    from higan.generators.codes import stated_space
    from higan.generators.network import layered, per_layer, space_of

    stated, _ = stated_space(args.data_path)
    asked = args.latent_space_type
    own = space_of(codes.ndim)
    if not per_layer(own):
        own = (stated if stated and not per_layer(stated) else None) or asked or own
    spread = args.solver == "gradient" and layered(own)  # over the layers, each of which gets a direction of its own
    if asked not in (None, own) and not (spread and per_layer(asked)):
        raise HiganError(
            f"--latent_space_type is {asked}, but {args.data_path} holds codes of {own}; give codes of {asked}"
        )
    return asked or own


def find_slopes(
    args: argparse.Namespace, codes: np.ndarray, scores: dict[str, np.ndarray], names: list[str], space: str
) -> Slopes | None:
    """Return the slopes of the scores that the solver or --disentangle ask for, None if neither does."""
    if args.solver not in SLOPE_SOLVERS and args.disentangle is None:
        return None
    from higan.directions.ridge import RESAMPLES, ridge_slopes

    conditions = [name for name in args.condition if name in scores]
    wanted = dict.fromkeys([*names, *conditions, *(scores if args.disentangle is not None else ())])
    columns = {name: scores[name] for name in wanted}
    if args.solver not in PROBES:
        return ridge_slopes(codes, columns, args.invalid_value, args.bootstrap or RESAMPLES, args.seed)

    import numpy as np
    import torch

    from higan.directions.gradient import gradient_slopes, require_same_scores
    from higan.directions.slopes import find_covariance
    from higan.directions.steps import step_slopes
    from higan.generators.network import per_layer, space_of
    from higan.logs import progress

    generator, predictor = load_source(args)
    num = min(args.probes or PROBES[args.solver], len(codes))
    rows = np.sort(np.random.default_rng(args.seed).choice(len(codes), num, replace=False))
    own = space_of(codes.ndim) if per_layer(space) else space
    probes = torch.from_numpy(np.asarray(codes[rows], dtype=np.float32))
    picked = {name: np.asarray(values[rows], dtype=np.float64) for name, values in columns.items()}
    require_same_scores(generator, predictor, probes[:8], own, {name: picked[name][:8] for name in picked})
    covariance = find_covariance(codes)
    if args.solver == "gradient":
        shown = partial(progress, desc="gradients", unit="batch")
        return gradient_slopes(
            generator,
            predictor,
            probes,
            own,
            list(wanted),
            per_layer(space),
            lambda rows: shown(iterable=rows),
            covariance,
        )
    samples = ridge_slopes(codes, columns, args.invalid_value, 0, args.seed)
    return step_slopes(
        generator,
        predictor,
        probes,
        own,
        picked,
        samples,
        covariance,
        args.seed,
        lambda batches: progress(iterable=batches, desc="random steps", unit="batch"),
    )


def load_source(args: argparse.Namespace) -> tuple[Model, Predictor]:
    """Return the generator and the predictor that made codes and scores, as the run beside them or options say."""
    from higan.generators import load_generator
    from higan.predictors import load_predictor, names_code
    from higan.runs.provenance import DRAWING, select
    from higan.runs.run import RUN_FILE, read_run

    run = read_run(args.data_path.parent)
    settings = select(run["settings"], args.data_path.parent / RUN_FILE) if run else {}
    model = args.model_name or settings.get("model_name")
    if model is None:
        raise HiganError(
            f"--solver {args.solver} needs the model: there is no run.json beside {args.data_path}; give --model_name "
            "(and --predictor_name)"
        )
    known = {key: settings[key] for key in DRAWING if key in settings}
    recorded = settings.get("predictor_name")
    if not args.predictor_name and recorded and names_code(recorded):  # a file names no code to be run
        raise HiganError(f"the scores are recorded to be of {recorded}; say so by --predictor_name={recorded}")
    generator = load_generator(model, device=args.device, **known)
    name = args.predictor_name or recorded or generator.predictor or "scene"
    return generator, load_predictor(name, args.device)


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
    """Return a line on how a boundary was trained, how well it separates or explains the score, and how far it goes."""
    info = boundary.info
    parts = []
    if "training" in info:
        parts.append(f"{info['training']['positive']} positive and {info['training']['negative']} negative")
    for part in ("training", "validation", "remaining"):
        num = sum(info[part].values()) if part in info and part != "remaining" else info.get(part, 0)
        if not num or info[f"{part}_accuracy"] is None:
            continue
        if part != "remaining" and num < FEW_SAMPLES:
            parts.append(f"{part} {say(info[f'{part}_right'], 'd')} of {num} right")
        else:
            parts.append(f"balanced {part} accuracy {say(info[f'{part}_accuracy'], '.4f')} (of {num})")
    words = {
        "r2": ("R² on held-out samples", ".3f"),
        "r2_steps": ("R² of random steps", ".3f"),
        "common_gradient": ("share of the gradient that samples have in common", ".3f"),
        "bootstrap_angle": ("angle between resampled directions in degrees", ".1f"),
        "group_angle": ("angle between groups of samples in degrees", ".1f"),
        "reach": ("distance 2 in standard deviations", ".1f"),
    }
    parts += [f"{said} {say(info[key], form)}" for key, (said, form) in words.items() if info.get(key) is not None]
    return f"{boundary.name or 'boundary'}: {', '.join(parts)}"


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
