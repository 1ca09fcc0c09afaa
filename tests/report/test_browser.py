"""The pages in a browser: what moves the picture, what is saved, how they look at every width."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pages import make_rescoring, make_rows

from higan.report import (
    step_headings,
    write_grid_page,
    write_manipulation_page,
    write_mixing_page,
    write_rescoring_page,
)
from higan.report.manipulation import Axis, pad_headings

SAMPLES, STEPS, SIZE = 6, 5, 32
ORIGIN = 2
HOSTILE = "<script>alert(1)</script>"
Visit = Callable[..., Any]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three pages, filled with small pictures; the first sample's name is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    rows = make_rows(SAMPLES, STEPS, SIZE)
    rows[4] = rows[4, ORIGIN]  # a sample that does not change
    headings, origin = step_headings(np.linspace(-3, 3, STEPS))
    paths = {name: folder / f"{name}.html" for name in ("manipulation", "grid", "rescoring")}
    write_manipulation_page(
        paths["manipulation"], iter(rows), headings, num=SAMPLES, title=f"lights {HOSTILE}", origin=origin,
        names=[HOSTILE, *(f"Sample {index:05d}" for index in range(1, SAMPLES))], stem="lights_w",
        details={"Command": f"manipulate.py {HOSTILE}"},
    )  # fmt: skip
    write_grid_page(
        paths["grid"], rows[:, 0], num=SAMPLES, title="samples", stem="rooms",
        names=[HOSTILE, *(f"{index:05d}" for index in range(1, SAMPLES))],
    )  # fmt: skip
    write_rescoring_page(paths["rescoring"], make_rescoring(name=HOSTILE))
    return paths


@pytest.fixture(scope="session")
def pad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two samples and two boundaries, of 3 and 2 steps."""
    path = tmp_path_factory.mktemp("pad") / "pad.html"
    axes = Axis("warm walls", ["−1", "Origin", "+1"], 1), Axis("window", ["Origin", "+2"], 0)
    headings, origin = pad_headings(*axes)
    write_manipulation_page(path, make_rows(2, 6, SIZE), headings, num=2, title="pad", origin=origin, pad=axes)
    return path


@pytest.mark.parametrize("width", [390, 1280])
def test_two_boundaries_are_a_pad(visit: Visit, pad: Path, width: int) -> None:
    page = visit(pad, width=width, height=900)
    across, down = (slider(page, 0).nth(axis) for axis in (0, 1))
    assert step_of(page, 0) == 1 and across.get_attribute("aria-label") == "Sample 00000: warm walls"
    down.focus()
    page.keyboard.press("ArrowRight")
    across.focus()
    page.keyboard.press("ArrowLeft")
    assert step_of(page, 0) == 3 and step_of(page, 1) == 1
    assert card(page, 0).locator(".badge").text_content() == "warm walls −1, window +2"
    assert (across.get_attribute("aria-valuetext"), down.get_attribute("aria-valuetext")) == ("−1", "+2")
    picture = make_rows(2, 6, SIZE)[0, 3, SIZE // 2, SIZE // 2].astype(int)
    assert np.abs(middle(page, 0) - picture).max() <= 4
    strip = card(page, 0).locator(".strip")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    page.mouse.down()
    assert step_of(page, 0) == 5
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.up()
    assert step_of(page, 0) == 1
    page.locator(".master .slider").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert steps_of(page) == [4, 4] and page.locator("#all-reading").text_content() == "warm walls 0, window +2"
    name, content = saved(page, lambda: card(page, 0).locator(".save-picture").click())
    assert name == "pad_00000_004.png" and Image.open(io.BytesIO(content)).size == (SIZE, SIZE)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_pad_plays_along_one_boundary_after_the_other(visit: Visit, pad: Path) -> None:
    page = visit(pad, reduced_motion="no-preference")
    for step in (2, 0, 4):
        page.wait_for_function("step => document.querySelector('canvas').dataset.step === String(step)", arg=step)


@pytest.mark.parametrize("width", [390, 1280])
def test_styles_and_contents_are_a_matrix(visit: Visit, tmp_path: Path, width: int) -> None:
    path = tmp_path / "mixing.html"
    write_mixing_page(path, make_rows(3, 4, SIZE), 3, "Style mixing", "3 samples")
    page = visit(path, width=width)
    assert page.locator("thead th").all_text_contents() == ["Content", "Content", "Style 0", "Style 1", "Style 2"]
    image = page.locator("tbody img").nth(1)
    box = image.bounding_box()
    image.click(position={"x": box["width"] * 0.6, "y": box["height"] / 2})
    assert page.locator(".viewer-name").text_content() == "Content 1, Style 1, and the content with this style"
    assert page.locator(".viewer canvas").evaluate("(canvas) => canvas.width / canvas.height") == 3
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    style = np.asarray(Image.open(io.BytesIO(strips(path)[0])), int)[SIZE // 2, SIZE + SIZE // 2]
    assert np.abs(style - make_rows(3, 4, SIZE)[1, 0, SIZE // 2, SIZE // 2]).max() <= 4


@pytest.fixture
def samples(visit: Visit, pages: dict[str, Path]) -> Any:
    return visit(pages["manipulation"])


def card(page: Any, sample: int) -> Any:
    return page.locator(f'.samples tbody tr[data-index="{sample}"]')


def step_of(page: Any, sample: int) -> int:
    """Return the step that a sample's picture shows."""
    return int(card(page, sample).locator("canvas").get_attribute("data-step"))


def steps_of(page: Any) -> list[int]:
    code = "all => all.map((canvas) => canvas.dataset.step)"
    return [int(step) for step in page.eval_on_selector_all("canvas", code)]


def middle(page: Any, sample: int) -> np.ndarray:
    """Return the colour in the middle of a sample's picture."""
    code = """(canvas) => {
      const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
      return [...copy.getImageData(0, 0, 1, 1).data];
    }"""
    return np.array(card(page, sample).locator("canvas").evaluate(code)[:3])


def expected(sample: int, step: int) -> np.ndarray:
    return make_rows(SAMPLES, STEPS, SIZE)[sample, step, SIZE // 2, SIZE // 2].astype(int)


def slider(page: Any, sample: int) -> Any:
    return card(page, sample).locator("input[type=range]")


def strips(path: Path) -> list[bytes]:
    """Return the JPEG files in a page."""
    return [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", path.read_text())]


def saved(page: Any, click: Callable[[], None]) -> tuple[str, bytes]:
    """Return name and content of what a click saves."""
    with page.expect_download() as download:
        click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_pictures_start_at_the_origin(samples: Any) -> None:
    assert steps_of(samples) == [ORIGIN] * SAMPLES
    for sample in (0, 1):
        assert np.abs(middle(samples, sample) - expected(sample, ORIGIN)).max() <= 4


def test_keys_on_a_slider_move_its_picture(samples: Any) -> None:
    slider(samples, 1).focus()
    for key, step in (("Right", 3), ("Right", 4), ("Right", 4), ("Left", 3)):
        samples.keyboard.press(f"Arrow{key}")
        assert step_of(samples, 1) == step
        assert np.abs(middle(samples, 1) - expected(1, step)).max() <= 4
    for key, step in (("Home", 0), ("End", 4)):
        samples.keyboard.press(key)
        assert step_of(samples, 1) == step
        assert np.abs(middle(samples, 1) - expected(1, step)).max() <= 4
    assert slider(samples, 1).get_attribute("aria-valuetext") == "+3"
    assert card(samples, 1).locator("canvas").get_attribute("aria-label") == "Sample 00001 at +3"
    assert step_of(samples, 0) == ORIGIN


def test_pointer_on_a_slider_moves_its_picture(samples: Any) -> None:
    box = slider(samples, 1).bounding_box()
    samples.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    samples.mouse.down()
    samples.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2, steps=4)
    samples.mouse.up()
    assert step_of(samples, 1) == 0
    assert np.abs(middle(samples, 1) - expected(1, 0)).max() <= 4


def test_the_row_of_steps_and_the_picture_take_the_pointer(samples: Any) -> None:
    strip = card(samples, 1).locator(".strip")
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 0.9, "y": box["height"] / 2})
    assert step_of(samples, 1) == 4
    stage = card(samples, 1).locator(".stage").bounding_box()
    samples.mouse.move(stage["x"] + stage["width"] * 0.9, stage["y"] + 20)
    samples.mouse.down()
    samples.mouse.move(stage["x"] + stage["width"] * 0.3, stage["y"] + 20, steps=5)
    samples.mouse.up()
    assert step_of(samples, 1) == 1


def test_touch(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["manipulation"], width=390, height=844, has_touch=True, is_mobile=True)
    strip = card(page, 0).locator(".strip")
    box = strip.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.1, box["y"] + box["height"] / 2)
    assert step_of(page, 0) == 0
    knob = slider(page, 0).bounding_box()
    page.touchscreen.tap(knob["x"] + knob["width"] - 4, knob["y"] + knob["height"] / 2)
    assert step_of(page, 0) == 4


def test_one_slider_moves_all(samples: Any) -> None:
    samples.locator(".master .slider").focus()
    samples.keyboard.press("End")
    assert steps_of(samples) == [4] * SAMPLES
    assert samples.locator("#all-reading").text_content() == "+3"
    samples.keyboard.press("ArrowLeft")
    assert steps_of(samples) == [3] * SAMPLES


def test_the_steps_play(visit: Visit, pages: dict[str, Path]) -> None:
    samples = visit(pages["manipulation"], reduced_motion="no-preference")
    samples.locator("#play").click()
    card(samples, 0).locator('canvas:not([data-step="2"])').wait_for()
    samples.locator("#play").click()
    assert samples.locator("#play").get_attribute("aria-pressed") == "false"


def test_origin_is_shown_while_held(samples: Any) -> None:
    slider(samples, 1).focus()
    samples.keyboard.press("End")
    hold = card(samples, 1).locator(".hold")
    box = hold.bounding_box()
    samples.mouse.move(box["x"] + 5, box["y"] + 5)
    samples.mouse.down()
    assert step_of(samples, 1) == ORIGIN
    samples.mouse.up()
    assert step_of(samples, 1) == 4
    hold.focus()
    samples.keyboard.down("Space")
    assert step_of(samples, 1) == ORIGIN
    samples.keyboard.up("Space")
    assert step_of(samples, 1) == 4
    stage = card(samples, 1).locator(".stage").bounding_box()
    samples.mouse.move(stage["x"] + 20, stage["y"] + 20)
    samples.mouse.down()
    card(samples, 1).locator(f'canvas[data-step="{ORIGIN}"]').wait_for()
    samples.mouse.up()
    assert step_of(samples, 1) == 4


def test_origin_is_shown_everywhere(samples: Any) -> None:
    samples.locator(".master .slider").focus()
    samples.keyboard.press("End")
    samples.keyboard.down("o")
    assert steps_of(samples) == [ORIGIN] * SAMPLES
    samples.keyboard.up("o")
    assert steps_of(samples) == [4] * SAMPLES
    samples.locator("#compare").click()
    assert samples.locator("#compare").get_attribute("aria-pressed") == "true"
    assert steps_of(samples) == [ORIGIN] * SAMPLES
    assert np.abs(middle(samples, 1) - expected(1, ORIGIN)).max() <= 4


def order(page: Any) -> list[int]:
    return [
        int(index)
        for index in page.eval_on_selector_all(
            ".samples tbody tr:not([hidden])", "all => all.map((row) => row.dataset.index)"
        )
    ]


def test_sort_and_filter(samples: Any) -> None:
    samples.locator("#sort").select_option("change")
    assert order(samples)[0] == 4
    samples.locator("#sort").select_option("-change")
    assert order(samples)[-1] == 4
    samples.locator("#sort").select_option("index")
    assert order(samples) == list(range(SAMPLES))
    samples.locator("#filter").fill("0003")
    assert order(samples) == [3]
    assert samples.locator("#tally").text_content() == f"1 of {SAMPLES} samples"
    samples.locator("#filter").fill("none of these")
    assert samples.locator("#nothing").is_visible()
    samples.locator("#filter").fill("")
    card(samples, 2).locator(".star").click()
    samples.locator("#starred").click()
    assert order(samples) == [2]


def test_sizes(samples: Any) -> None:
    widths = {}
    for size in ("small", "medium", "large", "rows"):
        samples.locator(f'input[name="size"][value="{size}"]').check(force=True)
        widths[size] = card(samples, 0).bounding_box()["width"]
        assert samples.evaluate("document.documentElement.scrollWidth") <= 1280
    assert widths["small"] < widths["medium"] < widths["large"] < widths["rows"]
    assert card(samples, 0).locator(".strip").bounding_box()["width"] > widths["rows"] / 2


def test_saved_row_is_the_file_in_the_page(samples: Any, pages: dict[str, Path]) -> None:
    name, content = saved(samples, card(samples, 3).locator(".save-row").click)
    assert name == "lights_w_00003.jpg"
    assert content == strips(pages["manipulation"])[3]


def test_saved_picture_is_the_step_shown(samples: Any, pages: dict[str, Path]) -> None:
    slider(samples, 3).focus()
    samples.keyboard.press("End")
    name, content = saved(samples, card(samples, 3).locator(".save-picture").click)
    assert name == "lights_w_00003_004.png"
    strip = np.asarray(Image.open(io.BytesIO(strips(pages["manipulation"])[3])))
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert picture.shape == (SIZE, SIZE, 3)
    # two JPEG decoders may round a level apart
    assert np.abs(picture.astype(int) - strip[:, 4 * SIZE :]).max() <= 3


def test_names_stay_text(samples: Any) -> None:
    assert samples.locator("h1").text_content() == f"lights {HOSTILE}"
    assert card(samples, 0).locator("th").text_content().startswith(HOSTILE)
    assert slider(samples, 0).get_attribute("aria-label") == f"{HOSTILE}: step"
    assert samples.locator("script").count() == 1
    assert HOSTILE in samples.locator(".colophon").text_content()


def test_without_script_it_is_a_table(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["manipulation"], java_script_enabled=False)
    assert page.locator("thead th").all_inner_texts()[1:3] == ["−3", "−1.5"]
    assert page.locator(".strip img").count() == SAMPLES
    assert page.locator(".strip img").first.bounding_box()["width"] > 900
    assert not page.locator(".toolbar").is_visible()
    assert not page.locator("canvas").count()


def test_theme(visit: Visit, pages: dict[str, Path]) -> None:
    def brightness(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    for scheme, bright in (("light", True), ("dark", False)):
        page = visit(pages["manipulation"], color_scheme=scheme)
        assert (brightness(page) > 380) is bright
        page.locator(".theme").click()
        assert (brightness(page) > 380) is not bright
        page.locator(".theme").click()
        assert (brightness(page) > 380) is bright


@pytest.mark.parametrize("name", ["manipulation", "grid", "rescoring"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_or_lacks_a_name(visit: Visit, pages: dict[str, Path], name: str, width: int) -> None:
    page = visit(pages[name], width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, img:not(.viewer img), [role=group]")]
        .filter((item) => !(item.getAttribute("aria-label") || item.getAttribute("alt") || item.textContent.trim()
                            || (item.labels && item.labels.length && item.labels[0].textContent.trim())))
        .map((item) => item.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input:not([name=size])")]
        .filter((item) => item.offsetParent && !item.closest("th") && item.getBoundingClientRect().height < 28)
        .map((item) => item.outerHTML.slice(0, 120))"""
    )
    assert small == []


def test_focus_is_seen(samples: Any) -> None:
    for _ in range(3):
        samples.keyboard.press("Tab")
    outline = samples.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_page_opens_with_one_sweep(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["manipulation"], reduced_motion="no-preference")
    # The page itself notes where the slider is: asked from outside, a busy machine misses a step.
    note = "seen.push(document.querySelector('.master .slider')?.value)"
    page.add_init_script(f"window.seen = []; setInterval(() => {note}, 5)")
    page.reload()
    told = "path => seen.reduce((at, value) => at + (value === path[at]), 0) === path.length"
    page.wait_for_function(told, arg=[str(step) for step in (STEPS - 1, 0, ORIGIN)])
    page.wait_for_timeout(500)
    assert steps_of(page) == [ORIGIN] * SAMPLES


def test_a_touch_ends_the_sweep(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["manipulation"], reduced_motion="no-preference")
    slider(page, 1).focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(600)
    assert step_of(page, 1) == 0


def test_stars_outlive_the_page_and_are_told_as_numbers(samples: Any) -> None:
    for sample in (4, 1):
        card(samples, sample).locator(".star").click()
    assert samples.locator("#numbers").text_content() == "--samples=1,4"
    samples.reload()
    assert samples.locator("#numbers").text_content() == "--samples=1,4"
    assert card(samples, 4).locator(".star").get_attribute("aria-pressed") == "true"
    card(samples, 4).locator(".star").click()
    assert samples.locator("#numbers").text_content() == "--samples=1"


def test_reduced_motion(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["manipulation"], reduced_motion="reduce")
    assert not page.locator("#play").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.chip')).transitionDuration") in ("0s", "")


@pytest.mark.parametrize("name", ["manipulation", "grid", "rescoring"])
def test_paper_is_wide_enough(visit: Visit, pages: dict[str, Path], name: str) -> None:
    page = visit(pages[name], width=760)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 760


def test_on_paper_it_is_a_table(samples: Any) -> None:
    samples.emulate_media(media="print")
    assert not samples.locator(".toolbar").is_visible()
    assert not samples.locator(".stage").first.is_visible()
    assert samples.locator(".strip img").first.is_visible()
    assert samples.locator("thead th").nth(1).is_visible()


def test_grid(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["grid"])
    page.locator(".grid img").nth(1).focus()
    page.keyboard.press("Enter")
    viewer = page.locator(".viewer")
    assert viewer.is_visible()
    assert page.locator(".viewer-name").text_content() == "00001"
    page.keyboard.press("ArrowRight")
    assert page.locator(".viewer-name").text_content() == "00002"
    name, content = saved(page, page.locator("[data-save]").click)
    assert name == "rooms_000002.jpg"
    assert content == strips(pages["grid"])[2]
    page.locator("[data-turn='-1']").click()
    page.locator("[data-turn='-1']").click()
    assert page.locator(".viewer-name").text_content() == HOSTILE
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    page.locator("#find").fill("0000")
    assert page.locator("#tally").text_content() == f"{SAMPLES - 1} of {SAMPLES} pictures"
    page.locator('input[name="size"][value="large"]').check(force=True)
    assert page.locator(".grid li:not([hidden])").first.bounding_box()["width"] >= 280


def test_rescoring_tables_sort(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["rescoring"])
    values = "all => all.map((cell) => Number(cell.dataset.value))"
    head = page.locator("#layers thead th").nth(2)
    for way in ("descending", "ascending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        found = page.eval_on_selector_all("#layers tbody td:nth-child(3)", values)
        assert found == sorted(found, reverse=way == "descending")
    page.locator("#ranking thead th").first.locator("button").click()
    names = page.locator("#ranking tbody th span:first-child").all_text_contents()
    assert names == sorted(names, key=str.lower)
    assert HOSTILE in names


def test_a_picture_of_rescoring_is_enlarged(visit: Visit, pages: dict[str, Path]) -> None:
    page = visit(pages["rescoring"])
    picture = page.locator(".pictures img").first
    picture.focus()
    page.keyboard.press("Enter")
    assert page.locator(".viewer-name").text_content() == f"{HOSTILE}: Origin and Chosen layers"
    assert page.locator(".viewer canvas").evaluate("canvas => canvas.width === 2 * canvas.height")
    page.locator(".viewer [data-close]").click()
    assert not page.locator(".viewer").evaluate("viewer => viewer.open")
    box = picture.bounding_box()
    assert box is not None
    picture.click(position={"x": box["width"] - 4, "y": 4})
    assert str(page.locator(".viewer-name").text_content()).endswith("Layer 5")
