"""The models the toolkit knows by name (models/zoo.toml), and where their weight files lie."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Any

from higan.errors import HiganError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODELS = Path(__file__).resolve().parents[2] / "models"


def read_zoo() -> dict[str, dict[str, Any]]:
    """Return the table of every known model, by name."""
    with (MODELS / "zoo.toml").open("rb") as file:
        return tomllib.load(file)


def folders() -> list[Path]:
    """Return the folders that may hold weight files: $HIGAN_MODELS, if set, then the project's models/."""
    chosen = os.environ.get("HIGAN_MODELS")
    return [*([Path(chosen)] if chosen else []), MODELS]


def find_file(name: str, model: dict[str, Any]) -> Path | None:
    """Return the weight file of a known model, or None when it is in no folder (or its folder NAME/)."""
    for folder in folders():
        for file in model["files"]:
            for path in (folder / file, folder / name / file):
                if path.is_file():
                    return path
    return None


def find_weights(name_or_path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the weight file that a name or path means, and the model's table with its name, {} for a mere path.

    Raises
    ------
    HiganError
        There is no such file, and no known model of that name with its file in place.
    """
    text = str(name_or_path)
    zoo = read_zoo()
    if text in zoo:
        model = zoo[text] | {"name": text}
        if path := find_file(text, model):
            return path, model
        raise HiganError(
            f"model {text} is known but its weights are not here: fetch {model['files'][0]} ({model['published']}), "
            f"put it in {folders()[0]}; works now: {embedded(zoo)}"
        )
    path = Path(name_or_path)
    if path.is_file():
        return path, {}
    if path.is_dir():
        raise HiganError(f"{path} is a folder; expected a weight file or a model's name")
    close = difflib.get_close_matches(text, zoo, n=3, cutoff=0.5)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise HiganError(
        f"no file and no known model is called {text}{hint}; `python -m higan.generators` lists the models; works now: "
        f"{embedded(zoo)}"
    )


def embedded(zoo: dict[str, dict[str, Any]]) -> str:
    """Return the names of the models that come with the project."""
    return ", ".join(name for name, model in zoo.items() if model.get("embedded"))
