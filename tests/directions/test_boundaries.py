"""Boundary files, lists, conditioning, and the scores boundaries are trained on."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import read_case
from support.model import make_boundary

from higan.directions.boundaries import (
    Boundary,
    check_name,
    find_name,
    fit_for_files,
    read_boundary,
    read_scores,
    take_rows,
    write_boundary,
)
from higan.directions.lists import extend_boundary_list, parse_boundary_list, read_boundary_list
from higan.errors import HiganError

EDITOR, _ = read_case("editor")
LAYERS_OF_RELEASE = (6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("meta", [{"type": "attribute", "manipulate_layers": "6-11"}, {"type": "attribute"}, {}])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_the_original_release_are_read(meta: dict[str, str], protocol: int, tmp_path: Path) -> None:
    direction = np.random.default_rng(0).standard_normal((1, 512))
    direction /= np.linalg.norm(direction)
    content = np.array({"boundary": direction, "meta_data": meta} if meta else {"boundary": direction}, dtype=object)
    path = tmp_path / "indoor_lighting_boundary.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(content, file, protocol=protocol)
    boundary = read_boundary(path)
    assert (boundary.name, boundary.space) == ("indoor_lighting", "w")
    assert boundary.direction.dtype == np.float32
    assert np.abs(boundary.direction - direction).max() < 1e-7
    assert boundary.layers == (LAYERS_OF_RELEASE if "manipulate_layers" in meta else None)


def test_a_boundary_survives_writing_and_reading(tmp_path: Path) -> None:
    for shape, space in (((1, 8), "z"), ((1, 8), "w"), ((1, 3, 8), "wp")):
        boundary = make_boundary(f"wood_{space}", shape, space)
        boundary.layers, boundary.info = (1, 2), {"level": "attribute", "validation_accuracy": 0.97}
        path = write_boundary(boundary, tmp_path)
        assert path.name == f"wood_{space}_boundary.npy"
        again = read_boundary(path)
        assert (again.name, again.space, again.layers) == (boundary.name, space, (1, 2))
        assert again.direction.tobytes() == boundary.direction.tobytes()
        assert again.info["level"] == "attribute"
        write_boundary(again, tmp_path)
        assert "path" not in json.loads(path.with_suffix(".json").read_text())


def test_a_plain_file_needs_no_description(tmp_path: Path) -> None:
    np.save(tmp_path / "wood_boundary.npy", make_boundary("wood", (1, 8)).direction)
    boundary = read_boundary(tmp_path / "wood_boundary.npy")
    assert (boundary.name, boundary.space, boundary.layers) == ("wood", "w", None)
    assert read_boundary(tmp_path / "wood_boundary.npy", "z").space == "z"


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (np.zeros((1, 8), np.float32), "zero or not finite"),
        (np.full((1, 8), np.nan, np.float32), "zero or not finite"),
        (np.ones((2, 3, 8), np.float32), "[2, 3, 8]"),
        (np.ones((1, 1, 1, 8), np.float32), "[1, 1, 1, 8]"),
        (np.array(1, np.float32), "[]"),
        (np.ones((1, 0), np.float32), "[1, 0]"),
        (np.ones((1, 8), np.int64), "int64"),
        (np.array({"boundary": [1, 2]}, dtype=object), "without an array"),
        (
            np.array({"boundary": np.ones((1, 8)), "meta_data": {"manipulate_layers": ["a"]}}),
            "manipulate_layers cannot",
        ),
        (np.array({"boundary": np.ones((1, 8)), "meta_data": {"manipulate_layers": [99]}}), "manipulate_layers cannot"),
        (np.array([1, 2], dtype=object), "not an array"),
        (np.array(3, dtype=object), "without arrays"),
        (np.array(Attack(), dtype=object), "runs programs or code"),
        (b"", "not an array"),
        (b"not numpy at all", "not an array"),
    ],
)
def test_files_that_are_no_boundary(tmp_path: Path, content: Any, expected: str) -> None:
    path = tmp_path / "x_boundary.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(HiganError, match=expected.replace("[", r"\[")) as caught:
        read_boundary(path)
    assert str(path) in str(caught.value)
    assert not Path("owned").exists()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = write_boundary(make_boundary("wood", (1, 64)), tmp_path)
    whole = path.read_bytes()
    for size in (1, 60, 130, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(HiganError):
            read_boundary(path)
    path.unlink()
    with pytest.raises(HiganError, match="not there"):
        read_boundary(path)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("[]", "expected an object"),
        ("{", "not readable JSON"),
        ('{"space": "q"}', "expected one of z, w, wp"),
        ('{"space": 3}', "expected text"),
        ('{"layers": "6-11"}', "expected a list of layers"),
        ('{"layers": [-1]}', "expected a list of layers"),
        ('{"layers": [true]}', "expected a list of layers"),
        ('{"space": "z"}', "asked for"),
        ('{"space": "wp"}', "asked for"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path: Path, description: str, expected: str) -> None:
    path = write_boundary(make_boundary("wood", (1, 8)), tmp_path)
    path.with_suffix(".json").write_text(description)
    with pytest.raises(HiganError, match=expected):
        read_boundary(path, "w")


def test_the_space_has_to_fit_the_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 8), np.float32))
    np.save(tmp_path / "b.npy", np.arange(24, dtype=np.float32).reshape(1, 3, 8))
    with pytest.raises(HiganError, match=r"space wp is \[1, L, D\]"):
        read_boundary(tmp_path / "a.npy", "wp")
    with pytest.raises(HiganError, match=r"space w is \[1, D\]"):
        read_boundary(tmp_path / "b.npy", "w")


def test_lists_of_the_reference() -> None:
    for case in EDITOR["boundary_list"]:
        if "result" in case:
            found = [[line.name, line.space, line.path] for line in parse_boundary_list(case["text"])]
            assert found == case["result"]
    with pytest.raises(HiganError, match="line 1"):
        parse_boundary_list("(a, w, q): x.npy\n")


def test_lists_may_hold_more_than_the_reference_took() -> None:
    text = (
        "# comment\n\n  \t\n(a, w): x y: z.npy\r\n (b, W) :C:/x.npy layers=2-3,5 distance=-1.5\n"
        " DISABLE(a, w): gone.npy\n(c, wp): a layers=x.npy\n(d, w+): d.npy  distance=2   layers=upper\n"
    )
    assert [tuple(vars(line).values()) for line in parse_boundary_list(text)] == [
        ("a", "w", "x y: z.npy", None, None, 4),
        ("b", "w", "C:/x.npy", "2-3,5", -1.5, 5),
        ("c", "wp", "a", "x.npy", None, 7),
        ("d", "wp", "d.npy", "upper", 2.0, 8),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a, w: x.npy", "expected `(name, space): path`"),
        ("(a w): x.npy", "expected `(name, space): path`"),
        ("(a, w) x.npy", "expected `(name, space): path`"),
        ("(a, w):", "expected `(name, space): path`"),
        ("(, w): x.npy", "expected `(name, space): path`"),
        ("(a, v): x.npy", "is no latent space"),
        ("(.., w): x.npy", "part of a file's name"),
        ("(../a, w): x.npy", "part of a file's name"),
        ("(/a, w): x.npy", "part of a file's name"),
        ("(a, w): x.npy distance=far", "expected a number"),
        ("(a, w): x.npy distance=nan", "expected a finite number"),
    ],
)
def test_malformed_lines_are_named(line: str, expected: str) -> None:
    with pytest.raises(HiganError) as caught:
        parse_boundary_list(f"# first\n\n{line}\n", "list.txt")
    assert expected in str(caught.value)
    assert "list.txt, line 3" in str(caught.value)


def test_directions_of_other_tools(tmp_path: Path) -> None:
    direction = make_boundary("age", (1, 8)).direction
    layers = direction.repeat(3, 0)
    different = make_boundary("age", (1, 3, 8)).direction
    for name, content, space, expected in (
        ("age_boundary.npy", direction[0], None, direction),
        ("age.npy", layers.astype(np.float64), None, layers[None]),
        ("age.npy", layers, "w", direction),
        ("age.npy", layers[None], "z", direction),
        ("age.npy", different[0], None, different),
        ("age.pt", torch.from_numpy(direction), None, direction),
        ("age.pt", torch.from_numpy(different), "wp", different),
        ("age.pt", {"boundary": torch.from_numpy(direction), "meta_data": {}}, None, direction),
        ("age.npz", {"direction": different}, None, different),
    ):
        path = tmp_path / name
        if path.suffix == ".pt":
            torch.save(content, path)
        else:
            np.savez(path, **content) if path.suffix == ".npz" else np.save(path, content)
        boundary = read_boundary(path, space)
        np.testing.assert_array_equal(boundary.direction, expected)
        assert (boundary.name, boundary.space) == ("age", space or ("wp" if expected.ndim == 3 else "w"))
    with pytest.raises(HiganError, match=r"space w is \[1, D\]"):
        read_boundary(tmp_path / "age.npz", "w")


def test_the_space_of_a_direction_without_a_record(tmp_path: Path) -> None:
    for name, spaces, found in (
        ("age_boundary.npy", ("z", "w", "wp"), ("age", "w")),
        ("age_boundary.npy", ("z",), ("age", "z")),
        ("age_z_boundary.npy", ("z", "w", "wp"), ("age", "z")),
        ("age_wp_boundary.npy", ("z", "w", "wp"), ("age_wp", "w")),
    ):
        np.save(tmp_path / name, make_boundary("age", (1, 8)).direction)
        boundary = read_boundary(tmp_path / name, spaces=spaces)
        assert (boundary.name, boundary.space) == found


@pytest.mark.parametrize("layers", [[0, 1, 2], "0-2", (0, 1, 2), np.arange(3)])
def test_layers_of_idinvert_are_kept(tmp_path: Path, layers: Any) -> None:
    content = {"boundary": make_boundary("age", (1, 4, 8)).direction, "meta_data": {"manipulate_layers": layers}}
    np.save(tmp_path / "age_boundary.npy", content, allow_pickle=True)
    boundary = read_boundary(tmp_path / "age_boundary.npy")
    assert (boundary.layers, boundary.info["layers_from"], boundary.space) == ((0, 1, 2), "file", "wp")


def test_a_folder_or_a_file_in_place_of_a_list(tmp_path: Path) -> None:
    for name in ("wood", "view"):
        np.save(tmp_path / f"{name}_boundary.npy", make_boundary(name, (1, 8)).direction)
    np.save(tmp_path / "w.npy", np.zeros((3, 8)))
    assert [entry.boundary.name for entry in read_boundary_list(tmp_path)] == ["view", "wood"]
    assert [entry.boundary.name for entry in read_boundary_list(tmp_path / "wood_boundary.npy")] == ["wood"]
    torch.save(torch.ones(1, 8), tmp_path / "wood_boundary.pt")
    with pytest.raises(HiganError, match="two boundaries of one name and space"):
        read_boundary_list(tmp_path)
    (tmp_path / "editings").mkdir()
    with pytest.raises(HiganError, match=r"no boundary in .*editings; train some"):
        read_boundary_list(tmp_path / "editings")
    torch.save(torch.ones(1, 8), tmp_path / "editings" / "age.pt")
    assert [entry.boundary.name for entry in read_boundary_list(tmp_path / "editings")] == ["age"]


def test_paths_of_a_list_that_mean_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, there = tmp_path / "wood_boundary.npy", tmp_path / "lists" / "wood_boundary.npy"
    there.parent.mkdir()
    (tmp_path / "lists" / "list.txt").write_text("(wood, w): wood_boundary.npy\n")
    np.save(there, np.ones((1, 8), np.float32))
    assert read_boundary_list("lists/list.txt")[0].boundary.info["path"] == "lists/wood_boundary.npy"
    np.save(here, np.ones((1, 8), np.float32))
    assert read_boundary_list("lists/list.txt")[0].boundary.info["path"] == "wood_boundary.npy"
    np.save(here, np.eye(1, 8, dtype=np.float32))
    with pytest.raises(HiganError, match="below the current folder and beside the list, and differs"):
        read_boundary_list("lists/list.txt")


def test_a_list_of_trained_boundaries_grows(tmp_path: Path) -> None:
    boundaries = {
        f"{name}_boundary.npy": make_boundary(name, (1, 8)) for name in ("wood", "view", "studying (alone), far")
    }
    for boundary in boundaries.values():
        write_boundary(boundary, tmp_path)
    first, *_ = boundaries
    path = extend_boundary_list(tmp_path, {first: boundaries[first]})
    assert path.read_text() == "(wood, w): wood_boundary.npy\n"
    path.write_text("# mine\nDISABLE(wood, w): wood_boundary.npy")
    extend_boundary_list(tmp_path, boundaries)
    assert path.read_text().splitlines()[:3] == [
        "# mine",
        "DISABLE(wood, w): wood_boundary.npy",
        "(view, w): view_boundary.npy",
    ]
    assert [entry.boundary.name for entry in read_boundary_list(path)] == ["view", "studying (alone), far"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HiganError, match="is not a list of boundaries"):
        extend_boundary_list(tmp_path, boundaries)


def test_lists_of_nothing_are_refused(tmp_path: Path) -> None:
    for text in ("", "\n\n", "# a\nDISABLE(a, w): x\n"):
        with pytest.raises(HiganError, match="names no boundary"):
            parse_boundary_list(text)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(HiganError, match="not text"):
        read_boundary_list(tmp_path / "binary.txt")
    with pytest.raises(HiganError, match="cannot be read"):
        read_boundary_list(tmp_path / "none.txt")


def test_reading_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "my boundaries: new"
    write_boundary(make_boundary("wood", (1, 8)), folder)
    path = tmp_path / "list.txt"
    path.write_text("(wood, w): my boundaries: new/wood_boundary.npy layers=2-3 distance=1.5\n")
    (entry,) = read_boundary_list(path, 6)
    assert (entry.boundary.name, entry.layers, entry.distance) == ("wood", (2, 3), 1.5)
    path.write_text("\n(wood, w): my boundaries: new/wood_boundary.npy layers=2-9\n")
    with pytest.raises(HiganError, match="line 2: layer 9 is outside"):
        read_boundary_list(path, 6)
    path.write_text("(wood, w): nowhere.npy\n")
    with pytest.raises(HiganError, match=r"line 1: boundary nowhere.npy is not there"):
        read_boundary_list(path, 6)


def test_scores_in_every_form(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((10, 2)).astype(np.float32)
    structured = np.rec.fromarrays(values.T, names="wood,view")
    by_index = {"score": values, "name_to_idx": {"wood": 0, "view": 1}, "idx_to_name": {0: "wood", 1: "view"}}
    for content in (structured, by_index, {"wood": values[:, 0], "view": values[:, 1].astype(np.float64)}):
        np.save(tmp_path / "scores.npy", content, allow_pickle=True)
        scores = read_scores(tmp_path / "scores.npy")
        assert list(scores) == ["wood", "view"]
        assert (scores["view"] == values[:, 1]).all()
    for plain in (values[:, 0], values[:, :1]):
        np.save(tmp_path / "scores.npy", plain)
        assert (read_scores(tmp_path / "scores.npy")[""] == values[:, 0]).all()
    for content in (values, {"name_to_idx": {"wood": 0}}, {"score": values, "name_to_idx": {"wood": 7}}, Attack()):
        np.save(tmp_path / "scores.npy", content, allow_pickle=True)
        with pytest.raises(HiganError, match=r"scores\.npy"):
            read_scores(tmp_path / "scores.npy")


def test_scores_of_many_names(tmp_path: Path) -> None:
    names = [f"category_{index:03d}_with_a_long_name" for index in range(467)]
    np.save(tmp_path / "scores.npy", np.zeros(5, dtype=[(name, "<f4") for name in names]))
    assert list(read_scores(tmp_path / "scores.npy")) == names


def test_rows_of_a_memory_map(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((5000, 3, 4)).astype(np.float32)
    np.save(tmp_path / "w.npy", data)
    rows = np.random.default_rng(1).permutation(5000)[:3000]
    assert (take_rows(np.load(tmp_path / "w.npy", mmap_mode="r"), rows) == data[rows]).all()
    assert (take_rows(data, rows) == data[rows]).all()


def test_names() -> None:
    names = ["indoor_lighting", "natural_light", "wood"]
    assert find_name("wood", names, "score", "x") == "wood"
    with pytest.raises(HiganError, match="nearest: indoor_lighting"):
        find_name("indoor_lightning", names, "score", "x")
    with pytest.raises(HiganError, match="there are indoor_lighting, natural_light, wood"):
        find_name("zzz", names, "score", "x")
    for name in ("", "a/b", "..", "a\nb", "x" * 151, "a\\b", "c:d"):
        with pytest.raises(HiganError, match="file's name"):
            check_name(name)


def test_name_and_target(tmp_path: Path) -> None:
    path = write_boundary(make_boundary("wood", (1, 8)), tmp_path)
    assert read_boundary(path).target == "wood"
    assert read_boundary(path, name="wood").target == "wood"
    assert read_boundary(path, name="view").target == "view", "a list names the score"
    direction = make_boundary("pca_00", (1, 8)).direction
    path = write_boundary(Boundary("pca_00", direction, target=None), tmp_path)
    assert (read_boundary(path).name, read_boundary(path, name="pca_00").target) == ("pca_00", None)
    path.with_suffix(".json").unlink()
    assert read_boundary(path).target == "pca_00", "a file without a description is one of a score, as the paper's are"
    assert fit_for_files(".studying/ learning") == "studying_ learning"


def test_a_description_of_another_direction_is_refused(tmp_path: Path) -> None:
    path = write_boundary(make_boundary("wood", (1, 8)), tmp_path)
    np.save(path, make_boundary("glass", (1, 8)).direction)
    with pytest.raises(HiganError, match=r"describes another direction than wood_boundary\.npy holds"):
        read_boundary(path)


def test_a_description_with_conditions_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_boundary(make_boundary("wood", (1, 8)), tmp_path)
    for value in ("glass", [3], {"glass": 1}):
        path.with_suffix(".json").write_text(json.dumps({"conditioned_on": value}))
        with pytest.raises(HiganError, match=r"conditioned_on is .*expected a list of names"):
            read_boundary(path)


def test_a_large_file_is_no_boundary(tmp_path: Path) -> None:
    np.save(tmp_path / "wood_boundary.npy", np.ones((1, 8), np.float32))
    os.truncate(tmp_path / "wood_boundary.npy", 2**25)
    with pytest.raises(HiganError, match=f"has {2**25} bytes; expected a boundary"):
        read_boundary(tmp_path / "wood_boundary.npy")


@pytest.mark.parametrize("kind", ["U4", "2f4", "c8"])
def test_a_field_that_is_no_number_per_sample_is_refused(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.zeros(5, [("wood", "<f4"), ("view", kind)]))
    with pytest.raises(HiganError, match=r"field 'view' is .*expected one number per sample"):
        read_scores(tmp_path / "scores.npy")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("layers=2-5 distance=1", "expected `(name, space): path`, found 'layers=2-5"),
        ("(a, w): " + "b" * 20_000, "a line of 20008 characters"),
    ],
)
def test_lines_that_name_no_boundary(line: str, words: str) -> None:
    with pytest.raises(HiganError, match=re.escape(words)):
        parse_boundary_list(line)


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((100, 8), np.float32))
    codes = np.load(tmp_path / "w.npy", mmap_mode="r")
    os.truncate(tmp_path / "w.npy", 1000)
    with pytest.raises(HiganError, match=r"w\.npy was cut short while it was read; write it again"):
        take_rows(codes, np.array([0, 99]))
