"""The interface of predictors, those of the user's own included: what fits it and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from higan import load_predictor
from higan.errors import HiganError
from higan.predictors import Predictor

IMAGES = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
CPU = torch.device("cpu")


def make(names: Any = None, score: Callable[[Tensor], Any] | None = None, **settings: Any) -> Predictor:
    def means(images: Tensor) -> dict[str, Tensor]:
        return {"attribute": images.double().mean(dim=(1, 2))}

    names = {"attribute": ["red", "green", "blue"]} if names is None else names
    return Predictor("test", names, score or means, CPU, **settings)


def test_scores_are_named_float32() -> None:
    scores = make(levels={"red": "color"}).predict(IMAGES)
    assert scores["attribute"].dtype == torch.float32 and scores["attribute"].shape == (2, 3)
    assert torch.equal(scores["attribute"][0], torch.tensor([22.5, 23.5, 24.5]))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.uint8, ">f4"])
def test_scores_may_be_arrays(kind: Any) -> None:
    """As those of onnxruntime, dlib or scikit-learn are."""
    scores = make(score=lambda images: {"attribute": images.numpy().mean(axis=(1, 2)).astype(kind)}).predict(IMAGES)
    assert scores["attribute"].dtype == torch.float32
    assert scores["attribute"][0].int().tolist() == [22, 23, 24]


@pytest.mark.parametrize(
    "images",
    [IMAGES.float(), IMAGES[0], torch.zeros(2, 3, 5, 5, dtype=torch.uint8), torch.zeros(2, 4, 4, 2, dtype=torch.uint8)],
)
def test_other_images_are_refused(images: Tensor) -> None:
    with pytest.raises(HiganError, match=r"expected uint8 \[N, H, W, 3\]"):
        make().predict(images)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"attribute": torch.zeros(2, 4)}, r"\[2, 4\]"),
        ({"attribute": [1, 2, 3]}, "list"),
        ({}, "NoneType"),
        (None, "NoneType"),
    ],
)
def test_other_results_are_refused(result: Any, found: str) -> None:
    with pytest.raises(HiganError, match=f"returned {found} for group 'attribute'"):
        make(score=lambda _: result).predict(IMAGES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "no score names"),
        ({"attribute": ["a", "a"]}, "repeats"),
        ({"a/b": ["a"]}, "group"),
        ({"w": ["a"]}, "group"),
    ],
)
def test_unusable_names_are_refused(names: Any, message: str) -> None:
    with pytest.raises(HiganError, match=message):
        make(names)


def test_unknown_level_is_refused() -> None:
    with pytest.raises(HiganError, match="layout, object, attribute, color"):
        make(levels={"red": "colour"})


MODULE = """
import torch
class Own:
    names = {"attribute": ["mean"]}
    def __init__(self, device): self.device = device
    def predict(self, images): return {"attribute": images.float().mean(dim=(1, 2, 3))[:, None]}
def nameless(device): return object()
def broken(device): raise RuntimeError("no weights")
def other(): pass
constant = 3
class Confused(Own):
    def predict(self, images): return {}["weights"]
class Misshapen(Own):
    def predict(self, images): raise RuntimeError("shapes do not fit")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_predictors.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_predictors", raising=False)
    return "own_predictors"


def test_own_predictor_beside_the_user(module: str) -> None:
    predictor = load_predictor(f"{module}:Own", device="cpu")
    assert predictor.names == {"attribute": ["mean"]} and predictor.levels == {}
    assert predictor.predict(IMAGES)["attribute"].tolist() == [[23.5], [71.5]]


@pytest.mark.parametrize(
    ("callable_name", "message"),
    [
        (":nameless", r"without \.names"),
        (":nothing", "no callable 'nothing'"),
        (":constant", "no callable 'constant'"),
        (":broken", "no weights"),
        (":other", "device"),
        (":", "no callable ''"),
    ],
)
def test_errors_name_what_is_missing(module: str, callable_name: str, message: str) -> None:
    with pytest.raises(HiganError, match=message):
        load_predictor(module + callable_name, device="cpu")


def test_unknown_names_list_the_known() -> None:
    for name in ("room", "", ":make", "no.such:thing"):
        with pytest.raises(HiganError, match=r"rooms, scene|cannot import|module:callable"):
            load_predictor(name, device="cpu")


def test_lack_of_memory_scores_fewer_at_once() -> None:
    sizes: list[int] = []

    def scarce(images: Tensor) -> dict[str, Tensor]:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"attribute": images.double().mean(dim=(1, 2))}

    images = torch.arange(5 * 4 * 4 * 3).remainder(251).to(torch.uint8).reshape(5, 4, 4, 3)
    scores = make(score=scarce).predict(images)["attribute"]
    assert torch.equal(scores, make().predict(images)["attribute"])
    assert sizes == [5, 2, 2, 1]


def test_scores_that_are_not_finite_are_named() -> None:
    scores = np.zeros((3, 3), np.float32)
    make().require_finite("attribute", scores)
    scores[1, 2], scores[2, 0] = np.inf, np.nan
    with pytest.raises(HiganError, match="gives inf as blue for sample 11; expected finite numbers"):
        make().require_finite("attribute", scores, start=10)


@pytest.mark.parametrize("member", ["", "  ", "a" * 151, "a\nb", "\x1b[31m", 3, None])
def test_names_that_no_file_can_have_are_refused(member: Any) -> None:
    with pytest.raises(HiganError, match="expected 1 to 150 printable characters"):
        make({"attribute": ["red", member]})


@pytest.mark.parametrize("names", [["red"], {"attribute": "red"}, None, {"attribute": None}])
def test_names_without_groups_are_refused(names: Any) -> None:
    with pytest.raises(HiganError, match=r"expected \{group: \[name, \.\.\.\]\}"):
        Predictor("test", names, lambda images: {}, CPU)


def test_levels_and_scores_of_another_kind_are_refused() -> None:
    for settings in ({"levels": ["layout"]}, {"score": 3}):
        with pytest.raises(HiganError, match=r"expected levels \{name: level\} and a function that scores images"):
            make(**settings)  # type: ignore[arg-type]


def test_an_own_predictor_that_fails(module: str) -> None:
    with pytest.raises(HiganError, match=r"failed \(KeyError: 'weights'\)"):
        load_predictor(f"{module}:Confused", device="cpu").predict(IMAGES)
    with pytest.raises(HiganError, match=r"failed \(RuntimeError: shapes do not fit\)"):
        load_predictor(f"{module}:Misshapen", device="cpu").predict(IMAGES)
