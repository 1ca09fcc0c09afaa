"""File formats: each module recognises what one program writes and turns it into the networks' layout.

A format is a module with two functions. `recognise(network)` says from names alone whether a `StoredNetwork` is of it;
`convert(network)` returns the family, the state dict in that family's layout, and the settings that the shapes of its
tensors do not tell. `FORMATS` are asked in turn.
"""

from __future__ import annotations

from typing import Protocol

from higan.checkpoints.formats import (
    biggan,
    foreign,
    genforce,
    native,
    nvlabs,
    nvlabs_stylegan3,
    rosinality,
    tensorflow,
)
from higan.checkpoints.formats.layout import Converted
from higan.checkpoints.networks import StoredNetwork


class Format(Protocol):
    """What a module of this package gives."""

    __name__: str

    def recognise(self, network: StoredNetwork, /) -> bool:
        """Whether a network is of this format."""

    def convert(self, network: StoredNetwork, /) -> Converted:
        """Return family, state dict in the network's layout and settings; raise CheckpointError if they do not fit."""


FORMATS: tuple[Format, ...] = (
    native,
    tensorflow,
    nvlabs,
    nvlabs_stylegan3,
    rosinality,
    genforce,
    biggan,
    foreign,
)
