"""What a generator's network gives, whatever its family: the one thing that `Generator` relies on.

A family is one module with one class of this shape. Its layers, its latent spaces, how one space becomes another and
how codes are truncated are its own; nobody else asks which family a network is of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
    from typing_extensions import Self

SPACES = ("z", "w", "wp")  # every latent space, in the order in which one follows from the other
State: TypeAlias = "tuple[Tensor, ...]"  # what travels from layer to layer: activations [N, C, H, W], and more


def layered(space: str) -> bool:
    """Whether the layers read codes of `space`: in w all of them the same, in wp each its own; not in z."""
    return space != SPACES[0]


def per_layer(space: str) -> bool:
    """Whether a code of `space` holds a row for each layer, as in wp."""
    return space == SPACES[-1]


def say_space(space: str) -> str:
    """Return a latent space as people write it: w+ of wp."""
    return "w+" if per_layer(space) else space


def single(spaces: Sequence[str] = SPACES) -> str:
    """Return the last of `spaces` in which a code is one row: w, or z of a network without w."""
    return [space for space in spaces if not per_layer(space)][-1]


def space_of(dimensions: int) -> str:
    """Return the space of codes of which only the dimensions are known: wp of [N, L, D], w of [N, D]."""
    return SPACES[-1] if dimensions == 3 else single()


@runtime_checkable
class Movable(Protocol):
    """A network that can draw all its images moved and turned."""

    def transform(self, translate: tuple[float, float] = (0.0, 0.0), rotate: float = 0.0) -> None:
        """Move images by a share of their width, to the right and down, and turn them counter-clockwise, in degrees."""


class Network(Protocol):
    """A network in evaluation mode: z [N, z_dim] -> w [N, w_dim] -> wp [N, L, w_dim] -> image [N, C, H, W].

    It is a torch.nn.Module; of that, only what `Generator` calls is listed here.

    Attributes
    ----------
    family
        Name of the family, such as "stylegan2".
    spaces
        The latent spaces it has, the first of `SPACES`: ("z", "w", "wp"), or ("z",) for a network without layer-wise
        codes. The last is the entry: what `initial` and `layer` work on.
    truncation
        Default psi, and the number of layers that it is applied to.
    image_size, image_channels
        Height and width of the images; 1 (grey), 3 (RGB) or 4 (RGBA).
    num_layers
        Number L of layers that read a code of their own; 0 without layer-wise codes.
    z_dim, w_dim, label_dim
        Widths of z and w (0 without w); number of classes (0 for an unconditional network).
    """

    family: ClassVar[str]
    spaces: ClassVar[tuple[str, ...]]
    truncation: ClassVar[tuple[float, int]]
    image_size: tuple[int, int]
    image_channels: int
    num_layers: int
    z_dim: int
    w_dim: int
    label_dim: int

    def __init__(self, *args: Any, **settings: Any) -> None: ...

    @property
    def largest_activation(self) -> int:
        """Number of values per sample in the largest layer: batches are chosen by it."""

    @staticmethod
    def infer_settings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Return the constructor's arguments that the shapes of a state dict tell, by its tensors' names.

        Raises KeyError if a tensor is missing, ValueError if the shapes are none of the family's.
        """

    def prepare(self, dtype: torch.dtype) -> None:
        """Lay the weights out once for inference in `dtype`; call again after they change."""

    def sample(self, num: int, seed: int, start: int) -> np.ndarray:
        """Return z, float32 [num, z_dim], as the family draws it; row i depends on (seed, start + i) alone."""

    def normalize(self, z: Tensor) -> Tensor:
        """Return z [N, z_dim] of another tool as the family draws it: on the sphere of radius sqrt(z_dim), say."""

    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and, for a conditional network, labels [N, label_dim]; z without w."""

    def broadcast(self, w: Tensor, psi: Tensor) -> Tensor:
        """Return wp [N, L, w_dim] of w [N, w_dim], truncated by psi [L] as the family does it; w itself without wp."""

    def styles(self, wp: Tensor) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim], each [N, C_l], as the layers use them."""

    def noise_size(self, layer: int) -> tuple[int, int]:
        """Return height and width of the noise image that a layer adds, (0, 0) if none."""

    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, of entry codes [N, ...]; without layers that is all of the network."""

    def layer(self, index: int, state: State, code: Tensor, noise: Tensor | None = None) -> State:
        """Apply all that reads the code [N, w_dim] of layer `index` and return the state that enters the next.

        `noise` [1 or N, 1, H, W] replaces the noise image that the network holds.
        """

    def image(self, state: State) -> Tensor:
        """Return the image [N, C, H, W] (float32, nominally in [-1, 1]) of a state that has left the last layer."""

    def eval(self) -> Self: ...

    def requires_grad_(self, requires_grad: bool = True) -> Self: ...

    def to(self, device: torch.device) -> Self: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> object: ...


@runtime_checkable
class TruncatesZ(Protocol):
    """What a network also has if psi acts on z as it is drawn, not on w."""

    def truncate(self, psi: float) -> None:
        """Take psi for the z that `sample` draws, and for what else depends on it; raise HiganError if it cannot be."""
