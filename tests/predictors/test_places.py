"""Parity of the scene predictor with numbers of the paper's program; see tests/golden/README.md for the weight rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import read_case, write_scene_files

from higan import load_predictor
from higan.errors import CheckpointError, HiganError
from higan.predictors.places import FILES, find_places, load_places, prepare, read_categories

CASE, EXPECTED = read_case("scene_predictor")


def make_image(index: int) -> np.ndarray:
    """Return image `index` of the case, uint8 [256, 256, 3]."""
    y, x, c = np.ogrid[:256, :256, :3]
    value = x * (2 + c + index) + y * (3 - c + 2 * index) + (x * y) // (32 + 16 * index) + 40 * c * index
    return ((value + 9 * (CASE["seed"] % 7)) % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files as they are published, in the form of before PyTorch 0.4.1."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scene")
    write_scene_files(folder, folder, [f"attribute {index}" for index in range(102)])
    return folder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    images = np.stack([make_image(0), make_image(1)])
    np.testing.assert_array_equal(images[:, :8, :8], EXPECTED["image_corner"])
    return torch.from_numpy(images)


def test_input_equals_the_reference(images: torch.Tensor) -> None:
    x = prepare(images, "pillow")
    np.testing.assert_allclose(x[:, :, :8, :8], EXPECTED["input_tensor_corner"], atol=1e-6)
    np.testing.assert_allclose(x.mean(dim=(2, 3)), EXPECTED["input_tensor_mean_per_channel"], atol=1e-5)


def test_scores_equal_the_reference(files: Path, images: torch.Tensor) -> None:
    # float32 rounding: a float64 run differs by 2e-7 and 1.5e-6 from the stored numbers
    scores = load_places(files).predict(images)
    np.testing.assert_allclose(scores["category"], EXPECTED["category"], atol=1e-5)
    np.testing.assert_allclose(scores["attribute"], EXPECTED["attribute"], atol=1e-4)


def test_resize_on_the_device_is_near(files: Path, images: torch.Tensor) -> None:
    # both resize antialiased with a triangle filter; Pillow computes in fixed point and rounds between its two passes
    scores = load_places(files, resize="device").predict(images)
    np.testing.assert_allclose(scores["category"], EXPECTED["category"], atol=1e-3)
    np.testing.assert_allclose(scores["attribute"], EXPECTED["attribute"], atol=2e-2)


def test_scores_can_be_differentiated(files: Path, images: torch.Tensor) -> None:
    predictor = load_places(files)
    floats = images[:1].float().requires_grad_(True)
    scores = predictor.score(floats)["attribute"]
    assert torch.allclose(scores, predictor.predict(images[:1])["attribute"], atol=1e-4)
    (gradient,) = torch.autograd.grad(scores[0, 0], floats)
    assert gradient.abs().amax(dim=(1, 2, 3)).gt(0).all() and gradient.isfinite().all()


def test_names(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGAN_MODELS", str(files))
    predictor = load_predictor("scene", device="cpu")
    assert predictor.names["category"][3] == "category3__indoor" and predictor.names["attribute"][7] == "attribute_7"


def test_a_category_belongs_to_its_index_not_to_its_line(files: Path, tmp_path: Path) -> None:
    lines = (files / FILES[2]).read_text().splitlines()
    (tmp_path / FILES[2]).write_text("\n".join(sorted(lines)))
    assert read_categories(tmp_path / FILES[2]) == [f"category{index}__indoor" for index in range(365)]


def test_folders_of_the_paper_s_programs(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, folder in zip(FILES, ("pretrain", "pretrain", "annotations", "annotations"), strict=True):
        (tmp_path / "predictors" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "predictors" / folder / file).symlink_to(files / file)
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path / "predictors"))
    assert find_places()[3] == tmp_path / "predictors" / "annotations" / FILES[3]
    monkeypatch.delenv("HIGAN_MODELS")
    monkeypatch.chdir(tmp_path)
    assert find_places()[0] == Path("predictors/pretrain") / FILES[0]


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / FILES[2]).write_text("")
    with pytest.raises(HiganError) as error:
        find_places(tmp_path)
    message = str(error.value)
    assert FILES[0] in message and FILES[3] in message and FILES[2] not in message and str(tmp_path) in message


def test_damaged_files_are_refused(files: Path, tmp_path: Path) -> None:
    for file in FILES:
        (tmp_path / file).symlink_to(files / file)

    def replace(file: str, content: bytes) -> None:
        (tmp_path / file).unlink()
        (tmp_path / file).write_bytes(content)

    replace(FILES[3], b"one\ntwo\n")
    with pytest.raises(CheckpointError, match="2 different names; expected 102"):
        load_places(tmp_path)
    replace(FILES[3], b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not a text file"):
        load_places(tmp_path)
    lines = (files / FILES[2]).read_text().splitlines()
    for line in (
        "/c/category0/indoor 1",
        "/c/category0/indoor 365",
        "/c/category0/indoor",
        "/c/ 0",
        "/c/category1/indoor 0",
    ):
        replace(FILES[2], "\n".join([*lines[1:], line]).encode())
        with pytest.raises(CheckpointError, match=r"one line `/letter/name INDEX` per index from 0 to 364|364 diff"):
            read_categories(tmp_path / FILES[2])
    replace(FILES[2], (files / FILES[2]).read_bytes())
    np.save(tmp_path / "matrix.npy", np.zeros((102, 511), np.float32))
    replace(FILES[1], (tmp_path / "matrix.npy").read_bytes())
    with pytest.raises(CheckpointError, match=r"expected floats \[102, 512\]"):
        load_places(tmp_path)
    for file in (FILES[1], FILES[3]):
        replace(file, (files / file).read_bytes())
    torch.save({"state_dict": {"module.fc.bias": torch.zeros(365)}}, tmp_path / "weights")
    replace(FILES[0], (tmp_path / "weights").read_bytes())
    with pytest.raises(CheckpointError, match="lacks"):
        load_places(tmp_path)
    replace(FILES[0], b"not weights")
    with pytest.raises(CheckpointError, match=FILES[0]):
        load_places(tmp_path)
    np.save(tmp_path / "matrix.npy", np.full((102, 512), np.nan, np.float32))
    replace(FILES[1], (tmp_path / "matrix.npy").read_bytes())
    with pytest.raises(CheckpointError, match=f"holds NaN or infinity; fetch {FILES[1]} again"):
        load_places(tmp_path)
    with pytest.raises(HiganError, match="unknown resize 'nearest'; expected one of pillow, device"):
        load_places(tmp_path, resize="nearest")


def test_damaged_weights_are_refused(files: Path, tmp_path: Path) -> None:
    for file in FILES[1:]:
        (tmp_path / file).symlink_to(files / file)
    state = torch.load(files / FILES[0], weights_only=True)["state_dict"]
    for content, words in (
        ({"epoch": 90}, "it holds no tensors; expected the state dict of a network"),
        (
            {"state_dict": state | {"module.other": torch.zeros(1)}},
            r"expected wideresnet18_places365.pth.tar as it is published, has 1 tensors",
        ),
        ({"state_dict": state | {"module.fc.bias": torch.zeros(364)}}, r"fc.bias is \[364\]; expected \[365\]"),
        ({"state_dict": state | {"module.fc.bias": torch.full((365,), torch.nan)}}, "fc.bias holds NaN or infinity"),
    ):
        torch.save(content, tmp_path / FILES[0])
        with pytest.raises(CheckpointError, match=words):
            load_places(tmp_path)
