"""The networks that a file holds, in whatever a program wrapped them: snapshots, training checkpoints, whole modules.

Nothing here knows the names of one program's tensors. `find_networks` offers what could be a generator, best first; the
formats say which one is.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.checkpoints.pickles.stored import Record, StoredTensor
from higan.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

MAX_DEPTH = 16  # of modules in modules
MAX_MODULES = 10_000
MAX_CONTAINERS = 1000
CONTAINER_DEPTH = 4  # models > generator_smooth, and two more
PREFIX_DEPTH = 3  # model.module.G_ema.
MAX_ITEMS = 16  # of an attribute or argument that is a list

AVERAGED = re.compile(r"(.*_)?(ema|smooth|averaged?)(_.*)?|g_running|gs")  # of parameters over the training
TRAINED = ("g", "generator", "netg", "gen", "params")  # as training left them
OTHERS = ("d", "discriminator", "netd", "disc", "augment_pipe")


@dataclass
class StoredNetwork:
    """A network as a file holds it: its tensors, still in the file, and what the file says of it.

    Attributes
    ----------
    tensors
        By their names in its state dict, without what wraps them.
    arguments
        What it was constructed with, as plain values by name; parts of it, such as `mapping_kwargs`, in dictionaries.
    attributes
        Plain attributes of its modules, by dotted name, such as "synthesis.b4.conv1.conv_clamp".
    beside
        What the file holds beside it, such as `latent_avg`.
    path
        The names that lead to it, such as ("models", "generator_smooth").
    size
        Bytes of the file: more than that its tensors cannot take.
    file
        The file itself, for what lies beside it on the disk.
    notes
        What a user should know of how it was read, a line each.
    """

    tensors: dict[str, StoredTensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    beside: MutableMapping[Any, Any] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    size: int = 0
    file: Path = field(default_factory=Path)
    notes: list[str] = field(default_factory=list)

    def load(self) -> dict[str, Tensor]:
        """Return the tensors as float32 copies, once it is sure that the file has that many numbers."""
        return load(self.tensors, self.size)

    @property
    def averaged(self) -> bool | None:
        """True if its name says that it is an average over the training, False if training left it so, else None."""
        names = [name.lower() for name in self.path]
        if any(AVERAGED.fullmatch(name) for name in names):
            return True
        return False if any(name in TRAINED for name in names) else None


def load(tensors: Mapping[str, StoredTensor], size: int) -> dict[str, Tensor]:
    """Return tensors of a file of `size` bytes as float32 copies, once it is sure that it has that many numbers."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"entry {str(name)[:80]!r} is no tensor but {describe(tensor)}")
        size -= tensor.nbytes
    if size < 0:
        raise CheckpointError("the tensors claim more numbers than the file holds")
    return {name: tensor.load() for name, tensor in tensors.items()}


def find_networks(content: Any, size: int) -> list[StoredNetwork]:
    """Return what could be a generator in the content of a file of `size` bytes: averages over the training first.

    Raises
    ------
    CheckpointError
        Networks are there, and none of them can be used.
    """
    errors: list[CheckpointError] = []
    found = list(walk(content, size, errors))
    if not found and errors:
        raise errors[0]
    ranks = {True: 0, None: 1, False: 2}
    return sorted(found, key=lambda network: ranks[network.averaged])  # otherwise in the order of the file


def walk(content: Any, size: int, errors: list[CheckpointError]) -> Iterator[StoredNetwork]:
    """Yield the networks of `content`; note the errors of those that cannot be used."""
    queue: list[tuple[Any, tuple[str, ...], MutableMapping[Any, Any]]] = [(content, (), {})]
    for value, path, beside in queue:
        if isinstance(value, Record) and (is_module(value) or is_tensorflow(value)):
            try:
                if is_module(value):
                    yield from modules(value, path, beside, size)
                else:
                    yield collect_tensorflow(value, path, beside, size)
            except CheckpointError as error:
                errors.append(error)
            continue
        if isinstance(value, tuple | list):  # TensorFlow's (G, D, Gs): the average is the last
            value = {f"network {index}": value[index] for index in range(min(len(value), MAX_ITEMS))[::-1]}
        if isinstance(value, dict):
            tensors = {
                name: item for name, item in value.items() if isinstance(item, StoredTensor) and type(name) is str
            }
            if tensors:
                yield from unprefixed(StoredNetwork(tensors, beside=ChainMap(value, beside), path=path, size=size))
            for name, item in value.items():
                inner = isinstance(item, dict | list | tuple | Record) and str(name).lower() not in OTHERS
                if inner and len(path) < CONTAINER_DEPTH and len(queue) < MAX_CONTAINERS:
                    queue.append((item, (*path, str(name)[:80]), ChainMap(value, beside)))


def unprefixed(network: StoredNetwork, depth: int = PREFIX_DEPTH) -> Iterator[StoredNetwork]:
    """Yield a network, then each part of it whose names have a prefix in common, such as "module." or "decoder."."""
    yield network
    parts: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in network.tensors.items():
        prefix, dot, rest = name.partition(".")
        if dot and depth:
            parts.setdefault(prefix, {})[rest] = tensor
    for prefix, tensors in parts.items():
        yield from unprefixed(replace(network, tensors=tensors, path=(*network.path, prefix[:80])), depth - 1)


def is_module(record: Record) -> bool:
    """Whether a record stands for a module of PyTorch's."""
    return "_modules" in record.state or "_parameters" in record.state


def modules(
    module: Record, path: tuple[str, ...], beside: MutableMapping[Any, Any], size: int, depth: int = PREFIX_DEPTH
) -> Iterator[StoredNetwork]:
    """Yield the network that a module is, then those that its parts are."""
    yield collect_module(module, path, beside, size)
    for name, child in fields(module, "_modules").items():
        if depth and isinstance(child, Record) and is_module(child):
            yield from modules(child, (*path, str(name)[:80]), beside, size, depth - 1)


def collect_module(module: Record, path: tuple[str, ...], beside: MutableMapping[Any, Any], size: int) -> StoredNetwork:
    """Return the network that a module is, from the parameters, buffers and attributes of it and its parts."""
    network = StoredNetwork({}, beside=beside, path=path, size=size)
    visited = 0

    def visit(module: Any, prefix: str, depth: int) -> None:
        nonlocal visited
        visited += 1
        if not isinstance(module, Record) or depth > MAX_DEPTH or visited > MAX_MODULES:
            raise CheckpointError("a network whose modules are nested in a way that no program writes")
        for group in ("_parameters", "_buffers"):
            for name, tensor in fields(module, group).items():
                if isinstance(tensor, StoredTensor):
                    network.tensors[f"{prefix}{name}"] = tensor
        for name, value in module.state.items():
            if not str(name).startswith("_") and (known := plain(value)) is not UNKNOWN:
                network.attributes[f"{prefix}{name}"] = known
        for name, child in fields(module, "_modules").items():
            if child is not None:
                visit(child, f"{prefix}{name}.", depth + 1)

    visit(module, "", 0)
    network.arguments = plain_arguments(fields(module, "_init_kwargs"))
    return network


def fields(module: Record, name: str) -> dict[str, Any]:
    """Return the dictionary `name` of a module, {} if it has none; raise CheckpointError if it is something else."""
    values = module.state.get(name) or {}
    values = values.entries if isinstance(values, Record) else values
    if type(values) is not dict:
        raise CheckpointError(f"a network whose {name} is no dictionary")
    return values


def is_tensorflow(record: Record) -> bool:
    """Whether a record stands for a network of the official TensorFlow programs."""
    return record.kind in ("tfutil.Network", "dnnlib.tflib.network.Network", "network.Network")


def collect_tensorflow(
    network: Record, path: tuple[str, ...], beside: MutableMapping[Any, Any], size: int
) -> StoredNetwork:
    """Return the variables and static arguments of a TensorFlow network, those of its components included.

    Raises
    ------
    CheckpointError
        The object has no variables, or is in the form that preceded TensorFlow.
    """
    if "param_values" in network.state:
        raise CheckpointError("a PGGAN of the Theano program; expected the TensorFlow program's file of it")
    components = network.state.get("components", {})
    result = StoredNetwork({}, beside=beside, path=path, size=size)
    for part in [*(components.values() if isinstance(components, dict) else []), network]:
        if not isinstance(part, Record) or not isinstance(part.state.get("variables"), list):
            raise CheckpointError("a TensorFlow network without its list of variables")
        for pair in part.state["variables"]:
            if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) is not str:
                raise CheckpointError("a TensorFlow network whose list of variables is damaged")
            if isinstance(pair[1], StoredTensor):
                result.tensors[pair[0]] = pair[1]
        if isinstance(part.state.get("static_kwargs"), dict):
            result.arguments |= plain_arguments(part.state["static_kwargs"])
    return result


UNKNOWN = object()  # what is not plain


def plain(value: Any) -> Any:
    """Return a number, text or truth value, or a short list of these, with numpy's as Python's; else `UNKNOWN`."""
    if isinstance(value, StoredTensor):
        if value.objects is not None or len(value.shape) > 1 or math.prod(value.shape) > MAX_ITEMS:
            return UNKNOWN
        return value.number() if value.shape == () else value.load().tolist()
    if isinstance(value, tuple | list):
        items = [plain(item) for item in value] if len(value) <= MAX_ITEMS and not nested(value) else [UNKNOWN]
        return UNKNOWN if UNKNOWN in items else items
    return value if value is None or type(value) in (bool, int, float, str) else UNKNOWN


def nested(values: tuple[Any, ...] | list[Any]) -> bool:
    """Whether lists lie in the list."""
    return any(isinstance(value, tuple | list) for value in values)


def plain_arguments(values: Mapping[Any, Any], depth: int = 2) -> dict[str, Any]:
    """Return what is plain among constructor arguments; those of parts, such as `mapping_kwargs`, in dictionaries."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        value = value.entries if isinstance(value, Record) and value.entries else value
        if isinstance(value, dict):
            result[str(name)] = plain_arguments(value, depth - 1) if depth else {}
        elif (known := plain(value)) is not UNKNOWN:
            result[str(name)] = known
    return result


def describe(value: Any) -> str:
    """Return in a few words what an object of a file is."""
    if isinstance(value, Record):
        return f"an object of class {value.kind[:60]}"
    if isinstance(value, StoredTensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, dict):
        return f"a dictionary of {len(value)} entries"
    return f"an object of type {type(value).__name__}"
