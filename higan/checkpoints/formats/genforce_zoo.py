"""State dicts of the later programs of the paper's group (genforce/genforce, genforce/sefa) to the networks' layout.

The zoo's files are {generator, discriminator, generator_smooth}; training checkpoints have these under `models`.
Convolutions are stored as [O, I, k, k], and StyleGAN2's are not mirrored. A file does not say which up-sampling layers
of a StyleGAN are fused: the program's default is assumed, those from 128x128 on.
"""

from __future__ import annotations

from collections.abc import Container

from higan.checkpoints.formats.genforce import INDEX, convert_tensors
from higan.checkpoints.formats.layout import Converted
from higan.checkpoints.networks import StoredNetwork

FUSED = 128  # `_AUTO_FUSED_SCALE_MIN_RES` of the program

MAPPING = [
    (rf"mapping\.dense{INDEX}\.(weight|bias)", r"mapping.dense.\1.\2", ""),
    (r"truncation\.w_avg", "w_avg", ""),
]
CONVOLUTIONS = [(rf"(layer|output){INDEX}\.(weight|bias)", r"\1s.\2.\3", "")]
# name in the file (without "synthesis."), name here, what to do with the tensor
RULES = {
    "pggan": CONVOLUTIONS,
    "stylegan": [
        *MAPPING,
        *CONVOLUTIONS,
        (r"layer0\.const", "const", ""),
        (rf"layer{INDEX}\.style\.(weight|bias)", r"layers.\1.style.\2", ""),
        (rf"layer{INDEX}\.apply_noise\.noise", r"layers.\1.noise", ""),
        (rf"layer{INDEX}\.apply_noise\.weight", r"layers.\1.noise_strength", ""),
    ],
    "stylegan2": [
        *MAPPING,
        *CONVOLUTIONS,
        (r"early_layer\.const", "const", ""),
        (rf"layer{INDEX}\.(noise|noise_strength)", r"layers.\1.\2", ""),
        (rf"(layer|output){INDEX}\.style\.weight", r"\1s.\2.style.weight", ""),
        (rf"(layer|output){INDEX}\.style\.bias", r"\1s.\2.style.bias", "plus one"),
    ],
}


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors have these programs' names."""
    return bool(family_of(network.tensors))


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings; raise CheckpointError if the tensors are not the family's."""
    family = family_of(network.tensors)
    state_dict, settings = convert_tensors(family, network.load(), RULES)
    if family == "stylegan":
        sizes = [4 * 2 ** (layer // 2) for layer in range(2, 18, 2) if f"layers.{layer}.weight" in state_dict]
        if fused := tuple(size for size in sizes if size >= FUSED):
            settings["fused"] = fused
    return family, state_dict, settings


def family_of(names: Container[str]) -> str:
    """Return the family whose state dict has such names, "" if none."""
    if "layer0.weight" in names and "output0.weight" in names and "layer0.bias" in names:
        return "pggan"
    if "synthesis.layer0.apply_noise.weight" in names:
        return "stylegan"
    return "stylegan2" if "synthesis.layer0.style.weight" in names else ""
