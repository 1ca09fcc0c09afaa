"""Bedrooms with known factors, drawn by a ray caster in torch.

`sample_factors` draws scene parameters, `render` draws the pictures, `labels` gives the scores a predictor learns.
A contact sheet: `python scenes.py --out sheet.png --resolution 128 --rows 6 --cols 8 --seed 0`.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """One scene parameter.

    A binary factor is 0 or 1, and 1 with probability one half. A continuous factor is uniform on [-1, 1]; where
    `hue` is set it is an angle in units of pi, and the labels are its cosines to the named hues.
    """

    name: str
    level: str
    kind: str
    hue: bool = False


FACTORS: tuple[Factor, ...] = (
    Factor("viewpoint", "layout", "continuous"),
    Factor("room_depth", "layout", "continuous"),
    Factor("room_width", "layout", "continuous"),
    Factor("ceiling_height", "layout", "continuous"),
    Factor("bed_left", "object", "binary"),
    Factor("window", "object", "binary"),
    Factor("lamp", "object", "binary"),
    Factor("picture", "object", "binary"),
    Factor("wardrobe", "object", "binary"),
    Factor("rug", "object", "binary"),
    Factor("indoor_lighting", "attribute", "continuous"),
    Factor("warm_lighting", "attribute", "continuous"),
    Factor("natural_light", "attribute", "continuous"),
    Factor("wood", "attribute", "binary"),
    Factor("cluttered_space", "attribute", "binary"),
    Factor("glossy", "attribute", "binary"),
    Factor("wall_hue", "color", "continuous", hue=True),
    Factor("bedding_hue", "color", "continuous", hue=True),
)

# The two hues of a pair lie 90 degrees apart, so the two scores of one surface are uncorrelated.
_HUE_SCORES: dict[str, dict[str, float]] = {
    "wall_hue": {"warm_walls": 30.0, "green_walls": 120.0},
    "bedding_hue": {"warm_bedding": 30.0, "green_bedding": 120.0},
}


def _score_factors() -> dict[str, Factor]:
    """Factor of every score, in the order of `labels`."""
    return {name: factor for factor in FACTORS for name in (_HUE_SCORES[factor.name] if factor.hue else (factor.name,))}


LEVELS: dict[str, str] = {name: factor.level for name, factor in _score_factors().items()}
KINDS: dict[str, str] = {name: factor.kind for name, factor in _score_factors().items()}
FACTOR_OF: dict[str, str] = {name: factor.name for name, factor in _score_factors().items()}
SCORE_NAMES: tuple[str, ...] = tuple(LEVELS)


# What else differs from scene to scene, uniform on [-1, 1]: part of no score, so that no score can be read off a place
# or a shade that never changes.
NUISANCES: tuple[str, ...] = (
    "bed_place",
    "bed_width",
    "bed_length",
    "headboard_height",
    "lamp_size",
    "window_place",
    "window_width",
    "window_height",
    "picture_place",
    "picture_size",
    "wardrobe_width",
    "wardrobe_height",
    "rug_place",
    "rug_size",
    "clutter_place",
    "wall_lightness",
    "wall_saturation",
    "bedding_lightness",
    "bedding_saturation",
    "furniture_tone",
    "floor_tone",
    "textile_tone",
)


def sample_factors(num: int, seed: int, start: int = 0) -> dict[str, Tensor]:
    """Draw independent scene parameters; row i depends on `seed` and `start + i` alone.

    Parameters
    ----------
    num : number of scenes.
    seed : non-negative key of the generator.
    start : index of the first scene.

    Returns
    -------
    dict from the name of every factor and nuisance to float32 [num]; see `Factor` and `NUISANCES` for the ranges.
    """
    if num < 0 or seed < 0 or start < 0:
        raise ValueError(f"num, seed and start must not be negative, found {num}, {seed}, {start}")
    # A Philox counter step yields four words; whole steps per scene make every scene addressable.
    steps = -(-(len(FACTORS) + len(NUISANCES)) // 4)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=start * steps))
    uniform = torch.from_numpy(generator.random((num, 4 * steps)).T.copy())  # [4 * steps, num]
    kinds = [(factor.name, factor.kind) for factor in FACTORS] + [(name, "continuous") for name in NUISANCES]
    return {
        name: ((uniform[row] < 0.5) if kind == "binary" else 2 * uniform[row] - 1).float()
        for row, (name, kind) in enumerate(kinds)
    }


def normals(factors: dict[str, Tensor], generator: torch.Generator | None = None, near: float = 0.0) -> Tensor:
    """Draw independent standard normal variables of which the scenes are a function, given the scenes.

    A binary factor is 1 where its variable is positive, a uniform one is 2 Phi(variable) - 1, and a hue is the angle of
    two variables. What a scene leaves open (how far on its side a variable is, the length of the two) is drawn.

    Parameters
    ----------
    factors : dict from the name of every factor and nuisance to float32 [num], as `sample_factors` gives them.
    generator : of the draws.
    near : share of the binary factors' variables that are drawn ten times nearer to their threshold, zero.

    Returns
    -------
    float32 [num, D], with D = `NUM_NORMALS`; its rows are standard normal where the factors are `sample_factors`' and
    `near` is 0.
    """
    columns = []
    for factor in FACTORS:
        value = factors[factor.name]
        drawn = torch.randn(2, len(value), generator=generator)
        if factor.hue:
            length, angle = drawn.square().sum(dim=0).sqrt(), math.pi * value
            columns += [length * torch.cos(angle), length * torch.sin(angle)]
        elif factor.kind == "binary":
            distance = drawn[0].abs()
            if near > 0:
                close = torch.rand(len(value), generator=generator) < near
                distance = torch.where(close, 0.1 * distance, distance)
            columns.append(distance * (2 * value - 1))
        else:
            columns.append(_quantile(value))
    columns += [_quantile(factors[name]) for name in NUISANCES]
    return torch.stack(columns, dim=1)


def score_directions() -> dict[str, Tensor]:
    """Unit direction [NUM_NORMALS] of `normals` in which each score grows: an axis, or of a hue one of a plane."""
    directions: dict[str, Tensor] = {}
    axes, column = torch.eye(NUM_NORMALS), 0
    for factor in FACTORS:
        if factor.hue:
            for name, degrees in _HUE_SCORES[factor.name].items():
                angle = math.radians(degrees)
                directions[name] = math.cos(angle) * axes[column] + math.sin(angle) * axes[column + 1]
        else:
            directions[factor.name] = axes[column]
        column += 1 + factor.hue
    return directions


def _quantile(uniform: Tensor) -> Tensor:
    """Standard normal variables of uniform ones on [-1, 1]."""
    return math.sqrt(2) * torch.erfinv(uniform.clamp(-1 + 1e-6, 1 - 1e-6))


NUM_NORMALS = sum(1 + factor.hue for factor in FACTORS) + len(NUISANCES)


def labels(factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Targets of the predictor, one per score, in the order of `SCORE_NAMES`.

    A binary score is 1 where the thing is there and at least a third of it is seen. A continuous one has mean 0 and
    variance 1 over `sample_factors`: a uniform factor times sqrt(3), a hue's cosine times sqrt(2).

    Parameters
    ----------
    factors : dict from factor name to float32 [num]; a nuisance that it lacks is 0.

    Returns
    -------
    dict from score name to float32 [num].
    """
    _check(factors)
    scene = _Scene(_complete(factors, torch.device("cpu")))
    targets: dict[str, Tensor] = {}
    for factor in FACTORS:
        value = factors[factor.name].float()
        if factor.hue:
            for name, degrees in _HUE_SCORES[factor.name].items():
                targets[name] = math.sqrt(2) * torch.cos(math.pi * value - math.radians(degrees))
        elif factor.kind == "continuous":
            targets[factor.name] = math.sqrt(3) * value
        elif factor.name in scene.extents:
            targets[factor.name] = value * (_visible_share(scene, factor.name) >= 1 / 3).float()
        else:
            targets[factor.name] = value
    return targets


@torch.no_grad()
def render(factors: dict[str, Tensor], resolution: int, device: str | torch.device = "cpu") -> Tensor:
    """Draw the scenes.

    Parameters
    ----------
    factors : dict from factor name to float32 [num]; a nuisance that it lacks is 0.
    resolution : height and width of the pictures in pixels.
    device : where to draw.

    Returns
    -------
    uint8 [num, 3, resolution, resolution] RGB on `device`.
    """
    _check(factors)
    if resolution < 8:
        raise ValueError(f"resolution must be at least 8 pixels, found {resolution}")
    device = torch.device(device)
    num = len(factors[FACTORS[0].name])
    # Small batches keep the buffers in a processor's cache, large ones keep an accelerator busy.
    rays = _CPU_RAYS if device.type == "cpu" else _ACCELERATOR_RAYS
    batch = max(1, rays // (_SUPERSAMPLING * resolution) ** 2)
    moved = _complete(factors, device)
    pictures = torch.empty((num, 3, resolution, resolution), dtype=torch.uint8, device=device)
    for first in range(0, num, batch):
        part = {name: value[first : first + batch] for name, value in moved.items()}
        scene = _Scene(part, _SUPERSAMPLING * resolution)
        pictures[first : first + batch] = _develop(_trace(scene, resolution), resolution)
    return pictures


@torch.no_grad()
def boxes(factors: dict[str, Tensor], thing: str) -> Tensor:
    """Left, top, right and bottom [num, 4] of a thing's place on the picture, from -1 to 1, be it there or not."""
    scene = _Scene(_complete(factors, torch.device("cpu")))
    (centre, half), sides = scene.extents[thing], (-1.0, 1.0)
    corners = torch.tensor([[i, j, k] for i in sides for j in sides for k in sides])
    column, row, _ = _project(scene, centre[:, None] + half[:, None] * corners)
    return torch.stack([column.amin(1), row.amin(1), column.amax(1), row.amax(1)], dim=1)


@torch.no_grad()
def quantities(factors: dict[str, Tensor]) -> Tensor:
    """What a scene looks like, short of drawing it, float32 [num, Q]: places on the picture, and colours as shown.

    Of each thing the middle and two corners, and the same where it is there (else zero); the back wall's corners; each
    surface's colour in the rooms' light; sky and hills; what is there. A nuisance that `factors` lack is 0.
    """
    scene = _Scene(_complete(factors, torch.device("cpu")))
    columns = []
    for name, (centre, half) in scene.extents.items():
        points = centre[:, None] + half[:, None] * torch.tensor([[0.0], [-1.0], [1.0]])
        places = torch.cat(_project(scene, points)[:2], dim=1)
        columns.append(places)
        if name in factors:
            there = factors[name][:, None]
            columns += [places * there, there]
    zero = torch.zeros_like(scene.depth)
    for side in (-1, 1):
        for height in (zero, scene.height):
            corner = torch.stack([side * scene.half_width, height, scene.depth], dim=1)[:, None]
            columns += _project(scene, corner)[:2]
    surfaces = (scene.wall, scene.bedding, scene.furniture, scene.floor, scene.textile, scene.colour(*_WHITE))
    for indoor, day in ((0.9, 0.3), (0.5, 0.6)):
        light = scene.indoor * indoor + scene.daylight * day
        columns += [_film(surface * light).T for surface in surfaces]
    columns += [_film(shine).T for shine in (scene.sky_low, scene.sky_high, scene.hills, scene.indoor)]
    return torch.cat(columns, dim=1)


_SUPERSAMPLING = 2
_CPU_RAYS = 1 << 19
_ACCELERATOR_RAYS = 1 << 23
_TANGENT = math.tan(math.radians(36.0))  # of half the field of view
_PITCH = math.radians(-7.0)
_EYE_HEIGHT = 1.55
_WHITE = (0.80, 0.79, 0.77)
_WALNUT, _OAK, _BIRCH = (0.15, 0.088, 0.055), (0.34, 0.215, 0.125), (0.52, 0.39, 0.265)
_DARK_PLANKS, _PLANKS, _LIGHT_PLANKS = (0.19, 0.115, 0.07), (0.36, 0.235, 0.145), (0.49, 0.365, 0.255)
_GREY_CARPET, _CARPET, _BEIGE_CARPET = (0.37, 0.37, 0.375), (0.46, 0.435, 0.40), (0.50, 0.435, 0.355)
_BLUE_TEXTILE, _LINEN, _CLAY_TEXTILE = (0.20, 0.27, 0.34), (0.52, 0.47, 0.40), (0.46, 0.25, 0.165)
_DAY_DIRECTION = (-0.80, 0.25, -0.55)


def _check(factors: dict[str, Tensor]) -> None:
    """Raise ValueError where a factor is missing."""
    missing = [factor.name for factor in FACTORS if factor.name not in factors]
    if missing:
        raise ValueError(
            f"factors lack {missing}; draw them with sample_factors, which gives all of "
            f"{[factor.name for factor in FACTORS]}"
        )


def _complete(factors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Factors and nuisances as float32 [num] on `device`."""
    middle = torch.zeros_like(factors[FACTORS[0].name])
    names = [*(factor.name for factor in FACTORS), *NUISANCES]
    return {name: factors.get(name, middle).to(device, torch.float32) for name in names}


class _Scene:
    """Sizes, places and lights of a batch of rooms, in metres.

    x runs right, y up and z away from the camera, whose foot is near the origin; every array is [num] unless it says
    otherwise. `extents` maps a thing to its axis-aligned (centre, half size), each [num, 3]; `spacing` is the distance
    between neighbouring rays at unit depth.
    """

    def __init__(self, factors: dict[str, Tensor], rays: int = 128) -> None:
        self.factors = factors
        self.spacing = 2 * _TANGENT / rays
        self.num = len(factors["viewpoint"])
        self.device = factors["viewpoint"].device
        self.depth = 4.2 + 0.55 * factors["room_depth"]
        self.half_width = 2.25 + 0.28 * factors["room_width"]
        self.height = 2.72 + 0.38 * factors["ceiling_height"]
        # The camera circles round the middle of the room, so that all slots stay in the frame.
        self.eye_x = 0.7 * factors["viewpoint"]
        yaw = torch.atan2(-self.eye_x, 0.72 * self.depth)
        self.cosine, self.sine = torch.cos(yaw), torch.sin(yaw)
        self.side = 1 - 2 * factors["bed_left"]  # 1 where the bed is on the right
        warm, day = factors["warm_lighting"], 0.5 + 0.5 * factors["natural_light"]
        level = torch.exp2(-0.65 + 0.85 * factors["indoor_lighting"])
        tint = torch.stack([1.02 + 0.20 * warm, 1 - 0.01 * warm, 0.92 - 0.33 * warm])
        self.indoor = level * tint  # [3, num]
        night, noon = self.colour(0.30, 0.46, 0.95), self.colour(0.80, 0.93, 1.10)
        self.daylight = (night + (noon - night) * day) * (0.06 + 0.80 * day**1.2)  # [3, num]
        self.sky_low = self.blend(self.colour(0.035, 0.05, 0.13), self.colour(1.05, 1.15, 1.2), day)
        self.sky_high = self.blend(self.colour(0.01, 0.018, 0.07), self.colour(0.28, 0.58, 1.2), day)
        self.hills = self.blend(self.colour(0.006, 0.012, 0.022), self.colour(0.14, 0.30, 0.12), day)
        # Most walls are light and hardly coloured, a few are a wall of colour; textiles dare a little more.
        darker, stronger = (_share(factors[f"wall_{name}"]) ** 2 for name in ("lightness", "saturation"))
        self.wall = _muted_colour(factors["wall_hue"], 0.63 - 0.22 * darker, 0.12 + 0.18 * stronger)
        darker, stronger = (_share(factors[f"bedding_{name}"]) ** 2 for name in ("lightness", "saturation"))
        self.bedding = _muted_colour(factors["bedding_hue"], 0.46 - 0.22 * darker, 0.24 + 0.22 * stronger)
        self.furniture = self.between(_WALNUT, _OAK, _BIRCH, factors["furniture_tone"])
        planks = self.between(_DARK_PLANKS, _PLANKS, _LIGHT_PLANKS, factors["floor_tone"])
        carpet = self.between(_GREY_CARPET, _CARPET, _BEIGE_CARPET, factors["floor_tone"])
        self.floor = torch.where(factors["wood"] > 0, planks, carpet)
        self.textile = self.between(_BLUE_TEXTILE, _LINEN, _CLAY_TEXTILE, factors["textile_tone"])
        self.light = (torch.zeros_like(self.depth), self.height - 0.45, self.depth - 1.35)
        self.extents = self._extents()
        self._received: Tensor | None = None

    def light_map(self) -> Tensor:
        """What `_light_map` gives, computed once."""
        if self._received is None:
            self._received = _light_map(self)
        return self._received

    def eye(self, mirror: float = 1.0) -> Tensor:
        """The camera, or with -1 its image below the floor, [3, num]."""
        zero = torch.zeros_like(self.eye_x)
        return torch.stack([self.eye_x, zero + mirror * _EYE_HEIGHT, zero])

    def colour(self, red: float, green: float, blue: float) -> Tensor:
        """A colour as [3, 1]."""
        return torch.tensor([[red], [green], [blue]], device=self.device)

    def between(
        self,
        low: tuple[float, float, float],
        middle: tuple[float, float, float],
        high: tuple[float, float, float],
        tone: Tensor,
    ) -> Tensor:
        """[3, num] of three colours, at tones -1, 0 and 1."""
        first, second, third = (self.colour(*colour) for colour in (low, middle, high))
        return second + (first - second) * (-tone).clamp(min=0) + (third - second) * tone.clamp(min=0)

    @staticmethod
    def blend(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
        """[3, num] between two colours."""
        return low + (high - low) * share**1.3

    def place(
        self,
        x: Tensor | float,
        y: Tensor | float,
        z: Tensor | float,
        half: tuple[Tensor | float, Tensor | float, Tensor | float],
    ) -> tuple[Tensor, Tensor]:
        """Centre and half size, [num, 3] each."""
        zero = torch.zeros_like(self.depth)
        return torch.stack([zero + x, zero + y, zero + z], 1), torch.stack([zero + size for size in half], 1)

    def _extents(self) -> dict[str, tuple[Tensor, Tensor]]:
        back, side, vary = self.depth, self.side, self.factors
        narrow, short = 0.95 + 0.05 * vary["bed_width"], 0.96 + 0.04 * vary["bed_length"]
        bed = side * torch.minimum(1.14 + 0.06 * vary["bed_place"], self.half_width - 0.82 * narrow - 0.02)
        headboard = 0.53 + 0.07 * vary["headboard_height"]
        lamp = 0.93 + 0.07 * vary["lamp_size"]
        window = 0.05 * vary["window_place"]
        wide, high = 0.54 + 0.05 * vary["window_width"], 0.51 + 0.05 * vary["window_height"]
        picture = 0.94 + 0.08 * vary["picture_size"]
        closet, tall = 0.43 + 0.04 * vary["wardrobe_width"], 1.0 + 0.07 * vary["wardrobe_height"]
        rug = 0.98 + 0.07 * vary["rug_size"]
        clutter = -side * (0.88 + 0.06 * vary["clutter_place"])
        return {
            "bed": self.place(bed, 0.16, back - 1.01 * short - 0.02, (0.74 * narrow, 0.16, 1.01 * short)),
            "blanket": self.place(bed, 0.40, back - 1.0 * short - 0.05, (0.78 * narrow, 0.17, 1.0 * short)),
            "headboard": self.place(bed, headboard, back - 0.05, (0.82 * narrow, headboard, 0.05)),
            "nightstand": self.place(0.0, 0.25, back - 0.27, (0.26, 0.25, 0.25)),
            "lamp": self.place(0.0, 0.69 + 0.21 * lamp, back - 0.30, (0.33 * lamp, 0.21 * lamp, 0.33 * lamp)),
            "window": self.place(window, 1.71, back - 0.02, (wide, high, 0.04)),
            "picture": self.place(
                bed + side * (0.14 + 0.05 * vary["picture_place"]),
                1.60,
                back - 0.02,
                (0.45 * picture, 0.34 * picture, 0.03),
            ),
            "wardrobe": self.place(-side * (self.half_width - closet - 0.02), tall, back - 0.30, (closet, tall, 0.29)),
            "rug": self.place(-side * (0.15 + 0.08 * vary["rug_place"]), 0.0, back - 1.75, (rug, 0.001, 0.64 * rug)),
            "cluttered_space": self.place(clutter, 0.27, back - 1.25, (0.30, 0.27, 0.29)),
        }


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Columns [..., hits] of values [..., n]; faster than indexing by a tensor."""
    return values.index_select(-1, index)


def _share(value: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return 0.5 + 0.5 * value


def _muted_colour(hue: Tensor, lightness: Tensor, saturation: Tensor) -> Tensor:
    """Linear RGB [3, num] of a hue in units of pi, as paint and cloth have it: three cosines 120 degrees apart.

    Yellows are lighter than blues, and violets paler than the rest, as in rooms that people live in.
    """
    angle = math.pi * hue
    lightness = lightness * (1 + 0.08 * torch.cos(angle - math.radians(60)))
    saturation = saturation * (1 - 0.25 * torch.cos(angle - math.radians(305)).clamp(min=0))
    phases = torch.tensor([[0.0], [2.0], [4.0]], device=hue.device) * math.pi / 3
    return lightness * (1 + saturation * torch.cos(angle - phases))


@dataclass
class _Hits:
    """Where rays meet one thing: `image` int64 [hits]; `point`, `normal` and `local` [3, hits], local in [-1, 1]."""

    image: Tensor
    point: Tensor
    normal: Tensor
    local: Tensor


# Albedo and, where the thing shines by itself, emission; [3, hits] each.
_Paint = Callable[[_Scene, _Hits], tuple[Tensor, Tensor | None]]


@dataclass
class _Thing:
    """A solid: its `shape` is box, ball or shade (a lampshade); `centre`, `half` [num, 3]; `present` [num]."""

    shape: str
    centre: Tensor
    half: Tensor
    present: Tensor
    paint: _Paint


def _things(scene: _Scene) -> list[_Thing]:
    """Everything in the rooms beside walls, floor, ceiling and rug."""
    factors, side, back, extents = scene.factors, scene.side, scene.depth, scene.extents
    always = torch.ones_like(back)
    things: list[_Thing] = []

    def add(shape: str, extent: tuple[Tensor, Tensor], present: Tensor, paint: _Paint) -> None:
        things.append(_Thing(shape, extent[0], extent[1], present, paint))

    add("ball", scene.place(0.0, scene.height, scene.light[2], (0.36, 0.17, 0.36)), always, _paint_dome)
    add("box", extents["bed"], always, _paint_wood)
    add("box", extents["headboard"], always, _paint_wood)
    add("box", extents["blanket"], always, _paint_blanket)
    bed, width = extents["bed"][0][:, 0], extents["bed"][1][:, 0] / 0.74
    for offset in (-0.36, 0.36):
        pillow = scene.place(bed + offset * width, 0.64, back - 0.36, (0.33 * width, 0.15, 0.23))
        add("ball", pillow, always, _plain(_WHITE))
    add("box", extents["nightstand"], always, _paint_nightstand)
    lamp = factors["lamp"]
    add("box", scene.place(0.0, 0.60, back - 0.30, (0.05, 0.11, 0.05)), lamp, _plain((0.16, 0.14, 0.12)))
    add("shade", extents["lamp"], lamp, _paint_shade)
    add("box", extents["picture"], factors["picture"], _paint_picture)
    window = factors["window"]
    add("box", extents["window"], window, _paint_window)
    (middle, level, _), (wide, high, _) = (values.unbind(1) for values in extents["window"])
    add("box", scene.place(middle, level - high - 0.02, back - 0.07, (wide + 0.06, 0.03, 0.08)), window, _plain(_WHITE))
    for offset in (-1, 1):
        curtain = scene.place(middle + offset * (wide + 0.08), level - 0.05, back - 0.07, (0.14, high + 0.13, 0.04))
        add("box", curtain, window, _paint_curtain)
    add("box", extents["wardrobe"], factors["wardrobe"], _paint_wardrobe)
    clutter, place = factors["cluttered_space"], extents["cluttered_space"][0][:, 0]
    add("box", extents["cluttered_space"], clutter, _paint_carton)
    chest = scene.place(place - 0.03 * side, 0.69, back - 1.22, (0.22, 0.15, 0.20))
    add("box", chest, clutter, _plain((0.11, 0.15, 0.20)))
    cushion = scene.place(place + 0.61 * side, 0.20, back - 1.50, (0.31, 0.21, 0.27))
    add("ball", cushion, clutter, _plain((0.43, 0.27, 0.10)))
    return things


def _trace(scene: _Scene, resolution: int) -> Tensor:
    """Linear radiance [3, num * rays], image by image and row by row, on the supersampled grid."""
    rays = _SUPERSAMPLING * resolution
    step = (torch.arange(rays, device=scene.device, dtype=torch.float32) + 0.5) * (2 / rays) - 1
    right = (step * _TANGENT).repeat(rays)
    down = (step * _TANGENT).repeat_interleave(rays)
    # Turned by the pitch first, which all images share, then by each image's yaw.
    rise = -down * math.cos(_PITCH) + math.sin(_PITCH)
    ahead = down * math.sin(_PITCH) + math.cos(_PITCH)
    direction = torch.stack(
        [
            (scene.cosine[:, None] * right + scene.sine[:, None] * ahead).flatten(),
            rise.expand(scene.num, -1).flatten(),
            (scene.cosine[:, None] * ahead - scene.sine[:, None] * right).flatten(),
        ]
    )  # [3, num * rays]
    image = torch.arange(scene.num, device=scene.device).repeat_interleave(rays * rays)
    things = _things(scene)

    radiance, distance, floor = _shell(scene, image, direction, mirrored=False)
    _draw_things(scene, things, direction, distance, radiance, rays, mirrored=False)

    # A polished floor shows the room upside down: the same rays, from an eye as far below the floor.
    floor = floor[_take(scene.factors["glossy"], _take(image, floor)) > 0]
    at, along, reach = (_take(values, floor) for values in (image, direction, distance))
    bare = _is_floor(scene, at, along, reach)
    floor, at, along = floor[bare], at[bare], along[:, bare]
    if len(floor):
        depths, mirrored = torch.zeros_like(distance), torch.zeros_like(radiance)
        colour, reach, _ = _shell(scene, at, along, mirrored=True)
        mirrored.index_copy_(1, floor, colour)
        depths.index_copy_(0, floor, reach)
        _draw_things(scene, things, direction, depths, mirrored, rays, mirrored=True)
        mirrored = _soften(mirrored, floor, rays)
        grazing = 1 + along[1] * torch.rsqrt((along * along).sum(0))
        share = 0.26 + 0.50 * grazing**3
        matte = _take(radiance, floor)
        radiance.index_copy_(1, floor, matte + share * (0.92 * mirrored - matte))
    return radiance


def _soften(mirrored: Tensor, floor: Tensor, rays: int) -> Tensor:
    """Blur a reflection [3, num * rays²] over the floor's rays alone, as varnish does: [3, floor]."""
    seen = torch.zeros_like(mirrored[:1]).index_fill_(1, floor, 1.0)
    # The things' mirror images were drawn on floor rays only, so that everywhere else there is nothing to blur.
    image = torch.cat([mirrored * seen, seen]).view(4, -1, rays, rays).transpose(0, 1)
    blur = torch.nn.functional.avg_pool2d
    image = blur(image, 2)  # a quarter of the rays is enough for what is soft
    for _ in range(2):  # twice a box is nearly a bell
        for height, width in ((rays // 40 | 1, 1), (1, rays // 80 | 1)):
            image = blur(image, (height, width), 1, (height // 2, width // 2))
    image = torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear")
    soft = _take(image.transpose(0, 1).reshape(4, -1), floor)
    return soft[:3] / soft[3].clamp_(min=1e-4)


def _is_floor(scene: _Scene, image: Tensor, direction: Tensor, distance: Tensor) -> Tensor:
    """Bool [rays]: the ray still ends on bare floor, neither on a thing nor on the rug."""
    at_floor = (_EYE_HEIGHT + direction[1] * distance).abs() < 1e-3
    x = _take(scene.eye_x, image) + direction[0] * distance
    z = direction[2] * distance
    return at_floor & ((_rug_radius(scene, image, x, z) > 1) | (_take(scene.factors["rug"], image) == 0))


def _rug_radius(scene: _Scene, image: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Squared elliptic distance [rays] from the rug's middle, 1 on its edge."""
    (x_middle, _, z_middle), (wide, _, deep) = (values.unbind(1) for values in scene.extents["rug"])
    return ((x - _take(x_middle, image)) / _take(wide, image)) ** 2 + (
        (z - _take(z_middle, image)) / _take(deep, image)
    ) ** 2


def _shell(scene: _Scene, image: Tensor, direction: Tensor, mirrored: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Walls, ceiling and floor with everything that falls on them.

    Parameters
    ----------
    image : int64 [rays]. direction : [3, rays], before mirroring. mirrored : look from below a see-through floor.

    Returns
    -------
    radiance [3, rays], distance [rays] and the int64 indices of the rays that meet the floor.
    """
    dx, dy, dz = direction
    eye_y = -_EYE_HEIGHT if mirrored else _EYE_HEIGHT
    dy = -dy if mirrored else dy
    eye_x, half_width, height, depth = (
        _take(value, image) for value in (scene.eye_x, scene.half_width, scene.height, scene.depth)
    )
    upward = dy > 0
    to_side = (torch.copysign(half_width, dx) - eye_x) / dx
    to_level = torch.where(upward, (height - eye_y) / dy, math.inf if mirrored else -eye_y / dy)
    distance = torch.minimum(torch.minimum(to_side, to_level), depth / dz)
    on_side, on_level = distance == to_side, distance == to_level
    x, y, z = eye_x + dx * distance, eye_y + dy * distance, dz * distance

    surface = torch.where(on_side, (dx > 0).float(), torch.where(on_level, 2 + upward.float(), 4.0))
    ahead = z / depth
    across = torch.where(on_side, ahead, 0.5 + 0.5 * x / half_width).clamp_(0, 1)
    along = torch.where(on_level, ahead, y / height).clamp_(0, 1)
    column = (surface + (across * (_CELLS - 1) + 0.5) / _CELLS) * (2 / 5) - 1
    row = (image + (along * (_CELLS - 1) + 0.5) / _CELLS) * (2 / scene.num) - 1
    received = torch.nn.functional.grid_sample(
        scene.light_map(), torch.stack([column, row], 1)[None, None], align_corners=False
    )[0, :, 0]  # [3, rays]

    albedo = _take(scene.wall, image)
    level = on_level.nonzero()[:, 0]
    up = upward[level]
    ceiling, floor = level[up], level[~up]
    skirting = (~on_level & (y < 0.13)).nonzero()[:, 0]
    for white in (ceiling, skirting):
        albedo.index_copy_(1, white, scene.colour(*_WHITE).expand(3, len(white)))
    if len(floor):
        below = (_take(values, floor) for values in (image, x, z, distance, direction))
        albedo.index_copy_(1, floor, _floor_colour(scene, *below))
    return albedo.mul_(received), distance, floor


_CELLS = 24  # light is computed on this many points along each edge of a surface, and interpolated between


def _light_map(scene: _Scene) -> Tensor:
    """Light that reaches the left and right wall, the floor, the ceiling and the back wall.

    Returns
    -------
    [1, 3, num * cells, 5 * cells], one block of cells per image and surface.
    """
    unit = torch.linspace(0, 1, _CELLS, device=scene.device)
    along, across = (value.reshape(-1) for value in torch.meshgrid(unit, unit, indexing="ij"))
    zero, one, wide = torch.zeros_like(along), torch.ones_like(along), 2 * across - 1
    surfaces = (
        (-one, along, across),
        (one, along, across),
        (wide, zero, along),
        (wide, one, along),
        (wide, along, one),
    )
    normals = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    place = torch.stack([torch.stack(surface) for surface in surfaces], 1)[:, None]  # [3, 1, 5, cells²]
    size = torch.stack([scene.half_width, scene.height, scene.depth])[:, :, None, None]
    point = (place * size).flatten(1)  # [3, num * 5 * cells²]
    normal = torch.tensor(normals, device=scene.device).T[:, None, :, None]  # [3, 1, 5, 1]
    normal = normal.expand(3, scene.num, 5, len(along)).flatten(1)
    image = torch.arange(scene.num, device=scene.device).repeat_interleave(5 * len(along))
    indoor, day = _lighting(scene, image, point, normal)

    # Soft darkening towards the edges of the room, each surface leaving out the distance to itself.
    x, y, z = point
    on_side, on_level, on_back = (normal[axis] != 0 for axis in range(3))
    shade = torch.ones_like(x)
    for gap, own, reach, strength in (
        (_take(scene.half_width, image) - x.abs(), on_side, 0.7, 0.36),
        (_take(scene.depth, image) - z, on_back, 0.7, 0.36),
        (_take(scene.height, image) - y, on_level, 0.6, 0.30),
        (y, on_level, 0.5, 0.36),
    ):
        shade *= 1 - strength * (1 - gap / reach).clamp_(0, 1).square_() * ~own
    for name, reach, strength in (
        ("bed", 0.55, 0.65),
        ("wardrobe", 0.5, 0.5),
        ("nightstand", 0.3, 0.5),
        ("cluttered_space", 0.35, 0.6),
    ):
        centre, half = scene.extents[name]
        gap = sum(
            ((point[axis] - _take(centre[:, axis], image)).abs_() - _take(half[:, axis], image)).clamp_(min=0).square_()
            for axis in range(3)
        )
        present = _take(scene.factors[name], image) if name in scene.factors else 1.0
        shade *= 1 - strength * present * (1 - gap / reach**2).clamp_(min=0).square_()
    received = shade * (_take(scene.indoor, image) * indoor + _take(scene.daylight, image) * day)
    # The lamp's glow stays close to it, whatever the other lights do.
    lamp, _ = scene.extents["lamp"]
    gap = sum((point[axis] - _take(lamp[:, axis], image)) ** 2 for axis in range(3))
    glow = 0.9 * _take(scene.factors["lamp"], image) * (1 - gap / 0.85**2).clamp_(min=0).square_()
    received += scene.colour(1.0, 0.78, 0.46) * glow
    blocks = received.view(3, scene.num, 5, _CELLS, _CELLS).permute(0, 1, 3, 2, 4)
    return blocks.reshape(1, 3, scene.num * _CELLS, 5 * _CELLS)


def _floor_colour(scene: _Scene, image: Tensor, x: Tensor, z: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
    """Albedo [3, rays] of planks, carpet or rug."""
    table = _floor_table(scene.device)  # [2, levels, size, size]
    levels, size = table.shape[1], table.shape[2]
    # The footprint of a ray decides how much the texture is smoothed, as far things must not flicker.
    spacing = scene.spacing * distance / direction[1].abs().clamp(min=0.05)
    level = torch.log2(spacing * (size / _TILE)).round_().clamp_(0, levels - 1).long()
    column = (x * (size / _TILE)).floor_().long() % size
    row = (z * (size / _TILE)).floor_().long() % size
    kind = _take(scene.factors["wood"], image).long()
    albedo = _take(scene.floor, image) * table.flatten()[((kind * levels + level) * size + row) * size + column]
    radius = _rug_radius(scene, image, x, z)
    rug = ((radius < 1) & (_take(scene.factors["rug"], image) > 0)).nonzero()[:, 0]
    border = (radius[rug] > 0.62).float()
    albedo[:, rug] = scene.colour(0.66, 0.62, 0.55) * (1 - border) + _take(scene.textile, image[rug]) * border
    return albedo


_TILE = 4.8  # metres that one floor tile spans
_FLOOR_TABLES: dict[str, Tensor] = {}


def _floor_table(device: torch.device) -> Tensor:
    """Carpet and planks as [2, levels, 256, 256] factors of mean 1, each level smoothed twice as wide."""
    if str(device) not in _FLOOR_TABLES:
        size = 256
        generator = np.random.Generator(np.random.Philox(key=7))
        fine, coarse = (torch.from_numpy(generator.normal(size=(1, 1, cells, cells))).float() for cells in (128, 32))
        grow = torch.nn.functional.interpolate
        carpet = 1 + 0.02 * grow(fine, (size, size), mode="nearest")[0, 0] + 0.03 * grow(coarse, (size, size))[0, 0]
        planks = 8  # broad boards: a small network learns no lines that are two pixels apart
        across = torch.arange(size) * planks // size
        tones = torch.tensor(generator.permutation(np.linspace(-0.25, 0.25, 2 * planks))).float().view(2, planks)
        seam = torch.from_numpy(generator.integers(0, size, planks))
        along = torch.arange(size)[:, None]
        half = ((along - seam[across]) % size >= size // 2).long()
        wood = 1 + tones[half, across.expand(size, size)]
        wood *= 1 - 0.35 * (torch.arange(size) % (size // planks) < 2).float()
        wood *= 1 - 0.3 * ((along - seam[across]) % (size // 2) < 2).float()
        levels = []
        for tile in (carpet, wood.T):
            tile = tile / tile.mean()
            for level in range(6):
                pooled = torch.nn.functional.avg_pool2d(tile[None, None], 1 << level)
                levels.append(grow(pooled, (size, size))[0, 0])
        _FLOOR_TABLES[str(device)] = torch.stack(levels).view(2, 6, size, size).to(device)
    return _FLOOR_TABLES[str(device)]


def _lighting(scene: _Scene, image: Tensor, point: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """How much indoor light and daylight reach points with normals, [3, points] each; returns two [points]."""
    lx, ly, lz = (_take(scene.light[axis], image) - point[axis] for axis in range(3))
    squared = lx * lx + ly * ly + lz * lz
    facing = (normal[0] * lx + normal[1] * ly + normal[2] * lz) * torch.rsqrt(squared + 1e-4)
    indoor = (facing * 0.75 + 0.25).clamp_(min=0) * 1.5 / (1 + 0.32 * squared) + (0.42 + 0.06 * normal[1])
    towards = normal[0] * _DAY_DIRECTION[0] + normal[1] * _DAY_DIRECTION[1] + normal[2] * _DAY_DIRECTION[2]
    day = (towards * 0.75 + 0.30).clamp_(min=0) * (1 + 0.16 * point[0]).clamp_(min=0.2) + 0.16
    return indoor, day


def _draw_things(
    scene: _Scene,
    things: list[_Thing],
    direction: Tensor,
    distance: Tensor,
    radiance: Tensor,
    rays: int,
    mirrored: bool,
) -> None:
    """Draw over `radiance` [3, num * rays²] in place wherever a thing is nearer than `distance` [num * rays²]."""
    mirror = -1.0 if mirrored else 1.0
    for thing in things:
        image, index = _candidates(scene, thing, rays, mirror)
        if len(index) == 0:
            continue
        # In the thing's own coordinates, where it spans [-1, 1] along every axis.
        centre, half = thing.centre.T.contiguous(), thing.half.T.contiguous()  # [3, num]
        inverse, eye = 1 / half, scene.eye(mirror)
        start = _take((eye - centre) * inverse, image)
        ray = _take(direction, index)
        if mirrored:
            ray[1].neg_()
        ray *= _take(inverse, image)
        reach = _SHAPES[thing.shape](start, ray)
        kept = (reach < _take(distance, index)).nonzero()[:, 0]
        if len(kept) == 0:
            continue
        image, index, reach = _take(image, kept), _take(index, kept).long(), _take(reach, kept)
        local = _take(start, kept) + reach * _take(ray, kept)
        half = _take(half, image)
        point = local * half + _take(centre, image)
        hits = _Hits(image, point, _normal(thing.shape, local, half), local)
        albedo, emission = thing.paint(scene, hits)
        indoor, day = _lighting(scene, image, point, hits.normal)
        # Things stand on the floor, where light is scarce.
        contact = 1 - 0.5 * (1 - point[1] / 0.5).clamp_(0, 1).square_()
        colour = albedo * ((_take(scene.indoor, image) * indoor + _take(scene.daylight, image) * day) * contact)
        radiance.index_copy_(1, index, colour if emission is None else colour + emission)
        distance.index_copy_(0, index, reach)


def _candidates(scene: _Scene, thing: _Thing, rays: int, mirror: float) -> tuple[Tensor, Tensor]:
    """Image and flat ray index, int32 [candidates] each, of the rays inside a thing's rectangle on the screen."""
    corners = torch.tensor([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], device=scene.device)
    column, row, _ = _project(scene, thing.centre[:, None] + thing.half[:, None] * corners, mirror)  # [num, 8]
    first_column, last_column, first_row, last_row = (
        (((value + 1) * (rays / 2)).floor() + margin).clamp(0, rays).long()
        for value, margin in ((column.amin(1), -1), (column.amax(1), 2), (row.amin(1), -1), (row.amax(1), 2))
    )
    columns = last_column - first_column
    counts = columns * (last_row - first_row) * (thing.present > 0)
    number = torch.arange(scene.num, device=scene.device, dtype=torch.int32)
    image = torch.repeat_interleave(number, counts)
    order = torch.arange(len(image), device=scene.device, dtype=torch.int32)
    order -= _take((counts.cumsum(0) - counts).int(), image)
    # Division of integers is slow; half a step keeps the rounding of the float division safe.
    rows = ((order + 0.5) / _take(columns.float(), image)).int()
    corner = ((number * rays + first_row) * rays + first_column).int()
    return image, _take(corner, image) + rows * _take((rays - columns).int(), image) + order


def _project(scene: _Scene, points: Tensor, mirror: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Screen column and row in [-1, 1], and depth, [num, points] each, of points [num, points, 3]."""
    x, y, z = points[..., 0] - scene.eye_x[:, None], points[..., 1] * mirror - _EYE_HEIGHT, points[..., 2]
    right = x * scene.cosine[:, None] - z * scene.sine[:, None]
    ahead = x * scene.sine[:, None] + z * scene.cosine[:, None]
    depth = (ahead * math.cos(_PITCH) + y * math.sin(_PITCH)).clamp(min=0.2)
    down = ahead * math.sin(_PITCH) - y * math.cos(_PITCH)
    return right / depth / _TANGENT, down / depth / _TANGENT, depth


def _hit_box(start: Tensor, ray: Tensor) -> Tensor:
    """Distance [rays] to the cube [-1, 1]³, infinite where missed; `start`, `ray` [3, rays]."""
    inverse = 1 / ray
    middle, spread = -start * inverse, inverse.abs()
    near, far = (middle - spread).amax(0), (middle + spread).amin(0)
    return torch.where((near < far) & (near > 0), near, math.inf)


def _hit_ball(start: Tensor, ray: Tensor) -> Tensor:
    """Distance [rays] to the unit ball, infinite where missed; `start`, `ray` [3, rays]."""
    square, product, rest = (ray * ray).sum(0), (start * ray).sum(0), (start * start).sum(0) - 1
    root = product * product - square * rest
    return torch.where(root > 0, (-product - root.clamp(min=0).sqrt()) / square, math.inf)


def _hit_shade(start: Tensor, ray: Tensor) -> Tensor:
    """Distance [rays] to a closed cone frustum between y = -1 and 1, infinite where missed."""
    radius, slope = _SHADE_MIDDLE - _SHADE_SLOPE * start[1], -_SHADE_SLOPE * ray[1]
    square = ray[0] ** 2 + ray[2] ** 2 - slope**2
    product = start[0] * ray[0] + start[2] * ray[2] - radius * slope
    root = product**2 - square * (start[0] ** 2 + start[2] ** 2 - radius**2)
    side = (-product - root.clamp(min=0).sqrt()) / square
    side = torch.where((root > 0) & ((start[1] + side * ray[1]).abs() <= 1), side, math.inf)
    # From above the upper lid shows; from below, in a polished floor, the lower one.
    lid = -torch.sign(ray[1])
    level = (lid - start[1]) / ray[1]
    edge = _SHADE_MIDDLE - _SHADE_SLOPE * lid
    inside = (start[0] + level * ray[0]) ** 2 + (start[2] + level * ray[2]) ** 2 < edge**2
    return torch.minimum(side, torch.where(inside & (level > 0), level, math.inf))


_SHADE_MIDDLE, _SHADE_SLOPE = 0.83, 0.17
_SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"box": _hit_box, "ball": _hit_ball, "shade": _hit_shade}


def _normal(shape: str, local: Tensor, half: Tensor) -> Tensor:
    """Unit normals [3, hits]; boxes are lit as if their edges were rounded."""
    if shape == "box":
        rounded = (1 - (1 - local.abs()) * half / 0.05).clamp_(0, 1)
        normal = torch.sign(local) * rounded**3
    else:
        normal = local / half
    return normal * torch.rsqrt((normal * normal).sum(0) + 1e-9)


def _plain(colour: tuple[float, float, float]) -> _Paint:
    """Paint of one colour."""

    def paint(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
        return scene.colour(*colour).expand(3, len(hits.image)), None

    return paint


def _mix(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    """Blend of two [3, hits] colours by a share [hits], boolean or between 0 and 1."""
    return low + (high - low) * share.float()


def _paint_wood(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """Plain wood of the furniture's tone."""
    return _take(scene.furniture, hits.image), None


def _paint_dome(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """The ceiling light: its brightness and tint are those of the indoor light."""
    glow = scene.indoor[:, hits.image] * (0.55 + 0.75 * hits.local[1].abs())
    return torch.zeros_like(glow), 1.7 * glow


def _paint_blanket(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """A blanket with soft folds, its edge turned over before the pillows."""
    x, z = hits.local[0], hits.local[2]
    cloth = scene.bedding[:, hits.image]
    folds = 1 + 0.10 * torch.sin(5 * x + 2.5 * z) * torch.sin(2 * x - 6 * z)
    folds = folds * torch.where(hits.normal[1] > 0.6, 1.0, 0.86 + 0.08 * torch.sin(14 * (x + z)))
    white = scene.colour(*_WHITE).expand_as(cloth)
    cloth = _mix(cloth * folds, 0.5 * cloth + 0.35 * white, (z > 0.16) & (z < 0.36))
    return _mix(cloth, white * 0.95, z >= 0.36), None


def _paint_nightstand(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """A drawer's seam across the front."""
    wood = _take(scene.furniture, hits.image)
    return _mix(wood, 0.4 * wood, (hits.local[1] - 0.05).abs() < 0.07), None


def _paint_shade(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """A lit lampshade, brightest in the middle."""
    glow = 1.5 - 0.6 * hits.local[1].abs()
    return scene.colour(0.5, 0.45, 0.35).expand(3, len(glow)), scene.colour(1.0, 0.78, 0.42) * glow


def _paint_picture(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """A frame of the furniture's wood, a white mount, and a sun over a dune."""
    x, y = hits.local[0], hits.local[1]
    white = scene.colour(*_WHITE).expand(3, len(x))
    dune = y < 0.25 * torch.sin(2.5 * x + 0.5) - 0.1
    inner = _mix(scene.colour(0.50, 0.53, 0.52), scene.colour(0.15, 0.19, 0.22), dune)
    inner = _mix(inner, scene.colour(0.62, 0.33, 0.15), (x - 0.22) ** 2 + (0.75 * y - 0.22) ** 2 < 0.035)
    inside = (x.abs() < 0.66) & (y.abs() < 0.58)
    mount = (x.abs() < 0.87) & (y.abs() < 0.83)
    colour = _mix(_mix(white, inner, inside), 0.45 * _take(scene.furniture, hits.image), ~mount)
    return colour, None


def _paint_window(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """A white frame with a cross bar; sky and hills shine by themselves."""
    x, y, image = hits.local[0], hits.local[1], hits.image
    view = _mix(_take(scene.sky_low, image), _take(scene.sky_high, image), (0.5 * y + 0.6).clamp(0, 1))
    view = _mix(view, _take(scene.hills, image), y < -0.42 + 0.16 * torch.sin(3 * x + 1))
    pane = ((x.abs() < 0.86) & (y.abs() < 0.85) & (x.abs() > 0.06) & ((y - 0.1).abs() > 0.06)).float()
    return scene.colour(*_WHITE) * (1 - pane), view * pane


def _paint_curtain(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """Plain cloth in two soft folds."""
    return scene.colour(0.66, 0.63, 0.58) * (0.86 + 0.14 * torch.sin(7 * hits.local[0])), None


def _paint_wardrobe(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """Two doors over a dark plinth."""
    x, y = hits.local[0], hits.local[1]
    wood = _take(scene.furniture, hits.image)
    doors = hits.normal[2] < -0.7
    gap = doors & ((x.abs() < 0.05) | (x.abs() > 0.95) | (y > 0.96))
    handle = doors & ((x.abs() - 0.18).abs() < 0.06) & (y.abs() < 0.13)
    colour = _mix(_mix(wood, 0.3 * wood, gap | (y < -0.9)), scene.colour(*_WHITE), handle)
    return colour, None


def _paint_carton(scene: _Scene, hits: _Hits) -> tuple[Tensor, Tensor | None]:
    """Cardboard with a strip of tape."""
    card = scene.colour(0.45, 0.34, 0.23).expand(3, len(hits.image))
    return _mix(card, scene.colour(0.68, 0.58, 0.42), hits.local[0].abs() < 0.16), None


def _visible_share(scene: _Scene, name: str) -> Tensor:
    """Share [num] of a thing's front, or top where it is flat, that is in the frame and not behind another thing."""
    centre, half = scene.extents[name]
    grid = torch.linspace(-0.9, 0.9, 7, device=scene.device)
    across, other = (value.flatten() for value in torch.meshgrid(grid, grid, indexing="ij"))
    one = torch.ones_like(across)
    front = torch.stack([across, one, other] if name == "rug" else [across, other, -one], 1)  # [49, 3]
    points = centre[:, None] + half[:, None] * front  # [num, 49, 3]
    column, row, _ = _project(scene, points)
    seen = (column.abs() < 1) & (row.abs() < 1)
    eye = scene.eye().T[:, None]  # [num, 1, 3]
    for blocker, (middle, size) in scene.extents.items():
        if blocker in (name, "rug", "window", "picture"):
            continue
        present = scene.factors.get(blocker, torch.ones_like(scene.depth)) > 0
        start = ((eye - middle[:, None]) / size[:, None]).expand_as(points).flatten(0, 1).T
        ray = ((points - eye) / size[:, None]).flatten(0, 1).T
        reach = _hit_box(start, ray).view(seen.shape)
        seen &= ~((reach < 0.999) & present[:, None])
    return seen.float().mean(1)


def _develop(radiance: Tensor, resolution: int) -> Tensor:
    """Average the rays of each pixel, compress the bright end, encode: uint8 [num, 3, resolution, resolution]."""
    rays = _SUPERSAMPLING * resolution
    light = radiance.clamp(max=2.5).view(3, -1, rays, rays).transpose(0, 1)
    # Neighbouring pixels share rays, as those of a camera's lens do, so that slanted edges have no steps.
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], device=light.device) / 8
    light = torch.nn.functional.pad(light, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    light = torch.nn.functional.conv2d(light, row.view(1, 1, 4, 1), stride=(_SUPERSAMPLING, 1))
    light = torch.nn.functional.conv2d(light, row.view(1, 1, 1, 4), stride=(1, _SUPERSAMPLING))
    return (255 * _film(light.view(-1, 3, resolution, resolution))).round_().to(torch.uint8)


def _film(light: Tensor) -> Tensor:
    """Linear radiance to what is shown, from 0 to 1: contrast in the middle, no clipping at the bright end."""
    light = 0.52 * light
    shown = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)  # Narkowicz's fit of the film curve
    return shown.clamp(0, 1) ** (1 / 2.2)


def main() -> None:
    """Write a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--cols", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from PIL import Image

    factors = sample_factors(arguments.rows * arguments.cols, arguments.seed)
    pictures = render(factors, arguments.resolution, arguments.device).cpu()
    sheet = pictures.view(arguments.rows, arguments.cols, *pictures.shape[1:]).permute(0, 3, 1, 4, 2)
    size = arguments.resolution
    Image.fromarray(sheet.reshape(arguments.rows * size, arguments.cols * size, 3).numpy()).save(arguments.out)


if __name__ == "__main__":
    main()
