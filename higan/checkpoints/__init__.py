"""Weight files to tensors: the format is recognised from the content, the architecture from the tensors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higan.checkpoints.formats import genforce, nvlabs, tensorflow
from higan.checkpoints.pickles import unpickling
from higan.checkpoints.pickles.interpreter import NETWORKS
from higan.checkpoints.pickles.stored import Record, StoredTensor
from higan.errors import CheckpointError
from higan.files import whole_file

FORMAT, VERSION = "higan", 1
MOST = 1e6  # a clamp or multiplier of a network that was trained is below a thousand
FAMILIES = ("pggan", "stylegan", "stylegan2")


@dataclass
class Checkpoint:
    """What a weight file holds.

    Attributes
    ----------
    format
        "higan", "genforce", "tensorflow" or "nvlabs".
    family
        "pggan", "stylegan" or "stylegan2".
    settings
        Arguments of the network's constructor, inferred from the tensors and from what the file says.
    state_dict
        Its weights, float32, under the names of the network.
    """

    format: str
    family: str
    settings: dict[str, Any] = field(default_factory=dict)
    state_dict: dict[str, Tensor] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return what the weight file `path` holds; no code in the file is ever run.

    Raises
    ------
    CheckpointError
        The file is not there, damaged, of no supported format or family, or holds numbers that are not finite.
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
    content = unpickling.read_objects(path)
    size = path.stat().st_size
    kind, stored, arguments = identify(content)
    tensors = load(stored, size)
    names = set(tensors)
    if kind == FORMAT:
        family, state_dict, settings = arguments["family"], tensors, plain_settings(arguments["settings"])
    elif kind == "tensorflow" and (family := tensorflow.recognise(names)):
        state_dict, settings = tensorflow.convert(family, tensors, arguments)
    elif kind in ("nvlabs", "genforce") and nvlabs.recognise(names):
        kind, family = "nvlabs", "stylegan2"
        state_dict, settings = nvlabs.convert(tensors, arguments)
    elif kind == "genforce" and (family := genforce.recognise(names)):
        state_dict, settings = genforce.convert(family, tensors)
    else:
        raise CheckpointError(f"no generator of {', '.join(FAMILIES)}; it holds {len(names)} tensors: {listing(names)}")
    if family not in FAMILIES:
        raise CheckpointError(f"a network of family {str(family)[:40]!r}; supported: {', '.join(FAMILIES)}")
    for name, tensor in state_dict.items():
        if not tensor.numel():
            raise CheckpointError(f"the tensor {name} is empty: its shape is {list(tensor.shape)}")
        if not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
            raise CheckpointError(f"the weights are not finite numbers: {name} holds NaN or infinity")
    settings = infer_settings(family, state_dict) | settings
    if "lod" in settings:
        settings["lod"] = whole_lod(settings["lod"], settings["resolution"])
    return Checkpoint(kind, family, settings, state_dict)


def identify(content: Any) -> tuple[str, dict[str, StoredTensor], dict[str, Any]]:
    """Return the kind of a file by its outermost objects, the tensors to use, and what the file says about them."""
    if isinstance(content, tuple) and len(content) == 3 and all(isinstance(part, Record) for part in content):
        content = content[2]  # G, D and the averaged generator
    if isinstance(content, dict) and isinstance(content.get("G_ema"), Record):
        content = content["G_ema"]
    if isinstance(content, Record):
        if content.kind in NETWORKS:
            return "tensorflow", *tensorflow.collect(content)
        if content.kind in ("Discriminator", "AugmentPipe"):
            raise CheckpointError(f"a network of class {content.kind}; expected a generator")
        return "nvlabs", *nvlabs.collect(content)
    if not isinstance(content, dict):
        raise CheckpointError(f"an object of type {describe(content)}; expected the weights of a generator")
    if content.get("format") == FORMAT:
        if content.get("version") != VERSION:
            raise CheckpointError(f"version {content.get('version')!r} of the format; expected {VERSION}")
        if not isinstance(content.get("state_dict"), dict) or not isinstance(content.get("settings"), dict):
            raise CheckpointError("the file lacks its state_dict or settings")
        return FORMAT, content["state_dict"], {"family": content.get("family"), "settings": content["settings"]}
    if "param_groups" in content:
        raise CheckpointError("an optimiser's state; expected the weights of a generator")
    if not content or not all(isinstance(value, StoredTensor) for value in content.values()):
        entries = ", ".join(f"{str(name)[:40]} ({describe(value)})" for name, value in list(content.items())[:6])
        raise CheckpointError(f"a dictionary of {entries or 'nothing'}; expected the tensors of a generator by name")
    return "genforce", content, {}


def load(stored: dict[str, StoredTensor], size: int) -> dict[str, Tensor]:
    """Return the tensors as float32 copies, once it is sure that the file has that many numbers."""
    for name, tensor in stored.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"entry {str(name)[:80]!r} is no tensor but {describe(tensor)}")
        size -= tensor.nbytes
    if size < 0:
        raise CheckpointError("the tensors claim more numbers than the file holds")
    return {name: tensor.load() for name, tensor in stored.items()}


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return those settings of the project's own format that tensors do not tell, checked."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "architecture": str,
        "clamp": (int, float, type(None)),
        "mapping_multiplier": (int, float),
        "lod": int,
        "fused": (tuple, list),
    }
    for name, kind in kinds.items():
        if name in settings and not isinstance(settings[name], kind):
            raise CheckpointError(f"setting {name} is {describe(settings[name])}")
        if isinstance(settings.get(name), (int, float)) and not 0 <= settings[name] < MOST:
            raise CheckpointError(f"setting {name} is {settings[name]!r}; expected a number from 0 on")
    return {name: settings[name] for name in kinds if name in settings}


def infer_settings(family: str, state_dict: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of the family's network that the shapes of its tensors tell."""
    layers = [int(match[1]) for name in state_dict if (match := re.fullmatch(r"layers\.(\d\d?)\.bias", name))]
    blocks = (len(layers) + 1) // 2
    resolution = 2 ** (blocks + 1)
    if sorted(layers) != list(range(2 * blocks - (family == "stylegan2"))) or not 8 <= resolution <= 1024:
        raise CheckpointError(f"a {family} with layers {layers}; expected those of a resolution from 8 to 1024")
    try:
        if (count := len(state_dict["outputs.0.bias"])) != 3:
            raise CheckpointError(f"a {family} of {count}-channel images; expected 3: red, green, blue")
        settings: dict[str, Any] = {
            "resolution": resolution,
            "channels": {4 * 2**block: len(state_dict[f"layers.{2 * block}.bias"]) for block in range(blocks)},
        }
        if family == "pggan":
            return settings | {"z_dim": state_dict["layers.0.weight"].shape[1]}
        depth = sum(re.fullmatch(r"mapping\.dense\.\d\d?\.bias", name) is not None for name in state_dict)
        hidden, inputs = state_dict["mapping.dense.0.weight"].shape
        settings |= {"w_dim": len(state_dict["w_avg"]), "mapping_layers": depth, "mapping_dim": hidden, "z_dim": inputs}
        if family == "stylegan2" and "mapping.embed.weight" in state_dict:
            width, classes = state_dict["mapping.embed.weight"].shape
            settings |= {"label_dim": classes, "embed_dim": width, "z_dim": inputs - width}
        return settings
    except KeyError as error:
        raise CheckpointError(f"a {family} without the tensor {error}") from None


def whole_lod(lod: float, resolution: int) -> int:
    """Return the number of blocks that a growing network leaves out."""
    if not float(lod).is_integer() or not 0 <= lod <= math.log2(resolution) - 2:
        raise CheckpointError(f"a network in the middle of growing (lod {lod}); expected a whole number, 0 at the end")
    return int(lod)


def describe(value: Any) -> str:
    """Return in a few words what an object of a file is."""
    if isinstance(value, Record):
        return f"a network of class {value.kind[:60]}"
    if isinstance(value, StoredTensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, dict):
        return f"a dictionary of {len(value)} entries"
    return type(value).__name__


def listing(names: set[str], count: int = 4) -> str:
    """Return the first `count` of the names, in order, as text."""
    return ", ".join(name[:60] for name in sorted(names)[:count]) + (", ..." if len(names) > count else "")


def write_checkpoint(path: str | Path, family: str, state_dict: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Write weights (of any floating type) in the project's own format, whole or not at all.

    Parameters
    ----------
    family
        "pggan", "stylegan" or "stylegan2".
    settings
        Arguments of the network's constructor; those that the tensors tell may be left out.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    tensors = {name: value.detach().contiguous().cpu() for name, value in state_dict.items()}
    content = {"format": FORMAT, "version": VERSION, "family": family, "settings": settings, "state_dict": tensors}
    with whole_file(path) as file:
        torch.save(content, file)
