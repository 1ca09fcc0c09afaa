"""Pictures and numbers to fill pages with."""

from __future__ import annotations

import numpy as np

from higan.predictors.predictor import LEVELS
from higan.rescoring.rescore import Rescoring
from higan.rescoring.statistics import Estimate, Hierarchy


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
    names, count, columns = (name, "boundary1", "boundary2", "boundary3"), 4, 1 + layers
    levels = tuple(LEVELS[output % 4] for output in range(outputs))

    def estimate(values: np.ndarray) -> Estimate:
        values = values.astype(np.float32)
        return Estimate(values, values - 0.05, values + 0.05)

    def hierarchy(num: int) -> Hierarchy:
        step = Estimate(*(np.array(values, np.float32) for values in ((1, 0.1, -1), (0.5, -1, -2), (2, 1, -0.5))))
        return Hierarchy(estimate(random.random(num) * layers), LEVELS, estimate(np.arange(4)), step)

    table = random.random((count, columns, outputs))
    table[1, 0, 1] = np.nan
    return Rescoring(
        names=names,
        spaces=("w",) * count,
        targets=np.arange(count),
        boundary_levels=LEVELS,
        layers=tuple(range(layers)),
        outputs=(name, *(f"score{output}" for output in range(1, outputs))),
        output_groups=("attribute",) * outputs,
        output_levels=levels,
        num=100,
        distance=2.0,
        seed=0,
        delta=estimate(table),
        signed=estimate(table - 0.5),
        risen=table.astype(np.float32),
        scores=[],
        base_mean=np.zeros(outputs, np.float32),
        base_std=np.ones(outputs, np.float32),
        image_change=random.random((count, columns)).astype(np.float32),
        verified=((0, 1), (), (2,), ()) if layers else ((),) * count,
        control_delta=np.full((control, columns, outputs), 0.1, np.float32),
        control_signed=np.zeros((control, columns, outputs), np.float32),
        control_high=np.full((columns, outputs), 0.2 if control else np.nan, np.float32),
        control_image_change=np.ones((control, columns), np.float32),
        hierarchy=hierarchy(count) if layers else None,
        swap=estimate(random.random((outputs, layers))) if swap else None,
        swap_image_change=random.random(layers).astype(np.float32) if swap else None,
        swap_hierarchy=hierarchy(outputs) if swap else None,
        strips=make_rows(count, 1 + columns, 16),
        strip_samples=np.arange(count),
        provenance={
            "model": "tiny",
            "versions": {"torch": "2"},
            "boundaries": [{"path": f"{name}.npy", "sha256": "5e"}, {"path": "", "sha256": ""}],
        },
    )
