"""The generator as the steps see it: seeds to codes, codes to images, one interface for every family."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from higan.devices import require_memory, within_memory
from higan.errors import HiganError
from higan.generators.classes import Classes, parse_classes
from higan.generators.network import Network, State, TruncatesZ, layered, per_layer

MOST_PSI = 100  # 1 is no truncation; far above it images are nothing but white or black
NOISES = ("const", "none", "random")
CPU_BATCH_BYTES = 192 * 2**20  # more than this falls out of the caches and is slower
MAX_BATCH = 64
LIVE_TENSORS = 4  # activations of the largest layer that are alive at once

Codes = Tensor | np.ndarray


class NotFiniteError(HiganError):
    """A generator gives an image of NaN or infinity; `row` is the first such one of the codes it was given."""

    def __init__(self, name: str, row: int) -> None:
        super().__init__(
            f"{name} gives an image of NaN or infinity for sample {row}; check the precision (fp32 has the widest "
            "range), the truncation and the weights"
        )
        self.name, self.row = name, row

    def after(self, rows: int) -> NotFiniteError:
        """Return the error as it reads where `rows` codes came before."""
        return NotFiniteError(self.name, rows + self.row)


class Generator:
    """A trained generator with its truncation, device and precision.

    The same code gives the same image whatever the batch it is in, up to the rounding of the device's convolutions
    (a grey level on a few pixels in a million); the codes w do not depend on the batch.

    Attributes
    ----------
    name, family
        The model's name; its family, such as "stylegan2".
    image_size, resolution
        Height and width of the images; the larger of the two.
    image_channels
        Channels C of the images: 1 (grey), 3 (RGB) or 4 (RGBA). Predictors see RGB: grey is repeated, and what is
        transparent lies on white (`Predictor.predict`); pages and JPEG files show it on a checkerboard
        (`higan.files.to_rgb`).
    num_layers, z_dim, w_dim
        Number L of style inputs, widths of the latent spaces (L and w_dim are 0 for PGGAN).
    has_layers
        Whether there are style inputs: then there are w, wp and styles.
    spaces, entry
        The latent spaces the model has, ("z",) for PGGAN, else ("z", "w", "wp"); the last, which synthesis starts from.
    label_dim
        Number of classes of a conditional model, else 0.
    truncation_psi, truncation_layers
        wp[l] = w_avg + (w - w_avg) * psi for l < truncation_layers, w otherwise (Karras et al. 2019, appendix B).
    truncates_z
        Psi acts on z as it is drawn instead (BigGAN); then truncation_layers is 0.
    classes
        The classes of a conditional model's samples, or None.
    batch_size
        Images synthesised at once; chosen from the memory there is, may be set, and halves itself on lack of memory.
    sha256
        Digest of the weight file, "" if there is none.
    predictor
        Name of the predictor that fits the model's images, "" if none is known.
    tuned_from
        Name and SHA-256 of the model whose weights were tuned to these (`higan.inversion --tune`), or None.
    translate, rotate
        How the network was told to move and turn its images, None where it was not: a record, see `load_generator`.

    Raises
    ------
    HiganError
        Noise, truncation or class is none that the model can have; of a method, also codes of another shape, or a space
        that the model lacks.

    >>> generator.synthesize(generator.sample(2, seed=0), "z").dtype
    torch.uint8
    """

    def __init__(
        self,
        network: Network,
        name: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        truncation_psi: float = 1.0,
        truncation_layers: int = 0,
        noise: str = "const",
        sha256: str = "",
        predictor: str = "",
        class_idx: int | str | Sequence[int | str] | None = None,
        tuned_from: tuple[str, str] | None = None,
        translate: Sequence[float] | None = None,
        rotate: float | None = None,
    ) -> None:
        if noise not in NOISES:
            raise HiganError(f"unknown noise {noise!r}; expected one of {', '.join(NOISES)}")
        if not abs(truncation_psi) <= MOST_PSI:
            raise HiganError(f"truncation_psi is {truncation_psi}; expected a number from -{MOST_PSI} to {MOST_PSI}")
        if truncation_layers < 0:
            raise HiganError(f"truncation_layers is {truncation_layers}; expected 0 (none) or more")
        self.device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.network.prepare(dtype)
        self.name, self.dtype, self.noise, self.sha256, self.predictor = name, dtype, noise, sha256, predictor
        self.tuned_from, self.translate, self.rotate = tuned_from, translate and list(translate), rotate
        self.family: str = self.network.family
        self.image_size: tuple[int, int] = self.network.image_size
        self.image_channels: int = self.network.image_channels
        self.resolution = max(self.image_size)
        self.num_layers: int = self.network.num_layers
        self.z_dim: int = self.network.z_dim
        self.w_dim: int = self.network.w_dim
        self.label_dim: int = self.network.label_dim
        self.spaces: tuple[str, ...] = self.network.spaces
        self.has_layers = self.num_layers > 0
        self.entry = self.spaces[-1]
        self.truncates_z = isinstance(self.network, TruncatesZ)
        if self.truncates_z and truncation_layers:
            raise HiganError(f"truncation_layers is {truncation_layers}; {name} ({self.family}) truncates z: give 0")
        self.truncation_psi = truncation_psi
        self.truncation_layers = min(truncation_layers, self.num_layers)
        self.classes: Classes | None = None
        if class_idx is not None:
            if not self.label_dim:
                raise HiganError(f"{name} is not conditional; leave the class out")
            self.classes = parse_classes(class_idx, self.label_dim, getattr(network, "class_names", ()), name)
        self.batch_size = self._choose_batch_size()

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.image_size))
        layers = f", {self.num_layers} layers, w {self.w_dim}" if self.has_layers else ""
        return (
            f"<Generator {self.name}: {self.family}, {size}, z {self.z_dim}{layers}, psi {self.truncation_psi:g}, "
            f"{self.device}>"
        )

    @property
    def class_idx(self) -> int | list[int] | None:
        """The class, or the classes that samples take in turn; None if a file has one for each, or there is none."""
        return self.classes.in_turn() if self.classes is not None else None

    @property
    def labels_sha256(self) -> str | None:
        """Digest of the classes of a file with one for each sample, else None."""
        return self.classes.sha256 if self.classes is not None else None

    @property
    def truncation_psi(self) -> float:
        """Psi, which may be set."""
        return self._truncation_psi

    @truncation_psi.setter
    def truncation_psi(self, psi: float) -> None:
        self._truncation_psi = float(psi)
        if isinstance(self.network, TruncatesZ):
            self.network.truncate(self._truncation_psi)

    def sample(self, num: int, seed: int, start: int = 0) -> Tensor:
        """Return z, float32 [num, z_dim] on the CPU, as the family draws it (all but BigGAN: of norm sqrt(z_dim)).

        Row i depends on (seed, start + i) alone.
        """
        if num < 0 or start < 0 or seed < 0:
            raise HiganError(f"num {num}, seed {seed}, start {start}: expected numbers from 0")
        require_memory(4 * num * self.z_dim, f"{num} samples")
        return torch.from_numpy(self.network.sample(num, seed, start))

    def normalize(self, codes: Tensor, space: str) -> Tensor:
        """Return codes [N, ...] of another tool as the model draws those of `space`: z on its sphere, others kept."""
        return codes if layered(space) else self.network.normalize(codes)

    def labels(self, num: int, start: int = 0) -> Tensor | None:
        """Return the classes, int64 [num], of the samples from `start` on; None for an unconditional model.

        Raises HiganError if no class has been chosen.
        """
        if not self.label_dim:
            return None
        if self.classes is None:
            raise HiganError(
                f"{self.name} is conditional; choose a class from 0 to {self.label_dim - 1}, or several (--class_idx)"
            )
        return torch.from_numpy(self.classes.of(num, start))

    def psi(self) -> Tensor:
        """Return the truncation of every layer, float32 [L] on the CPU: psi below `truncation_layers`, 1 above."""
        psi = torch.ones(self.num_layers)
        psi[: self.truncation_layers] = self.truncation_psi
        return psi

    @torch.no_grad()  # not inference mode: codes may be optimised
    def map(self, z: Codes, label: int | Codes | None = None) -> Tensor:
        """Return w, float32 [N, w_dim] on the device.

        Parameters
        ----------
        z
            [N, z_dim].
        label
            For a conditional model: one class index, N indices, or one-hot rows [N, label_dim].

        Raises
        ------
        HiganError
            The model has no w space, the shapes do not fit, or a conditional model gets no label.
        """
        self._require_layers("a w space")
        z = self._codes(z, "z")
        return self.network.map(z, self._one_hot(label, len(z))).clone()

    @torch.no_grad()
    def broadcast(self, w: Codes) -> Tensor:
        """Return wp, float32 [N, L, w_dim]: w [N, w_dim] repeated for every layer, truncated."""
        self._require_layers("a w+ space")
        return self.network.broadcast(self._codes(w, "w"), self.psi().to(self.device))

    def follow(
        self, codes: Codes, space: str, label: int | Codes | None = None, until: str | None = None
    ) -> dict[str, Tensor]:
        """Return codes in `space` and in every space that follows from it, float32 on the device, by space.

        `until` is the last of them, None for the entry.
        """
        codes = self._codes(codes, space)
        found = {space: codes}
        first, last = self.spaces.index(space), self.spaces.index(until or self.entry)
        steps = (partial(self.map, label=label), self.broadcast)
        for step, after in zip(steps[first:last], self.spaces[first + 1 :], strict=False):
            found[after] = codes = step(codes)
        return found

    def to_entry(self, codes: Codes, space: str, label: int | Codes | None = None) -> Tensor:
        """Return what synthesis starts from, wp (PGGAN: z), of codes in `space`; all but codes of wp are truncated."""
        return self.follow(codes, space, label)[self.entry]

    def to_wp(self, codes: Codes, space: str, label: int | Codes | None = None) -> Tensor:
        """Return wp, float32 [N, L, w_dim] on the device, of codes in "z", "w" (these are truncated) or "wp" (kept)."""
        self._require_layers("a w+ space")
        return self.to_entry(codes, space, label)

    def strength(self, space: str) -> Tensor | None:
        """Return the share [L] of a step in `space` that reaches each layer: `psi` in w; None where all of it does."""
        return self.psi() if layered(space) and not per_layer(space) else None

    def styles(self, wp: Codes) -> list[Tensor]:
        """Return the L styles of wp [N, L, w_dim], each float32 [N, C_l], as the layers use them.

        StyleGAN: scales, then shifts (2C values); StyleGAN2: one factor per input channel, the last of the RGB output.
        """
        self._require_layers("styles")
        return self.network.styles(self._codes(wp, "wp"))

    def synthesize(
        self,
        codes: Codes,
        space: str = "wp",
        label: int | Codes | None = None,
        finite: list[Tensor] | None = None,
    ) -> Tensor:
        """Return images, uint8 [N, H, W, C] on the device, of `codes` in `space`, `batch_size` of them at a time.

        Lack of memory halves `batch_size` and goes on.

        Parameters
        ----------
        finite
            Takes, for every batch, which of its images are finite, bool [n] on the device: the caller looks at it once
            the GPU is done. Without it NotFiniteError is raised here.

        Raises
        ------
        NotFiniteError
            An image holds NaN or infinity.
        HiganError
            Codes or label do not fit the model, or memory does not suffice for one image.
        """
        codes = self._codes(codes, space)
        labels = None if layered(space) else self._one_hot(label, len(codes))
        images: list[Tensor] = []
        start = 0
        while start < len(codes):
            rest = codes[start:], None if labels is None else labels[start:]
            try:
                batch, self.batch_size = within_memory(partial(self._synthesize, *rest, space, finite), self.batch_size)
            except NotFiniteError as error:
                raise error.after(start) from None
            images.append(batch)
            start += len(batch)
        if not images:
            return torch.empty(0, *self.image_size, self.image_channels, dtype=torch.uint8, device=self.device)
        return images[0] if len(images) == 1 else torch.cat(images)

    @torch.inference_mode()
    def _synthesize(
        self, codes: Tensor, label: Tensor | None, space: str, finite: list[Tensor] | None, size: int
    ) -> Tensor:
        """Return the images of the first `size` codes."""
        codes, label = codes[:size], None if label is None else label[:size]
        entry = self.to_entry(codes, space, label)
        return self.image(self.advance(self.initial(entry), entry, 0, self.num_layers), finite)

    def render(self, codes: Tensor) -> Tensor:
        """Return images, float32 [N, C, H, W], nominally in [-1, 1], differentiable in `codes`: wp (PGGAN: z)."""
        codes = self._codes(codes, self.entry)
        state = self.network.initial(codes)
        for layer in range(self.num_layers):
            state = self.network.layer(layer, state, codes[:, layer], self._noise(layer, codes[:, layer]))
        return self.network.image(state)

    @torch.inference_mode()
    def initial(self, codes: Tensor) -> State:
        """Return the state that enters layer 0, for `advance`, of wp [N, L, w_dim] (PGGAN: z, through all layers)."""
        return self.network.initial(self._codes(codes, self.entry))

    @torch.inference_mode()
    def advance(self, state: State, wp: Tensor, start: int, stop: int) -> State:
        """Apply layers `start` to `stop` - 1 to a state that has left layer `start` - 1; wp is all of [N, L, w_dim].

        A model without layers takes none, 0 to 0, and gives the state back.

        States may be kept and advanced more than once: images that differ from one layer on share what comes before.
        """
        if not 0 <= start <= stop <= self.num_layers:
            raise HiganError(f"layers {start} to {stop}; expected 0 <= start <= stop <= {self.num_layers}")
        for layer in range(start, stop):
            state = self.network.layer(layer, state, wp[:, layer], self._noise(layer, wp[:, layer]))
        return state

    @torch.inference_mode()
    def image(self, state: State, finite: list[Tensor] | None = None) -> Tensor:
        """Return the images, uint8 [N, H, W, C], of a state that has left the last layer; `finite` as `synthesize`."""
        return self._to_uint8(self.network.image(state), finite)

    def _to_uint8(self, images: Tensor, finite: list[Tensor] | None) -> Tensor:
        """Return images as uint8, which cannot tell NaN from black, and note or raise that some are not finite."""
        flags, result = images.isfinite().flatten(1).all(dim=1), to_uint8(images)
        if finite is not None:
            finite.append(flags)
        elif not bool(flags.all()):
            raise NotFiniteError(self.name, flags.tolist().index(False))
        return result

    def code_shape(self, space: str) -> tuple[int, ...]:
        """Return the shape of one code of "z", "w" or "wp"."""
        return {"z": (self.z_dim,), "w": (self.w_dim,), "wp": (self.num_layers, self.w_dim)}[space]

    def _codes(self, codes: Codes, space: str) -> Tensor:
        """Return `codes` as float32 on the device; raise HiganError unless their shape is that of `space`."""
        if space not in self.spaces:
            raise HiganError(f"{self.name} ({self.family}) has no space {space!r}; expected {', '.join(self.spaces)}")
        codes = torch.as_tensor(codes)
        row = self.code_shape(space)
        if tuple(codes.shape[1:]) != row or codes.ndim != len(row) + 1:
            expected = ", ".join(map(str, ("N", *row)))
            raise HiganError(f"codes of shape {list(codes.shape)}; {self.name} expects [{expected}] in space {space}")
        return codes.to(self.device, torch.float32)

    def _one_hot(self, label: int | Codes | None, num: int) -> Tensor | None:
        """Return labels as one-hot rows, float32 [num, label_dim], or None for an unconditional model."""
        count = self.label_dim
        if not count:
            if label is None:
                return None
            raise HiganError(f"{self.name} is not conditional; leave the class out")
        if label is None:
            if self.classes is not None and (self.classes.source or len(self.classes.indices) > 1):
                raise HiganError(f"{self.name} draws several classes; give those of these codes: see Generator.labels")
            label = self.labels(num)
        if isinstance(label, int) and not 0 <= label < count:
            raise HiganError(f"class {label}; {self.name} has classes 0 to {count - 1}")
        labels = torch.as_tensor(label, device=self.device)
        if labels.ndim == 2:
            if tuple(labels.shape) != (num, count):
                raise HiganError(f"labels of shape {list(labels.shape)}; {self.name} expects [{num}, {count}]")
            return labels.float()
        if labels.is_floating_point() or labels.ndim > 1 or labels.numel() not in (1, num):
            raise HiganError(f"labels of shape {list(labels.shape)}, {labels.dtype}; expected 1 or {num} class indices")
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < count:
            raise HiganError(f"class {label}; {self.name} has classes 0 to {count - 1}")
        return torch.nn.functional.one_hot(labels.long().reshape(-1).expand(num), count).float()

    def _require_layers(self, what: str) -> None:
        if not self.has_layers:
            raise HiganError(f"{self.name} ({self.family}) does not have {what}: its only latent space is {self.entry}")

    def _noise(self, layer: int, code: Tensor) -> Tensor | None:
        """Return the noise [1 or N, 1, H, W] that replaces the stored one of a layer; None keeps the stored."""
        if self.noise == "const" or not all(size := self.network.noise_size(layer)):
            return None
        if self.noise == "none":
            return torch.zeros(1, 1, *size, device=self.device)
        return random_noise(code, layer, size).to(self.device)

    def _choose_batch_size(self) -> int:
        values = self.network.largest_activation * LIVE_TENSORS
        size = torch.empty((), dtype=self.dtype).element_size()
        budget = CPU_BATCH_BYTES
        if self.device.type == "cuda":
            budget = torch.cuda.mem_get_info(self.device)[0] // 4  # needs CUDA
        power = int(math.log2(max(1, budget // (values * size))))
        return min(2**power, MAX_BATCH)


def to_uint8(images: Tensor) -> Tensor:
    """Return images, uint8 [N, H, W, C], of float [N, C, H, W]: floor(clip((x + 1) * 127.5 + 0.5, 0, 255))."""
    return images.mul(127.5).add_(128).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def random_noise(code: Tensor, layer: int, size: tuple[int, int]) -> Tensor:
    """Return standard normal noise, float32 [N, 1, *size] on the CPU, drawn from the layer and each row of `code`.

    So neither the batch nor the layers that a state shares with others change it.
    """
    noises = []
    for row in code.detach().float().cpu().numpy():
        generator = np.random.Generator(np.random.Philox(key=[zlib.crc32(row.tobytes()), layer]))
        noises.append(generator.standard_normal((1, *size), dtype=np.float32))
    return torch.from_numpy(np.stack(noises))
