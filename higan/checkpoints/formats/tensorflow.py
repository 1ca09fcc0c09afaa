"""Networks of the official TensorFlow programs (PGGAN, StyleGAN, StyleGAN2) to the networks' layout."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import Any

from torch import Tensor

from higan.checkpoints.formats.layout import Converted, Tensors, architecture, require_arguments, whole
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

# static arguments that change the function; a network in which one has another value is refused
REQUIRED: dict[str, tuple[Any, ...]] = {
    "label_size": (0,),
    "use_wscale": (True,),
    "use_pixelnorm": (True,),
    "use_leakyrelu": (True,),
    "normalize_latents": (True,),
    "use_styles": (True,),
    "const_input_layer": (True,),
    "use_noise": (True,),
    "use_pixel_norm": (False,),
    "use_instance_norm": (True,),
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "act": ("lrelu",),
    "mapping_lrmul": (0.01,),
    "blur_filter": ([1, 2, 1],),
    "resample_kernel": ([1, 3, 3, 1],),
}

MAPPING = [
    (r"Dense(\d\d?)/weight", r"mapping.dense.\1.weight", "dense"),
    (r"Dense(\d\d?)/bias", r"mapping.dense.\1.bias", ""),
    (r"dlatent_avg", "w_avg", ""),
    (r"noise(\d\d?)", r"layers.\1.noise", ""),
    (r"4x4/Const/const", "const", ""),
]
CONVOLUTIONS = [
    (r"LAYER/weight", "layers.{layer}.weight", "conv"),
    (r"LAYER/bias", "layers.{layer}.bias", ""),
    (r"ToRGB_lod(?P<lod>\d)/weight", "outputs.{block}.weight", "conv"),
    (r"ToRGB_lod(?P<lod>\d)/bias", "outputs.{block}.bias", ""),
]
# name in the file (LAYER stands for the names of a resolution's layers), name here, what to do with the tensor
RULES = {
    "pggan": [
        *CONVOLUTIONS,
        (r"4x4/Dense/weight", "layers.0.weight", "first"),
        (r"4x4/Dense/bias", "layers.0.bias", ""),
    ],
    "stylegan": [
        *MAPPING,
        *CONVOLUTIONS,
        (r"LAYER/Noise/weight", "layers.{layer}.noise_strength", ""),
        (r"LAYER/StyleMod/weight", "layers.{layer}.style.weight", "dense"),
        (r"LAYER/StyleMod/bias", "layers.{layer}.style.bias", ""),
    ],
    "stylegan2": [
        *MAPPING,
        *CONVOLUTIONS[:2],
        (r"LAYER/noise_strength", "layers.{layer}.noise_strength", ""),
        (r"LAYER/mod_weight", "layers.{layer}.style.weight", "dense"),
        (r"LAYER/mod_bias", "layers.{layer}.style.bias", "plus one"),
        (r"SIZE/ToRGB/weight", "outputs.{block}.weight", "conv"),
        (r"SIZE/ToRGB/bias", "outputs.{block}.bias", ""),
        (r"SIZE/ToRGB/mod_weight", "outputs.{block}.style.weight", "dense"),
        (r"SIZE/ToRGB/mod_bias", "outputs.{block}.style.bias", "plus one"),
        (r"SIZE/Skip/weight", "skips.{before}.weight", "conv"),
    ],
}
SIZE = r"(?P<size>4|8|16|32|64|128|256|512|1024|2048|4096|8192)x(?P=size)"
LAYER = SIZE + r"/(?P<conv>Const|Conv|Conv0|Conv0_up|Conv1)"


def recognise(network: StoredNetwork) -> bool:
    """Whether the variables have these programs' names."""
    return bool(family_of(network.tensors))


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if variables or arguments are not the family's."""
    family = family_of(network.tensors)
    return family, *convert_tensors(family, network.load(), network.arguments)


def family_of(names: Container[str]) -> str:
    """Return the family whose variables have such names, "" if none."""
    if "4x4/Dense/weight" in names and "ToRGB_lod0/weight" in names:
        return "pggan"
    if "4x4/Const/StyleMod/weight" in names:
        return "stylegan"
    return "stylegan2" if "4x4/Conv/mod_weight" in names else ""


def convert_tensors(family: str, tensors: Tensors, arguments: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that names, values and arguments tell.

    Parameters
    ----------
    tensors
        The network's variables by name, float32; entries are taken out as they are converted.
    arguments
        Its static arguments.

    Raises
    ------
    CheckpointError
        The network was made with an argument that is not supported, or a name or shape is none of its family's.
    """
    require_arguments(family, arguments, REQUIRED)
    sizes = [int(match["size"]) for name in tensors if (match := re.match(SIZE, name))]
    blocks = int(math.log2(max(sizes))) - 1
    settings: dict[str, Any] = {}
    state_dict: Tensors = {}
    fused = []
    for name in list(tensors):
        tensor = tensors.pop(name)
        if name == "lod":
            if family != "stylegan2":  # whose graph does not use it
                settings["lod"] = whole(tensor.item())
            continue
        target, rule, parts = rename(family, name, blocks)
        if family == "pggan" and parts.get("conv") == "Conv0_up" and rule == "conv":
            fused.append(int(parts["size"]))
            rule = "fused"
        state_dict[target] = apply_rule(tensor, rule)
    if family == "stylegan":
        choice = arguments.get("fused_scale", "auto")
        fused = [size for size in set(sizes) if size > 4 and (size >= 128 if choice == "auto" else choice)]
    if family == "stylegan2":
        settings["architecture"] = arguments.get("architecture", architecture(state_dict))
        if (clamp := arguments.get("conv_clamp")) is not None:  # of stylegan2-ada
            settings["clamp"] = clamp
        require_own_size(arguments, state_dict, blocks)
    elif fused:
        settings["fused"] = tuple(sorted(fused))
    return state_dict, settings


def require_own_size(arguments: dict[str, Any], state_dict: Tensors, blocks: int) -> None:
    """Raise CheckpointError where layers are resized on the way to images of a `size` that the constant does not give.

    eps696/stylegan2 (stylegan2_custom.py) begins with a constant of `init_res`, of any height and width, and can do so.
    """
    size, const = arguments.get("size"), state_dict.get("const")
    if size is None or const is None:
        return
    own = [side * 2 ** (blocks - 1) for side in const.shape[2:]]
    if list(size if isinstance(size, list | tuple) else [size, size]) != own:
        raise CheckpointError(f"a stylegan2 trained with size {str(size)[:40]}; supported: {own}, no layer resized")


def rename(family: str, name: str, blocks: int) -> tuple[str, str, dict[str, str]]:
    """Return a variable's name in the network's layout, what to do with it, and the parts of its old name."""
    for pattern, target, rule in RULES[family]:
        match = re.fullmatch(pattern.replace("LAYER", LAYER).replace("SIZE", SIZE), name)
        if not match:
            continue
        parts = match.groupdict()
        if not parts:
            return match.expand(target), rule, {}
        block = blocks - 1 - int(parts["lod"]) if "lod" in parts else int(math.log2(int(parts["size"]))) - 2
        layer = 2 * block + (parts.get("conv") in ("Conv", "Conv1")) - (family == "stylegan2")
        return target.format(**(parts | {"block": block, "before": block - 1, "layer": layer})), rule, parts
    raise CheckpointError(f"a {family} of the TensorFlow program with an unknown variable {name[:80]!r}")


def apply_rule(tensor: Tensor, rule: str) -> Tensor:
    """Return a tensor as the network has it, by the `rule` of its name; raise CheckpointError if it does not fit."""
    dimensions = {"dense": 2, "first": 2, "conv": 4, "fused": 4}.get(rule, tensor.ndim)
    if tensor.ndim != dimensions:
        raise CheckpointError(f"a variable of shape {list(tensor.shape)}; expected {dimensions} dimensions")
    if rule == "plus one":
        return tensor + 1
    if rule == "dense":
        return tensor.t().contiguous()
    if rule == "conv":  # [k, k, I, O] -> [O, I, k, k]
        return tensor.permute(3, 2, 0, 1).contiguous()
    if rule == "fused":  # [k, k, O, I] -> [O, I, k, k]
        return tensor.permute(2, 3, 0, 1).contiguous()
    if rule == "first":  # [Z, O * 16] -> [O, Z, 4, 4], a convolution of one padded pixel
        return tensor.reshape(len(tensor), -1, 4, 4).transpose(0, 1).flip(2, 3).contiguous()
    return tensor
