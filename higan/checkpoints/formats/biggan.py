"""BigGAN of two programs to the network's layout.

huggingface/pytorch-pretrained-BigGAN writes a folder of `pytorch_model.bin` and `config.json`; ajbrock/BigGAN-PyTorch
writes `G_ema.pth`, and its settings into `state_dict.pth` beside it. Both divide their weights by spectral norms when
they run, which are constants after training: here the weights are divided once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from higan.checkpoints.beside import CONFIG, TRAINING, read_config, read_training
from higan.checkpoints.formats.layout import Converted, Tensors
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

MOST_BLOCKS = 64
LONGEST = 150  # characters of a class's name
EPSILON = 1e-5  # ajbrock's program's own, --BN_eps
OUTPUT_EPSILON = 1e-5  # of the last norm there, whatever --BN_eps says
ATTENTION = ("theta", "phi", "g", "o")
# ajbrock's settings that change the function; a network in which one has another value is refused
REQUIRED: dict[str, tuple[Any, ...]] = {"G_nl": ("inplace_relu", "relu"), "norm_style": ("bn",)}
# names of the statistics in ajbrock's batch norms: the default's, those of --mybn and of --cross_replica
STATISTICS = (("stored_mean", "stored_var"), ("bn.stored_mean", "bn.stored_var"), ("bn.running_mean", "bn.running_var"))
UNUSED = re.compile(r".*(\.[su]v?\d+|\.num_batches_tracked|\.accumulation_counter|\.weight_[uv])")


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors have the names of one of the two programs."""
    return is_huggingface(network.tensors) or is_ajbrock(network.tensors)


def convert(network: StoredNetwork) -> Converted:
    """Return family, state dict and settings.

    Raises
    ------
    CheckpointError
        Tensors are missing or do not fit together, or the settings beside them are missing or do not fit the tensors.
    """
    config = read_config(network.file)
    if is_huggingface(network.tensors):
        if config is None:
            raise CheckpointError(
                f"a BigGAN-deep of the huggingface package without its {CONFIG}, which tells layers, eps and n_stats: "
                "put it into the same folder"
            )
        state_dict, settings = from_huggingface(network.load(), config)
        return "biggan", state_dict, settings | class_names(config, state_dict)
    known = {**read_training(network.file), **(config or {})}
    if "BN_eps" not in known:
        network.notes.append(
            f"the file does not say BN_eps: taken to be {EPSILON:g}, the program's default; if it was trained with "
            f'another, put its {TRAINING}, or a {CONFIG} of {{"BN_eps": ...}}, into the same folder'
        )
    state_dict, settings = from_ajbrock(network.load(), known)
    return "biggan", state_dict, settings | class_names(known, state_dict)


def class_names(config: Mapping[str, Any], state_dict: Tensors) -> dict[str, Any]:
    """Return the names that `id2label` of the settings gives every class, {} if it does not."""
    labels = config.get("id2label")
    if labels is None:
        return {}
    count = len(state_dict.get("embedding", ()))
    names = [labels.get(str(index)) for index in range(count)] if isinstance(labels, dict) else []
    if not names or not all(isinstance(name, str) and name.isprintable() and len(name) <= LONGEST for name in names):
        raise CheckpointError(f'{CONFIG}: id2label does not name {count} classes; expected {{"0": a name, ...}}')
    return {"class_names": names}


def is_huggingface(names: Mapping[str, Any]) -> bool:
    """Whether a state dict of the huggingface package has such names."""
    return "embeddings.weight" in names and "generator.gen_z.weight_orig" in names


def is_ajbrock(names: Mapping[str, Any]) -> bool:
    """Whether a state dict of ajbrock's program has such names."""
    return {"linear.weight", "blocks.0.0.conv1.weight", "output_layer.2.weight"} <= names.keys()


def from_huggingface(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Return state dict and settings of the huggingface package's network and `config.json`; errors as `convert`.

    sigma is u @ (W v) with the stored u and v, which do not belong together; the pictures are made so.
    """
    source = Source(tensors)

    def weight(name: str) -> Tensor:
        matrix = source.take(f"{name}.weight_orig")
        u, v = source.take(f"{name}.weight_u"), source.take(f"{name}.weight_v")
        sigma = u.double() @ (matrix.flatten(1).double() @ v.double())
        return (matrix.double() / sigma).float()

    ups, channels = read_layers(config)
    found = source.numbers(r"generator\.layers\.(\d\d?)\..*")
    attention = [number for number in found if f"generator.layers.{number}.gamma" in tensors]
    blocks = [number for number in found if number not in attention]
    place = setting(config, "attention_layer_position", int)
    if len(blocks) != len(ups) or found != list(range(len(found))) or attention != [place] * (place < len(ups)):
        raise CheckpointError(
            f"layers {found} with attention at {attention}; {CONFIG} says {len(ups)} layers and attention at {place}"
        )
    width = setting(config, "channel_width", int)
    linear = weight("generator.gen_z")
    first = len(linear) // 16
    state_dict = {
        "embedding": source.take("embeddings.weight").t().contiguous(),
        "linear.weight": channels_first(linear, first),
        "linear.bias": channels_first(source.take("generator.gen_z.bias"), first),
        "norm.gain": source.take("generator.bn.weight"),
        "norm.bias": source.take("generator.bn.bias"),
        "norm.means": source.take("generator.bn.running_means"),
        "norm.variances": source.take("generator.bn.running_vars"),
        "output.weight": weight("generator.conv_to_rgb")[:3].contiguous(),  # the others are computed and left
        "output.bias": source.take("generator.conv_to_rgb.bias")[:3].contiguous(),
    }
    for index, number in enumerate(blocks):
        name, here = f"generator.layers.{number}", f"blocks.{index}"
        norms = [f"{name}.bn_{part}" for part in range(4)]
        gains = [weight(f"{norm}.scale") for norm in norms]
        biases = [weight(f"{norm}.offset") for norm in norms]
        state_dict[f"{here}.norm.style.weight"] = torch.cat(gains + biases)
        state_dict[f"{here}.norm.means"] = torch.cat([source.take(f"{norm}.running_means") for norm in norms], dim=1)
        state_dict[f"{here}.norm.variances"] = torch.cat([source.take(f"{norm}.running_vars") for norm in norms], dim=1)
        for part in range(4):
            state_dict[f"{here}.convolutions.{part}.weight"] = weight(f"{name}.conv_{part}")
            state_dict[f"{here}.convolutions.{part}.bias"] = source.take(f"{name}.conv_{part}.bias")
        sizes = len(gains[0]), len(state_dict[f"{here}.convolutions.3.bias"])
        if sizes != (width * channels[index][0], width * channels[index][1]):
            raise CheckpointError(f"layer {number} has {sizes[0]} to {sizes[1]} channels; {CONFIG} says otherwise")
    for number in attention:
        name, here = f"generator.layers.{number}", f"attention.{number}"
        state_dict[f"{here}.gamma"] = source.take(f"{name}.gamma").reshape([])
        for role in ATTENTION:
            state_dict[f"{here}.{role}.weight"] = weight(f"{name}.snconv1x1_{role}{'_conv' * (role == 'o')}")
    source.require_empty()
    dims = {"z_dim": state_dict["embedding"].shape[1], "num_classes": len(state_dict["embedding"])}
    dims |= {"n_stats": len(state_dict["norm.means"]), "output_dim": 4 * 2 ** sum(ups)}
    for key, value in dims.items():
        if setting(config, key, int) != value:
            raise CheckpointError(f"{CONFIG} says {key} {config[key]}; the tensors say {value}")
    if dims["n_stats"] < 2:
        raise CheckpointError("statistics of a single psi; expected n_stats of 2 or more")
    epsilon = float(setting(config, "eps", float))
    return state_dict, {"up": ups, "epsilon": epsilon, "output_epsilon": epsilon}


def read_layers(config: Mapping[str, Any]) -> tuple[list[bool], list[tuple[int, int]]]:
    """Return of each block of `config.json` whether it doubles the size, and its channels in units of the width."""
    layers = setting(config, "layers", list)
    for layer in layers:
        types = [type(value) for value in layer] if isinstance(layer, list) else []
        if types != [bool, int, int] or len(layers) > MOST_BLOCKS:
            raise CheckpointError(f"{CONFIG}: layers holds {str(layer)[:60]}; expected [up, channels in, channels out]")
    return [layer[0] for layer in layers], [(layer[1], layer[2]) for layer in layers]


def setting(config: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a setting; raise CheckpointError, which asks for it by name, unless it is there and of its kind."""
    value: Any = config.get(name)
    if type(value) not in ((int, float) if kind is float else (kind,)):
        raise CheckpointError(f"{CONFIG}: {name} is {str(value)[:60]}; expected the {kind.__name__} of the training")
    if kind is float and not 0 <= value < 1:
        raise CheckpointError(f"{name} is {str(value)[:60]}; expected a number from 0 to 1")
    return value


def from_ajbrock(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Return state dict and settings of ajbrock's network; errors as `convert`.

    sigma is that of one power iteration from the stored u0, which each forward pass makes anew; weights that were
    trained without a spectral norm (--G_param) have no u0.
    """
    for name, allowed in REQUIRED.items():
        if config.get(name, allowed[0]) not in allowed:
            raise CheckpointError(f"a BigGAN trained with {name} {str(config[name])[:40]!r}; supported: {allowed[0]!r}")
    source = Source(tensors)

    def weight(name: str) -> Tensor:
        matrix = source.take(f"{name}.weight")
        if f"{name}.u0" not in tensors:
            return matrix
        rows = matrix.flatten(1).double()
        v = source.take(f"{name}.u0").double() @ rows
        sigma = torch.linalg.vector_norm(rows @ (v / torch.linalg.vector_norm(v)).flatten())
        return (matrix.double() / sigma).float()

    def statistics(norms: list[str]) -> list[Tensor]:
        names = next((pair for pair in STATISTICS if f"{norms[0]}.{pair[0]}" in tensors), STATISTICS[0])
        return [torch.cat([source.take(f"{norm}.{name}") for norm in norms])[None] for name in names]

    count = len(source.numbers(r"blocks\.(\d\d?)\.0\..*"))
    deep = "blocks.0.0.conv4.weight" in tensors
    additive = f"output_layer.0.{STATISTICS[2][0]}" in tensors
    convolutions = ["conv1", "conv2", *(["conv3", "conv4"] if deep else [])]
    shared = source.take("shared.weight") if "shared.weight" in tensors else None
    classes = 0 if shared is None else shared.shape[1]
    linear = weight("linear")
    state_dict = {
        "linear.weight": classes_last(linear, classes) if deep else linear,
        "linear.bias": source.take("linear.bias"),
        "norm.gain": source.take("output_layer.0.gain"),
        "norm.bias": source.take("output_layer.0.bias"),
        "output.weight": weight("output_layer.2"),
        "output.bias": source.take("output_layer.2.bias"),
    }
    state_dict["norm.means"], state_dict["norm.variances"] = statistics(["output_layer.0"])
    if shared is not None:
        state_dict["embedding"] = shared
    sizes = []
    for index in range(count):
        name, here = f"blocks.{index}.0", f"blocks.{index}"
        norms = [f"{name}.bn{part + 1}" for part in range(len(convolutions))]
        styles = [weight(f"{norm}.{kind}") for kind in ("gain", "bias") for norm in norms]
        if shared is None:  # tables [classes, channels] of their own
            styles = [style.t() for style in styles]
        state_dict[f"{here}.norm.style.weight"] = classes_last(torch.cat(styles), classes)
        state_dict[f"{here}.norm.means"], state_dict[f"{here}.norm.variances"] = statistics(norms)
        for part, convolution in enumerate(convolutions):
            state_dict[f"{here}.convolutions.{part}.weight"] = weight(f"{name}.{convolution}")
            state_dict[f"{here}.convolutions.{part}.bias"] = source.take(f"{name}.{convolution}.bias")
        outputs = len(state_dict[f"{here}.convolutions.{len(norms) - 1}.bias"])
        sizes.append((state_dict[f"{here}.convolutions.0.weight"].shape[1], outputs))
        if not deep:
            state_dict[f"{here}.skip.weight"] = weight(f"{name}.conv_sc")
            state_dict[f"{here}.skip.bias"] = source.take(f"{name}.conv_sc.bias")
        if f"blocks.{index}.1.gamma" in tensors:
            state_dict[f"attention.{index + 1}.gamma"] = source.take(f"blocks.{index}.1.gamma").reshape([])
            for role in ATTENTION:
                state_dict[f"attention.{index + 1}.{role}.weight"] = weight(f"blocks.{index}.1.{role}")
    up = doubling(sizes, config) if deep else [True] * count
    if isinstance(side := config.get("resolution"), int) and math.isqrt(len(linear) // sizes[0][0]) << sum(up) != side:
        raise CheckpointError(f"{sum(up)} doublings of the size do not lead to the resolution {side} of its settings")
    settings = {"up": up, "epsilon": EPSILON, "output_epsilon": OUTPUT_EPSILON}
    if "BN_eps" in config:
        settings["epsilon"] = float(setting(config, "BN_eps", float))
    source.require_empty()
    return state_dict, settings | {"additive": additive}


def doubling(sizes: list[tuple[int, int]], config: Mapping[str, Any]) -> list[bool]:
    """Return of each block of ajbrock's BigGAN-deep whether it doubles the size: the last of each stage of G_depth.

    The second block of a stage changes the channels. Where none does it is the program's network of 32x32, with three
    stages.
    """
    changes = [index for index, (inputs, outputs) in enumerate(sizes) if inputs != outputs]
    depth = config.get("G_depth", 2 if changes else len(sizes) // 3)
    if type(depth) is not int or depth < 1 or len(sizes) % depth or any(index % depth != 1 for index in changes):
        raise CheckpointError(
            f"{len(sizes)} blocks that change channels at {changes}: no stages of {depth!r} (G_depth)"
        )
    return [index % depth == depth - 1 for index in range(len(sizes))]


class Source:
    """The tensors of a state dict, taken one by one."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def take(self, name: str) -> Tensor:
        """Return a tensor once; raise CheckpointError if it is not there."""
        if name not in self.tensors:
            raise CheckpointError(f"a BigGAN without the tensor {name!r}")
        return self.tensors.pop(name)

    def numbers(self, pattern: str) -> list[int]:
        """Return the numbers that a pattern finds in the names, in order."""
        return sorted({int(match[1]) for name in self.tensors if (match := re.fullmatch(pattern, name))})

    def require_empty(self) -> None:
        """Raise CheckpointError if a tensor is left that the network has no use for."""
        if rest := sorted(name for name in self.tensors if not UNUSED.fullmatch(name)):
            raise CheckpointError(f"a BigGAN with an unknown tensor {rest[0][:80]!r}")


def channels_first(values: Tensor, channels: int) -> Tensor:
    """Return the rows of a linear layer that makes 4x4 pixels, [16 C, ...], with the channels before the pixels."""
    return values.unflatten(0, (16, channels)).transpose(0, 1).flatten(0, 1).contiguous()


def classes_last(weight: Tensor, classes: int) -> Tensor:
    """Return a weight [O, I] with the first `classes` columns moved behind the others."""
    return torch.cat([weight[:, classes:], weight[:, :classes]], dim=1)
