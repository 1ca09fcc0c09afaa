"""The page of the hierarchy: which directions a generator obeys, at which layers, and what else they change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higan.generators.layer_sets import format_layers
from higan.predictors.predictor import LEVELS
from higan.report.page import PICTURE_BYTES, encode_rows, reduction_notes, to_base64, write_page

if TYPE_CHECKING:
    from higan.rescoring.result import Rescoring
    from higan.rescoring.statistics import Estimate, Hierarchy

MAX_COLUMNS = 24  # outputs in the table of what else moved
MAX_ROWS = 60  # outputs in the table of layer swap


@dataclass(frozen=True)
class Cell:
    """One number of a table: as text, for sorting, its shade from 0 to 1 (-1 to 1 where signs matter), and marks."""

    text: str
    value: float
    heat: float
    title: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Bar:
    """A value with its interval and the most that chance reaches, as shares of the longest bar."""

    name: str
    level: str
    text: str
    value: float
    relative: float
    length: float
    low: float
    high: float
    control: float | None
    risen: str
    layers: str
    center: str
    center_value: float


@dataclass(frozen=True)
class Row:
    """A named row of cells."""

    name: str
    level: str
    cells: list[Cell]
    note: str = ""
    note_value: float = 0.0


def write_rescoring_page(path: str | Path, rescoring: Rescoring) -> None:
    """Write what re-scoring measured as one page: ranking, layers, leakage, image change, layer swap, pictures."""
    provenance = rescoring.provenance
    strips, (height, width), notes = _strips(rescoring)
    model = str(provenance.get("model", "the model"))
    columns = _leakage_columns(rescoring)
    write_page(
        path,
        "rescoring.html",
        title=f"What {model} obeys, and where",
        summary=(
            f"{len(rescoring.directions)} boundaries re-scored on {rescoring.num} samples, moved by "
            f"{rescoring.distance:g}; Δ is the mean rise of a boundary's own score, falls counted as zero."
        ),
        notes=notes,
        details=_details(rescoring),
        bars=_bars(rescoring),
        controls=rescoring.controls,
        layers=rescoring.layers,
        heat=_layer_rows(rescoring),
        image_heat=_image_rows(rescoring),
        hierarchies=[
            (name, _levels(hierarchy))
            for name, hierarchy in (
                ("boundaries", rescoring.hierarchies.get("hierarchy")),
                ("layer swap", rescoring.hierarchies.get("swap_hierarchy")),
            )
            if hierarchy is not None and hierarchy.levels
        ],
        leak_names=[rescoring.outputs[output].name for output in columns],
        leaks=_leak_rows(rescoring, columns),
        left_out=len(rescoring.outputs) - len(columns),
        swap=_swap_rows(rescoring),
        strips=strips,
        strip_headings=_strip_headings(rescoring),
        height=height,
        width=width,
    )


def _bars(rescoring: Rescoring) -> list[Bar]:
    """Return the ranking: the longest bar first."""
    every = np.arange(len(rescoring.directions))
    spread = rescoring.spread[rescoring.targets]
    value = rescoring.own("delta")[:, 0]
    low = rescoring.own("delta_low")[:, 0] / spread
    high = rescoring.own("delta_high")[:, 0] / spread
    control = rescoring.table["control_high"][0, rescoring.targets] / spread
    longest = max(_finite_max(high), _finite_max(control), 1e-12)
    centers = center_values(rescoring)
    bars = [
        Bar(
            name=rescoring.directions[index].name,
            level=rescoring.directions[index].level,
            text=_number(value[index]),
            value=_sortable(value[index]),
            relative=_sortable(value[index] / spread[index]),
            length=_share(value[index] / spread[index], longest),
            low=_share(low[index], longest),
            high=_share(high[index], longest),
            control=_share(control[index], longest) if np.isfinite(control[index]) else None,
            risen=_percent(rescoring.own("risen")[index, 0]),
            layers=_runs(rescoring.directions[index].verified),
            center=_number(centers[index], 1),
            center_value=_sortable(centers[index]),
        )
        for index in every
    ]
    return sorted(bars, key=lambda bar: -bar.relative)


def _layer_rows(rescoring: Rescoring) -> list[Row]:
    """Return every boundary's own rise at each layer, in the order of the levels, then of the centres."""
    rows = []
    for index, target in enumerate(rescoring.targets):
        table = [rescoring.table[name][index, 1:, target] for name in ("delta", "delta_low", "delta_high")]
        most = _finite_max(table[0])
        cells = [
            Cell(
                _number(value),
                _sortable(value),
                _share(value, most),
                title=f"layer {layer}: {_number(value, 3)} (95 %: {_number(low, 3)} to {_number(high, 3)})",
                marked=layer in rescoring.directions[index].verified,
            )
            for layer, value, low, high in zip(rescoring.layers, *table, strict=True)
        ]
        center = center_values(rescoring)[index]
        rows.append(
            Row(
                rescoring.directions[index].name,
                rescoring.directions[index].level,
                cells,
                _number(center, 1),
                _sortable(center),
            )
        )
    return sorted(rows, key=lambda row: (_level_order(row.level), row.note_value))


def _image_rows(rescoring: Rescoring) -> list[Row]:
    """Return the mean change of the image, in grey levels, when each layer moves, and for random directions."""
    most = _finite_max(rescoring.table["image_change"][:, 1:])
    rows = [
        Row(
            direction.name,
            direction.level,
            [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change],
        )
        for direction, change in zip(rescoring.directions, rescoring.table["image_change"][:, 1:], strict=True)
    ]
    if rescoring.controls:
        change = rescoring.table["control_image_change"][:, 1:].mean(axis=0)
        cells = [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change]
        rows.append(Row("random directions", "", cells))
    return rows


def _leakage_columns(rescoring: Rescoring) -> list[int]:
    """Return the outputs worth a column: those the boundaries are named after, then those that moved most."""
    own = list(dict.fromkeys(int(target) for target in rescoring.targets))
    relative = np.abs(rescoring.table["chosen_signed"]) / rescoring.spread
    most = np.nan_to_num(relative).max(axis=0)
    others = [int(output) for output in np.argsort(-most) if int(output) not in own]
    return (own + others)[: max(MAX_COLUMNS, len(own))]


def _leak_rows(rescoring: Rescoring, columns: Sequence[int]) -> list[Row]:
    """Return each output's mean signed change, in its own standard deviations, when a boundary's layers all move."""
    relative = rescoring.table["chosen_signed"] / rescoring.spread
    rows = []
    for index, direction in enumerate(rescoring.directions):
        name = direction.name
        most = max(_finite_max(np.abs(relative[index, list(columns)])), 1e-12)
        cells = [
            Cell(
                _number(relative[index, output], 1),
                _sortable(relative[index, output]),
                float(np.clip(np.nan_to_num(relative[index, output] / most), -1, 1)),
                title=f"{name} moved: {rescoring.outputs[output].name} {_number(relative[index, output])}",
                marked=output == rescoring.targets[index],
            )
            for output in columns
        ]
        rows.append(Row(name, rescoring.directions[index].level, cells))
    return sorted(rows, key=lambda row: _level_order(row.level))


def _swap_rows(rescoring: Rescoring) -> list[Row]:
    """Return each layer's share of every score's variation."""
    if "swap" not in rescoring.table:
        return []
    targets = {int(target) for target in rescoring.targets}
    order = sorted(range(len(rescoring.outputs)), key=lambda output: (output not in targets, output))[:MAX_ROWS]
    rows = []
    for output in order:
        values = rescoring.table["swap"][output]
        most = _finite_max(values)
        ends = [rescoring.table[name][output] for name in ("swap_low", "swap_high")]
        cells = [
            Cell(
                _percent(value),
                _sortable(value),
                _share(value, most),
                title=f"layer {layer}: {_percent(value)} (95 %: {_percent(low)} to {_percent(high)})",
            )
            for layer, value, low, high in zip(rescoring.layers, values, *ends, strict=True)
        ]
        center = rescoring.hierarchies["swap_hierarchy"].center.value[output]
        name, level = rescoring.outputs[output].name, rescoring.outputs[output].level
        rows.append(Row(name, level, cells, _number(center, 1), _sortable(center)))
    rows.sort(key=lambda row: (_level_order(row.level), row.note_value))
    change, most = rescoring.table["swap_image_change"], _finite_max(rescoring.table["swap_image_change"])
    cells = [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change]
    rows.append(Row("image change (grey levels)", "", cells))
    return rows


def center_values(rescoring: Rescoring) -> NDArray[Any]:
    """Return the centre of mass of each boundary, NaN without layers."""
    found = rescoring.hierarchies.get("hierarchy")
    return np.full(len(rescoring.directions), np.nan) if found is None else found.center.value


def _levels(hierarchy: Hierarchy) -> list[dict[str, str]]:
    """Return, per level, its centre of mass and the step from the level before, with intervals and a verdict."""
    rows = []
    for index, level in enumerate(hierarchy.levels):
        row = {"level": level, "center": _interval(hierarchy.level_center, index), "step": "", "verdict": ""}
        if index:
            row["step"] = _interval(hierarchy.level_step, index - 1)
            row["verdict"] = hierarchy.verdict(index - 1) or "too few to say"
        rows.append(row)
    return rows


def _strips(rescoring: Rescoring) -> tuple[list[dict[str, Any]], tuple[int, int], list[str]]:
    """Return each boundary's pictures as one JPEG, the size of one picture, and what there is to say of it."""
    files, _, shape = encode_rows(iter(rescoring.strips), len(rescoring.strips), budget=PICTURE_BYTES // 2)
    strips: list[dict[str, Any]] = [
        {"name": direction.name, "level": direction.level, "data": to_base64(file), "sample": int(sample)}
        for direction, file, sample in zip(rescoring.directions, files, rescoring.strip_samples, strict=True)
    ]
    strips.sort(key=lambda strip: _level_order(strip["level"]))
    return strips, shape, reduction_notes(rescoring.strips.shape[2:4], shape)


def _strip_headings(rescoring: Rescoring) -> list[str]:
    chosen = ["Chosen layers"] if rescoring.layers else []
    return ["Origin", *chosen, "All layers", *(f"Layer {layer}" for layer in rescoring.layers)]


def _details(rescoring: Rescoring) -> dict[str, str | list[str]]:
    """Return what made the numbers, for the foot."""
    provenance = rescoring.provenance
    rows: dict[str, str | list[str]] = {
        name.replace("_", " ").capitalize(): _plain(value)
        for name, value in provenance.items()
        if value not in (None, "")
    }
    rows["Samples"] = f"{rescoring.num}, " + ("given codes" if rescoring.seed is None else f"seed {rescoring.seed}")
    rows["Distance"] = f"{rescoring.distance:g}"
    rows["Random control"] = f"{rescoring.controls} directions" if rescoring.controls else "none"
    if files := [f"{found.path}, SHA-256 {found.sha256}" for found in rescoring.directions if found.path]:
        rows["Boundaries"] = files
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)


def _level_order(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _interval(estimate: Estimate, index: int) -> str:
    value, low, high = (getattr(estimate, part)[index] for part in ("value", "low", "high"))
    return f"{_number(value)} ({_number(low)} to {_number(high)})" if np.isfinite(value) else "–"


def _runs(layers: Sequence[int]) -> str:
    return format_layers(list(layers)).replace("-", "–") if layers else ""


def _number(value: float, digits: int = 2) -> str:
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"


def _sortable(value: float) -> float:
    return round(float(value), 6) if math.isfinite(value) else -1e9


def _share(value: float, most: float) -> float:
    return round(float(np.clip(value / most, 0, 1)), 3) if math.isfinite(value) and most > 0 else 0.0


def _finite_max(values: NDArray[Any]) -> float:
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0
