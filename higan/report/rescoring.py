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
    from higan.rescoring.rescore import Rescoring
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
            f"{len(rescoring.names)} boundaries re-scored on {rescoring.num} samples moved by {rescoring.distance:g}; "
            "Δ is the mean rise of a boundary's own score, falls counted as zero."
        ),
        notes=notes,
        details=_details(rescoring),
        bars=_bars(rescoring),
        controls=len(rescoring.control_delta),
        layers=rescoring.layers,
        heat=_layer_rows(rescoring),
        image_heat=_image_rows(rescoring),
        hierarchies=[
            (name, _levels(hierarchy))
            for name, hierarchy in (("boundaries", rescoring.hierarchy), ("layer swap", rescoring.swap_hierarchy))
            if hierarchy is not None and hierarchy.levels
        ],
        leak_names=[rescoring.outputs[output] for output in columns],
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
    every = np.arange(len(rescoring.names))
    spread = np.maximum(rescoring.base_std[rescoring.targets].astype(np.float64), 1e-12)
    value = rescoring.delta.value[every, 0, rescoring.targets]
    low = rescoring.delta.low[every, 0, rescoring.targets] / spread
    high = rescoring.delta.high[every, 0, rescoring.targets] / spread
    control = rescoring.control_high[0, rescoring.targets] / spread
    longest = max(_finite_max(high), _finite_max(control), 1e-12)
    centers = rescoring.hierarchy.center.value if rescoring.hierarchy is not None else np.full(len(every), np.nan)
    bars = [
        Bar(
            name=rescoring.names[index],
            level=rescoring.boundary_levels[index],
            text=_number(value[index]),
            value=_sortable(value[index]),
            relative=_sortable(value[index] / spread[index]),
            length=_share(value[index] / spread[index], longest),
            low=_share(low[index], longest),
            high=_share(high[index], longest),
            control=_share(control[index], longest) if np.isfinite(control[index]) else None,
            risen=_percent(rescoring.risen[index, 0, rescoring.targets[index]]),
            layers=_runs(rescoring.verified[index]),
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
        table = [getattr(rescoring.delta, part)[index, 1:, target] for part in ("value", "low", "high")]
        most = _finite_max(table[0])
        cells = [
            Cell(
                _number(value),
                _sortable(value),
                _share(value, most),
                title=f"layer {layer}: {_number(value, 3)} (95 %: {_number(low, 3)} to {_number(high, 3)})",
                marked=layer in rescoring.verified[index],
            )
            for layer, value, low, high in zip(rescoring.layers, *table, strict=True)
        ]
        center = rescoring.hierarchy.center.value[index] if rescoring.hierarchy is not None else np.nan
        rows.append(
            Row(rescoring.names[index], rescoring.boundary_levels[index], cells, _number(center, 1), _sortable(center))
        )
    return sorted(rows, key=lambda row: (_level_order(row.level), row.note_value))


def _image_rows(rescoring: Rescoring) -> list[Row]:
    """Return the mean change of the image, in grey levels, when each layer moves, and for random directions."""
    most = _finite_max(rescoring.image_change[:, 1:])
    rows = [
        Row(name, level, [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change])
        for name, level, change in zip(
            rescoring.names, rescoring.boundary_levels, rescoring.image_change[:, 1:], strict=True
        )
    ]
    if len(rescoring.control_image_change):
        change = rescoring.control_image_change[:, 1:].mean(axis=0)
        cells = [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change]
        rows.append(Row("random directions", "", cells))
    return rows


def _leakage_columns(rescoring: Rescoring) -> list[int]:
    """Return the outputs worth a column: those the boundaries are named after, then those that moved most."""
    own = list(dict.fromkeys(int(target) for target in rescoring.targets))
    relative = np.abs(rescoring.signed.value[:, 0]) / np.maximum(rescoring.base_std, 1e-12)
    most = np.nan_to_num(relative).max(axis=0)
    others = [int(output) for output in np.argsort(-most) if int(output) not in own]
    return (own + others)[: max(MAX_COLUMNS, len(own))]


def _leak_rows(rescoring: Rescoring, columns: Sequence[int]) -> list[Row]:
    """Return each output's mean signed change, in its own standard deviations, when a boundary's layers all move."""
    relative = rescoring.signed.value[:, 0] / np.maximum(rescoring.base_std, 1e-12)
    rows = []
    for index, name in enumerate(rescoring.names):
        most = max(_finite_max(np.abs(relative[index, list(columns)])), 1e-12)
        cells = [
            Cell(
                _number(relative[index, output], 1),
                _sortable(relative[index, output]),
                float(np.clip(np.nan_to_num(relative[index, output] / most), -1, 1)),
                title=f"{name} moved: {rescoring.outputs[output]} {_number(relative[index, output])}",
                marked=output == rescoring.targets[index],
            )
            for output in columns
        ]
        rows.append(Row(name, rescoring.boundary_levels[index], cells))
    return sorted(rows, key=lambda row: _level_order(row.level))


def _swap_rows(rescoring: Rescoring) -> list[Row]:
    """Return each layer's share of every score's variation."""
    if rescoring.swap is None:
        return []
    targets = {int(target) for target in rescoring.targets}
    order = sorted(range(len(rescoring.outputs)), key=lambda output: (output not in targets, output))[:MAX_ROWS]
    rows = []
    for output in order:
        values = rescoring.swap.value[output]
        most = _finite_max(values)
        cells = [
            Cell(
                _percent(value),
                _sortable(value),
                _share(value, most),
                title=f"layer {layer}: {_percent(value)} (95 %: {_percent(low)} to {_percent(high)})",
            )
            for layer, value, low, high in zip(
                rescoring.layers, values, rescoring.swap.low[output], rescoring.swap.high[output], strict=True
            )
        ]
        center = rescoring.swap_hierarchy.center.value[output] if rescoring.swap_hierarchy is not None else np.nan
        name, level = rescoring.outputs[output], rescoring.output_levels[output]
        rows.append(Row(name, level, cells, _number(center, 1), _sortable(center)))
    rows.sort(key=lambda row: (_level_order(row.level), row.note_value))
    if rescoring.swap_image_change is not None:
        change, most = rescoring.swap_image_change, _finite_max(rescoring.swap_image_change)
        cells = [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in change]
        rows.append(Row("image change (grey levels)", "", cells))
    return rows


def _levels(hierarchy: Hierarchy) -> list[dict[str, str]]:
    """Return, per level, its centre of mass and the step from the level before, with intervals and a verdict."""
    rows = []
    for index, level in enumerate(hierarchy.levels):
        row = {"level": level, "center": _interval(hierarchy.level_center, index), "step": "", "verdict": ""}
        if index:
            row["step"] = _interval(hierarchy.level_step, index - 1)
            low, high = hierarchy.level_step.low[index - 1], hierarchy.level_step.high[index - 1]
            row["verdict"] = "later" if low > 0 else "earlier" if high < 0 else "not told apart"
        rows.append(row)
    return rows


def _strips(rescoring: Rescoring) -> tuple[list[dict[str, Any]], tuple[int, int], list[str]]:
    """Return each boundary's pictures as one JPEG, the size of one picture, and what there is to say of it."""
    files, _, shape = encode_rows(iter(rescoring.strips), len(rescoring.strips), budget=PICTURE_BYTES // 2)
    strips: list[dict[str, Any]] = [
        {"name": name, "level": level, "data": to_base64(file), "sample": int(sample)}
        for name, level, file, sample in zip(
            rescoring.names, rescoring.boundary_levels, files, rescoring.strip_samples, strict=True
        )
    ]
    strips.sort(key=lambda strip: _level_order(strip["level"]))
    return strips, shape, reduction_notes(rescoring.strips.shape[2:4], shape)


def _strip_headings(rescoring: Rescoring) -> list[str]:
    return ["Origin", "All layers", *(f"Layer {layer}" for layer in rescoring.layers)]


def _details(rescoring: Rescoring) -> dict[str, str | list[str]]:
    """Return what made the numbers, for the foot."""
    provenance = dict(rescoring.provenance)
    boundaries = provenance.pop("boundaries", [])
    rows: dict[str, str | list[str]] = {
        name.replace("_", " ").capitalize(): _plain(value)
        for name, value in provenance.items()
        if value not in (None, "")
    }
    rows["Samples"] = f"{rescoring.num}, " + ("given codes" if rescoring.seed is None else f"seed {rescoring.seed}")
    rows["Distance"] = f"{rescoring.distance:g}"
    rows["Random control"] = f"{len(rescoring.control_delta)} directions" if len(rescoring.control_delta) else "none"
    if files := [f"{file['path']}, SHA-256 {file['sha256']}" for file in boundaries if file["path"]]:
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
