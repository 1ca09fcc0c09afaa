"""The tables of the experiments, in Markdown, from what the steps have written.

python docs/reproduce/tables.py ranking RESCORE...     how far each score rises, in one table, the largest first
python docs/reproduce/tables.py layers RESCORE...      where the levels act: rises at each layer, total effects, centres
python docs/reproduce/tables.py joint SCORES.npy...    rises of single edits, their sum, and those of all at once
python docs/reproduce/tables.py jitter RESCORE         what random directions move at each layer
python docs/reproduce/tables.py difference SCORES.npy FROM TO OUT.npy     write TO less FROM as a score named TO

RESCORE is a folder of rescore.py. Rises are in standard deviations (sd) of the score over unmoved samples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = ("layout", "object", "attribute", "color")
SMALL = 0.1  # sd, below which a score is left out of the table of joint edits


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def read_record(folder: str) -> dict[str, Any]:
    """Return rescore.json of a folder."""
    record: dict[str, Any] = json.loads((Path(folder) / "rescore.json").read_text(encoding="utf-8"))
    return record


def ranking(*folders: str) -> None:
    """Print each score's place, Δ and effect per model, or per list of one model: rows by the mean Δ in sd."""
    columns: dict[str, dict[str, tuple[float, str]]] = {}
    for folder in folders:
        record = read_record(folder)
        spread = dict(zip(record["outputs"], np.load(Path(folder) / "rescore_base_std.npy").tolist(), strict=True))
        for row in record["boundaries"]:
            name = " ".join(filter(None, (record["model"], row["list"])))
            delta, low, high = (row[f"delta{part}"][0] for part in ("", "_low", "_high"))
            rise = delta / max(spread[row["score"]], 1e-12)
            words = f"{delta:.3f} ({low:.3f} to {high:.3f}), {rise:.2f} sd" + " ✓" * (row["verdict"] == "verified")
            columns.setdefault(name, {})[row["score"]] = rise, words
    scores = {score for column in columns.values() for score in column}
    places = {
        name: {score: place for place, score in enumerate(sorted(column, key=lambda score: -column[score][0]), 1)}
        for name, column in columns.items()
    }

    def mean_rise(score: str) -> float:
        return float(np.mean([column[score][0] for column in columns.values() if score in column]))

    def cell(name: str, score: str) -> str:
        return f"**{places[name][score]}.** {columns[name][score][1]}" if score in columns[name] else ""

    print_table(
        ["score", *columns],
        ([score, *(cell(name, score) for name in columns)] for score in sorted(scores, key=mean_rise, reverse=True)),
    )
    print("Place; Δ with its 95 % interval; Δ in sd; ✓ where random directions do not reach the effect.\n")


def layers(*folders: str) -> None:
    """Print, for each model, the mean Δ of the boundaries of each level at each layer, and the levels' centres."""
    for folder in folders:
        record = read_record(folder)
        print(f"### {record['model']}\n")
        spread = np.load(Path(folder) / "rescore_base_std.npy")
        targets = [record["outputs"].index(row["score"]) for row in record["boundaries"]]
        delta = np.load(Path(folder) / "rescore_delta.npy")
        own = np.stack([delta[row, 1:, target] / max(spread[target], 1e-12) for row, target in enumerate(targets)])
        print("Mean Δ of the boundaries of each level, in sd, moved at one layer:\n")
        print_levels(record, [row["level"] for row in record["boundaries"]], own)
        print("Each boundary by itself:\n")
        print_table(
            ["boundary", *map(str, record["columns"][1:])],
            ([row["name"], *(f"{value:.2f}" for value in own[b])] for b, row in enumerate(record["boundaries"])),
        )
        swap = Path(folder) / "rescore_swap.npy"
        if swap.exists():
            print("Mean total effect of one layer on the scores of each level (share of their variance):\n")
            print_levels(record, record["output_levels"], np.load(swap))
        for name, words in (("hierarchy", "Δ"), ("swap_hierarchy", "total effects")):
            if found := record.get(name):
                centers = (found[f"level_center{part}"] for part in ("", "_low", "_high"))
                shown = [
                    f"{level} {center:.1f} ({low:.1f} to {high:.1f})"
                    for level, center, low, high in zip(found["levels"], *centers, strict=True)
                    if None not in (center, low, high)
                ]
                if shown:
                    print(f"Centre of mass of the {words} over the layers: {', '.join(shown)}.\n")


def print_levels(record: dict[str, Any], levels: Sequence[str], values: NDArray[Any]) -> None:
    """Print the mean of `values` [R, L] over the rows of each level, by layer."""
    named = [level or "no level" for level in levels]
    rows = []
    for level in sorted(set(named), key=lambda level: (LEVELS.index(level) if level in LEVELS else len(LEVELS), level)):
        chosen = values[[index for index, other in enumerate(named) if other == level]]
        rows.append([f"{level} ({len(chosen)})", *(f"{value:.2f}" for value in np.nanmean(chosen, axis=0))])
    print_table(["level", *map(str, record["columns"][1:])], rows)


def joint(*files: str) -> None:
    """Print how far each edit moves each score at its last step: every single one, their sum, and all at once."""
    edits = {Path(file).parent.name: np.load(file) for file in files}
    rises: dict[str, dict[str, float]] = {}
    for edit, scores in edits.items():
        for score in scores.dtype.names:
            steps = scores[score].reshape(-1, 3)  # unmoved, half-way, moved
            rise = (steps[:, 2] - steps[:, 0]).mean() / max(steps[:, 0].std(), 1e-12)
            rises.setdefault(score, {})[edit.removesuffix("_w")] = float(rise)
    single = [edit.removesuffix("_w") for edit in edits if edit != "combined"]
    rows = []
    for score, found in sorted(rises.items(), key=lambda item: -abs(item[1]["combined"])):
        numbers = [*(found[edit] for edit in single), sum(found[edit] for edit in single), found["combined"]]
        if score in single or max(map(abs, numbers)) >= SMALL:
            rows.append([score, *(f"{number:+.2f}" for number in numbers)])
    print("Mean rise of each score in sd, moved by 2:\n")
    print_table(["score", *single, "sum of these", "all at once"], rows)


def jitter(folder: str) -> None:
    """Print the mean size of what random directions do to the scores of each level and to the picture, by layer."""
    record = read_record(folder)
    effects = np.load(Path(folder) / "rescore_signed.npy") / np.maximum(
        np.load(Path(folder) / "rescore_base_std.npy"), 1e-12
    )
    moved = np.abs(effects[:, 1:]).mean(axis=0).T  # [K, L]
    print(f"Mean size of the effect of {len(effects)} random directions at one layer, in sd:\n")
    print_levels(record, record["output_levels"], moved)
    print("Mean total effect of one layer on the scores of each level (share of their variance):\n")
    print_levels(record, record["output_levels"], np.load(Path(folder) / "rescore_swap.npy"))
    change = np.load(Path(folder) / "rescore_image_change.npy")[:, 1:].mean(axis=0)
    print("Mean change of the picture, in grey levels:\n")
    print_table(["layer", *map(str, record["columns"][1:])], [["change", *(f"{value:.1f}" for value in change)]])


def difference(scores: str, first: str, second: str, path: str) -> None:
    """Write the scores `second` less `first` of an array with a field per name, as one of a field `second`."""
    values = np.load(scores)
    found = np.empty(len(values), [(second, "<f4")])
    found[second] = values[second] - values[first]
    np.save(path, found)


if __name__ == "__main__":
    _, *words = sys.argv
    tables = {table.__name__: table for table in (ranking, layers, joint, jitter, difference)}
    if len(words) < 2 or words[0] not in tables:
        sys.exit(__doc__)
    tables[words[0]](*words[1:])
