"""Pictures and numbers to fill pages with."""

from __future__ import annotations

import numpy as np

from higan.predictors.predictor import LEVELS
from higan.rescoring.columns import COLUMNS
from higan.rescoring.result import Direction, Output, Rescoring
from higan.rescoring.statistics import Estimate, Hierarchy

# Columns that are there only where moves were measured until their intervals were narrow.
COUNTED = {"samples", "chosen_samples", "control_samples", "limit_noise"}


def make_rows(num: int, steps: int, size: int) -> np.ndarray:
    """Return uint8 [num, steps, size, size, 3]: smooth colours; blue says the sample, the step turns up the red."""
    y, x = np.mgrid[:size, :size] / max(size - 1, 1)
    rows = np.empty((num, steps, size, size, 3), np.uint8)
    for sample in range(num):
        for step in range(steps):
            rows[sample, step, ..., 0] = 40 + 180 * step / max(steps - 1, 1) + 20 * x
            rows[sample, step, ..., 1] = 90 + 60 * y
            rows[sample, step, ..., 2] = 30 + sample * 190 / max(num - 1, 1)
    return rows


def make_rescoring(
    name: str = "boundary0", layers: int = 6, outputs: int = 12, control: int = 5, swap: bool = True
) -> Rescoring:
    """Return made-up measurements of four boundaries, one per level; `name` is the first's."""
    random = np.random.default_rng(0)
    names, count = (name, "boundary1", "boundary2", "boundary3"), 4
    sizes = {"b": count, "c": 1 + layers, "k": outputs, "r": control, "l": layers}
    marks = ("verified", "could not tell", "verified", "none") if control else ("",) * count
    chosen = ((0, 1), (3,), (2,), ()) if layers else ((),) * count

    def hierarchy(num: int) -> Hierarchy:
        step = Estimate(*(np.array(values, np.float32) for values in ((1, 0.1, -1), (0.5, -1, -2), (2, 1, -0.5))))
        center = random.random(num) * layers
        return Hierarchy(
            Estimate(center, center, center), LEVELS, (5, 5, 5, 2), Estimate(*(np.arange(4.0) for _ in range(3))), step
        )

    table = {}
    for column, about in COLUMNS.items():
        if column in COUNTED or (not swap and column.startswith("swap")):
            continue
        values = random.random([sizes[axis] for axis in about.axes]).astype(np.float32)
        values = values - 0.5 if "signed" in column else values
        table[column] = values
        if about.interval:
            table |= {f"{column}_low": values - np.float32(0.05), f"{column}_high": values + np.float32(0.05)}
    table["delta"][1, 0, 1] = np.nan
    table["base_std"][:] = 1
    for column in ("control_high", "signed_limit", "chosen_limit"):
        table[column][:] = 0.2 if control else np.nan
    hierarchies = {"hierarchy": hierarchy(count)} if layers else {}
    return Rescoring(
        directions=tuple(
            Direction(
                name,
                "w",
                index,
                level=LEVELS[index],
                chosen=chosen[index],
                mark=marks[index],
                tested=2.0,
                path="" if index else f"{name}.npy",
                sha256="5e",
            )
            for index, name in enumerate(names)
        ),
        outputs=tuple(
            Output(f"score{output}" if output else name, "attribute", LEVELS[output % 4]) for output in range(outputs)
        ),
        layers=tuple(range(layers)),
        num=100,
        distance=2.0,
        seed=0,
        controls=control,
        table=table,
        hierarchies=hierarchies | ({"swap_hierarchy": hierarchy(outputs)} if swap else {}),
        strips=make_rows(count, 3 + layers if layers else 2, 16),
        strip_samples=np.arange(count),
        provenance={"model": "tiny", "versions": {"torch": "2"}},
    )
