"""The page of the hierarchy: which directions a generator obeys, at which layers, and what else they change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from higan.files import is_file, write_atomic
from higan.generators.layer_sets import format_layers
from higan.logs import counted
from higan.predictors.predictor import LEVELS
from higan.report.page import PICTURE_BYTES, describe_groups, encode_rows, fill_page, reduction_notes, to_base64

if TYPE_CHECKING:
    from higan.rescoring.result import Direction, Rescoring
    from higan.rescoring.statistics import Estimate, Hierarchy

MAX_COLUMNS = 24  # outputs in the table of what else moved
MAX_ROWS = 60  # outputs in the table of layer swap
MAX_OPEN = 12  # answers of a kind that are shown at once; more are folded
KINDS = {
    "verified": "Obeyed",
    "": "Not compared with random directions",
    "could not tell": "Could not be told from chance",
    "none": "Not obeyed",
}


@dataclass(frozen=True)
class Cell:
    """One number of a table: as text, for sorting, its shade from 0 to 1 (-1 to 1 where signs matter), and marks.

    `weak` is what random directions may reach too.
    """

    text: str
    value: float
    heat: float
    title: str = ""
    marked: bool = False
    weak: bool = False


@dataclass(frozen=True)
class Bar:
    """An effect with its interval and the limit of chance, as shares of the longest bar."""

    index: int
    name: str
    level: str
    text: str
    value: float
    delta: str
    delta_value: float
    length: float
    low: float
    high: float
    control: float | None
    weak: bool
    risen: str
    layers: str
    verdict: str
    center: str
    center_value: float
    title: str
    samples: int


@dataclass(frozen=True)
class Row:
    """A named row of cells."""

    name: str
    level: str
    cells: list[Cell]
    note: str = ""
    note_value: float = 0.0
    index: int = -1


@dataclass(frozen=True)
class Said:
    """An answer as the page shows it: its sentence without the name, and where more of it is found."""

    index: int
    name: str
    level: str
    rest: str
    edit: str


def write_rescoring_page(path: str | Path, rescoring: Rescoring) -> None:
    """Write the page of what re-scoring found."""
    write_atomic(path, rescoring_page(rescoring, Path(path).parent))


def rescoring_page(rescoring: Rescoring, folder: Path | None = None) -> str:
    """Return what re-scoring found as one page: the answers first, then layers, leaks, image change, swap, pictures.

    Answers link to the pages of edits that lie in or beside `folder`.
    """
    provenance = rescoring.provenance
    strips, (height, width), notes = _strips(rescoring)
    model = str(provenance.get("model", "the model"))
    columns = _leakage_columns(rescoring)
    answers = _answers(rescoring, folder)
    return fill_page(
        "rescoring.html",
        title=f"What {model} obeys, and where",
        summary=_summary(rescoring),
        notes=notes,
        details=_details(rescoring),
        answers=answers,
        compared=[
            {"name": found.recipe, "num": found.num, "verified": found.verified}
            | {
                key: f"{_number(value)} ({_number(low)} to {_number(high)})"
                for key, (value, low, high) in (("own", found.own), ("leak", found.leak), ("worst", found.worst))
            }
            for found in rescoring.compared()
        ],
        max_open=MAX_OPEN,
        bars=_bars(rescoring),
        controls=rescoring.controls,
        layers=rescoring.layers,
        counted=rescoring.interval_width is not None,
        heat=_layer_rows(rescoring),
        image_heat=_image_rows(rescoring),
        hierarchies=[
            (name, _levels(rescoring.hierarchies[key]))
            for name, key in (("boundaries", "hierarchy"), ("layer swap", "swap_hierarchy"))
            if key in rescoring.hierarchies and rescoring.hierarchies[key].levels
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


def _summary(rescoring: Rescoring) -> str:
    """Return what the page is about and how it ended, in words."""
    named = [direction for direction in rescoring.directions if direction.named]
    found = [direction.mark for direction in named]
    parts = [
        f"{found.count(mark)} {word}"
        for mark, word in (("verified", "obeyed"), ("could not tell", "not told from chance"), ("none", "not obeyed"))
        if mark in found
    ]
    count = "boundary" if len(named) == 1 else "boundaries"
    words = [f"Of {len(named)} {count}: {', '.join(parts)}." if parts else f"{len(named)} {count}."] if named else []
    if others := len(rescoring.directions) - len(named):
        words.append(f"{counted(others, 'direction')} without a score.")
    samples = counted(rescoring.num, "sample")
    if rescoring.interval_width is not None:
        samples += f" (fewer for moves whose interval was soon at most {rescoring.interval_width:g} sd wide)"
    return " ".join(words) + f" {samples}, moved by {rescoring.distance:g}; sd: standard deviations of a score."


def _answers(rescoring: Rescoring, folder: Path | None) -> list[tuple[str, list[Said]]]:
    """Return the answers by what they say, in words; those of directions without a score come last."""
    groups: dict[str, list[Said]] = {}
    files = Counter((direction.name, direction.space) for direction in rescoring.directions)
    for answer in rescoring.answers():
        direction = rescoring.directions[answer.index]
        kind = KINDS[answer.mark] if answer.named else "Found without a score"
        rest = answer.sentence()[len(answer.name) :]
        alone = files[direction.name, direction.space] == 1  # else nothing tells whose edits a page shows
        edit = _edit_page(folder, direction) if folder is not None and alone else ""
        said = Said(answer.index, answer.name, direction.level, rest, edit)
        groups.setdefault(kind, []).append(said)
    return list(groups.items())


def _edit_page(folder: Path, direction: Direction) -> str:
    """Return where manipulate.py left the page of a direction's edits: in this folder or one beside it, "" if none."""
    name = f"{direction.name}_{direction.space}_viz.html"
    for place in (folder, *sorted(folder.parent.glob("*/"))):
        if is_file(place / name):  # not in a folder of somebody else's that cannot be looked into, as in /tmp
            return quote(name if place == folder else f"../{place.name}/{name}")
    return ""


def _bars(rescoring: Rescoring) -> list[Bar]:
    """Return the ranking: the largest effect first."""
    centers = _centers(rescoring)
    delta, risen = rescoring.own("delta")[:, 0], rescoring.own("chosen_risen")
    found = [rescoring.answer(index) for index in range(len(rescoring.directions))]
    ends = [[answer.value, answer.high, answer.limit, -answer.value, -answer.low] for answer in found]
    longest = max(_finite_max(np.array(ends)), 1e-12) if found else 1.0
    bars = []
    for answer, direction in zip(found, rescoring.directions, strict=True):
        sign = direction.sign
        low, high = sorted((sign * answer.low, sign * answer.high))
        limited = math.isfinite(answer.limit)
        bars.append(
            Bar(
                index=answer.index,
                name=answer.name if direction.named else f"{answer.name}: {answer.score}",
                level=direction.level,
                text=_number(answer.value),
                value=_sortable(answer.value),
                delta=_number(delta[answer.index]),
                delta_value=_sortable(delta[answer.index] / rescoring.spread[direction.target]),
                length=_share(sign * answer.value, longest),
                low=_share(low, longest),
                high=_share(high, longest),
                control=_share(answer.limit, longest) if limited else None,
                weak=limited and not sign * answer.value > answer.limit,
                risen=_percent(risen[answer.index]),
                layers=_runs(direction.chosen),
                verdict=direction.mark,
                center=_number(centers[answer.index], 1),
                center_value=_sortable(centers[answer.index]),
                title=_tip(answer.value, answer.low, answer.high, answer.limit) + answer.smaller,
                samples=rescoring.samples(answer.index),
            )
        )
    return sorted(bars, key=lambda bar: (-bar.length, -bar.value))


def _tip(value: float, low: float, high: float, limit: float) -> str:
    """Return an effect with its interval and what chance reaches, in words."""
    text = f"{_number(value)} sd (95 %: {_number(low)} to {_number(high)})"
    return f"{text}; a random direction passes {_number(limit)} with chance 1e-4" if math.isfinite(limit) else text


def _layer_rows(rescoring: Rescoring) -> list[Row]:
    """Return every boundary's own effect at each layer, in the order of the levels, then of the centres."""
    rows, centers = [], _centers(rescoring)
    for index, direction in enumerate(rescoring.directions):
        target = direction.target
        spread = rescoring.spread[target]
        names = ("signed", "signed_low", "signed_high", "delta")
        table = [rescoring.table[name][index, 1:, target] / spread for name in names]
        limits = rescoring.table["signed_limit"][1:, target] / spread
        most = _finite_max(np.abs(table[0]))
        counts = rescoring.table["samples"][index, 1:] if "samples" in rescoring.table else ()
        on = [f", on {count:.0f} samples" if np.isfinite(count) else "" for count in counts] or [""] * len(limits)
        cells = [
            Cell(
                _number(value),
                _sortable(value),
                float(np.clip(np.nan_to_num(value / most), -1, 1)) if most else 0.0,
                title=f"{direction.label}, layer {layer}: {_tip(value, low, high, limit)}; "
                f"Δ {_number(delta)} sd{where}",
                marked=layer in direction.verified,
                weak=bool(abs(value) <= limit),
            )
            for layer, value, low, high, delta, limit, where in zip(rescoring.layers, *table, limits, on, strict=True)
        ]
        note = _number(centers[index], 1), _sortable(centers[index])
        rows.append(Row(direction.label, direction.level, cells, *note, index))
    return sorted(rows, key=lambda row: (_level_order(row.level), row.note_value))


def _image_rows(rescoring: Rescoring) -> list[Row]:
    """Return the mean change of the image, in grey levels, when each layer moves, and for random directions."""
    change = rescoring.table["image_change"][:, 1:]
    most = _finite_max(change)

    def cells(values: NDArray[Any]) -> list[Cell]:
        return [Cell(_number(value, 1), _sortable(value), _share(value, most)) for value in values]

    rows = [
        Row(direction.label, direction.level, cells(values))
        for direction, values in zip(rescoring.directions, change, strict=True)
    ]
    if rescoring.controls:
        rows.append(Row("random directions", "", cells(rescoring.table["control_image_change"][:, 1:].mean(axis=0))))
    return rows


def _leakage_columns(rescoring: Rescoring) -> list[int]:
    """Return the outputs worth a column: those the boundaries are named after, then those that moved most."""
    own = list(dict.fromkeys(int(target) for target in rescoring.targets))
    relative = np.abs(rescoring.table["chosen_signed"]) / rescoring.spread
    most = np.nan_to_num(relative).max(axis=0)
    others = [int(output) for output in np.argsort(-most) if int(output) not in own]
    return (own + others)[: max(MAX_COLUMNS, len(own))]


def _leak_rows(rescoring: Rescoring, columns: Sequence[int]) -> list[Row]:
    """Return each output's effect, in its own standard deviations, when a boundary's chosen layers move."""
    names = ("chosen_signed", "chosen_signed_low", "chosen_signed_high", "chosen_limit")
    value, low, high, limit = (rescoring.table[name] / rescoring.spread for name in names)
    rows = []
    for index, direction in enumerate(rescoring.directions):
        most = max(_finite_max(np.abs(value[index, list(columns)])), 1e-12)
        cells = [
            Cell(
                _number(value[index, output], 1),
                _sortable(value[index, output]),
                float(np.clip(np.nan_to_num(value[index, output] / most), -1, 1)),
                title=f"{direction.label} moved: {rescoring.outputs[output].name} "
                + _tip(value[index, output], low[index, output], high[index, output], limit[index, output]),
                marked=output == direction.target,
                weak=bool(low[index, output] <= 0 <= high[index, output]),
            )
            for output in columns
        ]
        rows.append(Row(direction.label, direction.level, cells))
    return sorted(rows, key=lambda row: _level_order(row.level))


def _swap_rows(rescoring: Rescoring) -> list[Row]:
    """Return each layer's total effect on every score."""
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


def _centers(rescoring: Rescoring) -> NDArray[Any]:
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
    if not len(rescoring.strips):
        return [], (0, 0), []
    files, _, shape = encode_rows(iter(rescoring.strips), len(rescoring.strips), budget=PICTURE_BYTES // 2)
    strips: list[dict[str, Any]] = [
        {
            "index": index,
            "name": direction.label,
            "level": direction.level,
            "data": to_base64(file),
            "sample": int(sample),
            "frames": [len(rescoring.strips[0]) - len(rescoring.layers) + layer for layer in direction.verified],
        }
        for index, (direction, file, sample) in enumerate(
            zip(rescoring.directions, files, rescoring.strip_samples, strict=True)
        )
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
        name.capitalize().replace("_sha256", " (SHA-256)").replace("_", " "): _plain(value)
        for name, value in provenance.items()
        if value not in (None, "")
    }
    samples = f"{rescoring.num}, " + ("given codes" if rescoring.seed is None else f"seed {rescoring.seed}")
    control = f"{rescoring.controls} directions" if rescoring.controls else "none"
    if rescoring.interval_width is not None:
        samples += f"; a move is measured until its interval is at most {rescoring.interval_width:g} sd wide"
    if rescoring.interval_width is not None and rescoring.controls:
        counts = rescoring.table["control_samples"]
        counted = " to ".join(dict.fromkeys(f"{count:.0f}" for count in (counts.min(), counts.max())))
        control += f", measured on {counted} samples; their sampling noise raises the "
        control += f"limits of chance by {_number(rescoring.limit_noise())} sd at most"
    rows["Samples"] = samples
    if rescoring.layers:
        rows["Layer groups"] = describe_groups(len(rescoring.layers))
    rows["Distance"] = f"{rescoring.distance:g}"
    rows["Random control"] = control
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
