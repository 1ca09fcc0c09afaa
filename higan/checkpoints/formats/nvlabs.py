"""StyleGAN2 networks of NVlabs' PyTorch programs (stylegan2-ada-pytorch) to the network's layout."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from higan.checkpoints.formats.layout import (
    Converted,
    Tensors,
    add_missing_noise,
    architecture,
    find_rule,
    require_arguments,
)
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

# constructor arguments that change the function; a network in which one has another value is refused
REQUIRED: dict[str, tuple[Any, ...]] = {
    "activation": ("lrelu",),
    "resample_filter": ([1, 3, 3, 1],),
    "normalize": (True,),
}

SIZE = r"(?P<size>4|8|16|32|64|128|256|512|1024|2048|4096|8192)"
LAYER = r"synthesis\.b" + SIZE + r"\.conv(?P<conv>[01])\."
OUTPUT = r"synthesis\.b" + SIZE + r"\.torgb\."
# name in the file, name here, what to do with the tensor
MAPPING = [
    (r"mapping\.w_avg", "w_avg", ""),
    (r"mapping\.embed\.(?P<last>weight|bias)", "mapping.embed.{last}", ""),
    (r"mapping\.fc(?P<index>\d\d?)\.(?P<last>weight|bias)", "mapping.dense.{index}.{last}", ""),
]
RULES = [
    *MAPPING,
    (r"synthesis\.b4\.const", "const", "const"),
    (LAYER + "weight", "layers.{layer}.weight", "conv"),
    (LAYER + "(?P<last>bias|noise_strength)", "layers.{layer}.{last}", ""),
    (LAYER + "noise_const", "layers.{layer}.noise", "noise"),
    (LAYER + r"affine\.(?P<last>weight|bias)", "layers.{layer}.style.{last}", ""),
    (OUTPUT + "(?P<last>weight|bias)", "outputs.{block}.{last}", ""),
    (OUTPUT + r"affine\.(?P<last>weight|bias)", "outputs.{block}.style.{last}", ""),
    (r"synthesis\.b" + SIZE + r"\.skip\.weight", "skips.{before}.weight", ""),
]


def recognise(network: StoredNetwork) -> bool:
    """Whether a generator of StyleGAN2's has such names."""
    return "synthesis.b4.const" in network.tensors


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if tensors or arguments are not the family's."""
    return "stylegan2", *convert_tensors(network.load(), arguments_of(network, "StyleGAN2"))


def arguments_of(network: StoredNetwork, what: str) -> dict[str, Any]:
    """Return what a network was constructed with, by name, that of its parts and the layers' `conv_clamp` included.

    A default of the constructor (256 in the stylegan3 program) is not among a file's arguments; each layer keeps it.
    Raises CheckpointError, which calls the network "a `what`", where layers differ.
    """
    arguments = dict(network.arguments)
    for part in ("mapping_kwargs", "synthesis_kwargs"):
        arguments |= arguments.get(part, {})
    clamps = {value for name, value in network.attributes.items() if name.endswith(".conv_clamp")}
    if len(clamps) > 1:
        raise CheckpointError(f"a {what} whose layers have several values of conv_clamp: {sorted(map(str, clamps))}")
    return arguments | ({"conv_clamp": clamps.pop()} if clamps else {})


def convert_tensors(tensors: Tensors, arguments: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that names, values and arguments tell.

    Parameters
    ----------
    tensors
        The network's tensors by name, float32; entries are taken out as they are converted.
    arguments
        What the network was constructed with.

    Raises
    ------
    CheckpointError
        The network was made with an argument that is not supported, or a name or shape is none of its family's.
    """
    require_arguments("StyleGAN2", arguments, REQUIRED)
    state_dict: Tensors = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        if name.endswith("resample_filter"):
            continue
        target, rule = rename(name)
        state_dict[target] = apply_rule(tensor, rule)
    add_missing_noise(state_dict)
    settings = {"architecture": architecture(state_dict)}
    if (clamp := arguments.get("conv_clamp")) is not None:
        settings["clamp"] = clamp
    if (multiplier := arguments.get("lr_multiplier")) is not None:
        settings["mapping_multiplier"] = multiplier
    return state_dict, settings


def rename(name: str) -> tuple[str, str]:
    """Return a tensor's name in the network's layout and what to do with it; raise CheckpointError if it is unknown."""
    match, target, rule = find_rule(RULES, name, "a StyleGAN2")
    parts: dict[str, Any] = match.groupdict()
    if "size" in parts:
        block = int(math.log2(int(parts["size"]))) - 2
        up = parts.get("conv") == "0"
        parts |= {"block": block, "before": block - 1, "layer": 2 * block - up}
        rule = "conv up" if rule == "conv" and up else rule
    return target.format(**parts), rule


def apply_rule(tensor: Tensor, rule: str) -> Tensor:
    """Return a tensor as the network has it, by the `rule` of its name."""
    if rule == "conv up" and tensor.ndim == 4:  # stored mirrored
        return tensor.flip(2, 3)
    if rule == "const":
        return tensor[None]
    if rule == "noise":
        return tensor[None, None]
    return tensor
