"""State dicts of the paper's own programs (higan, genforce) to the networks' layout."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from torch import Tensor

from higan.checkpoints.formats.layout import Converted, Tensors, architecture, whole
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

FIXED = ("blur.kernel", "filter.kernel", "upsample.kernel", "truncation.truncation")  # defined by the architecture

Rules = Mapping[str, list[tuple[str, str, str]]]

INDEX = r"(\d\d?)"
BIAS = r"(?:wscale\.)?bias"
MAPPING = [
    (rf"mapping\.dense{INDEX}\.fc\.weight", r"mapping.dense.\1.weight", ""),
    (rf"mapping\.dense{INDEX}\.{BIAS}", r"mapping.dense.\1.bias", ""),
    (r"truncation\.w_avg", "w_avg", ""),
]
CONVOLUTIONS = [
    (rf"layer{INDEX}\.conv\.weight", r"layers.\1.weight", ""),
    (rf"layer{INDEX}\.weight", r"layers.\1.weight", "fused"),
    (rf"output{INDEX}\.conv\.weight", r"outputs.\1.weight", ""),
    (rf"output{INDEX}\.{BIAS}", r"outputs.\1.bias", ""),
]
EPILOGUE = rf"layer{INDEX}\.epilogue\."
# name in the file (without "synthesis."), name here, what to do with the tensor
RULES: Rules = {
    "pggan": [*CONVOLUTIONS, (rf"layer{INDEX}\.{BIAS}", r"layers.\1.bias", "")],
    "stylegan": [
        *MAPPING,
        *CONVOLUTIONS,
        (r"layer0\.const", "const", ""),
        (EPILOGUE + "bias", r"layers.\1.bias", ""),
        (EPILOGUE + r"apply_noise\.noise", r"layers.\1.noise", ""),
        (EPILOGUE + r"apply_noise\.weight", r"layers.\1.noise_strength", ""),
        (EPILOGUE + r"style_mod\.dense\.fc\.weight", r"layers.\1.style.weight", ""),
        (EPILOGUE + rf"style_mod\.dense\.{BIAS}", r"layers.\1.style.bias", ""),
    ],
    "stylegan2": [
        *MAPPING,
        (r"early_layer\.const", "const", ""),
        (rf"(layer|output){INDEX}\.(bias|noise|noise_strength)", r"\1s.\2.\3", ""),
        (rf"(layer|output){INDEX}\.style\.fc\.weight", r"\1s.\2.style.weight", ""),
        (rf"(layer|output){INDEX}\.style\.bias", r"\1s.\2.style.bias", "plus one"),
        (rf"(layer|output){INDEX}\.weight", r"\1s.\2.weight", "transposed"),
        (rf"skip_layer{INDEX}\.weight", r"skips.\1.weight", "transposed"),
    ],
}


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors have this program's names."""
    return bool(family_of(network.tensors))


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if the tensors are not the family's."""
    family = family_of(network.tensors)
    return family, *convert_tensors(family, network.load())


def family_of(names: Container[str]) -> str:
    """Return the family whose state dict has such names, "" if none."""
    if "layer0.conv.weight" in names and "output0.conv.weight" in names:
        return "pggan"
    if "synthesis.layer0.style.fc.weight" in names:
        return "stylegan2"
    return "stylegan" if "synthesis.layer0.epilogue.bias" in names else ""


def convert_tensors(family: str, tensors: Tensors, rules: Rules = RULES) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that its names and values tell.

    Parameters
    ----------
    tensors
        The file's tensors by name, float32; entries are taken out as they are converted.

    Raises
    ------
    CheckpointError
        A name is not of the family, or a shape not of its name.
    """
    state_dict: Tensors = {}
    fused = []
    settings: dict[str, Any] = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        if name in ("lod", "synthesis.lod"):
            settings["lod"] = whole(tensor.item())
        elif not name.endswith(FIXED):
            target, rule = rename(family, name, rules)
            if rule == "fused":
                fused.append(4 * 2 ** (int(target.split(".")[1]) // 2))
            state_dict[target] = apply_rule(tensor, rule)
    if fused:
        settings["fused"] = tuple(sorted(fused))
    if family == "stylegan2":
        settings["architecture"] = architecture(state_dict)
    return state_dict, settings


def rename(family: str, name: str, rules: Rules) -> tuple[str, str]:
    """Return a tensor's name in the network's layout, and what to do with it."""
    for pattern, replacement, rule in rules[family]:
        if match := re.fullmatch(pattern, name.removeprefix("synthesis.")):
            return match.expand(replacement), rule
    raise CheckpointError(f"a {family} state dict with an unknown tensor {name[:80]!r}")


def apply_rule(tensor: Tensor, rule: str) -> Tensor:
    """Return a tensor as the network has it, by the `rule` of its name; raise CheckpointError if it does not fit."""
    if rule == "plus one":
        return tensor + 1
    if rule in ("fused", "transposed"):  # [k, k, I, O] -> [O, I, k, k]
        if tensor.ndim != 4:
            raise CheckpointError(f"a convolution's weight of shape {list(tensor.shape)}; expected four dimensions")
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor
