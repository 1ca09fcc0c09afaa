"""What a file says that is no tensor, no array, no object array, no family: one line each."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from higan.checkpoints import Checkpoint
from higan.checkpoints.networks import load
from higan.checkpoints.pickles.stored import Damaged, Dtype, array
from higan.checkpoints.pickles.unpickling import read_numpy_object
from higan.errors import CheckpointError, HiganError
from higan.generators import build_network
from higan.rescoring.result import signed_text
from higan.runs.run import read_array


def test_an_entry_that_is_no_tensor_is_named() -> None:
    with pytest.raises(CheckpointError, match="entry 'weight' is no tensor"):
        load({"weight": 3}, 100)  # type: ignore[dict-item]


def test_an_array_of_no_type_is_damaged() -> None:
    for dtype, data in (("f4", memoryview(b"1234")), (Dtype("f4"), [1.0])):
        with pytest.raises(Damaged, match="not made of a type and bytes"):
            array((1,), dtype, data, False)


def test_a_bare_object_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(pickle.dumps({"a": 1}))
    assert read_numpy_object(tmp_path / "x.npy", 0) == {"a": 1}


def test_a_family_that_is_not_known_is_refused() -> None:
    with pytest.raises(CheckpointError, match="a network of family 'vqgan'; supported: "):
        build_network(Checkpoint("native", "vqgan"))


def test_an_array_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HiganError, match="there is no file"):
        read_array(tmp_path / "none.npy")
    assert signed_text(float(np.nan)) == "–" and signed_text(-0.3) == "−0.30"
