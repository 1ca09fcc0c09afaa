"""State dicts of the programs of the paper's group to the networks' layout: the earlier (higan) and the later ones.

The later ones (genforce/genforce, genforce/sefa) write {generator, discriminator, generator_smooth}, in training under
`models`. They store convolutions as [O, I, k, k], and do not mirror StyleGAN2's. Which up-sampling layers of a StyleGAN
are fused is not in their files: the programs' default is assumed, those from 128x128 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from higan.checkpoints.formats.layout import Converted, Tensors, architecture, find_rule, whole
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

FIXED = ("blur.kernel", "filter.kernel", "upsample.kernel", "truncation.truncation")  # defined by the architecture
FUSED = 128  # `_AUTO_FUSED_SCALE_MIN_RES` of the later programs

# names that tell the family, in the earlier program and in the later ones
EARLIER = {
    "pggan": {"layer0.conv.weight", "output0.conv.weight"},
    "stylegan": {"synthesis.layer0.epilogue.bias"},
    "stylegan2": {"synthesis.layer0.style.fc.weight"},
}
LATER = {
    "pggan": {"layer0.weight", "layer0.bias", "output0.weight"},
    "stylegan": {"synthesis.layer0.apply_noise.weight"},
    "stylegan2": {"synthesis.layer0.style.weight"},
}

INDEX = r"(\d\d?)"
LAST = r"(?:fc\.|wscale\.)?(weight|bias)"  # the earlier program wraps what it scales
MAPPING = [
    (rf"mapping\.dense{INDEX}\.{LAST}", r"mapping.dense.\1.\2", ""),
    (r"truncation\.w_avg", "w_avg", ""),
]
CONVOLUTIONS = [
    (rf"(layer|output){INDEX}\.conv\.weight", r"\1s.\2.weight", ""),
    (rf"(layer|output){INDEX}\.weight", r"\1s.\2.weight", "kernel"),
    (rf"(layer|output){INDEX}\.(?:wscale\.|epilogue\.)?bias", r"\1s.\2.bias", ""),
]
# name in the file (without "synthesis."), name here, what to do with the tensor
RULES = {
    "pggan": CONVOLUTIONS,
    "stylegan": [
        *MAPPING,
        *CONVOLUTIONS,
        (r"layer0\.const", "const", ""),
        (rf"layer{INDEX}\.(?:epilogue\.)?apply_noise\.noise", r"layers.\1.noise", ""),
        (rf"layer{INDEX}\.(?:epilogue\.)?apply_noise\.weight", r"layers.\1.noise_strength", ""),
        (rf"layer{INDEX}\.(?:epilogue\.style_mod\.dense|style)\.{LAST}", r"layers.\1.style.\2", ""),
    ],
    "stylegan2": [
        *MAPPING,
        (r"early_layer\.const", "const", ""),
        (rf"(layer|output){INDEX}\.(bias|noise|noise_strength)", r"\1s.\2.\3", ""),
        (rf"(layer|output){INDEX}\.style\.(?:fc\.)?weight", r"\1s.\2.style.weight", ""),
        (rf"(layer|output){INDEX}\.style\.bias", r"\1s.\2.style.bias", "plus one"),
        (rf"(layer|output){INDEX}\.weight", r"\1s.\2.weight", "kernel"),
        (rf"skip_layer{INDEX}\.weight", r"skips.\1.weight", "kernel"),
    ],
}


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors have these programs' names."""
    return bool(family_of(network.tensors)[0])


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if the tensors are not the family's."""
    family, later = family_of(network.tensors)
    return family, *convert_tensors(family, network.load(), later)


def family_of(names: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the family whose state dict has such names, "" if none, and whether a later program wrote it."""
    for later, signs in ((False, EARLIER), (True, LATER)):
        for family, telling in signs.items():
            if telling <= names.keys():
                return family, later
    return "", False


def convert_tensors(family: str, tensors: Tensors, later: bool = False) -> tuple[Tensors, dict[str, Any]]:
    """Return the state dict in the network's layout, and the settings that its names and values tell.

    Parameters
    ----------
    tensors
        The file's tensors by name, float32; entries are taken out as they are converted.
    later
        A later program wrote them.

    Raises
    ------
    CheckpointError
        A name is not of the family, or a shape not of its name.
    """
    state_dict: Tensors = {}
    fused = set()
    settings: dict[str, Any] = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        if name in ("lod", "synthesis.lod"):
            settings["lod"] = whole(tensor.item())
        elif not name.endswith(FIXED):
            match, target, rule = find_rule(RULES[family], name.removeprefix("synthesis."), f"a {family} state dict")
            target = match.expand(target)
            if rule == "kernel" and not later:
                fused.add(size_of(target))
                tensor = outputs_first(tensor)
            state_dict[target] = tensor + 1 if rule == "plus one" else tensor
    if family == "stylegan2":
        return state_dict, settings | {"architecture": architecture(state_dict)}
    if family == "stylegan" and later:
        fused = {size for name in state_dict if name.startswith("layers.") and (size := size_of(name)) >= FUSED}
    return state_dict, settings | ({"fused": tuple(sorted(fused))} if fused else {})


def size_of(target: str) -> int:
    """Return the side of what the layer makes that a tensor `target` is of."""
    return 4 * 2 ** (int(target.split(".")[1]) // 2)


def outputs_first(kernel: Tensor) -> Tensor:
    """Return a kernel [k, k, I, O] as [O, I, k, k]; raise CheckpointError if it is none."""
    if kernel.ndim != 4:
        raise CheckpointError(f"a convolution's weight of shape {list(kernel.shape)}; expected four dimensions")
    return kernel.permute(3, 2, 0, 1).contiguous()
