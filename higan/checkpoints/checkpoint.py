"""Weight files to tensors: the format is recognised from the content, and no code in a file is ever run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higan.checkpoints.beside import weight_file
from higan.checkpoints.formats import FORMATS, native
from higan.checkpoints.formats.native import FORMAT, VERSION
from higan.checkpoints.networks import describe, find_networks
from higan.checkpoints.pickles import unpickling
from higan.checkpoints.safetensors_files import write_safetensors
from higan.errors import CheckpointError
from higan.files import whole_file


@dataclass
class Checkpoint:
    """What a weight file holds.

    Attributes
    ----------
    format
        Name of the format's module in `higan.checkpoints.formats`; "native" is the project's own.
    family
        Name of the network's family, such as "stylegan2".
    settings
        Arguments of the network's constructor that the shapes of its tensors do not tell.
    state_dict
        Its weights, float32, under the names of the network.
    notes
        What a user should know of how the file was read, a line each.
    tuned_from
        Name and SHA-256 of the model whose weights were tuned to these, or None.
    """

    format: str
    family: str
    settings: dict[str, Any] = field(default_factory=dict)
    state_dict: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tuned_from: tuple[str, str] | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what the weight file `path` holds; no code in the file is ever run.

    Raises
    ------
    CheckpointError
        The file is not there, damaged, of no supported format, or holds numbers that are not finite.
    """
    path = Path(path)
    try:
        return read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {error}") from error


def read(path: Path) -> Checkpoint:
    """Read a file; errors do not name it."""
    path = weight_file(path)
    content = unpickling.read_objects(path)
    networks = find_networks(content, path.stat().st_size)
    for network in networks:
        network.file = path
        for kind in FORMATS:
            if kind.recognise(network):
                family, state_dict, settings = kind.convert(network)
                check_numbers(state_dict)
                notes = network.notes
                if network.averaged is False:
                    notes.append(
                        f"no average over the training is in the file: {'.'.join(network.path)} is used as it is"
                    )
                tuned_from = native.tuned_from(network) if kind is native else None
                return Checkpoint(kind.__name__.rpartition(".")[2], family, settings, state_dict, notes, tuned_from)
    if networks:
        names = set(networks[0].tensors)
        raise CheckpointError(f"no generator of a known format; it holds {len(names)} tensors: {listing(names)}")
    if isinstance(content, dict):
        if "param_groups" in content:
            raise CheckpointError("an optimiser's state; expected the weights of a generator")
        entries = ", ".join(f"{str(name)[:40]} ({describe(value)})" for name, value in list(content.items())[:6])
        raise CheckpointError(f"a dictionary of {entries or 'nothing'}; expected the tensors of a generator by name")
    raise CheckpointError(f"{describe(content)}; expected the weights of a generator (nothing in the file was run)")


def check_numbers(state_dict: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless every tensor holds numbers, all of them finite."""
    for name, tensor in state_dict.items():
        if not tensor.numel():
            raise CheckpointError(f"the tensor {name} is empty: its shape is {list(tensor.shape)}")
        if not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
            raise CheckpointError(f"the weights are not finite numbers: {name} holds NaN or infinity")


def listing(names: set[str], count: int = 4) -> str:
    """Return the first `count` of the names, in order, as text."""
    return ", ".join(name[:60] for name in sorted(names)[:count]) + (", ..." if len(names) > count else "")


def write_checkpoint(
    path: str | Path,
    family: str,
    state_dict: dict[str, Tensor],
    settings: dict[str, Any],
    tuned_from: tuple[str, str] | None = None,
) -> None:
    """Write weights (of any floating type) in the project's own format, whole or not at all.

    Parameters
    ----------
    path
        A name that ends in ".safetensors" chooses that format, any other PyTorch's.
    family
        Name of the network's family, such as "stylegan2".
    settings
        Arguments of the network's constructor; those that the tensors tell may be left out.
    tuned_from
        Name and SHA-256 of the model that they were tuned from: its codes and boundaries belong to these weights too.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    tensors = {name: value.detach().contiguous().cpu() for name, value in state_dict.items()}
    said = {"format": FORMAT, "family": family}
    if tuned_from is not None:
        said |= dict(zip(native.TUNED_FROM, tuned_from, strict=True))
    with whole_file(path) as file:
        if Path(path).suffix == ".safetensors":
            write_safetensors(file, tensors, said | {"version": str(VERSION), "settings": json.dumps(settings)})
        else:
            torch.save({**said, "version": VERSION, "settings": settings, "state_dict": tensors}, file)
