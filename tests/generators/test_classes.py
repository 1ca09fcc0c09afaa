"""Classes as users write them: one, several in turn, one per sample; through every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higan.errors import HiganError
from higan.generators.classes import parse_classes

NAMES = ["tench, Tinca tinca", "goldfish", "Great white shark", "7"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, [3]),
        (np.int64(3), [3]),
        ("3", [3]),
        (["3", "1"], [3, 1]),
        ("3,1", [3, 1]),
        (["3,1", "0"], [3, 1, 0]),
        ("1-3", [1, 2, 3]),
        ("all", [0, 1, 2, 3]),
        ([2, 2, 1], [2, 2, 1]),
        (np.array([2, 0]), [2, 0]),
    ],
)
def test_classes_by_index(given: Any, expected: list[int]) -> None:
    classes = parse_classes(given, 4)
    assert classes.indices.tolist() == expected
    assert classes.of(5, 7).tolist() == [expected[i % len(expected)] for i in range(7, 12)]
    assert classes.in_turn() == (expected[0] if len(expected) == 1 else expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tench, tinca tinca", [0]),
        ("goldfish,great white shark", [1, 2]),
        (["GOLDFISH", "0"], [1, 0]),
        ("7", [3]),  # a name before a number
    ],
)
def test_classes_by_name(given: Any, expected: list[int]) -> None:
    assert parse_classes(given, 4, NAMES).indices.tolist() == expected


@pytest.mark.parametrize(
    ("given", "names", "message"),
    [
        ("4", (), "class 4; the model has classes 0 to 3"),
        (-1, (), "class -1"),
        ("0-4", (), "class 0-4"),
        ("3-1", (), "class 3-1"),
        ("shark", (), "has no names of them"),
        ("goldfsh", NAMES, "close: goldfish"),
        ([0.5], (), r"class 0\.5"),
        ([True], (), "class True"),
        ("", (), "class ;"),
        (",", (), "no class was given"),
        ([], (), "no class was given"),
        ("9" * 5000, (), "class 9999"),
        ("nothing.npy", (), "nothing.npy"),
        ("nothing.txt", (), "no file nothing.txt"),
    ],
)
def test_other_classes_are_refused(given: Any, names: list[str], message: str) -> None:
    with pytest.raises(HiganError, match=message):
        parse_classes(given, 4, names)


def test_files_give_a_class_per_sample(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([3, 0, 1], np.int32))
    (tmp_path / "labels.txt").write_text("3\n\ngoldfish\nTench, Tinca tinca\n")
    for name, expected in (("labels.npy", [3, 0, 1]), ("labels.txt", [3, 1, 0])):
        classes = parse_classes([str(tmp_path / name)], 4, NAMES[:3])
        assert classes.of(2, 1).tolist() == expected[1:]
        assert classes.in_turn() is None and len(classes.sha256 or "") == 64
        with pytest.raises(HiganError, match="holds 3 classes; sample 3 has none"):
            classes.of(2, 2)
    for bad in (np.array([0.5]), np.array([[1, 2]]), np.array([4]), np.array([-1]), np.zeros(0, int)):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(HiganError, match=r"bad\.npy holds"):
            parse_classes(tmp_path / "bad.npy", 4)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(HiganError, match=r"bad\.txt cannot be read"):
        parse_classes(tmp_path / "bad.txt", 4)
