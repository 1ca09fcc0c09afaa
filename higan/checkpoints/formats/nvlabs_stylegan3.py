"""StyleGAN3 networks of NVlabs' program of that name to the network's layout."""

from __future__ import annotations

from typing import Any

from higan.checkpoints.formats.layout import Converted, Tensors, find_rule, require_arguments
from higan.checkpoints.formats.nvlabs import MAPPING, arguments_of
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

LAYER = r"synthesis\.L(?P<index>\d\d?)_(?P<size>\d{1,5})_(?P<channels>\d{1,5})\."
# name in the file, name here
RULES: list[tuple[str, ...]] = [
    *MAPPING,
    (r"synthesis\.input\.(?P<last>weight|phases|transform)", "input.{last}"),
    (r"synthesis\.input\.freqs", "input.frequencies"),
    (r"synthesis\.input\.affine\.(?P<last>weight|bias)", "input.style.{last}"),
    (LAYER + "(?P<last>weight|bias|up_filter|down_filter)", "layers.{index}.{last}"),
    (LAYER + "magnitude_ema", "layers.{index}.magnitude"),
    (LAYER + r"affine\.(?P<last>weight|bias)", "layers.{index}.style.{last}"),
]
# constructor argument in the file, setting here
SETTINGS = {
    "num_critical": "num_critical",
    "first_cutoff": "first_cutoff",
    "first_stopband": "first_stopband",
    "last_stopband_rel": "last_stopband_rel",
    "margin_size": "margin",
    "filter_size": "filter_size",
    "lrelu_upsampling": "upsampling",
    "output_scale": "output_scale",
    "conv_clamp": "clamp",
    "lr_multiplier": "mapping_multiplier",
}
ATTRIBUTES = ("num_critical", "margin_size", "output_scale")  # of the synthesis network, whatever its arguments


def recognise(network: StoredNetwork) -> bool:
    """Whether the network begins with Fourier features, as only StyleGAN3 does."""
    return any(name.startswith("synthesis.input.") for name in network.tensors)


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if tensors or arguments are not the family's."""
    arguments = arguments_of(network, "StyleGAN3")
    for name in ATTRIBUTES:
        if (value := network.attributes.get(f"synthesis.{name}")) is not None:
            arguments[name] = value
    return "stylegan3", *convert_tensors(network.load(), arguments)


def convert_tensors(tensors: Tensors, arguments: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that names and arguments tell.

    Parameters
    ----------
    tensors
        The network's tensors by name, float32; entries are taken out as they are converted.
    arguments
        What the network was constructed with.

    Raises
    ------
    CheckpointError
        The network was made with an argument that is not supported, or a name is none of its family's.
    """
    require_arguments("StyleGAN3", arguments, {"activation": ("lrelu",)})
    state_dict: Tensors = {}
    sizes: dict[int, int] = {}
    for name in list(tensors):
        target, size = rename(name)
        state_dict[target] = tensors.pop(name)
        sizes |= size
    if len(sizes) < 2 or sorted(sizes) != list(range(len(sizes))):
        raise CheckpointError(f"a StyleGAN3 with the layers {sorted(sizes)}; expected convolutions and the image's")
    ordered = [sizes[index] for index in range(len(sizes) - 1)]
    settings = {"resolution": ordered[-1], "sizes": ordered}
    return state_dict, settings | {here: arguments[there] for there, here in SETTINGS.items() if there in arguments}


def rename(name: str) -> tuple[str, dict[int, int]]:
    """Return a tensor's name in the network's layout, and its layer's side by the layer's number, if it is a layer's.

    Raises CheckpointError if the name is not known.
    """
    match, target, *_ = find_rule(RULES, name, "a StyleGAN3")
    parts = match.groupdict()
    return target.format(**parts), {int(parts["index"]): int(parts["size"])} if "size" in parts else {}
