"""StyleGAN2 networks of rosinality/stylegan2-pytorch, and of the encoders that hold one (e4e, pSp, StyleGAN-NADA).

The average of w lies beside the network as `latent_avg`: [w_dim], or the same row for every layer where an encoder
wrote it. Training snapshots have none.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from higan.checkpoints.formats.layout import Converted, Tensors, add_missing_noise, find_rule
from higan.checkpoints.networks import StoredNetwork
from higan.checkpoints.pickles.stored import StoredTensor
from higan.errors import CheckpointError

# name in the file, name here; {layer} and {block} follow from the index in the file
LAYER = r"(?P<part>conv1|convs\.(?P<index>\d\d?))\."
OUTPUT = r"(?P<part>to_rgb1|to_rgbs\.(?P<index>\d\d?))\."
RULES = [
    (r"style\.(?P<dense>\d\d?)\.(?P<last>weight|bias)", "mapping.dense.{dense}.{last}"),
    (r"latent_avg", "w_avg"),
    (r"input\.input", "const"),
    (r"noises\.noise_(?P<noise>\d\d?)", "layers.{noise}.noise"),
    (LAYER + r"conv\.weight", "layers.{layer}.weight"),
    (LAYER + r"conv\.modulation\.(?P<last>weight|bias)", "layers.{layer}.style.{last}"),
    (LAYER + r"noise\.weight", "layers.{layer}.noise_strength"),
    (LAYER + r"activate\.bias", "layers.{layer}.bias"),
    (OUTPUT + r"conv\.weight", "outputs.{block}.weight"),
    (OUTPUT + r"conv\.modulation\.(?P<last>weight|bias)", "outputs.{block}.style.{last}"),
    (OUTPUT + r"bias", "outputs.{block}.bias"),
]


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors have this program's names."""
    weight = network.tensors.get("convs.0.conv.weight")
    return "input.input" in network.tensors and weight is not None and len(weight.shape) == 5


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if the tensors are not those of a StyleGAN2."""
    average = network.beside.get("latent_avg")
    if isinstance(average, StoredTensor) and average.objects is None:
        network.tensors = network.tensors | {"latent_avg": average}
    state_dict: Tensors = {}
    tensors = network.load()
    for name in list(tensors):
        tensor = tensors.pop(name)
        if not name.endswith(".kernel"):  # fixed by the architecture
            state_dict[rename(name)] = reshape(name, tensor)
    if add_missing_noise(state_dict):  # of the program's first versions, which drew it anew
        network.notes.append("the file has no noise images: without --noise=random there is no noise")
    return "stylegan2", state_dict, {"architecture": "skip"}


def rename(name: str) -> str:
    """Return a tensor's name in the network's layout; raise CheckpointError if it is unknown."""
    match, target = find_rule(RULES, name, "a StyleGAN2 of rosinality's program")
    parts: dict[str, Any] = match.groupdict()
    index = -1 if parts.get("index") is None else int(parts["index"])  # -1: the first block, of 4x4
    parts |= {"layer": index + 1, "block": index + 1, "dense": int(parts.get("dense") or 1) - 1}
    return str(target.format(**parts))


def reshape(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as the network has it."""
    if name == "latent_avg":
        rows = tensor.reshape(-1, tensor.shape[-1])
        if not torch.equal(rows, rows[:1].expand_as(rows)):
            raise CheckpointError("latent_avg differs from layer to layer; expected the one average of w")
        return rows[0]
    if name.endswith("conv.weight"):
        if tensor.ndim != 5:
            raise CheckpointError(f"the weight {name} has shape {list(tensor.shape)}; expected five dimensions")
        up = re.fullmatch(r"convs\.\d*[02468]\.conv\.weight", name)  # stored mirrored
        return tensor[0].flip(2, 3) if up else tensor[0]
    if name.endswith("noise.weight") and tensor.numel() == 1:
        return tensor.reshape([])
    return tensor.flatten() if name.startswith("to_rgb") and name.endswith("bias") else tensor
