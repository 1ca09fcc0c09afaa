"""The predictor `text` on a tiny CLIP of random weights, against transformers' own forward pass and preprocessing."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.clip import write_clip

import higan.predictors
from higan import available_predictors, load_predictor
from higan.errors import CheckpointError, HiganError
from higan.predictors.preprocessing import Preprocessing
from higan.predictors.text import Prompt, load_text, parse_prompts, read_preprocessing

PHRASES = ("a dark bedroom", "a bright bedroom", "a wooden floor")
TEXT = "light=a dark bedroom|a bright bedroom;a wooden floor"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("models") / "clip-tiny")


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clip, tmp_path / "clip-copy")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def reference(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """Return the logits [N, P] that transformers' own program gives of prepared pictures and `PHRASES`."""
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(list(PHRASES), padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(pixel_values=pixels, **tokens).logits_per_image


def edit(path: Path, **changes: Any) -> None:
    """Change or (with None) remove entries of a JSON file."""
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def test_scores_equal_the_reference(clip: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    predictor = load_predictor(f"text={clip}:{TEXT}", device="cpu")
    assert predictor.names == {"attribute": ["light", "a_wooden_floor"]}
    logits = reference(clip, read_preprocessing(clip)(images))
    scale = load_file(clip / "model.safetensors")["logit_scale"].exp()
    scores = predictor.predict(images)["attribute"]
    # float32 rounding of cosines (1e-7) and of logits, which are about 14 times as large
    torch.testing.assert_close(scores[:, 0], logits[:, 1] - logits[:, 0], atol=2e-5, rtol=0)
    torch.testing.assert_close(scores[:, 1], logits[:, 2] / scale, atol=2e-6, rtol=0)
    assert scores.std(dim=0).min() > 1e-3


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (48, 80), (80, 48), (20, 33)])
def test_preprocessing_is_that_of_transformers(clip: Path, shape: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    ramp = torch.arange(shape[0] * shape[1] * 3).reshape(1, *shape, 3)
    pictures = (ramp * 7 % 256 if shape == (32, 32) else ramp * 255 // ramp.max()).to(torch.uint8)
    expected = CLIPImageProcessorPil.from_pretrained(clip)(list(pictures.numpy()), return_tensors="pt").pixel_values
    found = read_preprocessing(clip)(pictures)
    # Pillow rounds after each of its two passes: at most one grey level of 255, divided by the smallest std
    torch.testing.assert_close(found, expected, atol=1e-5 if shape == (32, 32) else 1.01 / 255 / 0.26, rtol=0)
    assert (found - expected).abs().mean() < 0.5 / 255 / 0.26


def test_a_picture_smaller_than_the_crop_gets_a_border() -> None:
    prepare = Preprocessing(None, crop=(6, 5), mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0)
    found = prepare(torch.full((1, 3, 3, 3), 9, dtype=torch.uint8))[0, 0]
    assert found.shape == (6, 5) and found[2:5, 1:4].eq(9).all() and found.sum() == 81


def test_scores_can_be_differentiated(clip: Path, images: torch.Tensor) -> None:
    predictor = load_text(TEXT, clip)
    floats = images.float().requires_grad_(True)
    scores = predictor.score(floats)["attribute"]
    torch.testing.assert_close(scores, predictor.predict(images)["attribute"].clone(), atol=1e-5, rtol=0)
    for column in range(2):
        (gradient,) = torch.autograd.grad(scores[:, column].sum(), floats, retain_graph=True)
        assert gradient.flatten(1).abs().amax(dim=1).gt(0).all()
    step = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    rise = predictor.score(floats.detach() + step)["attribute"] - scores.detach()
    torch.testing.assert_close(rise[:, 1], gradient.flatten(1).norm(dim=1), rtol=0.1, atol=1e-5)


def test_many_pictures_are_scored_a_few_at_a_time(clip: Path, images: torch.Tensor) -> None:
    predictor = load_text("a", clip)
    many = images.repeat(9, 1, 1, 1)
    torch.testing.assert_close(predictor.predict(many)["attribute"][-3:], predictor.predict(images)["attribute"])


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("a dark bedroom", [Prompt("a_dark_bedroom", "a dark bedroom")]),
        ("dark | bright!;;", [Prompt("dark_to_bright", "bright!", "dark")]),
        (
            "light = dark|bright; Ein Bücherregal",
            [Prompt("light", "bright", "dark"), Prompt("ein_bücherregal", "Ein Bücherregal")],
        ),
        ("2 + 2 = 4", [Prompt("2_2_4", "2 + 2 = 4")]),
    ],
)
def test_prompts(text: str, prompts: list[Prompt]) -> None:
    assert parse_prompts(text) == prompts


def test_prompts_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("# light\nlight=dark|bright\r\n\n  # more\na wooden floor; a bed\n")
    assert [prompt.name for prompt in parse_prompts("@prompts.txt")] == ["light", "a_wooden_floor", "a_bed"]
    Path("prompts.txt").write_bytes("\ufeff# of Windows' editor\r\na bed".encode())
    assert parse_prompts("@prompts.txt") == [Prompt("a_bed", "a bed")]
    Path("prompts.txt").write_bytes("\ufeffa bed".encode())
    assert parse_prompts("@prompts.txt") == [Prompt("a_bed", "a bed")]
    for content, words in (
        (b"", "prompts.txt holds no phrase"),
        (b"# only\n\n", "holds no phrase"),
        (b"\xff", "text file"),
    ):
        Path("prompts.txt").write_bytes(content)
        with pytest.raises(HiganError, match=words):
            parse_prompts("@prompts.txt")
    with pytest.raises(HiganError, match="the folder here cannot be read"):
        parse_prompts("@")
    for name in ("@missing.txt", "@", "@."):
        with pytest.raises(HiganError, match="cannot be read as a text file of phrases"):
            parse_prompts(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no phrase; expected them as in 'text:a dark bedroom"),
        (" ; ", "holds no phrase"),
        ("a|b|c", "is no phrase; expected `phrase`, `opposite|phrase` or `NAME=phrase`"),
        ("a|", "is no phrase"),
        ("|a", "is no phrase"),
        ("a|a", "is no phrase"),
        ("name=", "is no phrase"),
        ("a bed;A  bed", "'A  bed' would be the second score called 'a_bed'; give it a name: NAME=phrase"),
        ("x=a;x=b", "second score called 'x'"),
        ("?!", "makes no name of a file; give it a name"),
        ("a " * 90, "makes no name of a file; give it a name"),
    ],
)
def test_phrases_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(HiganError) as error:
        parse_prompts(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_only_model_is_found_others_are_named(clip: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGAN_MODELS", str(clip.parent))
    assert (
        load_predictor("text:a bed", device="cpu").sha256 == load_predictor(f"text={clip}:a bed", device="cpu").sha256
    )
    assert load_predictor("text:a bed", device="cpu").sha256 != load_predictor("text:x=a bed", device="cpu").sha256
    assert "text:PHRASES" in available_predictors()
    assert load_predictor("text=clip-tiny:a bed", device="cpu").name == "text=clip-tiny:a bed"
    with pytest.raises(HiganError, match="there is no CLIP model 'clip-big'; here: clip-tiny"):
        load_predictor("text=clip-big:a bed", device="cpu")
    shutil.copytree(clip, copy.parent / "second")
    monkeypatch.setenv("HIGAN_MODELS", str(copy.parent))
    with pytest.raises(HiganError, match=r"which CLIP model \(here: clip-copy, second\); expected text=FOLDER:phrases"):
        load_predictor("text:a bed", device="cpu")
    monkeypatch.setenv("HIGAN_MODELS", str(copy / "nothing"))
    with pytest.raises(HiganError, match="needs a CLIP model that transformers has saved"):
        load_predictor("text:a bed", device="cpu")
    assert "text:PHRASES" not in available_predictors()
    monkeypatch.setattr(higan.predictors.importlib.util, "find_spec", lambda _: None)
    assert "pip install 'higan[text]'" in higan.predictors.why_not("text")


def test_folders_that_are_no_model_are_refused(copy: Path) -> None:
    def check(words: str, match_all: type[HiganError] = CheckpointError) -> None:
        with pytest.raises(match_all, match=words) as error:
            load_text("a bed", copy)
        assert "\n" not in str(error.value) and str(copy) in str(error.value)

    files = {path: path.read_bytes() for path in copy.iterdir()}

    def restore() -> None:
        for path, content in files.items():
            path.write_bytes(content)

    (copy / "preprocessor_config.json").unlink()
    check("has no preprocessor_config.json")
    restore()
    for change, words in (
        ({"size": None}, "'size' is missing"),
        ({"resample": 1}, "1 is missing|resample"),
        ({"size": {"shortest_edge": 10**6}}, "a size of 1000000; expected 1 to 4096"),
        ({"crop_size": [1, 2, 3]}, r"a size of \[1, 2, 3\]"),
        ({"image_std": [0, 1, 1]}, "expected three numbers"),
        ({"image_processor": 3}, "expected what transformers saves"),
    ):
        edit(copy / "preprocessor_config.json", **change)
        check(words)
        restore()
    (copy / "tokenizer.json").unlink()
    check("has no tokenizer; expected tokenizer.json")
    (copy / "tokenizer.json").write_text("{}")
    check("its tokenizer cannot be used")
    restore()
    (copy / "model.safetensors").write_bytes(files[copy / "model.safetensors"][:-100])
    check("model.safetensors: .*")
    (copy / "model.safetensors").unlink()
    check("has no weights; expected model.safetensors or pytorch_model.bin")
    restore()
    tensors = load_file(copy / "model.safetensors")
    for changed, words in (
        ({key: tensors[key] for key in list(tensors)[1:]}, "lacks 1 tensors, logit_scale among them"),
        (tensors | {"more": torch.zeros(1)}, "has 1 tensors that the network has not, more among them"),
        (tensors | {"logit_scale": torch.zeros(2)}, r"logit_scale is \[2\]; expected \[\]"),
        (tensors | {"logit_scale": torch.tensor(torch.nan)}, "logit_scale holds NaN or infinity"),
    ):
        save_file(changed, copy / "model.safetensors")
        check(words)
    restore()
    config = json.loads(files[copy / "config.json"])
    for change, words in (
        ({"model_type": "bert"}, "a model of type 'bert'; expected one of clip, siglip"),
        ({"model_type": None}, "no config.json that tells a model's type"),
        ({"vision_config": config["vision_config"] | {"num_hidden_layers": 10**9}}, "num_hidden_layers is 1000000000"),
        ({"text_config": config["text_config"] | {"hidden_size": -1}}, "config.json makes no model"),
        ({"text_config": config["text_config"] | {"hidden_size": 10**7}}, r"expected \[10000000\]|10000000"),
        ({"vision_config": 3}, "config.json makes no model"),
    ):
        edit(copy / "config.json", **change)
        check(words)
        restore()
    (copy / "config.json").write_text("[1]")
    check("no config.json that tells")
    restore()
    edit(copy / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    (copy / "evil.py").write_text("raise SystemExit('the code of the folder was run')")
    load_text("a bed", copy)


def test_pictures_of_another_size_than_the_network_s(copy: Path, images: torch.Tensor) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"crop_size": {"height": 16, "width": 16}}))
    with pytest.raises(HiganError, match=r"failed \(ValueError: Input image size"):
        load_text("a bed", copy).predict(images)


def test_weights_of_other_programs(clip: Path, copy: Path, images: torch.Tensor) -> None:
    """PyTorch files, half precision, buffers that older versions kept, and weights in several parts."""
    expected = load_text(TEXT, clip).predict(images)["attribute"]
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors | {"text_model.embeddings.position_ids": torch.arange(24)}, copy / "pytorch_model.bin")
    assert torch.equal(load_text(TEXT, copy).predict(images)["attribute"], expected)
    (copy / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, members in parts.items():
        save_file({name: tensors[name].half() for name in members}, copy / file)
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file in parts for name in parts[file]}}))
    torch.testing.assert_close(load_text(TEXT, copy).predict(images)["attribute"], expected, atol=0.05, rtol=0)
    for content in ("{}", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": "c.safetensors"}}'):
        index.write_text(content)
        with pytest.raises(CheckpointError, match="names parts that are not beside it"):
            load_text(TEXT, copy)
    index.write_text("{")
    with pytest.raises(CheckpointError, match="is no JSON file"):
        load_text(TEXT, copy)


def test_phrases_longer_than_the_model_reads_are_refused(clip: Path) -> None:
    with pytest.raises(HiganError, match="has 31 tokens; clip-tiny reads 24: shorten it"):
        load_text("x=" + "a" * 29, clip)


def test_a_package_that_is_missing_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(HiganError, match=r"pip install 'higan\[text\]'"):
        load_text("a bed", clip)


def test_a_tokenizer_of_another_model_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    from higan.predictors.text import embed_phrases

    model = transformers.CLIPModel(transformers.CLIPConfig.from_pretrained(copy))
    model.config.text_config.vocab_size = 1
    with pytest.raises(CheckpointError, match="its tokenizer knows more tokens than the model"):
        embed_phrases(model, copy, ["a room"])
