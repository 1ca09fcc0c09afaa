"""Moving codes: the reference program's numbers, and what it silently lets through."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.golden import GOLDEN
from support.model import LAYERS, SETTINGS, direction

from higan.directions import move
from higan.directions.boundaries import Boundary
from higan.directions.lists import BoundaryEntry
from higan.editing import edits as editing
from higan.editing import manipulation
from higan.editing.manipulation import between_samples
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.codes import Codes
from higan.generators.layer_sets import format_layers, parse_layers
from higan.generators.stylegan2 import StyleGAN2

CASES = json.loads((GOLDEN / "editor.json").read_text())
ARRAYS = dict(np.load(GOLDEN / "editor.npz"))
NUM_LAYERS = CASES["num_layers"]
# inputs on which the reference gives up or turns to something else without a word
SILENT_TURNS = ("11-6", "1-2-3")


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(StyleGAN2(**SETTINGS), "tiny", truncation_psi=0.5, truncation_layers=4)


@pytest.mark.parametrize("case", CASES["parse_indices"], ids=lambda case: str(case["input"]))
def test_parse_layers_as_the_reference(case: dict[str, Any]) -> None:
    value = tuple(case["input"]) if case["input_type"] == "tuple" else case["input"]
    num_layers = 14 if case["max_val"] is None else case["max_val"] + 1
    if "raises" in case or value in SILENT_TURNS:
        with pytest.raises(HiganError):
            parse_layers(value, num_layers)
    else:
        assert parse_layers(value, num_layers) == case["result"]


@pytest.mark.parametrize("text", ["1,,2", ",1", "1,", "1 2", "14", "0-14", "-1", "1-", "²", "1.0", "0-99999999999"])
def test_parse_layers_refuses(text: str) -> None:
    with pytest.raises(HiganError):
        parse_layers(text, 14)


@pytest.mark.parametrize("value", [True, [True], 2.5, [1.5], -1, [3, 14], ["a"], np.array([0.5])])
def test_parse_layers_refuses_what_is_no_layer(value: Any) -> None:
    with pytest.raises(HiganError):
        parse_layers(value, 14)


def test_parse_layers_takes_numpy_integers() -> None:
    assert parse_layers([np.int64(3), np.int32(1)], 14) == [1, 3]
    assert parse_layers(np.arange(3), 14) == [0, 1, 2]
    assert parse_layers(np.int64(5), 14) == [5]


@pytest.mark.parametrize(
    ("num_layers", "borders"), [(14, (2, 6, 12)), (10, (1, 4, 9)), (18, (3, 8, 15)), (8, (1, 3, 7))]
)
def test_groups_lie_at_sevenths(num_layers: int, borders: tuple[int, int, int]) -> None:
    edges = (0, *borders, num_layers)
    for name, first, last in zip(("bottom", "lower", "upper", "top"), edges, edges[1:], strict=False):
        assert parse_layers(name, num_layers) == list(range(first, last))
    assert parse_layers("top, 0", num_layers) == [0, *range(borders[2], num_layers)]


def test_group_without_layers_says_so() -> None:
    with pytest.raises(HiganError, match="no bottom layers"):
        parse_layers("bottom", 2)


@given(st.sets(st.integers(0, 17), min_size=1))
def test_format_layers_is_read_back(layers: set[int]) -> None:
    assert parse_layers(format_layers(sorted(layers)), 18) == sorted(layers)


@pytest.mark.parametrize("case", CASES["manipulate"], ids=lambda case: str(case["id"]))
def test_manipulate_as_the_reference(case: dict[str, Any]) -> None:
    codes, boundary = ARRAYS[case["codes"]], ARRAYS[case["boundary"]]
    distances = np.linspace(case.get("start_distance", -5.0), case.get("end_distance", 5.0), case["step"])
    layers, strength = case.get("manipulate_layers"), case.get("layerwise_manipulation_strength")
    if case["id"] == 8:  # layers of a code without layers: the reference ignores them
        with pytest.raises(HiganError, match="layer-wise codes"):
            move.manipulate(codes, boundary, distances, layers, strength)
        return
    if case["id"] == 9:  # codes said to be layer-wise that are not: here their shape tells
        return
    if case["id"] == 7:  # a number of layers that is not the codes': here their shape tells
        strength = np.ones(case["num_layers"])
    if case["id"] == 5:  # the reference repeats codes for every layer itself
        codes, strength = np.repeat(codes[:, None], case["num_layers"], axis=1), np.full(case["num_layers"], strength)
    if "raises" in case:
        with pytest.raises(HiganError):
            move.manipulate(codes, boundary, distances, layers, strength)
        return
    moved = move.manipulate(codes, boundary, distances, layers, strength)
    assert moved.dtype == np.float32
    assert list(moved.shape) == case["result_shape"]
    # the reference computes in float64, we round to float32 once
    np.testing.assert_allclose(moved, ARRAYS[f"manipulate_{case['id']:02d}"], atol=1e-6)


def test_manipulate_leaves_other_layers_untouched() -> None:
    moved = move.manipulate(ARRAYS["codes_wp"], ARRAYS["boundary_w"], [-1, 2], "3")
    others = [layer for layer in range(NUM_LAYERS) if layer != 3]
    np.testing.assert_array_equal(moved[:, 0][:, others], ARRAYS["codes_wp"][:, others])
    assert (moved[:, :, 3] != ARRAYS["codes_wp"][:, None, 3]).any()


def test_manipulate_takes_tensors_and_boundaries() -> None:
    codes, boundary = torch.from_numpy(ARRAYS["codes_wp"]), Boundary("x", ARRAYS["boundary_w"], "w", layers=(2, 3))
    moved = move.manipulate(codes, boundary, [1.5])
    expected = move.manipulate(ARRAYS["codes_wp"], ARRAYS["boundary_w"], [1.5], "2-3")
    assert isinstance(moved, torch.Tensor)
    np.testing.assert_array_equal(moved.numpy(), expected)
    assert move.manipulate(codes.double(), boundary, [1.0]).dtype == torch.float64


@pytest.mark.parametrize(
    ("codes", "boundary", "arguments"),
    [
        ("codes_z", "boundary_w", {"distances": []}),
        ("codes_z", "boundary_w", {"distances": [float("nan")]}),
        ("codes_z", "boundary_wp", {"distances": [1]}),
        ("codes_z", "boundary_w", {"distances": [1], "layers": "0"}),
        ("codes_wp", "boundary_w", {"distances": [1], "layers": ""}),
        ("codes_wp", "boundary_w", {"distances": [1], "layers": "8"}),
        ("codes_wp", "boundary_w", {"distances": [1], "strength": [1, 2]}),
    ],
)
def test_manipulate_refuses(codes: str, boundary: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(HiganError):
        move.manipulate(ARRAYS[codes], ARRAYS[boundary], **arguments)


@pytest.mark.parametrize("case", CASES["layerwise_strength"], ids=lambda case: str(case["truncation_layers"]))
def test_layer_strength_as_the_reference(case: dict[str, Any]) -> None:
    blocks = case["num_layers"] // 2
    channels = {4 * 2**block: 1 for block in range(blocks)}
    network = StyleGAN2(2 ** (blocks + 1), channels, z_dim=1, w_dim=1, mapping_layers=1)
    psi, layers = case["truncation_psi"], case["truncation_layers"]
    strength = Generator(network, "narrow", truncation_psi=psi, truncation_layers=layers).psi().numpy()
    assert strength.dtype == np.float32
    if "raises" in case:  # more layers than there are: the reference stops, here it means all
        np.testing.assert_allclose(strength, case["truncation_psi"])
    else:
        np.testing.assert_allclose(strength, case["result"], atol=1e-7)


def test_mix_styles_as_the_reference() -> None:
    style, content = ARRAYS["codes_wp"][:2], ARRAYS["codes_wp"][1:3]
    np.testing.assert_array_equal(editing.mix_styles(style, content, "0-3"), ARRAYS["mix_00"])
    np.testing.assert_array_equal(editing.mix_styles(ARRAYS["codes_z"][:2], content), ARRAYS["mix_01"])
    mixed = editing.mix_styles(torch.from_numpy(style), torch.from_numpy(content), [0])
    assert mixed.shape == (2, 2, NUM_LAYERS, 16)
    for bad_style, bad_content in ((ARRAYS["codes_z"], ARRAYS["codes_z"]), (style[:, :4], content)):
        with pytest.raises(HiganError):
            editing.mix_styles(bad_style, bad_content)


@pytest.mark.parametrize("case", CASES["interpolate"], ids=lambda case: case["codes"])
def test_interpolate_as_the_reference(case: dict[str, Any]) -> None:
    codes = ARRAYS[case["codes"]]
    between = editing.interpolate(codes[:1], codes[1:2], case["step"])
    assert between.dtype == np.float32
    np.testing.assert_allclose(between, ARRAYS[f"interp_{case['id']:02d}"], atol=1e-6)


def test_interpolate_refuses() -> None:
    with pytest.raises(HiganError):
        editing.interpolate(ARRAYS["codes_z"][:1], ARRAYS["codes_z"][:2])
    with pytest.raises(HiganError):
        editing.interpolate(ARRAYS["codes_z"], ARRAYS["codes_z"], 1)


def test_combine_adds_displacements() -> None:
    codes = ARRAYS["codes_wp"]
    first = move.manipulate(codes, ARRAYS["boundary_w"], [1.0, 2.0], "0-2")
    second = move.manipulate(codes, ARRAYS["boundary_wp"], [-1.0, 3.0], "2-4")
    np.testing.assert_allclose(
        editing.combine(codes, [first, second]),
        codes[:, None] + (first - codes[:, None]) + (second - codes[:, None]),
        atol=1e-6,
    )


def test_distances_have_a_middle() -> None:
    np.testing.assert_array_equal(move.spaced_distances(-3, 3, 4), np.linspace(-3, 3, 5))
    np.testing.assert_array_equal(move.scaled_distances(np.array([-3.0, 0, 3]), 1.5), [-1.5, 0, 1.5])
    for bad in ((0, 1, 0), (float("inf"), 1, 3)):
        with pytest.raises(HiganError):
            move.spaced_distances(*bad)
    with pytest.raises(HiganError):
        move.scaled_distances(np.array([-1.0, 0]), 2)


@pytest.mark.parametrize("layers", ["4-5", "0", "2,5", None])
def test_steps_share_early_layers_and_give_the_same_pictures(generator: Generator, layers: str | None) -> None:
    codes = Codes(generator, num=3).follow()
    moved = move.manipulate(codes["wp"], direction("lights"), [-2, 0, 2], layers, generator.psi())
    rows = np.stack(list(editing.synthesize_steps(generator, moved)))
    assert rows.shape == (3, 3, 16, 16, 3)
    for step in range(3):
        scratch = generator.synthesize(moved[:, step]).numpy().astype(int)
        assert np.abs(rows[:, step] - scratch).max() <= 1


def test_steps_run_only_the_layers_that_differ(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    advance = generator.advance

    def counted(state: Any, wp: Any, start: int, stop: int) -> Any:
        calls.append((start, stop))
        return advance(state, wp, start, stop)

    monkeypatch.setattr(generator, "advance", counted)
    codes = Codes(generator, num=2).follow()
    moved = move.manipulate(codes["wp"], direction("lights"), [-1, 0, 1], "4-5")
    list(editing.synthesize_steps(generator, moved))
    assert calls == [(0, 4), (4, LAYERS), (4, LAYERS), (4, LAYERS)]


def test_steps_in_small_batches(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = Codes(generator, num=5).follow()["w"]
    moved = move.manipulate(codes, direction("lights"), [-1, 0, 1])
    whole = np.stack(list(editing.synthesize_steps(generator, moved, "w")))
    monkeypatch.setattr(generator, "batch_size", 2)
    parts = np.stack(list(editing.synthesize_steps(generator, moved, "w")))
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_codes_follow_from_their_space(generator: Generator, tmp_path: Path) -> None:
    drawn = Codes(generator, num=4, seed=3).follow()
    assert list(drawn) == ["z", "w", "wp"]
    for space, follows in (("z", ["z", "w", "wp"]), ("w", ["w", "wp"]), ("wp", ["wp"])):
        np.save(tmp_path / "codes.npy", drawn[space].numpy())
        read = Codes(generator, path=tmp_path / "codes.npy", space=space).follow()
        assert list(read) == follows
        np.testing.assert_allclose(read["wp"].numpy(), drawn["wp"].numpy(), atol=1e-5)
    np.save(tmp_path / "codes.npy", 7 * drawn["z"].numpy())
    scaled = Codes(generator, path=tmp_path / "codes.npy", space="z").rows(0, 4)
    np.testing.assert_allclose(scaled.numpy(), drawn["z"].numpy(), atol=1e-5)


def test_layers_are_chosen_in_order() -> None:
    verified = Boundary("x", direction("x"), "w", (1, 2), {"layers_from": "rescoring"})
    recommended = Boundary("x", direction("x"), "w", (3,), {"layers_from": "file"})
    plain = Boundary("x", direction("x"), "w")
    assert move.choose_layers(verified, 10, "5") == ([5], "asked for")
    assert move.choose_layers(verified, 10) == ([1, 2], "verified by re-scoring")
    assert move.choose_layers(recommended, 10) == ([3], "from its file")
    assert move.choose_layers(plain, 10, otherwise="upper") == ([4, 5, 6, 7, 8], "the upper group")
    assert move.choose_layers(plain, 10) == (list(range(10)), "all")
    plain.info = {"rescoring": {"verdict": "could not tell", "layers": [2, 7]}}
    assert move.choose_layers(plain, 10, "", "upper") == (
        [2, 7],
        "candidates: re-scoring could not tell them from chance",
    )
    plain.info = {"rescoring": {"verdict": "none", "layers": [2]}}
    assert move.choose_layers(plain, 10) == (list(range(10)), "all; re-scoring found none where it is obeyed")


def test_a_boundary_that_is_obeyed_nowhere_is_said_to_be(
    generator: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("higan"), "propagate", True)
    info = {"rescoring": {"verdict": "none", "layers": []}, "path": str(tmp_path / "x_boundary.npy")}
    entry = BoundaryEntry(Boundary("x", direction("x"), "w", None, info))
    with caplog.at_level(logging.INFO, "higan"):
        manipulation.plan_moves(generator, [entry], np.array([0.0, 1.0]))
    assert "boundary x: re-scoring found no layers at which it is obeyed" in caplog.text


def test_the_distance_at_which_an_edit_is_clear() -> None:
    boundary = Boundary("x", direction("x"), "w")
    assert move.telling_distance(boundary) == (3.0, "")
    boundary.info = {"rescoring": {"verdict": "verified", "effect": [1.22, 1.1, 1.3], "distance": 2.0}}
    assert move.telling_distance(boundary) == (5.0, "the score changes by about 3 standard deviations")
    boundary.info["reach"] = 3.1
    assert move.telling_distance(boundary)[0] == 2.0
    assert "pictures leave the data" in move.telling_distance(boundary)[1]
    boundary.info = {"rescoring": {"verdict": "none", "effect": [0.01], "distance": 2.0}, "reach": [1.0, 2.0]}
    assert move.telling_distance(boundary)[0] == 3.0
    boundary.info = {"rescoring": {"verdict": "verified", "effect": ["a"], "distance": None}, "reach": "far"}
    assert move.telling_distance(boundary) == (3.0, "")


def test_a_w_step_is_truncated_as_the_codes_are(generator: Generator) -> None:
    codes, boundary = Codes(generator, num=2).follow(), Boundary("x", direction("x"), "w")
    as_whole, space = move.move_codes(generator, codes, boundary, [2.0])
    by_layer, _ = move.move_codes(generator, codes, boundary, [2.0], list(range(LAYERS)))
    assert space == "w"
    np.testing.assert_allclose(generator.to_wp(as_whole[:, 0], "w").numpy(), by_layer[:, 0].numpy(), atol=1e-5)
    full, _ = move.move_codes(generator, codes, boundary, [2.0], list(range(LAYERS)), keep_pace=False)
    expected = codes["wp"].numpy() + 2 * direction("x")
    np.testing.assert_allclose(full[:, 0].numpy(), expected, atol=1e-5)


def test_a_style_may_be_layer_wise_and_the_content_not() -> None:
    style, content = np.random.default_rng(0).random((2, 3, 4)), np.random.default_rng(1).random((5, 4))
    mixed = editing.mix_styles(style, content, [1])
    assert mixed.shape == (2, 5, 3, 4)
    for layer in range(3):
        expected = style[:, None, layer] if layer == 1 else content[None]
        np.testing.assert_array_equal(mixed[:, :, layer], np.broadcast_to(expected, (2, 5, 4)))


def test_what_does_not_fit_together_is_refused(generator: Generator) -> None:
    w = torch.zeros(2, 16)
    deep = Boundary("deep", direction("deep"), "z")
    for call, words in (
        (lambda: editing.combine(w, [torch.zeros(2, 3, 16), torch.zeros(2, 4, 16)]), "cannot be combined"),
        (lambda: move.manipulate(np.zeros(16), direction("x"), [1.0]), r"codes must be \[N, D\] or \[N, L, D\]"),
        (lambda: move.spaced_distances(-1, 1, move.MOST_STEPS + 1), "expected 10001 at most"),
        (lambda: Codes(generator, num=2, space="y"), "tiny has no space 'y'; expected z, w, wp"),
        (lambda: move.move_codes(generator, {"w": w}, deep, [1.0], [2]), "of space z, which has no layers"),
        (lambda: move.move_codes(generator, {"w": w}, deep, [1.0]), "needs codes of space z, found w"),
    ):
        with pytest.raises(HiganError, match=words):
            call()  # type: ignore[no-untyped-call]


def test_a_picture_that_is_not_finite_is_named(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = Codes(generator, num=5).follow()["wp"][:, None].repeat(1, 2, 1, 1)
    codes[3, 1, 2] = torch.nan
    monkeypatch.setattr(generator, "batch_size", 2)
    pictures = editing.synthesize_steps(generator, codes)
    assert [next(pictures).shape for _ in range(2)] == [(2, 16, 16, 3)] * 2
    with pytest.raises(HiganError, match="NaN or infinity for sample 3"):
        next(pictures)


def test_samples_of_one_class_keep_it_between_them() -> None:
    codes = {"z": torch.randn(3, 4), "labels": torch.ones(3, dtype=torch.long)}
    edited = between_samples(SimpleNamespace(name="conditional"), codes, "z", 3)  # type: ignore[arg-type]
    assert edited.codes.shape == (2, 3, 4)
    codes["labels"][1] = 0
    with pytest.raises(HiganError, match="several classes are interpolated in w"):
        between_samples(SimpleNamespace(name="conditional"), codes, "z", 3)  # type: ignore[arg-type]


def test_a_pad_has_every_two_steps() -> None:
    origin, across, down = torch.randn(2, 3, 4), torch.randn(2, 5, 3, 4), torch.randn(2, 2, 3, 4)
    codes = editing.pad_codes(origin, across, down)
    assert codes.shape == (2, 10, 3, 4)
    torch.testing.assert_close(codes[1, 7], origin[1] + (across[1, 2] - origin[1]) + (down[1, 1] - origin[1]))
