"""A folder as a user would have it: the tiny model, its boundaries and lists of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from support.model import LAYERS, WIDTH, direction, write_model


def write_workplace(folder: Path) -> Path:
    """Write the model `tiny`, boundaries/tiny/ (lights verified at 2-3, wood without layers, z, wp) and lists."""
    write_model(folder)
    boundaries = folder / "boundaries" / "tiny"
    boundaries.mkdir(parents=True)
    for name in ("lights", "wood", "deep"):
        np.save(boundaries / f"{name}_boundary.npy", direction(name))
    np.save(boundaries / "view_boundary.npy", direction("view", (1, LAYERS, WIDTH)))
    description = {"space": "w", "layers": [2, 3], "layers_from": "rescoring"}
    (boundaries / "lights_boundary.json").write_text(json.dumps(description))
    (boundaries / "deep_boundary.json").write_text(json.dumps({"space": "z"}))
    line = "({0}, {1}): boundaries/tiny/{0}_boundary.npy{2}\n"
    (folder / "list.txt").write_text(line.format("lights", "w", "") + "DISABLE" + line.format("view", "wp", ""))
    (folder / "two.txt").write_text(
        "# lines may ask for layers and a distance\n\n"
        + line.format("lights", "w", " layers=1-2 distance=2")
        + line.format("wood", "w", "")
    )
    (folder / "all.txt").write_text(
        "".join(line.format(name, space, "") for name, space in (("lights", "w"), ("deep", "z"), ("view", "wp")))
    )
    return folder
