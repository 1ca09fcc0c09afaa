"""The model of a step: loaded to draw as its files were made, which are then compared with it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary
    from higan.generators import Generator
    from higan.generators.codes import Codes
    from higan.runs.provenance import Origin


def load_model(args: argparse.Namespace, boundary_files: Iterable[Path] = (), device: str | None = None) -> Generator:
    """Return the generator that a command line asks for.

    Truncation, class, noise and transform are those asked for, else those that the codes given were made with or, where
    codes are drawn, those that all boundaries were trained at, else the model's own.
    """
    from higan.generators import load_generator
    from higan.generators.zoo import find_weights
    from higan.runs.provenance import drawn_alike, origin_of

    path, model = find_weights(args.model_name)
    codes = getattr(args, "latent_codes_path", None)
    files = boundary_files if codes is None else [codes]
    origins = {str(file): origin_of(file) for file in files}
    chosen = drawn_alike(vars(args), origins, model.get("name", path.stem))
    return load_generator(
        args.model_name,
        chosen["truncation_psi"],
        chosen["truncation_layers"],
        device or args.device,
        getattr(args, "precision", "fp32"),
        chosen["noise"] or "const",
        chosen["class_idx"],
        chosen["translate"],
        chosen["rotate"],
    )


def boundary_origins(boundaries: Iterable[Boundary]) -> dict[str, Origin]:
    """Return what boundaries were made with, by what they are called in words."""
    from higan.runs.provenance import select

    return {f"boundary {each.name}": select(each.info, each.info.get("path", each.name)) for each in boundaries}


def compare_files(
    generator: Generator,
    codes: Codes | None,
    boundaries: Sequence[Boundary] = (),
    predictor_name: str = "",
    force: bool = False,
) -> None:
    """Compare how codes and boundaries were made with how they are used now.

    Raises HiganError, unless `force`, if they are another model's; what else differs is logged.
    """
    from higan.generators.network import layered
    from higan.runs.provenance import compare_drawing, compare_predictor, origin_of, require_same_model

    origins = boundary_origins(boundaries)
    given = {}
    if codes is not None and codes.path is not None and layered(codes.space):
        given[str(codes.path)] = origin_of(codes.path)
    require_same_model({**given, **origins}, generator, force)
    compare_drawing(origins, generator)
    if predictor_name:
        compare_predictor(origins, predictor_name)
