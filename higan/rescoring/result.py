"""What re-scoring found: one table of columns, what it says of each direction, and who and what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higan.generators.layer_sets import format_layers
from higan.generators.network import layered
from higan.rescoring.columns import COLUMNS, fits_rows, plain_name, table_names
from higan.rescoring.statistics import NONE, SHARE, UNKNOWN, VERIFIED, Hierarchy

LEAK = 0.1  # standard deviations, below which a change of another score is not spoken of
MOST_LEAKS = 3  # that a sentence names


@dataclass(frozen=True)
class Output:
    """One score of the predictor: its name, group ("attribute", ...) and level ("layout", ..., or "")."""

    name: str
    group: str
    level: str = ""


@dataclass
class Direction:
    """One boundary that was re-scored.

    Attributes
    ----------
    name, space
        Its name and latent space ("z", "w", "wp").
    target
        The output that its effect is read from: the score that it stands for, else the one that it moves most.
    sign
        1; -1 for a direction that stands for no score and lowers that one.
    named
        Whether it stands for a score.
    level
        "layout", "object", "attribute", "color", or "" where unknown.
    recipe
        Which of several lists it is of, "" for a single one.
    chosen
        The fewest layers that reach 80 % of the summed positive effects (see `choose_layers`); () where no layer
        raises the score, or layers were not measured.
    mark
        What the control says of exactly these layers: "verified", "none", "could not tell"; "" without a control.
    tested
        The distance at which it says so: the one asked for, or half of it where the score saturates.
    scores
        float32 [num, 1 + C]: its own score of every sample: base, all layers, then each layer; [num, 2] in z, [num, 1]
        where it stands for no score. NaN where it was not measured, and fewer rows where nothing was.
    path, sha256
        Its file, "" if it has none.
    """

    name: str
    space: str
    target: int
    sign: int = 1
    named: bool = True
    level: str = ""
    recipe: str = ""
    chosen: tuple[int, ...] = ()
    mark: str = ""
    tested: float = 0.0
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    path: str = ""
    sha256: str = ""

    @property
    def label(self) -> str:
        """The name, with its list where there are several."""
        return f"{self.name} ({self.recipe})" if self.recipe else self.name

    @property
    def verified(self) -> tuple[int, ...]:
        """The chosen layers where the control verifies them, else ()."""
        return self.chosen if self.mark == VERIFIED else ()


@dataclass(frozen=True)
class Leak:
    """How another score moves along, in its standard deviations, with its interval and the limit of chance."""

    name: str
    value: float
    low: float
    high: float
    limit: float


@dataclass(frozen=True)
class Answer:
    """What re-scoring says of one direction, in standard deviations of the scores.

    Attributes
    ----------
    index
        Which direction.
    score
        The score that it is measured by.
    layers, where
        The chosen ones, as text ("3-5,7", "" for the code as a whole) and in words ("at layers 3–5 and 7").
    value, low, high, limit
        Effect at these layers with its interval, and what chance reaches.
    whole
        Effect at all layers.
    smaller
        What the verdict rests on where it was measured at a smaller distance, in words, else "".
    leaks
        The other scores, the one that moves most first.
    samples
        How many samples were moved for it, None where all are for every direction.
    """

    index: int
    name: str
    named: bool
    score: str
    mark: str
    layers: str
    where: str
    value: float
    low: float
    high: float
    limit: float
    whole: float
    smaller: str
    leaks: tuple[Leak, ...]
    image_change: float
    samples: int | None = None

    @property
    def leak(self) -> float:
        """Mean absolute change of the other scores, 0 where there is none."""
        return float(np.mean([abs(leak.value) for leak in self.leaks])) if self.leaks else 0.0

    @property
    def worst(self) -> float:
        """Largest absolute change of another score."""
        return max((abs(leak.value) for leak in self.leaks), default=0.0)

    @property
    def ratio(self) -> float:
        """Effect over leak: directions without a score are ranked by it."""
        return abs(self.value) / max(self.leak, 1e-3)

    @property
    def named_leaks(self) -> tuple[Leak, ...]:
        """The leaks that a sentence names: of `LEAK` at least, and surely not zero."""
        sure = [leak for leak in self.leaks if abs(leak.value) >= LEAK and leak.low * leak.high > 0]
        return tuple(sure[:MOST_LEAKS])

    def sentence(self) -> str:
        """Return the answer as one sentence."""
        numbers = f"{signed_text(self.value)} sd ({signed_text(self.low)} to {signed_text(self.high)}"
        numbers += f"; chance limit {self.limit:.2f}" if np.isfinite(self.limit) else ""
        numbers += ")" if self.samples is None else f"; {self.samples} samples)"
        numbers += self.smaller
        others = ", ".join(f"{leak.name} {signed_text(leak.value, 1)}" for leak in self.named_leaks)
        if not self.named:
            moved = [f"{self.score} {signed_text(self.value, 1)}"] if self.mark == VERIFIED else []
            moved += [
                f"{leak.name} {signed_text(leak.value, 1)}"
                for leak in self.named_leaks
                if self.mark == VERIFIED and abs(leak.value) > leak.limit
            ]
            what = ", ".join(moved) or f"nothing that the predictor sees: image change {self.image_change:.0f}"
            return f"{self.name}, {self.where.removeprefix('at ')}: {what}"
        leaks = f", leaks {others}" if others else ", leaks nothing"
        # Layers were chosen by what each does alone; where they act together, the chosen ones do less than their share.
        whole = f", at all layers {signed_text(self.whole)}" if self.value < SHARE * self.whole else ""
        said = {
            VERIFIED: f"is obeyed {self.where}: {numbers}{whole}{leaks}",
            NONE: f"is not obeyed: {numbers} {self.where}, no more than a random direction may",
            UNKNOWN: f"could not be told from chance: {numbers} {self.where}",
            "": f"moves by {numbers} {self.where}, not compared with random directions{whole}{leaks}",
        }
        return f"{self.name} {said[self.mark]}"


@dataclass(frozen=True)
class Compared:
    """One of several lists, averaged over the scores that all of them have a direction for.

    Attributes
    ----------
    num, verified
        How many scores, and for how many of them the chosen layers are verified.
    own, leak, worst
        Mean effect at the chosen layers, and the mean and the largest change of another score per unit of it, each with
        the central 95 % of resampled scores: value, low, high. Directions are taken as they are: what another training
        set would give is not in it.
    """

    recipe: str
    num: int
    verified: int
    own: tuple[float, float, float]
    leak: tuple[float, float, float]
    worst: tuple[float, float, float]


@dataclass(repr=False)
class Rescoring:
    """What re-scoring measured: B directions, C = 1 + L columns, K outputs (all groups of the predictor side by side).

    Column 0 moves all layers at once, column 1 + l moves layer l alone. Without a layer-wise run C is 1 and `layers` is
    empty; the layer columns of a z boundary are NaN, since z has no layers.

    Attributes
    ----------
    directions, outputs
        What the rows and the outputs of the tables are.
    layers
        0 to L - 1, or empty.
    num, distance, seed, controls
        Samples, distance moved, seed of the samples (None when codes were given), number of random directions.
    table
        The measured quantities, float32, by the names of `COLUMNS`; absent are those that were not asked for.
    hierarchies
        Centres of mass over the layers: "hierarchy" of each direction's own Δ, "swap_hierarchy" of each output's total
        effects; those that were asked for.
    strips
        uint8 [B, P, H, W, 3]: one sample of each direction: unmoved, moved at the chosen layers, at all, at each.
    strip_samples
        int64 [B]: which sample that is, see `telling_sample`.
    interval_width
        Moves were measured until their 95 % intervals were that narrow, in standard deviations of a score; the table
        tells on how many samples. None: all on all.
    provenance
        What made the numbers, JSON values: model, model_sha256, family, resolution, predictor, truncation_psi,
        truncation_layers, predictor_sha256, versions; the script adds command.

    >>> result = higan.rescore(generator, predictor, [boundary], num=4, layerwise=False)
    >>> result
    <Rescoring of 1 directions on 4 samples moved by 2: 1 not compared with chance>
    >>> result.write(folder).name
    'rescore.html'
    """

    directions: tuple[Direction, ...]
    outputs: tuple[Output, ...]
    layers: tuple[int, ...]
    num: int
    distance: float
    seed: int | None
    controls: int
    table: dict[str, NDArray[np.float32]]
    hierarchies: dict[str, Hierarchy]
    strips: NDArray[np.uint8]
    strip_samples: NDArray[np.int64]
    provenance: dict[str, Any] = field(default_factory=dict)
    interval_width: float | None = None

    @property
    def targets(self) -> list[int]:
        """The output of each direction."""
        return [direction.target for direction in self.directions]

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation of every output, float64 [K], above 0."""
        return np.maximum(self.table["base_std"].astype(np.float64), 1e-12)

    def own(self, name: str) -> NDArray[np.float32]:
        """Return a table's numbers of each direction's own score: [B, C] of axes bck, [B] of bk."""
        values = self.table[name]
        return np.stack([values[index, ..., target] for index, target in enumerate(self.targets)])

    def samples(self, index: int) -> int:
        """Return how many samples the answer to direction `index` rests on."""
        return self.num if self.interval_width is None else int(self.table["chosen_samples"][index])

    def limit_noise(self) -> float:
        """Return by how much sampling noise of the random directions raises a limit of chance at most.

        In standard deviations of the scores that directions are measured by, over all columns; NaN where not measured.
        """
        if "limit_noise" not in self.table:
            return float("nan")
        return float((self.table["limit_noise"] / self.spread)[:, self.targets].max(initial=0))

    def answers(self) -> list[Answer]:
        """Return what is said of each direction: verified, not tested, could not tell, none; the largest first.

        Directions that stand for no score are ranked by effect over leak, behind those that do.
        """
        order = {mark: place for place, mark in enumerate((VERIFIED, "", UNKNOWN, NONE))}
        found = [self.answer(index) for index in range(len(self.directions))]

        def rank(answer: Answer) -> tuple[bool, int, float]:
            return not answer.named, order[answer.mark], -(answer.value if answer.named else answer.ratio)

        return sorted(found, key=rank)

    def answer(self, index: int) -> Answer:
        """Return what is said of direction `index`."""
        direction, table = self.directions[index], self.table
        names = ("chosen_signed", "chosen_signed_low", "chosen_signed_high", "chosen_limit")
        value, low, high, limit = (table[name][index] / self.spread for name in names)
        target = direction.target
        smaller = ""
        if direction.tested not in (0, self.distance):
            half = table["half_signed"][index, target] / self.spread[target]
            smaller = f" (moved by {direction.tested:g}, {signed_text(half)} sd against {limit[target] / 2:.2f})"
        leaks = [
            Leak(output.name, float(value[k]), float(low[k]), float(high[k]), float(limit[k]))
            for k, output in enumerate(self.outputs)
            if k != target
        ]
        return Answer(
            index=index,
            name=direction.label,
            named=direction.named,
            score=self.outputs[target].name,
            mark=direction.mark,
            layers=format_layers(direction.chosen),
            where=say_where(direction.chosen) if layered(direction.space) else "as a whole",
            value=float(value[target]),
            low=float(low[target]),
            high=float(high[target]),
            limit=float(limit[target]),
            whole=float(table["signed"][index, 0, target] / self.spread[target]),
            smaller=smaller,
            leaks=tuple(sorted(leaks, key=lambda leak: -abs(leak.value))),
            image_change=float(table["chosen_image_change"][index]),
            samples=None if self.interval_width is None else self.samples(index),
        )

    def compared(self) -> list[Compared]:
        """Return the lists side by side, in the order given; [] for a single one, or without a score in all of them."""
        recipes = list(dict.fromkeys(direction.recipe for direction in self.directions))
        by_recipe: dict[str, dict[int, Answer]] = {recipe: {} for recipe in recipes}
        for index, direction in enumerate(self.directions):
            if direction.named:
                by_recipe[direction.recipe].setdefault(direction.target, self.answer(index))
        shared = sorted(set.intersection(*(set(found) for found in by_recipe.values()))) if len(recipes) > 1 else []
        if not shared:
            return []
        drawn = np.random.default_rng(0).integers(0, len(shared), (1000, len(shared)))
        drawn = np.concatenate([np.arange(len(shared))[None], drawn])
        found = []
        for recipe in recipes:
            answers = [by_recipe[recipe][target] for target in shared]
            numbers = np.array([[answer.value, answer.leak, answer.worst] for answer in answers])[drawn].mean(axis=1)
            own = np.maximum(numbers[:, :1], 1e-12)
            estimates = np.concatenate([own, numbers[:, 1:] / own], axis=1)
            ends = np.quantile(estimates[1:], (0.025, 0.975), axis=0)
            own, leak, worst = (
                (float(value), float(low), float(high)) for value, low, high in zip(estimates[0], *ends, strict=True)
            )
            verified = sum(answer.mark == VERIFIED for answer in answers)
            found.append(Compared(recipe, len(shared), verified, own, leak, worst))
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the table, a row per direction, column (all layers, each, the chosen ones) and output.

        The columns are the tables of `COLUMNS` that say something of an output of a direction, rows of numbers aside.
        """
        names = [name for name in table_names(self.table) if fits_rows(name)]
        for b, direction in enumerate(self.directions):
            columns: list[tuple[str | int, int]] = [("all", 0)]
            columns += [(layer, 1 + layer) for layer in (self.layers if layered(direction.space) else ())]
            places: list[tuple[str | int, int | None]] = [*columns, ("chosen", None)]
            for place, c in places:
                for k, output in enumerate(self.outputs):
                    row: dict[str, Any] = {"boundary": direction.name, "space": direction.space, "layer": place}
                    row |= {"group": output.group, "output": output.name}
                    yield row | {name: self._cell(name, b, c, k) for name in names}

    def _cell(self, name: str, b: int, c: int | None, k: int) -> float:
        """Return the number of a table at direction b, column c (None: the chosen layers) and output k, NaN if none."""
        if c is None and COLUMNS[plain_name(name)].axes != "k":
            name = {"signed_limit": "chosen_limit"}.get(name, f"chosen_{name}")
            if name not in self.table:
                return float("nan")
        axes = COLUMNS[plain_name(name)].axes
        return float(self.table[name][tuple({"b": b, "c": c, "k": k}[axis] for axis in axes)])

    def __repr__(self) -> str:
        found = [direction.mark for direction in self.directions]
        most = "" if self.interval_width is None else "at most "
        counts = ", ".join(f"{found.count(mark)} {mark or 'not compared with chance'}" for mark in dict.fromkeys(found))
        return (
            f"<Rescoring of {len(found)} directions on {most}{self.num} samples moved by {self.distance:g}: {counts}>"
        )

    def _repr_html_(self) -> str:
        """Return the answers as a list, and the page in a frame, for a notebook."""
        from markupsafe import Markup

        from higan.report.page import in_frame
        from higan.report.rescoring import rescoring_page

        items = Markup("").join(Markup("<li>{}</li>").format(answer.sentence()) for answer in self.answers())
        answers = Markup("<p>{}</p><ol>{}</ol>").format(repr(self)[1:-1], items)
        return str(answers) + in_frame(rescoring_page(self))

    def write(self, folder: str | Path) -> Path:
        """Write arrays, rescore.csv, rescore.json and the page, and return the page's path.

        Raises HiganError if the folder is used by another process or a file cannot be written.
        """
        from higan.report.rescoring import write_rescoring_page
        from higan.rescoring.files import write_rescoring
        from higan.runs.folders import output_folder

        with output_folder(folder) as place:
            write_rescoring(self, place)
            write_rescoring_page(place / "rescore.html", self)
        return place / "rescore.html"


def say_where(layers: tuple[int, ...]) -> str:
    """Return layers as a sentence has them: "at layers 3–5 and 7", "with all layers" for ()."""
    if not layers:
        return "with all layers"
    *first, last = format_layers(layers).replace("-", "–").split(",")
    several = len(layers) > 1
    return f"at layer{'s' * several} " + (f"{', '.join(first)} and {last}" if first else last)


def signed_text(value: float, digits: int = 2) -> str:
    """Return a number with its sign, as text for people: "+1.22", "−0.30", "0.00" """
    if not np.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−")
