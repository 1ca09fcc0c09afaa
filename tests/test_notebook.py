"""Higan in a notebook: what its objects show, the examples of its public names, and the tour."""

from __future__ import annotations

import ast
import doctest
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.model import make_generator
from support.scripts import ROOT

import higan

PLAIN = "boundaries/stylegan2_rooms/indoor_lighting_boundary.npy"


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What the examples begin with."""
    torch.set_num_threads(1)
    generator = higan.load_generator("stylegan2_rooms", device="cpu")
    return {
        "higan": higan,
        "np": np,
        "torch": torch,
        "generator": generator,
        "predictor": higan.load_predictor("rooms", device="cpu"),
        "boundary": higan.read_boundary(ROOT / PLAIN),
        "pictures": generator.synthesize(generator.sample(1, 0), "z").cpu().numpy(),
    }


@pytest.mark.parametrize("name", higan.__all__)
def test_help_has_an_example_that_holds(
    name: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    public = getattr(higan, name)
    assert ">>>" in public.__doc__
    module = vars(__import__(public.__module__, fromlist=[""]))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if name == "invert":  # which takes a while on the model of the other examples
        tiny = make_generator()
        pictures = tiny.synthesize(tiny.sample(1, 0), "z").numpy()
        given = given | {"generator": tiny, "pictures": pictures, "direction": np.eye(1, tiny.w_dim)}
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    for test in doctest.DocTestFinder(recurse=False).find(public, name, globs=module | given | {"folder": tmp_path}):
        runner.run(test, out=said.append)
    assert not said, "".join(said)


def test_objects_are_one_line(given: dict[str, Any]) -> None:
    boundary: higan.Boundary = given["boundary"]
    edit = higan.edit(given["generator"], boundary, num=1, distances=[0, 1])
    other = higan.Boundary("pca_00", boundary.direction, "w", (2, 3, 5), {"layers_from": "rescoring"}, None)
    for shown in (given["generator"], given["predictor"], boundary, edit, other):
        assert "\n" not in repr(shown) and len(repr(shown)) < 200 and repr(shown).startswith("<")
    assert repr(other).endswith("layers 2-3,5 (verified), stands for no score>")
    assert repr(higan.Boundary("a_b", boundary.direction, target="a/b")).endswith("stands for a/b>")


def framed(shown: str) -> str:
    """Return the page in the frame of what a notebook shows."""
    (page,) = re.findall(r'<iframe srcdoc="([^"]*)" sandbox="allow-scripts allow-downloads"', shown)
    return html.unescape(page)


def test_an_edit_shows_and_writes_its_page(given: dict[str, Any], tmp_path: Path) -> None:
    edit = higan.edit(given["generator"], given["boundary"], num=2, distances=[-2, 0, 2], layers="3-5")
    page = framed(edit._repr_html_())
    assert page.count('<tr data-index="') == 2 and "−2" in page and 'type="range"' in page
    path = edit.write(tmp_path / "edit")
    assert path.read_text(encoding="utf-8") == page
    moved = np.load(tmp_path / "edit" / "indoor_lighting_w_manipulated_wp.npy")
    assert moved.shape[:2] == (2, 3) and (moved[:, 0, :3] == moved[:, 2, :3]).all()
    assert (edit.images[:, 0] != edit.images[:, 2]).any() and edit.images.shape[:2] == (2, 3)


def test_wrong_arguments_of_an_edit_are_named(given: dict[str, Any]) -> None:
    generator, boundary = given["generator"], given["boundary"]
    flat = higan.Boundary("flat", np.eye(1, generator.z_dim, dtype=np.float32), "z")
    assert "as a whole" in repr(higan.edit(generator, flat, num=1))
    for wrong, words in (
        ({"num": 0}, "num is 0; expected 1 or more"),
        ({"layers": "3-99"}, "99"),
        ({"distances": []}, "distances must be one or more numbers"),
        ({"codes": np.zeros((1, 3))}, "codes of shape"),
        ({"space": "x", "codes": np.zeros((1, 3))}, "'x'"),
    ):
        with pytest.raises(higan.HiganError, match=words):
            higan.edit(generator, boundary, **wrong)
    with pytest.raises(higan.HiganError, match="is of space z, which has no layers; leave them out"):
        higan.edit(generator, flat, num=1, layers="3")


def test_a_rescoring_shows_and_writes_its_page(given: dict[str, Any], tmp_path: Path) -> None:
    generator, boundary = given["generator"], given["boundary"]
    result = higan.rescore(generator, given["predictor"], [boundary], num=3, layerwise=False)
    shown = result._repr_html_()
    assert result.answers()[0].sentence() in html.unescape(shown.partition("<iframe")[0])
    assert result.write(tmp_path / "rescored").read_text(encoding="utf-8") == framed(shown)
    assert json.loads((tmp_path / "rescored" / "rescore.json").read_text())["num"] == 3


def test_the_tour_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook runs it: each cell in turn, whose last expression is shown."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        tree = ast.parse(cell)
        last = tree.body.pop()
        exec(compile(tree, "tour.ipynb", "exec"), names)
        assert isinstance(last, ast.Expr), cell
        value = eval(compile(ast.Expression(last.value), "tour.ipynb", "eval"), names)
        assert value is not None and len(getattr(value, "_repr_html_", lambda value=value: repr(value))()) > 10
    assert len(cells) == 10 and (tmp_path / "results/tour/rescore/rescore.html").stat().st_size > 10_000
    assert not any(cell.get("outputs") for cell in notebook["cells"])
