"""Arrays of other tools' files: what a hostile one costs. What codes come of them: tests/generators/test_codes.py."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from higan.checkpoints.arrays import read_arrays
from higan.errors import HiganError


def test_dictionaries_in_dictionaries(tmp_path: Path) -> None:
    """rosinality's projector writes {picture: {latent, ...}}; objects of numpy's may lie in them."""
    content = {"a.png": {"latent": torch.ones(3), "noise": [torch.zeros(2), torch.zeros(2)]}, "other": (1, "x")}
    torch.save(content, tmp_path / "codes.pt")
    found: Any = read_arrays(tmp_path / "codes.pt")
    assert np.array_equal(found["a.png"]["latent"], np.ones(3))
    assert found["a.png"]["noise"].shape == (2, 2)
    inner = np.array({"w": np.ones(4)}, dtype=object)
    np.save(tmp_path / "codes.npy", np.array({"a": inner, "b": np.array(["x", None], dtype=object)}, dtype=object))
    found = read_arrays(tmp_path / "codes.npy")
    assert np.array_equal(found["a"]["w"], np.ones(4))
    assert found["b"] is None


def test_a_zip_bomb(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(10**7))
    with pytest.raises(HiganError, match="more than 100 times what the file has"):
        read_arrays(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "codes.npz", w=np.random.default_rng(0).standard_normal((2, 8)))
    assert read_arrays(tmp_path / "codes.npz")["w"].shape == (2, 8)  # type: ignore[index]


def test_overlapping_arrays(tmp_path: Path) -> None:
    row = torch.zeros(4096)
    torch.save({str(index): row.as_strided((64, 64), (1, 1)) for index in range(99)}, tmp_path / "codes.pt")
    with pytest.raises(HiganError, match="claim more numbers than the file holds"):
        read_arrays(tmp_path / "codes.pt")


def test_dictionaries_that_double(tmp_path: Path) -> None:
    """A thousand names of one dictionary, four deep, would be 10^12 dictionaries."""
    content: dict[str, Any] = {"w": torch.ones(3)}
    for _ in range(4):
        content = {str(index): content for index in range(1000)}
    torch.save({"w": torch.ones(3), "more": content}, tmp_path / "codes.pt")
    found: Any = read_arrays(tmp_path / "codes.pt")
    assert found["w"].shape == (3,)


def test_a_dictionary_in_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": torch.ones(3)}
    content["again"] = content
    torch.save(content, tmp_path / "codes.pt")
    assert read_arrays(tmp_path / "codes.pt")["again"]["again"]["w"].shape == (3,)  # type: ignore[index, call-overload]


def test_files_that_hold_no_arrays(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "codes.pt")
    with pytest.raises(HiganError, match="a dictionary of 0 entries without arrays"):
        read_arrays(tmp_path / "codes.pt")
    with zipfile.ZipFile(tmp_path / "codes.npz", "w") as archive:
        archive.writestr("w.npy", b"nothing")
    with pytest.raises(HiganError, match="truncated or not an array"):
        read_arrays(tmp_path / "codes.npz")
