"""Pages: whole, self-contained, escaped, within their size, and the pictures those that went in."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.model import SETTINGS
from support.pages import make_rescoring, make_rows

from higan import report
from higan.errors import HiganError
from higan.generators.generator import Generator
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors.predictor import LEVELS
from higan.report import describe_origin, step_headings, write_grid_page, write_manipulation_page, write_rescoring_page
from higan.report import page as shared
from higan.report.manipulation import format_signed, mean_change

HOSTILE = '<script>alert("1")</script>&\'"'
VOID = {"meta", "link", "img", "input", "br", "wbr", "path", "circle"}


class Document(HTMLParser):
    """Elements with their attributes, visible text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def read(path: Path) -> Document:
    document = Document(path.read_text(encoding="utf-8"))
    assert document.open == []
    for tag, attributes in document.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), f"<{tag}> fetches {attributes[name]}"
        assert not any(name.startswith("on") for name in attributes), f"<{tag}> runs script"
    assert [tag for tag, _ in document.elements].count("script") == 1
    assert "@import" not in path.read_text() and "url(" not in path.read_text()
    return document


def pictures(document: Document) -> list[np.ndarray]:
    sources = [attributes["src"] for tag, attributes in document.elements if tag == "img" and attributes.get("src")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in sources if source]


def write_samples(path: Path, rows: np.ndarray, **options: object) -> Document:
    headings, origin = step_headings(np.linspace(-3, 3, rows.shape[1]))
    settings = {"num": len(rows), "title": "lights", "origin": origin} | options
    write_manipulation_page(path, iter(rows), headings, **settings)  # type: ignore[arg-type]
    return read(path)


def test_manipulation_page_holds_the_pictures(tmp_path: Path) -> None:
    rows = make_rows(3, 5, 32)
    found = pictures(write_samples(tmp_path / "page.html", rows))
    assert len(found) == 3
    for strip, row in zip(found, rows, strict=True):
        assert strip.shape == (32, 5 * 32, 3)
        difference = np.abs(strip.reshape(32, 5, 32, 3).transpose(1, 0, 2, 3).astype(int) - row)
        assert difference.mean() < 2


def test_page_is_a_table_without_script(tmp_path: Path) -> None:
    document = write_samples(tmp_path / "page.html", make_rows(2, 3, 16), details={"Seed": "7"})
    text = " ".join(" ".join(document.text).split())
    for expected in ("Sample 00000", "Sample 00001", "−3", "Origin", "+3", "Seed", "7"):
        assert expected in text
    heads = [attributes for tag, attributes in document.elements if tag == "th"]
    assert all(attributes.get("scope") in ("row", "col") for attributes in heads)
    assert all(attributes.get("alt") for tag, attributes in document.elements if tag == "img")


def test_names_are_text_never_markup(tmp_path: Path) -> None:
    rows = make_rows(1, 3, 16)
    texts = {"title": HOSTILE, "summary": HOSTILE, "names": [HOSTILE], "stem": HOSTILE, "details": {HOSTILE: HOSTILE}}
    document = write_samples(tmp_path / "page.html", rows, **texts)
    assert "".join(document.text).count(HOSTILE) == 6  # page title, heading, summary, name, detail and its value
    write_grid_page(tmp_path / "grid.html", rows[:, 0], num=1, title=HOSTILE, names=[HOSTILE], details={"a": HOSTILE})
    assert "".join(read(tmp_path / "grid.html").text).count(HOSTILE) == 4
    write_rescoring_page(tmp_path / "rescoring.html", make_rescoring(name=HOSTILE))
    assert HOSTILE in "".join(read(tmp_path / "rescoring.html").text)


def test_the_policy_lets_only_our_script_run(tmp_path: Path) -> None:
    document = write_samples(tmp_path / "page.html", make_rows(1, 3, 16))
    policies = [a["content"] for tag, a in document.elements if tag == "meta" and a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0] is not None
    assert "default-src 'none'" in policies[0]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", policies[0])


def test_grid_page(tmp_path: Path) -> None:
    images = make_rows(7, 1, 24)[:, 0]
    write_grid_page(tmp_path / "grid.html", images, num=7, title="samples", columns=3, size=12, total=900)
    document = read(tmp_path / "grid.html")
    assert [picture.shape for picture in pictures(document)] == [(12, 12, 3)] * 7
    assert "The first 7 of 900 samples." in "".join(document.text)


def test_rescoring_page(tmp_path: Path) -> None:
    write_rescoring_page(tmp_path / "page.html", make_rescoring())
    text = " ".join(" ".join(read(tmp_path / "page.html").text).split())
    for expected in (
        "2 obeyed, 1 not told from chance, 1 not obeyed.",
        "boundary0 layout is obeyed at layers 0–1: ",
        "boundary1 object could not be told from chance: ",
        "boundary3 color is not obeyed: ",
        "Ranking",
        "Layer by layer",
        "Levels",
        "Pictures",
        "What else moved",
        "Layer swap",
        "Image change",
        "layout",
        "boundary0",
        "not told apart",
        "random directions",
        "Seed",
        "Distance",
        "1 file boundary0.npy, SHA-256 5e",
    ):
        assert expected.lower() in text.lower()


def test_pictures_of_rescoring_come_in_the_order_of_the_levels(tmp_path: Path) -> None:
    rescoring = make_rescoring()
    for direction, level in zip(rescoring.directions, reversed(LEVELS), strict=True):
        direction.level = level
    write_rescoring_page(tmp_path / "page.html", rescoring)
    section = (tmp_path / "page.html").read_text().split('id="pictures"')[1].split("</section>")[0]
    assert re.findall("level-([a-z]+)", section) == list(LEVELS)


def test_folders_beside_that_cannot_be_looked_into_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp there are some of other users."""
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError
        return is_file(path)

    (tmp_path / "closed").mkdir()
    (tmp_path / "rescore").mkdir()
    monkeypatch.setattr(Path, "is_file", closed)
    write_rescoring_page(tmp_path / "rescore" / "page.html", make_rescoring())


def test_the_rescoring_page_answers_first(tmp_path: Path) -> None:
    """Answers stand before tables and link to their row, pictures and edits; gaps have no outline."""
    (tmp_path / "manipulation").mkdir()
    (tmp_path / "manipulation" / "boundary2_w_viz.html").write_text("")
    (tmp_path / "rescore").mkdir()
    rescoring = make_rescoring()
    rescoring.directions[0].chosen = (0, 2)
    write_rescoring_page(tmp_path / "rescore" / "page.html", rescoring)
    text = (tmp_path / "rescore" / "page.html").read_text()
    sections = re.findall(r'<section id="([a-z]+)"', text)
    assert sections[:3] == ["answer", "pictures", "ranking"]
    links = re.findall(r'href="([^"#][^"]*viz.html)"', text)
    assert links == ["../manipulation/boundary2_w_viz.html"]
    anchors = set(re.findall(r'href="#([a-z]+-\d)"', text))
    assert anchors == {f"{place}-{index}" for place in ("row", "pictures") for index in range(4)}
    assert anchors <= set(re.findall(r'id="([a-z]+-\d)"', text))
    layers = text.split('id="layers"')[1].split("</section>")[0].split("<tbody>")[1]
    first = next(row for row in layers.split("<tr>") if "boundary0" in row)
    outlined = ["marked" in cell for cell in re.findall(r'<td class="heat([^"]*)"', first)]
    assert outlined == [True, False, True, False, False, False]
    assert "a random direction passes 0.20 with chance 1e-4" in first
    frames = re.findall(r'class="frame" style="--step:(\d)"', text)
    assert frames == ["3", "5", "5"]


def test_rescoring_page_of_the_least(tmp_path: Path) -> None:
    write_rescoring_page(tmp_path / "page.html", make_rescoring(layers=0, control=0, swap=False))
    text = "".join(read(tmp_path / "page.html").text)
    assert "Ranking" in text
    assert "Layer swap" not in text
    assert "nan" not in text.lower()


def test_rescoring_page_of_many_outputs(tmp_path: Path) -> None:
    write_rescoring_page(tmp_path / "page.html", make_rescoring(outputs=467))
    assert (tmp_path / "page.html").stat().st_size < 2_000_000
    assert "scores that moved less are left out" in "".join(read(tmp_path / "page.html").text)


def test_pictures_give_up_quality_before_size(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 3, 64, 64, 3), dtype=np.uint8)
    full, encoding, shape = shared.encode_rows(iter(noise), 6)
    assert (encoding, shape) == (shared.ENCODINGS[0], (64, 64))
    total = sum(map(len, full)) * 4 / 3
    coarser, encoding, shape = shared.encode_rows(iter(noise), 6, budget=int(total * 0.6))
    assert shape == (64, 64)
    assert encoding.quality < 95
    assert sum(map(len, coarser)) * 4 / 3 <= total * 0.6
    smaller, encoding, shape = shared.encode_rows(iter(noise), 6, budget=int(total * 0.05))
    assert shape[0] < 64
    assert sum(map(len, smaller)) * 4 / 3 <= total * 0.05


def test_busy_rows_after_plain_ones_still_fit() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (8, 2, 64, 64, 3), dtype=np.uint8)
    rows[:4] = 128
    files, _, _ = shared.encode_rows(iter(rows), 8, budget=40_000)
    assert sum(map(len, files)) * 4 / 3 <= 40_000


def test_reduced_pages_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "MAX_WIDTH", 100)
    document = write_samples(tmp_path / "page.html", make_rows(2, 5, 32))
    assert pictures(document)[0].shape[1] <= 100
    assert "reduced from 32 × 32 to 16 × 16" in "".join(document.text)
    assert "reduced" not in "".join(write_samples(tmp_path / "page.html", make_rows(2, 3, 32)).text)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((0, 3, 8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8, 3), np.float32), np.zeros((1, 3, 8, 8), np.uint8)],
)
def test_wrong_pictures_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(HiganError):
        write_samples(tmp_path / "page.html", rows)


def test_a_page_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> object:
        yield make_rows(1, 3, 16)[0]
        raise RuntimeError("out of power")

    (tmp_path / "page.html").write_text("before")
    headings, origin = step_headings([-1, 0, 1])
    with pytest.raises(RuntimeError):
        write_manipulation_page(tmp_path / "page.html", broken(), headings, num=2, title="x", origin=origin)  # type: ignore[arg-type]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    with pytest.raises(HiganError, match=r"page\.html is no folder"):
        write_samples(tmp_path / "page.html" / "x.html", make_rows(1, 3, 16))


def test_headings() -> None:
    headings, origin = step_headings([-3, -1.5, 0, 1.5, 3])
    assert origin == 2
    assert headings == ["−3", "−1.5", "Origin", "+1.5", "+3"]
    away, origin = step_headings([1, 2, 3])
    assert (origin, away[0]) == (0, "+1")
    assert [format_signed(value) for value in (0.125, -1e-9, 10, -10.0)] == ["+0.12", "0", "+10", "−10"]


def test_change_is_the_mean_over_the_other_steps() -> None:
    row = np.zeros((3, 4, 4, 3), np.uint8)
    row[0], row[2] = 10, 30
    assert mean_change(row, 1) == 20
    assert mean_change(row[:1], 0) == 0


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours #rrggbb (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_has_contrast(theme: str) -> None:
    block = shared.read_static("page.css").split(theme)[1].split("}")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for text in ("ink", "soft", "accent", "layout", "object", "attribute", "color"):
        for ground in ("paper", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["track"], colours["card"]) >= 1.8


def test_rows_of_a_page_have_one_shape(tmp_path: Path) -> None:
    rows = [*make_rows(5, 2, 16), *make_rows(1, 3, 16)]
    with pytest.raises(HiganError, match="one shape"):
        write_manipulation_page(tmp_path / "a.html", rows, step_headings([0, 1])[0], num=6, title="a", origin=0)
    assert not list(tmp_path.iterdir())


def test_a_page_says_how_codes_were_truncated() -> None:
    torch.manual_seed(0)
    network = StyleGAN2(**SETTINGS)
    truncated = Generator(network, "tiny", truncation_psi=0.5, truncation_layers=4)
    assert describe_origin(truncated)["Truncation"] == "psi 0.5 on the first 4 layers"
    assert describe_origin(Generator(network, "tiny"))["Truncation"] == "none"
    assert "Weights (SHA-256)" not in describe_origin(truncated)


def test_a_grid_takes_what_it_is_not_told_from_the_number_of_pictures() -> None:
    assert report.grid_size(10, rows=3) == (10, 4)
    assert report.grid_size(10, rows=2, columns=3) == (6, 3)
    assert report.grid_size(10, columns=3) == (10, 3)


def test_a_page_of_directions_without_scores_and_pictures(tmp_path: Path) -> None:
    rescoring = make_rescoring()
    rescoring.strips = rescoring.strips[:0]
    rescoring.directions = tuple(replace(direction, named=False) for direction in rescoring.directions)
    write_rescoring_page(tmp_path / "page.html", rescoring)
    text = (tmp_path / "page.html").read_text()
    assert "4 directions without a score." in text and 'id="pictures"' not in text
