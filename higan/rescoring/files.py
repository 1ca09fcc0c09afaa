"""What re-scoring measured, as files: arrays, a table of text, JSON, layers in boundaries' files, and the log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from higan.directions.boundaries import Boundary, check_name, write_description
from higan.files import write_array, write_atomic
from higan.generators.network import layered
from higan.rescoring.rescore import Rescoring


def write_rescoring(rescoring: Rescoring, folder: Path) -> None:
    """Write `{name}_{space}_scores.npy` (float32 [N, 2 + L]), the tables as `rescore_*.npy`, rescore.csv and .json.

    The .json says what made the others: an earlier one goes first, the new one comes last. Raises HiganError if one of
    them cannot be written.
    """
    (folder / "rescore.json").unlink(missing_ok=True)
    for name, space, scores in zip(rescoring.names, rescoring.spaces, rescoring.scores, strict=True):
        write_array(folder / f"{check_name(name)}_{space}_scores.npy", scores)
    for name, table in tables(rescoring).items():
        write_array(folder / f"rescore_{name}.npy", table)
    write_atomic(folder / "rescore.csv", to_csv(rescoring))
    write_atomic(folder / "rescore.json", json.dumps(to_json(rescoring), indent=2, allow_nan=False) + "\n")


def write_layers(rescoring: Rescoring, boundaries: Sequence[Boundary]) -> list[Path]:
    """Store the verified layers in each boundary's JSON, with the numbers they rest on; return the files written.

    A boundary without verified layers loses those of an earlier re-scoring, and gains none. Raises HiganError if one of
    them cannot be written.
    """
    written = []
    for index, boundary in enumerate(boundaries):
        target = rescoring.targets[index]
        layers = rescoring.verified[index]
        if not layers and boundary.info.get("layers_from") != "rescoring":
            continue
        boundary.layers = layers or None
        boundary.info.pop("layers_from", None)
        if layers:
            boundary.info["layers_from"] = "rescoring"
        if rescoring.boundary_levels[index]:
            boundary.info["level"] = rescoring.boundary_levels[index]
        boundary.info["rescoring"] = {
            "num": rescoring.num,
            "distance": rescoring.distance,
            "predictor": rescoring.provenance["predictor"],
            "model_sha256": rescoring.provenance["model_sha256"],
            "delta": rounded(rescoring.delta.value[index, :, target]),
            "control_high": rounded(rescoring.control_high[:, target]),
        }
        path = Path(boundary.info["path"]).with_suffix(".json")
        write_description(boundary, path)
        written.append(path)
    return written


def log_lines(rescoring: Rescoring) -> list[str]:
    """Return the paper's report: each boundary's layers, then the boundaries, by how far they raise the score."""
    lines = []
    overall = []
    for index, (name, space) in enumerate(zip(rescoring.names, rescoring.spaces, strict=True)):
        own = rescoring.delta.value[index, :, rescoring.targets[index]]
        lines.append(f"Boundary `{name}` from {space.upper()} space.")
        if layered(space):
            ranked = sorted(rescoring.layers, key=lambda layer: -own[1 + layer])
            lines += [f"  Layer {layer:02d}: {own[1 + layer]:7.4f}" for layer in ranked]
        overall.append((name, own[0]))
    lines.append("Most relevant semantics:")
    lines += [f"  {name.ljust(15)}: {rise:7.4f}" for name, rise in sorted(overall, key=lambda pair: -pair[1])]
    return lines


def tables(rescoring: Rescoring) -> dict[str, np.ndarray]:
    """Return the arrays that are written, by name."""
    found: dict[str, np.ndarray] = {}
    for name in ("delta", "signed", "swap"):
        part = getattr(rescoring, name)
        if part is not None:
            found |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
    for name in ("risen", "image_change", "control_delta", "control_signed", "control_high", "base_mean", "base_std"):
        found[name] = getattr(rescoring, name)
    return found


def to_csv(rescoring: Rescoring) -> str:
    """Return the table with a line per boundary, column and output."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("delta", "delta_low", "delta_high", "signed", "signed_low", "signed_high", "risen", "control_high")
    writer.writerow(("boundary", "space", "layer", "group", "output", *names))
    found = tables(rescoring)
    columns = ("all", *rescoring.layers)
    found["control_high"] = np.broadcast_to(found["control_high"], rescoring.delta.value.shape)
    for b, (name, space) in enumerate(zip(rescoring.names, rescoring.spaces, strict=True)):
        for c, layer in enumerate(columns if layered(space) else columns[:1]):
            for k, (group, output) in enumerate(zip(rescoring.output_groups, rescoring.outputs, strict=True)):
                values = [found[column][b, c, k] for column in names]
                row = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
                writer.writerow((name, space, layer, group, output, *row))
    return text.getvalue()


def to_json(rescoring: Rescoring) -> dict[str, Any]:
    """Return the names of rows and columns of the tables, each boundary's own numbers, and what made them."""
    own = []
    for b, target in enumerate(rescoring.targets):
        delta = rescoring.delta
        own.append(
            {
                "name": rescoring.names[b],
                "space": rescoring.spaces[b],
                "level": rescoring.boundary_levels[b],
                "delta": rounded(delta.value[b, :, target]),
                "delta_low": rounded(delta.low[b, :, target]),
                "delta_high": rounded(delta.high[b, :, target]),
                "image_change": rounded(rescoring.image_change[b]),
                "verified_layers": list(rescoring.verified[b]),
            }
            | rescoring.provenance["boundaries"][b]
        )
    content: dict[str, Any] = {
        "num": rescoring.num,
        "distance": rescoring.distance,
        "seed": rescoring.seed,
        "columns": ["all", *rescoring.layers],
        "outputs": list(rescoring.outputs),
        "output_groups": list(rescoring.output_groups),
        "output_levels": list(rescoring.output_levels),
        "boundaries": own,
        "controls": len(rescoring.control_delta),
    }
    for name in ("hierarchy", "swap_hierarchy"):
        found = getattr(rescoring, name)
        if found is not None:
            content[name] = {"levels": list(found.levels)} | {
                f"{key}{suffix}": rounded(getattr(getattr(found, key), part))
                for key in ("center", "level_center", "level_step")
                for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
    return content | {key: value for key, value in rescoring.provenance.items() if key != "boundaries"}


def rounded(values: np.ndarray) -> list[float | None]:
    """Return float32 [N] as JSON values, null for NaN."""
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in values]
