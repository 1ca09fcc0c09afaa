"""The quantities that re-scoring measures: what each is, and what its array runs over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from higan.rescoring.statistics import CONTROL_LEVEL


@dataclass(frozen=True)
class Column:
    """One measured quantity.

    Attributes
    ----------
    axes
        What its array runs over: b direction, c all layers and then each layer alone, k output, r random direction,
        l layer.
    about
        What it is, in words.
    interval
        Whether `NAME_low` and `NAME_high`, the central 95 % of a bootstrap over samples, stand beside it.
    """

    axes: str
    about: str
    interval: bool = False


AXES = {"b": "boundary", "c": "column", "k": "output", "r": "random direction", "l": "layer"}
CHANCE = f"that a random direction passes with chance {CONTROL_LEVEL:g}, estimated from those measured"
# Every table that is kept, written and shown. Rises are in the units of the scores. Numbers of samples are there where
# moves were measured until their intervals were narrow.
COLUMNS = {
    "delta": Column("bck", "mean rise of the score, falls counted as zero: the paper's Δ", interval=True),
    "signed": Column("bck", "effect: mean rise of the score with its sign", interval=True),
    "risen": Column("bck", "share of the samples whose score rose"),
    "control_high": Column("ck", f"the Δ {CHANCE}"),
    "signed_limit": Column("ck", f"the effect {CHANCE}"),
    "base_mean": Column("k", "mean of the score over the unmoved samples"),
    "base_std": Column("k", "standard deviation of the score over the unmoved samples"),
    "image_change": Column("bc", "mean absolute difference from the unmoved image, in grey levels (0 to 255)"),
    "chosen_delta": Column("bk", "Δ at exactly the chosen layers", interval=True),
    "chosen_signed": Column("bk", "effect at exactly the chosen layers", interval=True),
    "chosen_risen": Column("bk", "share of the samples whose score rose at the chosen layers"),
    "chosen_limit": Column("bk", f"the effect at the chosen layers {CHANCE}"),
    "chosen_image_change": Column("b", "difference from the unmoved image at the chosen layers, in grey levels"),
    "half_signed": Column("bk", "effect at the chosen layers, moved half as far", interval=True),
    "samples": Column("bc", "samples that it was measured on"),
    "chosen_samples": Column("b", "samples that the chosen layers were measured on"),
    "limit_noise": Column("ck", "by how much sampling noise of the random directions raises signed_limit"),
    "control_samples": Column("rc", "samples that the random directions were measured on"),
    "control_delta": Column("rck", "Δ of the random directions"),
    "control_signed": Column("rck", "effect of the random directions"),
    "control_image_change": Column("rc", "difference from the unmoved image, of the random directions"),
    "swap": Column("kl", "total effect of a layer on the score (Sobol index, Jansen's estimator)", interval=True),
    "swap_image_change": Column("l", "difference of the image when a layer's code is another sample's"),
}


def table_names(table: Mapping[str, Any]) -> list[str]:
    """Return the names of a table's arrays, intervals behind their values, in the order of `COLUMNS`."""
    names = [f"{name}{part}" for name in COLUMNS for part in ("", "_low", "_high")]
    return [name for name in names if name in table]


def plain_name(name: str) -> str:
    """Return the name of the quantity whose value or interval `name` is."""
    return name if name in COLUMNS else name.rpartition("_")[0]


def fits_rows(name: str) -> bool:
    """Whether a table says something of an output at every column of a direction, or of the samples it was seen in."""
    axes = COLUMNS[plain_name(name)].axes
    return name == "samples" or ("k" in axes and set(axes) <= set("bck") and axes != "bk")
