"""The weights of a predictor's network: a state dict out of a file, nothing of which is ever run, into the network."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from higan.checkpoints.networks import find_networks
from higan.checkpoints.pickles.unpickling import read_objects
from higan.errors import CheckpointError
from higan.files import read_json

PROGRAMS = {  # a part of the zip file -> what it is
    "constants.pkl": "a TorchScript program",
    "models/model.json": "an exported program",
    "serialized_exported_program.json": "an exported program",
}


def read_weights(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a file that are meant for `network`, as float32.

    The file is a .safetensors or a PyTorch one, of a state dict, a training checkpoint or a whole module. Of several
    networks in it, the one that has most of its names is meant, and of those the average over the training.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, a program, or holds something else or numbers that are not finite.
    """
    try:
        if program := find_program(path):
            raise CheckpointError(
                f"{program}, which would be run to be used; save the state dict (torch.save(model.state_dict(), FILE)) "
                "or load it in a module of your own: --predictor_name module:callable"
            )
        found = find_networks(read_objects(path), path.stat().st_size)
        if not found:
            raise CheckpointError("it holds no tensors; expected the state dict of a network")
        names = needed_names(network)
        tensors = max(found, key=lambda stored: len(stored.tensors.keys() & names)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; fetch the file again")
    return tensors


def find_program(path: Path) -> str:
    """Return what kind of program a file is, "" if it is none."""
    with contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = {name.partition("/")[2] or name for name in zipfile.ZipFile(path).namelist()}
        return next((kind for part, kind in PROGRAMS.items() if part in names), "")
    return ""


def needed_names(network: nn.Module) -> set[str]:
    """Return the names of a network's tensors but for counters, which files of before PyTorch 0.4.1 lack."""
    return {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Give a network its weights; raise CheckpointError, which begins with `origin`, unless they are its own."""
    expected, needed = network.state_dict(), needed_names(network)
    for missing, what in ((needed - tensors.keys(), "lacks"), (tensors.keys() - expected.keys(), "has")):
        if missing:
            wrong = "" if what == "lacks" else " that the network has not"
            raise CheckpointError(f"{origin} {what} {len(missing)} tensors{wrong}, {min(missing)[:80]} among them")
    for key, value in expected.items():
        if key in tensors and tensors[key].shape != value.shape:
            raise CheckpointError(f"{origin}: {key} is {list(tensors[key].shape)}; expected {list(value.shape)}")
    network.load_state_dict({key: tensors.get(key, value) for key, value in expected.items()})


def read_settings(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise CheckpointError, which names it, if there is none."""
    try:
        return read_json(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON file of settings ({error})") from None
