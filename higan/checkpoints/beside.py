"""Weights whose settings lie in a file beside them: BigGAN of two programs, also as a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from higan.checkpoints.pickles.unpickling import read_objects
from higan.errors import CheckpointError
from higan.files import is_file, read_json

CONFIG, TRAINING = "config.json", "state_dict.pth"  # what huggingface's and ajbrock's programs write
WEIGHTS = ("pytorch_model.bin", "model.safetensors", "G_ema.pth")  # what a folder is searched for
HUGGINGFACE = re.compile(r"(.*)pytorch_model\.bin|model\.safetensors")


def weight_file(path: Path) -> Path:
    """Return the weight file that a path means, itself unless it is a folder with one; CheckpointError without any."""
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if is_file(path / name):
            return path / name
    raise CheckpointError(f"a folder without weights; expected {', '.join(WEIGHTS)} in it, or a file")


def has_weights(path: Path) -> bool:
    """Whether a path is a file, or a folder with a weight file."""
    return is_file(path) or any(is_file(path / name) for name in WEIGHTS)


def config_of(path: Path) -> Path:
    """Return where the settings of a weight file lie: NAMEconfig.json for NAMEpytorch_model.bin, else config.json."""
    match = HUGGINGFACE.fullmatch(path.name)
    return path.with_name(f"{(match and match[1]) or ''}{CONFIG}")


def files_of(path: Path) -> list[Path]:
    """Return the files that decide what a model is: the weight file, and a huggingface package's settings."""
    weights = weight_file(path)
    config = config_of(weights)
    return [weights, config] if HUGGINGFACE.fullmatch(weights.name) and is_file(config) else [weights]


def model_name(path: Path) -> str:
    """Return what a model is called after its path: the file's name, or the folder's where files have one name."""
    if match := HUGGINGFACE.fullmatch(path.name):
        return (match[1] or "").rstrip("-_.") or path.absolute().parent.name
    return path.absolute().name if path.is_dir() else path.stem


def read_config(path: Path) -> dict[str, Any] | None:
    """Return the settings beside a weight file, None without any; raise CheckpointError if they cannot be read."""
    path = config_of(path)
    if not is_file(path):
        return None
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} beside it cannot be read ({str(error)[:200]}); expected settings by name"
        ) from None


def read_training(path: Path) -> dict[Any, Any]:
    """Return the settings in the training's state beside a weight file of ajbrock's program, {} if there are none."""
    path = path.with_name(TRAINING)
    content = read_objects(path) if is_file(path) else None
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else {}
