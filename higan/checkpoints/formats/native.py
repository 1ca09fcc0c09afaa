"""The project's own format: a PyTorch file of {format, version, family, settings, state_dict}.

Weights that were tuned also say from which model: {tuned_from, tuned_from_sha256}.

In a .safetensors file the tensors are the state dict, and the rest is metadata: texts, `settings` as JSON.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from higan.checkpoints.formats.layout import Converted
from higan.checkpoints.networks import StoredNetwork, describe
from higan.checkpoints.safetensors_files import METADATA
from higan.errors import CheckpointError

FORMAT, VERSION = "higan", 1
TUNED_FROM = ("tuned_from", "tuned_from_sha256")
MOST = 1e6  # a clamp or multiplier of a network that was trained is below a thousand
MOST_NAME = 100  # characters of a model's name
MAX_SETTINGS = 10_000  # a name of each of a thousand classes among them


def recognise(network: StoredNetwork) -> bool:
    """Whether the file says that it is of this format."""
    return (network.path == ("state_dict",) and network.beside.get("format") == FORMAT) or bool(metadata(network))


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings as they are; raise CheckpointError if these are none of a network's."""
    said = metadata(network) or network.beside
    if str(version := said.get("version")) != str(VERSION):
        raise CheckpointError(f"version {str(version)[:40]} of the format; expected {VERSION}")
    family, settings = said.get("family"), said.get("settings")
    if isinstance(settings, str):
        try:
            settings = json.loads(settings)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"the settings are no JSON ({str(error)[:80]})") from None
    if not isinstance(family, str) or not isinstance(settings, dict):
        raise CheckpointError("the file lacks its family or settings")
    check_settings(settings)
    return family, network.load(), settings


def tuned_from(network: StoredNetwork) -> tuple[str, str] | None:
    """Return name and SHA-256 of the model that a network of this format was tuned from, None if it says of none."""
    said = metadata(network) or network.beside
    name, digest = (said.get(key) for key in TUNED_FROM)
    if not (isinstance(name, str) and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        return None
    return (name, digest) if name.isprintable() and len(name) <= MOST_NAME else None


def metadata(network: StoredNetwork) -> dict[str, Any]:
    """Return what a .safetensors file of this format says beside its tensors, {} of any other."""
    said = network.beside.get(METADATA) if network.path == () else None
    return said if isinstance(said, dict) and said.get("format") == FORMAT else {}


def check_settings(settings: dict[Any, Any]) -> None:
    """Raise CheckpointError unless settings are texts, numbers from 0 on, None, and lists or tables of these."""
    rest = list(settings.items())
    for name, value in rest:
        if len(rest) > MAX_SETTINGS:
            raise CheckpointError(f"more than {MAX_SETTINGS} settings; no network has so many")
        if isinstance(value, dict):
            rest += [(name, item) for item in value.values()]
        elif isinstance(value, list | tuple):
            rest += [(name, item) for item in value]
        elif isinstance(value, int | float):
            if not 0 <= value < MOST or math.isnan(value):
                raise CheckpointError(f"setting {str(name)[:40]} is {str(value)[:40]}; expected a number from 0 on")
        elif value is not None and not isinstance(value, str):
            raise CheckpointError(f"setting {str(name)[:40]} is {describe(value)}; expected a plain value")
