"""manipulate.py and simple_manipulate.py, every option through the script, on a small random model."""

from __future__ import annotations

import base64
import io
import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.model import LAYERS, SETTINGS, direction
from support.scripts import run
from support.workplace import write_workplace

from higan.checkpoints import write_checkpoint
from higan.errors import HiganError
from higan.generators.pggan import PGGAN
from higan.generators.stylegan2 import StyleGAN2
from higan.report.video import write_video

PSI = 0.5  # the default of StyleGAN2 models


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_workplace(tmp_path))
    return tmp_path


@pytest.fixture
def manipulate(place: Path) -> Any:
    """The script on the tiny model: manipulate("list.txt", "-N", 2) returns the output folder."""

    def call(*arguments: object, folder: str = "out") -> Path:
        assert run("manipulate", "tiny.pth", *arguments, "-o", folder) == 0
        return place / folder

    return call


@pytest.fixture
def refused(place: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """A script that must exit with 2 and one line, which is returned."""

    def call(name: str, *arguments: object) -> str:
        assert run(name, *arguments) == 2
        lines = capfd.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    return call


def strips(page: Path) -> list[np.ndarray]:
    """Return the rows of pictures in a page, each uint8 [H, S * W, 3]."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def text_of(page: Path) -> str:
    """Return a page's text without its markup, style and script."""
    html = re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", html))


def steps_of(folder: Path, name: str = "lights_w_manipulated_wp.npy") -> np.ndarray:
    return np.load(folder / name, allow_pickle=False)


def test_files_are_named_as_the_reference_names_them(manipulate: Any) -> None:
    folder = manipulate(
        "list.txt", "-N", 2, "-S", 3, "--layerwise_manipulation", "--save_raw_synthesis", "--generate_html"
    )
    pictures = {f"lights_w_{sample:05d}_{step:03d}.jpg" for sample in range(2) for step in range(3)}
    assert {path.name for path in folder.iterdir()} == pictures | {
        "z.npy", "w.npy", "wp.npy", "log.txt", "lights_w_boundary.npy", "lights_w_boundary.json",
        "lights_w_manipulated_wp.npy", "lights_w_viz.html",
        "z.json", "w.json", "wp.json", "lights_w_manipulated_wp.json",
    }  # fmt: skip
    assert np.load(folder / "z.npy").shape == (2, 16)
    assert np.load(folder / "wp.npy").shape == (2, LAYERS, 16)
    assert steps_of(folder).shape == (2, 3, LAYERS, 16)
    assert steps_of(folder).dtype == np.float32
    np.testing.assert_array_equal(np.load(folder / "lights_w_boundary.npy"), direction("lights"))
    assert Image.open(folder / "lights_w_00001_002.jpg").size == (16, 16)
    assert [strip.shape for strip in strips(folder / "lights_w_viz.html")] == [(16, 48, 3)] * 2


def test_default_folder_and_even_steps(place: Path) -> None:
    assert run("manipulate", "tiny.pth", "list.txt", "--num=1", "--step=4") == 0
    moved = np.load(place / "tiny_manipulation" / "lights_w_manipulated_w.npy")
    origin = np.load(place / "tiny_manipulation" / "w.npy")
    assert moved.shape == (1, 5, 16)
    for step, distance in enumerate(np.linspace(-3, 3, 5)):
        np.testing.assert_allclose(moved[:, step], origin + distance * direction("lights"), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "layers", "strength"),
    [
        (["--layerwise_manipulation"], [2, 3], PSI),
        (["--manipulate_layers=4-5,0"], [0, 4, 5], PSI),
        (["--layerwise_manipulation", "--manipulate_layers=upper"], [3, 4], PSI),
        (["--layerwise_manipulation", "--disable_manipulation_truncation"], [2, 3], 1.0),
    ],
)
def test_layers_and_their_strength(manipulate: Any, options: list[str], layers: list[int], strength: float) -> None:
    folder = manipulate("list.txt", "-N", 2, "-S", 3, "--start_distance=-1", "--end_distance=2", *options)
    moved = steps_of(folder) - np.load(folder / "wp.npy")[:, None]
    expected = np.zeros((3, LAYERS, 16))
    expected[:, layers] = np.array([-1, 0.5, 2])[:, None, None] * strength * direction("lights")
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-5)


def test_lists_carry_layers_and_distance(manipulate: Any) -> None:
    folder = manipulate("two.txt", "-N", 1, "-S", 3, "--layerwise_manipulation")
    lights = steps_of(folder) - np.load(folder / "wp.npy")[:, None]
    np.testing.assert_allclose(lights[0, 2, 1:3], 2 * PSI * np.repeat(direction("lights"), 2, axis=0), atol=1e-5)
    assert not lights[:, :, [0, 3, 4, 5]].any()
    wood = steps_of(folder, "wood_w_manipulated_wp.npy") - np.load(folder / "wp.npy")[:, None]
    np.testing.assert_allclose(wood[0, 0], -3 * PSI * np.repeat(direction("wood"), LAYERS, axis=0), atol=1e-5)


def test_every_space(manipulate: Any) -> None:
    folder = manipulate("all.txt", "-N", 2, "-S", 3, "--generate_html")
    for name, shape in (
        ("lights_w_manipulated_w", (2, 3, 16)),
        ("deep_z_manipulated_z", (2, 3, 16)),
        ("view_wp_manipulated_wp", (2, 3, LAYERS, 16)),
    ):
        assert steps_of(folder, f"{name}.npy").shape == shape
    assert len(list(folder.glob("*_viz.html"))) == 3
    by_layer = manipulate("all.txt", "-N", 2, "-S", 3, "--layerwise_manipulation", folder="layers")
    assert "deep is of space z" in (by_layer / "log.txt").read_text()
    np.testing.assert_array_equal(
        steps_of(by_layer, "deep_z_manipulated_z.npy"), steps_of(folder, "deep_z_manipulated_z.npy")
    )


def test_released_boundary_moves_its_own_layers(place: Path, manipulate: Any) -> None:
    content = np.array(
        {
            "boundary": direction("old").astype(np.float64),
            "meta_data": {"type": "attribute", "manipulate_layers": "1-2"},
        },
        dtype=object,
    )
    np.save(place / "old_boundary.npy", content, allow_pickle=True)
    (place / "old.txt").write_text("(old, w): old_boundary.npy\n")
    folder = manipulate("old.txt", "-N", 1, "-S", 1, "--start_distance=2", "--layerwise_manipulation")
    moved = steps_of(folder, "old_w_manipulated_wp.npy")[:, 0] - np.load(folder / "wp.npy")
    assert np.flatnonzero(np.abs(moved).sum(axis=(0, 2))).tolist() == [1, 2]
    assert "layers 1-2 (from its file)" in (folder / "log.txt").read_text()


def test_combined_edits_add_up(manipulate: Any) -> None:
    folder = manipulate("two.txt", "-N", 2, "-S", 3, "--combine", "--generate_html")
    moved = steps_of(folder, "combined_manipulated_wp.npy") - np.load(folder / "wp.npy")[:, None]
    expected = np.repeat(3 * PSI * direction("wood"), LAYERS, axis=0)
    expected[1:3] += 2 * PSI * direction("lights")
    np.testing.assert_allclose(moved[:, 2], np.broadcast_to(expected, moved[:, 2].shape), atol=1e-5)
    assert "lights + wood" in text_of(folder / "combined_viz.html")
    assert not (folder / "lights_w_viz.html").exists()


def test_conditioned_boundaries_are_orthogonal(manipulate: Any) -> None:
    folder = manipulate("list.txt", "-N", 1, "--condition", "wood", "lights", "--generate_html")
    conditioned = np.load(folder / "lights_w_boundary.npy")
    assert abs(float(conditioned[0] @ direction("wood")[0])) < 1e-6
    np.testing.assert_allclose(np.linalg.norm(conditioned), 1, atol=1e-6)
    assert re.search(r"Conditioned on\s+wood", text_of(folder / "lights_w_viz.html"))


def test_interpolation(manipulate: Any) -> None:
    folder = manipulate("--interpolate", "--latent_space_type=w", "-N", 3, "-S", 5, "--generate_html")
    between, ends = steps_of(folder, "interpolation_w_manipulated_w.npy"), np.load(folder / "w.npy")
    assert between.shape == (2, 5, 16)
    np.testing.assert_allclose(between[:, 0], ends[:-1], atol=1e-6)
    np.testing.assert_allclose(between[:, 4], ends[1:], atol=1e-6)
    assert "Sample 00000 to 00001" in text_of(folder / "interpolation_w_viz.html")


def test_style_mixing(manipulate: Any) -> None:
    folder = manipulate("--mix_style", "--manipulate_layers=top", "-N", 3, "--generate_html")
    mixed, wp = steps_of(folder, "style_mixing_manipulated_wp.npy"), np.load(folder / "wp.npy")
    assert mixed.shape == (3, 4, LAYERS, 16)
    np.testing.assert_array_equal(mixed[:, 0], wp)
    np.testing.assert_array_equal(mixed[1, 3, :5], wp[1, :5])
    np.testing.assert_array_equal(mixed[1, 3, 5], wp[2, 5])
    styles, *contents = strips(folder / "style_mixing_viz.html")
    assert styles.shape == (16, 3 * 16, 3) and [row.shape for row in contents] == [(16, 4 * 16, 3)] * 3


def test_two_boundaries_at_once_are_a_pad(manipulate: Any) -> None:
    """Every step of the first with every step of the second, each at its own layers and distance."""
    folder = manipulate("two.txt", "-N", 9, "-S", 3, "--combine", "--save_raw_synthesis", "--generate_html")
    page = (folder / "combined_viz.html").read_text()
    assert "lights −2, wood −3" in page and "moved at once along lights and wood" in page
    pads = strips(folder / "combined_viz.html")
    assert [pad.shape for pad in pads] == [(3 * 16, 3 * 16, 3)] * 9
    for step in range(3):  # along the diagonal both move together, as the codes that are written do
        place = slice(16 * step, 16 * step + 16)
        raws = [np.asarray(Image.open(folder / f"combined_00008_{other:03d}.jpg"), int) for other in range(3)]
        assert np.argmin([np.abs(pads[8][place, place] - raw).mean() for raw in raws]) == step
    assert np.load(folder / "combined_manipulated_wp.npy").shape[:2] == (9, 3)
    folder = manipulate("two.txt", "-N", 1, "-S", 11, "--combine", "--generate_html", folder="many")
    assert strips(folder / "combined_viz.html")[0].shape == (16, 11 * 16, 3)


def test_codes_from_a_file(place: Path, manipulate: Any) -> None:
    codes = np.random.default_rng(0).standard_normal((3, LAYERS, 16)).astype(np.float32)
    np.save(place / "codes.npy", codes)
    folder = manipulate("list.txt", "-c", "codes.npy", "--latent_space_type=wp", "--layerwise_manipulation", "-S", 3)
    np.testing.assert_array_equal(steps_of(folder)[:, 1], codes)
    assert not (folder / "z.npy").exists()


def test_seed_batches_and_precision(manipulate: Any) -> None:
    options = ("list.txt", "-N", 5, "-S", 3, "--layerwise_manipulation", "--generate_html", "--device=cpu")
    first = manipulate(*options, "--seed=1", folder="first")
    again = manipulate(*options, "--seed=1", "--batch_size=2", "--precision=bf16", folder="again")
    other = manipulate(*options, "--seed=2", folder="other")
    np.testing.assert_array_equal(steps_of(first), steps_of(again))
    assert (steps_of(first) != steps_of(other)).any()
    for exact, coarse in zip(strips(first / "lights_w_viz.html"), strips(again / "lights_w_viz.html"), strict=True):
        assert np.abs(exact.astype(int) - coarse).mean() < 3


def test_page_says_what_made_it(manipulate: Any) -> None:
    folder = manipulate(
        "list.txt",
        "-N",
        1,
        "--layerwise_manipulation",
        "--generate_html",
        "--html_name=page.html",
        "--viz_size=24",
        "--logfile_name=story.txt",
    )
    text = re.sub(r"\s+", " ", text_of(folder / "lights_w_page.html"))
    for expected in (
        "lights",
        "2-3 (verified by re-scoring)",
        "psi 0.5",
        "seed 0",
        "manipulate.py tiny.pth list.txt",
        "torch",
        "−3",
        "Origin",
        "24 × 24",
        "1 sample of tiny",
    ):
        assert expected in text
    assert strips(folder / "lights_w_page.html")[0].shape == (24, 7 * 24, 3)
    assert (folder / "story.txt").read_text().endswith("lights_w_page.html\n")


def test_video(manipulate: Any) -> None:
    av = pytest.importorskip("av")
    folder = manipulate(
        "list.txt", "-N", 6, "-S", 3, "--generate_video", "--fps=12", "--row=2", "--col=3", "--row_spacing=2",
        "--col_spacing=4", "--border_left=1", "--border_right=2", "--border_top=3", "--border_bottom=4",
        "--white_background", "--viz_size=20", "--video_name=clip.avi",
    )  # fmt: skip
    with av.open(str(folder / "lights_w_clip.avi")) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 12
    height, width = 2 * 20 + 2 + 3 + 4, 3 * 20 + 2 * 4 + 1 + 2
    assert [frame.shape for frame in frames] == [(height + height % 2, width + width % 2, 3)] * 3
    assert frames[0][0].min() > 230  # the border is white


@pytest.mark.parametrize("name", ["viz.webp", "viz.gif"])
def test_animations(manipulate: Any, name: str) -> None:
    folder = manipulate("list.txt", "-N", 2, "-S", 3, "--generate_video", f"--video_name={name}")
    with Image.open(folder / f"lights_w_{name}") as animation:
        assert animation.n_frames == 3
        assert animation.size == (32, 16)


def test_video_without_pyav(manipulate: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    folder = manipulate("list.txt", "-N", 1, "-S", 3, "--generate_video")
    assert Image.open(folder / "lights_w_viz.webp").n_frames == 3
    asked = ("list.txt", "-N", 1, "--generate_video", "--video_name=x.mp4")
    assert "'x.mp4' needs PyAV: pip install -e '.[video]', or give a name in .webp or .gif" in refused(
        "manipulate", "tiny.pth", *asked
    )


def test_conditional_models_take_a_class(place: Path, refused: Any) -> None:
    settings = SETTINGS | {"label_dim": 3}
    write_checkpoint(place / "classes.pth", "stylegan2", StyleGAN2(**settings).state_dict(), settings)
    (place / "z.txt").write_text("(deep, z): boundaries/tiny/deep_boundary.npy\n")
    command = ("classes.pth", "z.txt", "-N", 1, "-S", 3, "--generate_html", "-o", "out")
    assert run("manipulate", *command, "--class_idx=2") == 0
    several = ("classes.pth", "z.txt", "-N", 3, "-S", 3, "--save_raw_synthesis", "-o", "several")
    assert run("manipulate", "--class_idx", 2, 0, *several) == 0
    assert np.load(place / "several" / "labels.npy").tolist() == [2, 0, 2]
    one = ("classes.pth", "z.txt", "-N", 2, "-S", 3, "--save_raw_synthesis", "-o", "one")
    assert run("manipulate", *one, "--class_idx=0") == 0
    first, same = (place / folder / "deep_z_00001_002.jpg" for folder in ("several", "one"))
    assert first.read_bytes() == same.read_bytes()
    between = ("classes.pth", "-N", 2, "--interpolate", "--class_idx", "0,1", "-o", "between")
    assert "several classes are interpolated in w" in refused("manipulate", *between)
    assert run("manipulate", *between, "--latent_space_type=w") == 0
    assert "conditional" in refused("manipulate", *command)
    assert "not conditional" in refused("manipulate", "tiny.pth", "list.txt", "-N", 1, "--class_idx=0")


def test_models_with_z_alone(place: Path, refused: Any) -> None:
    settings = {"resolution": 16, "channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16}
    write_checkpoint(place / "flat.pth", "pggan", PGGAN(**settings).state_dict(), settings)
    (place / "z.txt").write_text("(deep, z): boundaries/tiny/deep_boundary.npy\n")
    assert run("manipulate", "flat.pth", "z.txt", "-N", 2, "-S", 3, "--generate_html") == 0
    assert len(strips(place / "flat_manipulation" / "deep_z_viz.html")) == 2
    assert "pggan" in refused("manipulate", "flat.pth", "list.txt", "-N", 1)
    assert "no layers" in refused("manipulate", "flat.pth", "z.txt", "-N", 1, "--layerwise_manipulation")
    assert "pggan" in refused("manipulate", "flat.pth", "--mix_style", "-N", 2)
    (place / "boundaries" / "flat").mkdir()
    np.save(place / "boundaries" / "flat" / "deep_boundary.npy", direction("deep"))
    (place / "boundaries" / "flat" / "deep_boundary.json").write_text('{"space": "z"}')
    assert run("simple_manipulate", "flat.pth", "deep", "-N", 1) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "list.txt", "-N", 1), "nowhere"),
        (("tiny.pth", "list.txt"), "--num"),
        (("tiny.pth", "list.txt", "-N", -1), "--num"),
        (("tiny.pth", "list.txt", "-N", 1, "-S", 0), "--step"),
        (("tiny.pth", "list.txt", "-N", 1, "--fps", 0), "--fps"),
        (("tiny.pth", "list.txt", "-N", 1, "--row=-1"), "--row"),
        (("tiny.pth", "-N", 1), "boundary list"),
        (("tiny.pth", "list.txt", "-N", 2, "--interpolate"), "--interpolate"),
        (("tiny.pth", "-N", 2, "--interpolate", "--mix_style"), "--interpolate"),
        (("tiny.pth", "-N", 1, "--interpolate"), "2 samples"),
        (("tiny.pth", "missing.txt", "-N", 1), "missing.txt"),
        (("tiny.pth", "list.txt", "-N", 1, "--start_distance=nan"), "finite"),
        (("tiny.pth", "list.txt", "-N", 1, "--manipulate_layers=11-6"), "outside"),
        (("tiny.pth", "list.txt", "-N", 1, "--manipulate_layers=4-2"), "falls"),
        (("tiny.pth", "list.txt", "-N", 1, "--manipulate_layers=1-2-3"), "1-2-3"),
        (("tiny.pth", "list.txt", "-N", 1, "--manipulate_layers=1,,2"), "not a layer"),
        (("tiny.pth", "list.txt", "-N", 1, "--manipulate_layers=6"), "0-5"),
        (("tiny.pth", "list.txt", "-N", 1, "--condition", "nothing"), "lights"),
        (("tiny.pth", "all.txt", "-N", 1, "--combine"), "several spaces"),
        (("tiny.pth", "list.txt", "-N", 1, "--html_name=../x.html"), "--html_name"),
        (("tiny.pth", "list.txt", "-N", 1, "--generate_video", "--video_name=x.txt"), ".mp4"),
        (("tiny.pth", "list.txt", "-N", 5, "--generate_video", "--row=2", "--col=2"), "5 samples"),
        (("tiny.pth", "list.txt", "-c", "missing.npy"), "missing.npy"),
        (("tiny.pth", "list.txt", "-c", "tiny.pth"), "tiny.pth"),
        (("tiny.pth", "list.txt", "-c", "nan.npy", "--latent_space_type=w"), "NaN"),
        (("tiny.pth", "list.txt", "-c", "wide.npy"), "[N, 16]"),
        (("tiny.pth", "list.txt", "-c", "good.npy", "--latent_space_type=wp"), "wp"),
        (("tiny.pth", "wrong.txt", "-N", 1), "does not fit"),
        (("tiny.pth", "list.txt", "-N", 1, "-o", "tiny.pth/x"), "tiny.pth"),
        (("tiny.pth", "list.txt", "-N", 1, "--device=abacus"), "abacus"),
        (("tiny.pth", "list.txt", "-N", 1, "--device=cpu", "--precision=fp16"), "fp16"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input(place: Path, refused: Any, arguments: tuple[object, ...], says: str) -> None:
    np.save("good.npy", np.ones((2, 16), np.float32))
    np.save("nan.npy", np.full((2, 16), np.nan, np.float32))
    np.save("wide.npy", np.ones((2, 17), np.float32))
    np.save("wide_boundary.npy", direction("wide", (1, 20)))
    Path("wrong.txt").write_text("(wide, w): wide_boundary.npy\n")
    assert says in refused("manipulate", *arguments)


def test_simple_page(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("simple_manipulate", "tiny.pth", "lights") == 0
    assert "layers 2-3 (verified by re-scoring)" in capfd.readouterr().out
    folder = place / "manipulation_results"
    assert [strip.shape for strip in strips(folder / "tiny_lights.html")] == [(16, 5 * 16, 3)] * 10
    moved = np.load(folder / "tiny_lights_manipulated_wp.npy") - np.load(folder / "tiny_lights_wp.npy")[:, None]
    assert np.flatnonzero(np.abs(moved).sum(axis=(0, 1, 3))).tolist() == [2, 3]
    np.testing.assert_array_equal(np.load(folder / "tiny_lights_boundary.npy"), direction("lights"))


def test_simple_options(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save("codes.npy", np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32))
    options = (
        "-c",
        "codes.npy",
        "--latent_space_type=w",
        "-N",
        9,
        "-S",
        2,
        "--start_distance=0",
        "--end_distance=4",
        "--manipulate_layers=top",
        "--seed=3",
        "--device=cpu",
        "-o",
        "new/folder",
    )
    assert run("simple_manipulate", "tiny.pth", "wood", *options) == 0
    assert "layers 5 (asked for)" in capfd.readouterr().out
    moved = np.load("new/folder/tiny_wood_manipulated_wp.npy")
    origin = np.load("new/folder/tiny_wood_wp.npy")
    assert moved.shape == (2, 3, LAYERS, 16)
    np.testing.assert_array_equal(moved[:, 0], origin)
    np.testing.assert_allclose(moved[:, 2, 5] - origin[:, 5], 4 * PSI * np.repeat(direction("wood"), 2, 0), atol=1e-5)
    assert run("simple_manipulate", "tiny.pth", "wood", "-N", 1) == 0
    assert "layers 3-4 (the upper group)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tiny.pth", "colour"), "lights, view, wood"),
        (("tiny.pth", "../tiny/lights"), "lights, view, wood"),
        (("other.pth", "lights"), "other.pth"),
        (("tiny.pth", "lights", "-N", 0), "--num"),
        (("tiny.pth", "lights", "-S", 0), "steps"),
        (("tiny.pth", "lights", "--manipulate_layers=7"), "0-5"),
        (("tiny.pth", "deep", "--manipulate_layers=1"), "space z"),
        (("tiny.pth", "lights", "-c", "missing.npy"), "missing.npy"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_simple_bad_input(refused: Any, arguments: tuple[object, ...], says: str) -> None:
    assert says in refused("simple_manipulate", *arguments)


def test_unwritable_folder(place: Path, refused: Any) -> None:
    Path("manipulation_results").write_text("a file")
    assert "manipulation_results" in refused("simple_manipulate", "tiny.pth", "lights")


def test_the_same_command_writes_the_same_pictures(place: Path) -> None:
    torch.manual_seed(1)
    pages = []
    for _ in range(2):
        assert run("simple_manipulate", "tiny.pth", "lights", "-N", 2) == 0
        pages.append((place / "manipulation_results" / "tiny_lights.html").read_bytes())
        torch.manual_seed(2)
    assert pages[0] == pages[1]


def test_videos_that_cannot_be(refused: Any, place: Path) -> None:
    video = ("list.txt", "-N", "3", "-S", "3", "--generate_video", "--video_name=a.gif")
    for more, expected in (
        (("--fps=0",), "--fps is 0; expected 1 or more"),
        (("--viz_size=2048", "--col=1", "--row_spacing=8000"), "pixels; expected 16384 a side at most"),
        (("--row=1", "--col=2"), "--row 1 times --col 2 does not hold 3 samples; give one"),
    ):
        assert expected in refused("manipulate", "tiny.pth", *video, *more)
    with pytest.raises(HiganError, match="frames per second is 0; expected at least 1"):
        write_video(place / "a.gif", [np.zeros((4, 4, 3), np.uint8)], fps=0)
    assert not list(place.glob("**/*.gif"))


def test_a_video_of_one_row(manipulate: Any) -> None:
    folder = manipulate(
        "list.txt", "-N", 3, "-S", 3, "--generate_video", "--video_name=a.gif", "--row=1", "--col_spacing=2"
    )
    (video,) = folder.glob("*a.gif")
    assert Image.open(video).size == (3 * 16 + 2 * 2, 16)


def test_a_folder_without_boundaries(refused: Any, place: Path) -> None:
    for path in (place / "boundaries" / "tiny").iterdir():
        path.unlink()
    said = refused("simple_manipulate", "tiny.pth", "lights")
    assert "there is no boundary in boundaries/tiny; train some with train_boundary.py" in said


def test_conditions_are_found_by_the_names_of_the_list_first(manipulate: Any, place: Path) -> None:
    lines = ("(lights, w): boundaries/tiny/lights_boundary.npy", "(mine, w): boundaries/tiny/wood_boundary.npy")
    (place / "mine.txt").write_text("\n".join(lines))
    folder = manipulate("mine.txt", "-N", 1, "--condition", "mine")
    conditioned = np.load(folder / "lights_w_boundary.npy")
    assert abs(float(conditioned[0] @ direction("wood")[0])) < 1e-6
    np.testing.assert_array_equal(np.load(folder / "mine_w_boundary.npy"), direction("wood"))


def test_samples_by_their_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("manipulate", "tiny.pth", "list.txt", "-N", 9, "-o", "all") == 0
    assert run("manipulate", "tiny.pth", "list.txt", "--samples", "8,3", "--generate_html", "-o", "some") == 0
    assert run("manipulate", "tiny.pth", "list.txt", "-c", "all/w.npy", "--samples=8,3", "-o", "read") == 0
    every, some, read = (np.load(f"{folder}/w.npy") for folder in ("all", "some", "read"))
    np.testing.assert_allclose(some, every[[8, 3]], atol=1e-6)
    np.testing.assert_array_equal(read, every[[8, 3]])
    page = text_of(place / "some" / "lights_w_viz.html")
    assert "Sample 00008" in page and "Sample 00003" in page and "Sample 00000" not in page
    for bad in ("x", "", "-1", "3,3"):
        assert run("manipulate", "tiny.pth", "list.txt", f"--samples={bad}", "-o", "bad") == 2
    assert run("manipulate", "tiny.pth", "list.txt", "-c", "all/w.npy", "--samples=9", "-o", "bad") == 2
    assert run("manipulate", "tiny.pth", "--mix_style", "--samples=1,2", "-o", "bad") == 2
    assert "its 9 codes are numbered from 0" in capsys.readouterr().err


def test_every_script_ends_with_where_to_look(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = "--predictor_name=support.model:own_predictor"
    scored = ("tiny.pth", "-N", 24, "--generate_prediction", own, "-o", "s")
    trained = ("s/w.npy", "s/attribute.npy", "--score_name", "warmth", "-N", 8, "-o", "b")
    for script, arguments, last in (
        ("synthesize", scored, "s; the same command with --generate_html makes a page"),
        ("synthesize", (*scored, "--generate_html"), "s; open s/viz.html"),
        ("train_boundary", trained, "b; python rescore.py MODEL b/boundary_list.txt tells which of them the generator"),
        ("rescore", ("tiny.pth", "b", "-N", 2, own, "--write_layers", "--control=2", "-o", "r"), "open r/rescore.html"),
        ("manipulate", ("tiny.pth", "list.txt", "-N", 1, "-o", "m"), "m; --generate_html makes a page"),
        ("manipulate", ("tiny.pth", "two.txt", "-N", 1, "--generate_html", "-o", "m"),
         "m; open m/lights_w_viz.html (1 more in the folder)"),
        ("simple_manipulate", ("tiny.pth", "lights", "-N", 1), "open manipulation_results/tiny_lights.html"),
    ):  # fmt: skip
        assert run(script, *arguments) == 0
        line = capfd.readouterr().out.splitlines()[-1]
        assert "] written to " in line and last in line
