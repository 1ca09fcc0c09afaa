"""State dicts of the paper's own programs (higan, genforce) to the networks' layout."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from higan.errors import CheckpointError

Tensors = dict[str, Tensor]
FIXED = ("blur.kernel", "filter.kernel", "upsample.kernel", "truncation.truncation")  # defined by the architecture

MAPPING = [
    (r"mapping\.dense(\d\d?)\.fc\.weight", r"mapping.dense.\1.weight", ""),
    (r"mapping\.dense(\d\d?)\.(?:wscale\.)?bias", r"mapping.dense.\1.bias", ""),
    (r"truncation\.w_avg", "w_avg", ""),
]
# name in the file, name here, what to do with the tensor
RULES = {
    "pggan": [
        (r"layer(\d\d?)\.conv\.weight", r"layers.\1.weight", ""),
        (r"layer(\d\d?)\.weight", r"layers.\1.weight", "fused"),
        (r"layer(\d\d?)\.wscale\.bias", r"layers.\1.bias", ""),
        (r"output(\d\d?)\.conv\.weight", r"outputs.\1.weight", ""),
        (r"output(\d\d?)\.wscale\.bias", r"outputs.\1.bias", ""),
    ],
    "stylegan": [
        *MAPPING,
        (r"synthesis\.layer0\.const", "const", ""),
        (r"synthesis\.layer(\d\d?)\.conv\.weight", r"layers.\1.weight", ""),
        (r"synthesis\.layer(\d\d?)\.weight", r"layers.\1.weight", "fused"),
        (r"synthesis\.layer(\d\d?)\.epilogue\.bias", r"layers.\1.bias", ""),
        (r"synthesis\.layer(\d\d?)\.epilogue\.apply_noise\.noise", r"layers.\1.noise", ""),
        (r"synthesis\.layer(\d\d?)\.epilogue\.apply_noise\.weight", r"layers.\1.noise_strength", ""),
        (r"synthesis\.layer(\d\d?)\.epilogue\.style_mod\.dense\.fc\.weight", r"layers.\1.style.weight", ""),
        (r"synthesis\.layer(\d\d?)\.epilogue\.style_mod\.dense\.wscale\.bias", r"layers.\1.style.bias", ""),
        (r"synthesis\.output(\d\d?)\.conv\.weight", r"outputs.\1.weight", ""),
        (r"synthesis\.output(\d\d?)\.bias", r"outputs.\1.bias", ""),
    ],
    "stylegan2": [
        *MAPPING,
        (r"synthesis\.early_layer\.const", "const", ""),
        (r"synthesis\.layer(\d\d?)\.(bias|noise|noise_strength)", r"layers.\1.\2", ""),
        (r"synthesis\.layer(\d\d?)\.style\.fc\.weight", r"layers.\1.style.weight", ""),
        (r"synthesis\.layer(\d\d?)\.style\.bias", r"layers.\1.style.bias", "plus one"),
        (r"synthesis\.layer(\d\d?)\.weight", r"layers.\1.weight", "transposed"),
        (r"synthesis\.output(\d\d?)\.bias", r"outputs.\1.bias", ""),
        (r"synthesis\.output(\d\d?)\.style\.fc\.weight", r"outputs.\1.style.weight", ""),
        (r"synthesis\.output(\d\d?)\.style\.bias", r"outputs.\1.style.bias", "plus one"),
        (r"synthesis\.output(\d\d?)\.weight", r"outputs.\1.weight", "transposed"),
        (r"synthesis\.skip_layer(\d\d?)\.weight", r"skips.\1.weight", "transposed"),
    ],
}


def recognise(names: set[str]) -> str:
    """Return the family whose state dict has such names, "" if none."""
    if {"layer0.conv.weight", "output0.conv.weight"} <= names:
        return "pggan"
    if "synthesis.early_layer.const" in names:
        return "stylegan2"
    return "stylegan" if "synthesis.layer0.epilogue.bias" in names else ""


def convert(family: str, tensors: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that its names and values tell.

    Parameters
    ----------
    tensors
        The file's tensors by name, float32; entries are taken out as they are converted.
    """
    state_dict: Tensors = {}
    fused = []
    settings: dict[str, Any] = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        if name in ("lod", "synthesis.lod"):
            settings["lod"] = tensor.item()
        elif not name.endswith(FIXED):
            target, rule = rename(family, name)
            if rule == "fused":
                fused.append(4 * 2 ** (int(target.split(".")[1]) // 2))
            state_dict[target] = apply_rule(tensor, rule)
    if fused:
        settings["fused"] = tuple(sorted(fused))
    if family == "stylegan2":
        settings["architecture"] = architecture(state_dict)
    return state_dict, settings


def architecture(state_dict: Tensors) -> str:
    """Return StyleGAN2's architecture, and number the only RGB output of "orig" and "resnet" 0."""
    outputs = sorted({int(name.split(".")[1]) for name in state_dict if name.startswith("outputs.")})
    if len(outputs) != 1:
        return "skip"
    for name in [name for name in state_dict if name.startswith("outputs.")]:
        state_dict[name.replace(f"outputs.{outputs[0]}.", "outputs.0.")] = state_dict.pop(name)
    return "resnet" if any(name.startswith("skips.") for name in state_dict) else "orig"


def rename(family: str, name: str) -> tuple[str, str]:
    for pattern, replacement, rule in RULES[family]:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement), rule
    raise CheckpointError(f"a {family} state dict with an unknown tensor {name[:80]!r}")


def apply_rule(tensor: Tensor, rule: str) -> Tensor:
    if rule == "plus one":
        return tensor + 1
    if rule in ("fused", "transposed"):  # [k, k, I, O] -> [O, I, k, k]
        if tensor.ndim != 4:
            raise CheckpointError(f"a convolution's weight of shape {list(tensor.shape)}; expected four dimensions")
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor
