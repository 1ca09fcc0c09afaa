"""The names of `import higan`, each imported on its first use."""

from __future__ import annotations

import pytest

import higan


def test_every_public_name_is_there_and_listed() -> None:
    assert {"load_generator", "load_predictor", "train_boundary", "rescore", "manipulate"} <= set(higan.__all__)
    for name in higan.__all__:
        assert name in dir(higan)
        assert getattr(higan, name).__name__ == name
    assert "__version__" in dir(higan)
    with pytest.raises(AttributeError, match="module 'higan' has no attribute 'rescoer'"):
        higan.rescoer  # noqa: B018
