"""Attribute dependency and DCI, on changes whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest

from higan.directions.evaluation import attribute_dependency, concentration, dci


def test_attribute_dependency_is_what_others_change() -> None:
    rises = np.zeros((6, 3))
    rises[:, 0] = [0.2, 0.7, 0.8, 1.2, 5.0, -1.0]
    rises[:, 1] = [0.1, -0.3, 0.1, 0.4, 9.0, 9.0]
    rises[:, 2] = [0.0, 0.5, -0.1, 0.0, 9.0, 9.0]
    found = attribute_dependency(rises, 0)
    assert found.images.tolist() == [1, 2, 1, 0, 0]
    assert found.mean[:3] == pytest.approx([0.05, 0.25, 0.2])
    assert found.largest[:3] == pytest.approx([0.1, 0.3, 0.4])
    assert np.isnan(found.mean[3:]).all()


def test_dci_tells_axes_from_mixtures() -> None:
    random = np.random.default_rng(0)
    codes = random.standard_normal((2000, 6))
    scores = codes[:, :3] + 0.1 * random.standard_normal((2000, 3))
    axes = dci(codes, np.eye(6)[:3], scores)
    assert min(axes.disentanglement, axes.completeness) > 0.9
    assert axes.informativeness == pytest.approx(1 / 1.01, abs=0.01)
    mixed = dci(codes, np.array([[1, 1, 1, 0, 0, 0], [1, -1, 0, 0, 0, 0], [1, 1, -2, 0, 0, 0]]) / 2, scores)
    assert mixed.disentanglement < 0.7 and mixed.informativeness > 0.95
    assert dci(codes, np.eye(6)[3:], scores).informativeness < 0.02


def test_concentration_is_one_in_one_place_and_zero_in_all() -> None:
    amounts = np.array([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]])
    assert concentration(amounts) == pytest.approx([1, 0, 0])
