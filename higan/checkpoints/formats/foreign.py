"""Generators that are known and not read, because they are other functions than the families here: each says why."""

from __future__ import annotations

from higan.checkpoints.formats.layout import Converted
from higan.checkpoints.networks import StoredNetwork
from higan.errors import CheckpointError

# what a state dict of the program holds, and what is to be said of it
PROGRAMS = [
    (
        ("initial_block", "blocks.0.to_style1.weight"),
        "a generator of lucidrains/stylegan2-pytorch: it up-samples bilinearly, has no equalised learning rates and "
        "weighs noise by channel, so that no network here computes it",
    ),
]


def recognise(network: StoredNetwork) -> bool:
    """Whether the tensors are those of a program in the list."""
    return bool(reason(network))


def convert(network: StoredNetwork) -> Converted:
    """Raise CheckpointError that says why the network is not read."""
    raise CheckpointError(reason(network))


def reason(network: StoredNetwork) -> str:
    """Return why a network is not read, "" if it is none of the list."""
    return next((why for names, why in PROGRAMS if network.tensors.keys() >= set(names)), "")
