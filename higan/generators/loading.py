"""Latent code to image: `load_generator` makes a `Generator` of a known model's name or a weight file."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from higan.checkpoints import Checkpoint, read_checkpoint
from higan.checkpoints.beside import files_of, model_name
from higan.devices import choose_device, choose_precision
from higan.errors import CheckpointError, HiganError
from higan.files import digest
from higan.generators.biggan import BigGAN
from higan.generators.generator import Generator
from higan.generators.network import Movable, Network
from higan.generators.pggan import PGGAN
from higan.generators.stylegan import StyleGAN
from higan.generators.stylegan2 import StyleGAN2
from higan.generators.stylegan3 import StyleGAN3
from higan.generators.zoo import find_file, find_weights, read_zoo

NETWORKS: dict[str, type[Network]] = {
    "pggan": PGGAN,
    "stylegan": StyleGAN,
    "stylegan2": StyleGAN2,
    "stylegan3": StyleGAN3,
    "biggan": BigGAN,
}
AVERAGE_SAMPLES = 4096
DRAWN = ("truncation_psi", "truncation_layers", "predictor")  # what a tuned model has from the zoo's own


def load_generator(
    name_or_path: str | Path,
    truncation_psi: float | None = None,
    truncation_layers: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    noise: str = "const",
    class_idx: int | str | Sequence[int | str] | None = None,
    translate: tuple[float, float] | None = None,
    rotate: float | None = None,
) -> Generator:
    """Return the generator called `name_or_path` in models/zoo.toml, or that of a weight file of any supported format.

    Parameters
    ----------
    truncation_psi, truncation_layers
        None: as the zoo says for the model, else the family's own: 0.7 on 8 layers (StyleGAN), 0.5 on all (StyleGAN2).
        More layers than there are mean all.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    precision
        Number format of the activations: "fp32", "bf16", or "fp16" (on CUDA only); codes stay in float32.
    noise
        "const" (the noise images in the file), "none", or "random" (drawn anew from each code).
    class_idx
        Class to draw from a conditional model wherever no other label is given; several, which samples take in turn; or
        a file with one per sample: see `classes.parse_classes`.
    translate, rotate
        Move every image to the right and down, in image widths, and turn it counter-clockwise, in degrees (StyleGAN3
        only); in place of the transform that the file may hold, unless both are None.

    Raises
    ------
    HiganError
        No model has the name and no file is there, or a setting is none of the above.
    CheckpointError
        The file cannot be used.

    >>> higan.load_generator("stylegan2_rooms", truncation_psi=0.7)
    <Generator stylegan2_rooms: stylegan2, ..., psi 0.7, ...>
    """
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    path, model = find_weights(name_or_path)
    checkpoint, network = read_network(path)
    if not model and checkpoint.tuned_from:
        model = {key: value for key, value in read_zoo().get(checkpoint.tuned_from[0], {}).items() if key in DRAWN}
    for note in checkpoint.notes:
        logging.getLogger("higan").warning("%s: %s", path, note)
    if translate is not None or rotate is not None:
        if not isinstance(network, Movable):
            raise HiganError(
                f"{name_or_path} ({network.family}) cannot move or turn its images; leave translate and rotate out"
            )
        shift, angle = translate or (0.0, 0.0), rotate or 0.0
        numbers = [value for value in (*shift, angle) if isinstance(value, int | float) and math.isfinite(value)]
        if len(numbers) != 3 or len(shift) != 2:
            raise HiganError(f"translate is {translate}, rotate {rotate}; expected two finite numbers, and one")
        network.transform(shift, angle)
    psi, layers = network.truncation
    psi, layers = model.get("truncation_psi", psi), model.get("truncation_layers", layers)
    return Generator(
        network,
        name=model.get("name") or model_name(path),
        device=place,
        dtype=dtype,
        truncation_psi=psi if truncation_psi is None else truncation_psi,
        truncation_layers=layers if truncation_layers is None else truncation_layers,
        noise=noise,
        sha256=digest(*files_of(path)),
        predictor=model.get("predictor", ""),
        class_idx=class_idx,
        tuned_from=checkpoint.tuned_from,
        translate=translate,
        rotate=rotate,
    )


def available_models() -> list[str]:
    """Return the names that `load_generator` takes here: the models of models/zoo.toml whose weights are in place.

    `python -m higan.generators` lists the others too, and where they are published.

    >>> higan.available_models()
    [...'stylegan2_rooms'...]
    """
    return [name for name, model in read_zoo().items() if find_file(name, model)]


def read_network(path: Path) -> tuple[Checkpoint, Network]:
    """Return what a weight file holds, and its network; raise CheckpointError, which names the file, if it has none."""
    checkpoint = read_checkpoint(path)
    try:
        return checkpoint, build_network(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def build_network(checkpoint: Checkpoint) -> Network:
    """Return the network of a checkpoint with its weights, which are not copied.

    The checkpoint's settings become those that the network was made with. A missing average of w is computed.

    Raises
    ------
    CheckpointError
        The family is not known; a tensor is missing, one too many, or has a shape that does not fit the others.
    """
    if checkpoint.family not in NETWORKS:
        raise CheckpointError(f"a network of family {checkpoint.family[:40]!r}; supported: {', '.join(NETWORKS)}")
    kind = NETWORKS[checkpoint.family]
    found = {name: tuple(value.shape) for name, value in checkpoint.state_dict.items()}
    try:
        checkpoint.settings |= kind.infer_settings(found)
        with torch.device("meta"):
            network = kind(**checkpoint.settings)
    except KeyError as error:
        raise CheckpointError(f"a {checkpoint.family} without the tensor {error}") from None
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"the {checkpoint.family} does not fit together: {error}") from None
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if without_average := "w_avg" in expected and "w_avg" not in found:
        checkpoint.state_dict["w_avg"], found["w_avg"] = torch.zeros(expected["w_avg"]), expected["w_avg"]
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            here, there = (f"shape {list(s[name])}" if name in s else "none" for s in (found, expected))
            raise CheckpointError(f"the {checkpoint.family} does not fit together: {name} is {here}, expected {there}")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    if without_average:
        checkpoint.state_dict["w_avg"].copy_(average_w(network))
        checkpoint.notes.append(f"the file has no average of w: computed from {AVERAGE_SAMPLES} samples of seed 0")
    return network


@torch.no_grad()
def average_w(network: Network) -> Tensor:
    """Return the mean of w [w_dim] over samples of seed 0, which take the classes of a conditional network in turn.

    The number of samples is that of the reference program (rosinality/stylegan2-pytorch, `truncation_mean`).
    """
    z = torch.from_numpy(network.sample(AVERAGE_SAMPLES, seed=0, start=0))
    classes = torch.arange(AVERAGE_SAMPLES) % max(1, network.label_dim)
    labels = torch.nn.functional.one_hot(classes, network.label_dim).float() if network.label_dim else None
    return network.map(z, labels).mean(dim=0)
