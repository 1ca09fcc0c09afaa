"""What the explorer shows: a sample moved along any number of boundaries, its picture and its scores.

Nothing is kept of a visitor: every request says the whole state. What is kept is work that the next one shares.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import shlex
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from higan.directions.move import choose_layers, move_codes
from higan.editing.inversion import Statistics, invert, sample_statistics
from higan.editing.pictures import decode_picture
from higan.errors import HiganError
from higan.files import encode_image
from higan.generators.layer_sets import format_layers, parse_layers
from higan.generators.network import layered
from higan.predictors.features import load_features

if TYPE_CHECKING:
    from higan.directions.boundaries import Boundary
    from higan.generators import Generator
    from higan.predictors import Predictor

T = TypeVar("T")
REACH = 4.0  # distance at the ends of a slider
MOST_DISTANCE = 20.0
SCORED = 128  # samples that scores are compared with
INVERT_STEPS = 200
KEPT = 8  # states of the shared layers, one per picture that somebody looks at
LARGEST_CODE = 2**22  # characters of a code in a request


@dataclass(frozen=True)
class Shift:
    """How far the sample is moved along one boundary, and at which layers (None: as the boundary says)."""

    distance: float
    layers: tuple[int, ...] | None = None


@dataclass
class View:
    """What somebody looks at.

    Attributes
    ----------
    seed, number
        The sample, where there is no code.
    code
        float32 [1, ...]: an entry code of the visitor's own, such as an inverted picture's.
    shifts
        By the boundary's name.
    active
        The boundary whose slider is being moved, "" for none.
    """

    seed: int = 0
    number: int = 0
    code: Tensor | None = None
    shifts: dict[str, Shift] = field(default_factory=dict)
    active: str = ""


class Session:
    """A generator with its boundaries and predictor, for any number of visitors.

    One request is answered at a time; meanwhile one picture may be inverted.

    Parameters
    ----------
    boundaries
        Their names are unique.
    predictor
        Scores of its first group are shown; None for none.
    model
        Words that ask for the generator on a command line; its name, if there are none.
    """

    def __init__(
        self,
        generator: Generator,
        boundaries: Sequence[Boundary],
        predictor: Predictor | None,
        model: Sequence[str] = (),
    ) -> None:
        self.generator, self.predictor = generator, predictor
        self.model = shlex.join(model or [generator.name])
        self.boundaries = {boundary.name: boundary for boundary in boundaries}
        self.lock, self.inverting = threading.Lock(), threading.Lock()
        self.closed = threading.Event()
        self.states: OrderedDict[bytes, Any] = OrderedDict()
        self.statistics: Statistics | None = None
        self.mean, self.spread = self.score_spread()

    def about(self) -> dict[str, Any]:
        """Return what the page needs to draw its controls, JSON values."""
        generator = self.generator
        return {
            "model": generator.name,
            "family": generator.family,
            "size": list(generator.image_size),
            "layers": generator.num_layers,
            "reach": REACH,
            "boundaries": [
                {
                    "name": name,
                    "space": boundary.space,
                    "level": str(boundary.info.get("level") or ""),
                    "layers": format_layers(self.default_layers(boundary)) if layered(boundary.space) else "",
                }
                for name, boundary in self.boundaries.items()
            ],
            "scores": self.score_names(),
        }

    def show(self, view: View) -> dict[str, Any]:
        """Return {"image": JPEG as a data address, "scores": standard deviations from the samples' mean}."""
        with self.lock:
            image = self.picture(view)
            scores = self.scores(image)
        data = encode_image(image[0].cpu().numpy(), "jpg")
        return {"image": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", "scores": scores}

    def invert(self, content: bytes, crop: str = "center") -> dict[str, Any]:
        """Return the code of an uploaded picture as base64, and a remark on how near it comes.

        Raises HiganError where the picture cannot be read, or the explorer ends meanwhile.
        """
        size, channels = self.generator.image_size, self.generator.image_channels
        picture = decode_picture(io.BytesIO(content), "the picture", size, crop, channels=channels)
        with self.inverting:  # drawing goes on meanwhile
            self.statistics = self.statistics or sample_statistics(self.generator, progress=self.until_closed)
            _, features = load_features(None, self.generator.predictor, self.generator.device)
            found = invert(
                self.generator,
                picture.image[None],
                INVERT_STEPS,
                starts=1,
                features=features,
                statistics=self.statistics,
                progress=self.until_closed,
            )
        code = np.ascontiguousarray(found.codes.numpy(), "<f4").tobytes()
        return {"code": base64.b64encode(code).decode(), "remark": found.remark(0)}

    def save(self, view: View) -> bytes:
        """Return the moved code as an .npy file, [1, ...] in the entry space."""
        with self.lock:
            _, moved, _ = self.codes(view)
        content = io.BytesIO()
        np.save(content, moved.cpu().numpy(), allow_pickle=False)
        return content.getvalue()

    def command(self, view: View) -> str:
        """Return shell lines that make the same edit with manipulate.py."""
        lines = []
        for name, shift in view.shifts.items():
            boundary = self.boundaries[name]
            layers = f" layers={format_layers(shift.layers or self.default_layers(boundary))}"
            path = boundary.info.get("path", f"{name}_boundary.npy")
            end = f"{layers if layered(boundary.space) else ''} distance={shift.distance:g}"
            lines.append(f"({name}, {boundary.space}): {path}{end}")
        own = view.code is not None
        remark = ["# code.npy: what ↓ Code saves while no slider is moved"] if own else []
        if not lines:
            codes = "-i code.npy" if own else f"--seed={view.seed} --num={view.number + 1}"
            return "\n".join([*remark, f"python synthesize.py {self.model} {codes} --save_raw_synthesis"])
        codes = "-c code.npy" if own else f"--seed={view.seed} --samples={view.number}"
        edit = f"python manipulate.py {self.model} explorer.txt {codes} --combine"
        edit += " --start_distance=0 --end_distance=1 --step=3 --generate_html -o explorer"
        return "\n".join([*remark, "cat > explorer.txt <<'END'", *lines, "END", edit])

    def until_closed(self, steps: Iterable[T]) -> Iterator[T]:
        """Yield the steps of some long work; raise HiganError at the next one once `closed` is set."""
        for step in steps:
            if self.closed.is_set():
                raise HiganError("the explorer was closed")
            yield step

    # the work behind them

    def codes(self, view: View) -> tuple[Tensor, Tensor, int]:
        """Return the sample's entry code and the moved one, [1, ...], and the first layer that the slider moves."""
        generator = self.generator
        if view.code is not None:
            codes = {generator.entry: view.code.to(generator.device)}
        else:
            codes = generator.follow(generator.sample(1, view.seed, view.number), generator.spaces[0])
        origin = codes[generator.entry]
        moved, first = origin, 0
        for name, shift in view.shifts.items():
            boundary = self.boundaries[name]
            layers = list(shift.layers or self.default_layers(boundary)) if layered(boundary.space) else None
            steps, space = move_codes(generator, codes, boundary, [shift.distance], layers)
            if space != generator.entry:
                steps = generator.to_entry(steps[:, 0], space)[:, None]
            moved = moved + (steps[:, 0].to(moved) - origin)
            if name == view.active and layers:
                first = min(layers)
        return origin, moved, first

    def picture(self, view: View) -> Tensor:
        """Return the image, uint8 [1, H, W, C]; the layers below the slider's first are computed once."""
        generator = self.generator
        _, code, first = self.codes(view)
        if not first:
            return generator.synthesize(code, generator.entry)
        key = code[:, :first].cpu().numpy().tobytes()
        state = self.states.pop(key, None)
        if state is None:
            state = generator.advance(generator.initial(code), code, 0, first)
        self.states[key] = state
        while len(self.states) > KEPT:
            self.states.popitem(last=False)
        return generator.image(generator.advance(state, code, first, generator.num_layers))

    def default_layers(self, boundary: Boundary) -> tuple[int, ...]:
        """Return the layers that a boundary moves unless the visitor says otherwise."""
        return tuple(choose_layers(boundary, self.generator.num_layers)[0])

    def score_names(self) -> list[str]:
        """Return the names of the predictor's first group, for which bars are shown."""
        return next(iter(self.predictor.names.values())) if self.predictor else []

    def raw_scores(self, images: Tensor) -> np.ndarray:
        """Return the scores [N, K] of uint8 images."""
        if self.predictor is None:
            return np.zeros((len(images), 0))
        return next(iter(self.predictor.predict(images).values())).cpu().numpy()

    def score_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation [K] of the scores of 128 samples."""
        if self.predictor is None:
            return np.zeros(0), np.ones(0)
        generator = self.generator
        images = generator.synthesize(generator.sample(SCORED, 0), generator.spaces[0])
        scores = self.raw_scores(images)
        return scores.mean(axis=0), np.maximum(scores.std(axis=0), 1e-6)

    def scores(self, images: Tensor) -> list[float]:
        """Return the scores of an image in standard deviations from the samples' mean."""
        return [round(float(value), 3) for value in (self.raw_scores(images)[0] - self.mean) / self.spread]

    def read_view(self, content: Any) -> View:
        """Return the view that a request's JSON describes; raise HiganError for anything else."""
        if not isinstance(content, dict):
            raise HiganError("the request is no object")
        view = View(seed=natural(content, "seed"), number=natural(content, "number"))
        if (code := content.get("code")) is not None:
            view.code = self.read_code(code)
        shifts = content.get("shifts", {})
        if not isinstance(shifts, dict) or len(shifts) > len(self.boundaries):
            raise HiganError("shifts is no object of boundaries")
        for name, shift in shifts.items():
            view.shifts[self.known(name)] = self.read_shift(shift)
        view.active = self.known(content["active"]) if content.get("active") else ""
        return view

    def read_shift(self, content: Any) -> Shift:
        """Return a shift of JSON {"distance": number, "layers": text}."""
        distance = content.get("distance") if isinstance(content, dict) else None
        if not isinstance(distance, int | float) or isinstance(distance, bool) or not abs(distance) <= MOST_DISTANCE:
            raise HiganError(f"distance is {str(distance)[:40]!r}; expected a number up to {MOST_DISTANCE:g}")
        layers = content.get("layers") or None
        if layers is None:
            return Shift(float(distance))
        if not isinstance(layers, str) or not self.generator.num_layers:
            raise HiganError(f"layers is {str(layers)[:40]!r}; expected layers such as 2-5")
        return Shift(float(distance), tuple(parse_layers(layers, self.generator.num_layers)))

    def read_code(self, text: Any) -> Tensor:
        """Return an entry code [1, ...] of its base64 text."""
        if not isinstance(text, str) or len(text) > LARGEST_CODE:
            raise HiganError("code is no text of a code's size")
        try:
            values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
        except (binascii.Error, ValueError):
            raise HiganError("code is not base64 of float32 numbers") from None
        shape = self.generator.code_shape(self.generator.entry)
        if values.size != math.prod(shape) or not np.isfinite(values).all() or np.abs(values).max() > 1e4:
            raise HiganError(f"code holds {values.size} numbers, or some that are none; expected {list(shape)}")
        return torch.from_numpy(values.copy().reshape(1, *shape))

    def known(self, name: Any) -> str:
        """Return the name of a boundary; raise HiganError if there is none of that name."""
        if not isinstance(name, str) or name not in self.boundaries:
            raise HiganError(f"there is no boundary {str(name)[:60]!r}")
        return name


def natural(content: Mapping[str, Any], name: str) -> int:
    """Return an integer from 0 of a request."""
    value = content.get(name, 0)
    if type(value) is not int or not 0 <= value < 10**9:
        raise HiganError(f"{name} is {str(value)[:40]!r}; expected an integer from 0")
    return value
