"""The models the toolkit knows by name (models/zoo.toml), and where their weight files lie."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from higan.checkpoints.beside import has_weights
from higan.errors import HiganError
from higan.files import read_small

if sys.version_info >= (3, 11):
    import tomllib  # needs Python 3.11
else:
    import tomli as tomllib  # needs Python 3.10

# what a table holds, and whether it must
KEYS: dict[str, tuple[type, bool]] = {
    "family": (str, True),
    "resolution": (int, True),
    "files": (list, True),
    "published": (str, True),
    "licence": (str, True),
    "truncation_psi": (float, False),
    "truncation_layers": (int, False),
    "predictor": (str, False),
    "embedded": (bool, False),
}
PLACES = [folder / "models" for folder in Path(__file__).resolve().parents[1:3]]  # where pip copies it, where it is
# where the paper's programs keep weights and annotations, from their own folder on
PAPER_FOLDERS = (
    "models/pretrain/pytorch",
    "models/pretrain/tensorflow",
    "predictors/pretrain",
    "predictors/annotations",
)
MODELS = next((place for place in PLACES if place.is_dir()), PLACES[1])


def read_zoo() -> dict[str, dict[str, Any]]:
    """Return the table of every known model, by name; raise HiganError unless models/zoo.toml holds such tables."""
    path = MODELS / "zoo.toml"
    try:
        return parse_zoo(read_small(path), path)
    except (OSError, ValueError, RecursionError) as error:
        raise HiganError(f"cannot read {path} ({error}); fetch the project's own again") from None


@lru_cache(maxsize=1)  # a script asks three times
def parse_zoo(content: bytes, path: Path) -> dict[str, dict[str, Any]]:
    """Return the tables in the `content` of models/zoo.toml at `path`, checked."""
    zoo = tomllib.loads(content.decode())
    for name, model in zoo.items():
        check_model(path, name, model)
    return zoo


def check_model(path: Path, name: str, model: Any) -> None:
    """Raise HiganError unless `model` is a table of the zoo, and its name one that files can be called after."""
    if not re.fullmatch(r"[\w.+-]{1,100}", name) or name.startswith("."):
        raise HiganError(f"{path}: {name[:60]!r} is no model's name; expected letters, digits, `_`, `-`")
    if not isinstance(model, dict):
        raise HiganError(f"{path}: {name} is a {type(model).__name__}; expected a table")
    for key, (kind, needed) in KEYS.items():
        value = model.get(key)
        if (value is None and needed) or (value is not None and not isinstance(value, kind)):
            raise HiganError(f"{path}: {key} of {name} is {str(value)[:60]!r}; expected {kind.__name__}")
    files = model["files"]
    if not files or not all(isinstance(file, str) and Path(file).name == file != "" for file in files):
        raise HiganError(f"{path}: files of {name} is {str(files)[:60]!r}; expected file names without folders")


def folders() -> list[Path]:
    """Return the folders that may hold weight files: $HIGAN_MODELS, the project's models/, the paper's programs' own.

    The paper's programs keep theirs in `PAPER_FOLDERS`, which are looked for below the current folder and around
    $HIGAN_MODELS: that may name a program's own folder, one of these in it, or any between the two.
    """
    chosen = os.environ.get("HIGAN_MODELS")
    parts = [Path(paper).parts for paper in PAPER_FOLDERS]
    found = [Path(*names) for names in parts]
    if chosen:
        found += [Path(chosen, *names[start:]) for names in parts for start in range(len(names))]
        found.append(Path(chosen).parent / "annotations")
    return [*([Path(chosen)] if chosen else []), MODELS, *(folder for folder in found if folder.is_dir())]


def find_file(name: str, model: dict[str, Any]) -> Path | None:
    """Return the weight file of a known model, or None when it is in no folder (or its folder NAME/)."""
    for folder in folders():
        for file in model["files"]:
            for path in (folder / file, folder / name / file):
                if has_weights(path):
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
    if has_weights(path):
        return path, {}
    with contextlib.suppress(OSError):  # a name too long for a file
        if path.exists():
            raise HiganError(
                f"{path} is a folder without weights, a pipe or a device; expected a weight file or a model's name"
            )
    close = difflib.get_close_matches(text, zoo, n=3, cutoff=0.5)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise HiganError(
        f"no file and no known model is called {text}{hint}; `python -m higan.generators` lists the models; works now: "
        f"{embedded(zoo)}"
    )


def embedded(zoo: dict[str, dict[str, Any]]) -> str:
    """Return the names of the models that come with the project."""
    return ", ".join(name for name, model in zoo.items() if model.get("embedded"))
