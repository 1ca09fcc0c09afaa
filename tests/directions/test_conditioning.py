"""Directions that leave other scores as they are."""

from __future__ import annotations

import numpy as np
import pytest
from support.golden import read_case
from support.model import make_boundary

from higan.directions.boundaries import Boundary
from higan.directions.conditioning import condition
from higan.errors import HiganError

EDITOR_ARRAYS = read_case("editor")[1]


def test_conditioning_gives_the_numbers_of_the_reference() -> None:
    primal, first, second = (Boundary(name, EDITOR_ARRAYS[name]) for name in ("primal", "cond1", "cond2"))
    for key, others in (("project_0", []), ("project_1", [first]), ("project_2", [first, second])):
        assert condition(primal, others).direction == pytest.approx(EDITOR_ARRAYS[key], abs=1e-6)


def test_conditioning_on_any_number() -> None:
    others = [make_boundary(f"other{index}", (1, 32)) for index in range(9)]
    result = condition(make_boundary("wood", (1, 32)), others)
    assert np.linalg.norm(result.direction) == pytest.approx(1, abs=1e-6)
    for other in others:
        assert abs(float((result.direction * other.direction).sum())) < 1e-6
    assert result.info["conditioned_on"] == [other.name for other in others]


def test_conditioning_layer_by_layer() -> None:
    boundary = make_boundary("wood", (1, 3, 16), "wp")
    others = [make_boundary("view", (1, 16)), make_boundary("light", (1, 3, 16), "wp")]
    result = condition(boundary, others)
    for layer in range(3):
        for other in others:
            against = other.direction[0] if other.direction.ndim == 2 else other.direction[0, layer]
            assert abs(float((result.direction[0, layer] * against).sum())) < 1e-6
    norms = [np.linalg.norm(part.direction, axis=2) for part in (result, boundary)]
    assert norms[0] == pytest.approx(norms[1], abs=1e-6)


def test_conditioning_that_cannot_be() -> None:
    wood, view = make_boundary("wood", (1, 8)), make_boundary("view", (1, 8))
    both = Boundary("both", (wood.direction + view.direction) / np.linalg.norm(wood.direction + view.direction))
    with pytest.raises(HiganError, match="in the span of wood, view"):
        condition(both, [wood, view])
    with pytest.raises(HiganError, match="same space and model"):
        condition(wood, [make_boundary("long", (1, 9))])
    with pytest.raises(HiganError, match="same space and model"):
        condition(wood, [make_boundary("deep", (1, 3, 8), "wp")])


def test_conditioning_in_the_metric_of_the_codes() -> None:
    """Of all directions that leave the others alone, the nearest as the codes vary."""
    random = np.random.default_rng(0)
    roots = random.standard_normal((2, 16, 16)) * np.logspace(0, -1.5, 16)
    covariance = roots @ roots.transpose(0, 2, 1)
    boundary = make_boundary("wood", (1, 2, 16), "wp")
    others = [make_boundary("view", (1, 16)), make_boundary("light", (1, 2, 16), "wp")]
    result = condition(boundary, others, covariance)
    for layer in range(2):
        n = np.stack([np.broadcast_to(other.direction[0], (2, 16))[layer] for other in others], axis=1).astype(float)
        row, c = boundary.direction[0, layer].astype(float), covariance[layer]
        expected = row - c @ n @ np.linalg.solve(n.T @ c @ n, n.T @ row)
        expected *= np.linalg.norm(row) / np.linalg.norm(expected)
        assert result.direction[0, layer] == pytest.approx(expected, abs=1e-4)
        assert result.direction[0, layer] @ n == pytest.approx(0, abs=1e-5)


def test_conditioning_layers_that_keep_their_weights() -> None:
    direction = make_boundary("wood", (1, 3, 16), "wp").direction
    boundary = Boundary("wood", direction, "wp", info={"norm": "all layers"})
    other = make_boundary("view", (1, 16))
    result = condition(boundary, [other])
    assert float((result.direction[0] * other.direction[0]).sum()) == pytest.approx(0, abs=1e-5)
    assert np.linalg.norm(result.direction) == pytest.approx(np.linalg.norm(direction), abs=1e-5)
