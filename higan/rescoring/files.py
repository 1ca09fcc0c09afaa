"""What re-scoring found, as files: arrays, a table of text, JSON, layers in boundaries' files, and the log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higan.directions.boundaries import Boundary, check_name, write_description
from higan.files import write_array, write_atomic
from higan.generators.layer_sets import say_layers
from higan.generators.network import layered
from higan.rescoring.columns import AXES, COLUMNS, plain_name, table_names
from higan.rescoring.statistics import SHARE, UNKNOWN, VERIFIED

if TYPE_CHECKING:
    from higan.rescoring.result import Rescoring


def write_rescoring(rescoring: Rescoring, folder: Path) -> None:
    """Write `{name}_{space}_scores.npy` (float32 [N, 2 + L]), the tables as `rescore_*.npy`, rescore.csv and .json.

    The .json says what made the others: an earlier one goes first, the new one comes last. Raises HiganError if one of
    them cannot be written.
    """
    (folder / "rescore.json").unlink(missing_ok=True)
    for direction in rescoring.directions:
        if direction.named:
            stem = f"{direction.recipe}_{direction.name}" if direction.recipe else direction.name
            write_array(folder / f"{check_name(stem)}_{direction.space}_scores.npy", direction.scores)
    for name in table_names(rescoring.table):
        write_array(folder / f"rescore_{name}.npy", rescoring.table[name])
    write_atomic(folder / "rescore.csv", to_csv(rescoring))
    write_atomic(folder / "rescore.json", json.dumps(to_json(rescoring), indent=2, allow_nan=False) + "\n")


def write_layers(rescoring: Rescoring, boundaries: Sequence[Boundary]) -> list[str]:
    """Store what re-scoring says of each boundary in its JSON; return a line per boundary on what became of it.

    Verified layers become the boundary's own. Layers that could not be told from chance are kept as candidates, which
    is what they are. An answer of more samples (or of more random directions) on the same model and predictor stays.
    Raises HiganError if a file cannot be written.
    """
    lines = []
    for index, boundary in enumerate(boundaries):
        direction, answer = rescoring.directions[index], rescoring.answer(index)
        words = {VERIFIED: say_layers(direction.chosen)}.get(direction.mark, direction.mark)
        if direction.mark == UNKNOWN and direction.chosen:
            words += f"; {say_layers(direction.chosen)} stored as a candidate"
        if larger := larger_answer(rescoring, boundary, direction.mark, rescoring.samples(index)):
            lines.append(f"{boundary.name}: {words}; {larger}")
            continue
        lines.append(f"{boundary.name}: {words}")
        if boundary.info.get("layers_from") == "rescoring" or direction.mark == VERIFIED:
            boundary.layers = direction.verified or None
            boundary.info.pop("layers_from", None)
            if boundary.layers:
                boundary.info["layers_from"] = "rescoring"
        if direction.level:
            boundary.info["level"] = direction.level
        spread = rescoring.spread
        boundary.info["rescoring"] = {
            "verdict": direction.mark,
            "layers": list(direction.chosen),
            "share": SHARE,
            "num": rescoring.samples(index),
            "controls": rescoring.controls,
            "distance": rescoring.distance,
            "tested_distance": direction.tested,
            "effect": rounded(np.array([answer.value, answer.low, answer.high])),
            "limit": rounded(np.array([answer.limit]))[0],
            "leak": rounded(np.array([answer.leak, answer.worst])),
            "score": answer.score,
            "score_std": float(f"{spread[direction.target]:.7g}"),
            "predictor": rescoring.provenance["predictor"],
            "model_sha256": rescoring.provenance["model_sha256"],
            "delta": rounded(rescoring.own("delta")[index]),
            "signed": rounded(rescoring.own("signed")[index]),
            "control_high": rounded(rescoring.table["control_high"][:, direction.target]),
        }
        write_description(boundary, Path(boundary.info["path"]).with_suffix(".json"))
    return lines


def larger_answer(rescoring: Rescoring, boundary: Boundary, mark: str, samples: int) -> str:
    """Return in words why the answer in a boundary's file stays, "" if it does not; the new one is of `samples`."""
    found = boundary.info.get("rescoring")
    if not isinstance(found, dict):
        return ""
    if any(found.get(key) != rescoring.provenance[key] for key in ("predictor", "model_sha256")):
        return ""
    num, controls = (found.get(key) for key in ("num", "controls"))
    known = found.get("verdict", VERIFIED if boundary.layers else "")
    if type(num) is int and num > samples and known != UNKNOWN:
        return f"the answer of {num} samples stays ({known})"
    if type(controls) is int and controls > rescoring.controls and known != UNKNOWN:
        return f"the answer against {controls} random directions stays ({known})"
    if mark == UNKNOWN and known not in ("", UNKNOWN):
        return f"the earlier answer stays ({known})"
    return ""


def log_lines(rescoring: Rescoring) -> list[str]:
    """Return the paper's report, each boundary's layers and how far its score rises; then the answers.

    Rises of layers are in the units of the score. Boundaries are ranked in its standard deviations, so that scores of
    different units compare. A direction that stands for no score has no such rise: its answer says what it moves.
    """
    lines = []
    overall = []
    own, spread = rescoring.own("delta"), rescoring.spread
    for index, direction in enumerate(rescoring.directions):
        if not direction.named:
            continue
        lines.append(f"Boundary `{direction.name}` from {direction.space.upper()} space.")
        if layered(direction.space):
            ranked = sorted(rescoring.layers, key=lambda layer: -own[index, 1 + layer])
            lines += [f"  Layer {layer:02d}: {own[index, 1 + layer]:7.4f}" for layer in ranked]
        overall.append((direction.name, own[index, 0], own[index, 0] / spread[direction.target]))
    lines += ["Most relevant semantics:"] * bool(overall)
    lines += [
        f"  {name.ljust(15)}: {rise:7.4f} ({relative:.2f} sd)"
        for name, rise, relative in sorted(overall, key=lambda found: -found[2])
    ]
    lines += [answer.sentence() for answer in rescoring.answers()]
    if rescoring.interval_width is not None:
        counts = np.concatenate([rescoring.table[name].ravel() for name in ("samples", "control_samples")])
        counts = counts[np.isfinite(counts)]
        lines.append(f"moved at all layers and at each: {counts.sum():.0f} of {len(counts) * rescoring.num} times")
    if np.isfinite(raised := rescoring.limit_noise()):
        lines.append(f"sampling noise of the random directions raises limits of chance by {raised:.2f} sd at most")
    return lines


def to_csv(rescoring: Rescoring) -> str:
    """Return the table with a line per boundary, column and output."""
    text = io.StringIO()
    rows = list(rescoring.rows())
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["boundary"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: number(value) if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()


def to_json(rescoring: Rescoring) -> dict[str, Any]:
    """Return the names of rows and columns of the tables, each boundary's own numbers, and what made them."""
    boundaries = []
    for b, direction in enumerate(rescoring.directions):
        boundaries.append(
            {
                "name": direction.name,
                "space": direction.space,
                "score": rescoring.outputs[direction.target].name if direction.named else None,
                "level": direction.level,
                "list": direction.recipe or None,
                "chosen_layers": list(direction.chosen),
                "verdict": direction.mark or None,
                "verified_layers": list(direction.verified),
                "tested_distance": direction.tested,
                "answer": rescoring.answer(b).sentence(),
                "path": direction.path,
                "sha256": direction.sha256,
            }
            | own_numbers(rescoring, b)
        )
    content: dict[str, Any] = {
        "num": rescoring.num,
        "distance": rescoring.distance,
        "seed": rescoring.seed,
        "columns": ["all", *rescoring.layers],
        "outputs": [output.name for output in rescoring.outputs],
        "output_groups": [output.group for output in rescoring.outputs],
        "output_levels": [output.level for output in rescoring.outputs],
        "controls": rescoring.controls,
        "tables": {
            name: {"axes": [AXES[axis] for axis in column.axes], "about": column.about}
            for name, column in COLUMNS.items()
            if name in rescoring.table
        },
        "boundaries": boundaries,
    }
    if rescoring.interval_width is not None:
        content["interval_width"] = rescoring.interval_width
    if compared := rescoring.compared():
        content["compared"] = [asdict(found) for found in compared]
    for name, found in rescoring.hierarchies.items():
        content[name] = {"levels": list(found.levels), "counts": list(found.counts)} | {
            f"{key}{suffix}": rounded(getattr(getattr(found, key), part))
            for key in ("center", "level_center", "level_step")
            for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
    return content | rescoring.provenance


def own_numbers(rescoring: Rescoring, b: int) -> dict[str, Any]:
    """Return every table's numbers of direction b and its own score, by name."""
    numbers: dict[str, Any] = {}
    target = rescoring.targets[b]
    for name in table_names(rescoring.table):
        axes = COLUMNS[plain_name(name)].axes
        if axes.startswith("b"):
            values = rescoring.table[name][b][..., target] if axes.endswith("k") else rescoring.table[name][b]
            numbers[name] = rounded(values) if np.ndim(values) else rounded(np.array([values]))[0]
    return numbers


def rounded(values: np.ndarray) -> list[float | None]:
    """Return floats [N] as JSON values, null for NaN."""
    return [None if np.isnan(value) else float(f"{value:.7g}") for value in values]


def number(value: float) -> str:
    """Return a float as the text of a table's cell, "" for NaN."""
    return "" if np.isnan(value) else f"{value:.6g}"
