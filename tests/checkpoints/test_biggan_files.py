"""BigGAN's files: folders with config.json, G_ema.pth and its settings; what is missing, foreign or hostile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.golden import GOLDEN, further_tensors, read_case

from higan import load_generator
from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.checkpoints.formats.biggan import doubling
from higan.errors import CheckpointError, HiganError
from higan.files import digest
from higan.generators import build_network
from higan.generators.biggan import BigGAN

CONFIG = json.loads((GOLDEN / "bigdeep_tiny32" / "config.json").read_text())
AJBROCK = GOLDEN / "biggan_aj_tiny32.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the huggingface folder that may be changed."""
    return Path(shutil.copytree(GOLDEN / "bigdeep_tiny32", tmp_path / "tiny32"))


def difference(found: torch.Tensor, expected: np.ndarray) -> float:
    return (found - torch.from_numpy(expected)).abs().max().item()


@pytest.mark.parametrize("name", ["bigdeep_tiny32", "bigdeep_tiny32/pytorch_model.bin"])
def test_folder(name: str) -> None:
    arrays = read_case("bigdeep_tiny32")[1]
    generator = load_generator(GOLDEN / name, truncation_psi=0.45, device="cpu")
    assert (generator.name, generator.family, generator.resolution) == ("bigdeep_tiny32", "biggan", 32)
    assert generator.sha256 == digest(
        *(GOLDEN / "bigdeep_tiny32" / file for file in ("pytorch_model.bin", "config.json"))
    )
    wp = generator.to_wp(arrays["z"], "z", torch.from_numpy(arrays["class_vector"]))
    assert difference(generator.render(wp), arrays["image_truncation0.45"]) <= 5e-5


def test_names_as_the_package_fetches_them(tmp_path: Path) -> None:
    for file in ("pytorch_model.bin", "config.json"):
        shutil.copy(GOLDEN / "bigdeep_tiny32" / file, tmp_path / f"biggan-deep-32-{file}")
    assert load_generator(tmp_path / "biggan-deep-32-pytorch_model.bin", device="cpu").name == "biggan-deep-32"


def test_folder_of_safetensors(folder: Path) -> None:
    expected = read_checkpoint(folder)
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    save_file(tensors, folder / "model.safetensors")
    found = read_checkpoint(folder)
    assert found.settings == expected.settings
    assert all(torch.equal(value, expected.state_dict[name]) for name, value in found.state_dict.items())
    assert load_generator(folder / "model.safetensors", device="cpu").name == "tiny32"


def test_state_dict_alone(caplog: pytest.LogCaptureFixture) -> None:
    arrays = read_case("biggan_aj_tiny32")[1]
    generator = load_generator(AJBROCK, device="cpu")
    assert "does not say BN_eps: taken to be 1e-05" in caplog.text
    wp = generator.to_wp(arrays["z"], "z", torch.from_numpy(arrays["label"]))
    assert difference(generator.render(wp), arrays["image"]) <= 5e-5


@pytest.mark.parametrize("name", ["bigdeep_tiny32", "biggan_aj_tiny32.pth"])
def test_weights_are_those_of_the_case(name: str) -> None:
    """What the tests of the networks make by rule is what the files hold."""
    from higan.checkpoints.formats.biggan import from_ajbrock, from_huggingface

    checkpoint = read_checkpoint(GOLDEN / name)
    description = read_case(name.removesuffix(".pth"))[0]
    convert: Any = from_ajbrock if name.endswith(".pth") else from_huggingface
    expected, settings = convert(further_tensors(description), description["settings"])
    assert checkpoint.settings == settings
    assert expected.keys() == checkpoint.state_dict.keys()
    for key, value in expected.items():
        assert torch.equal(checkpoint.state_dict[key], value), key


def test_own_format_keeps_the_pictures(tmp_path: Path) -> None:
    for name in ("bigdeep_tiny32", "biggan_aj_tiny32.pth"):
        checkpoint = read_checkpoint(GOLDEN / name)
        build_network(checkpoint)  # adds the settings that the tensors tell
        write_checkpoint(tmp_path / "own.pth", checkpoint.family, checkpoint.state_dict, checkpoint.settings)
        first, second = (
            load_generator(path, device="cpu", class_idx=1) for path in (GOLDEN / name, tmp_path / "own.pth")
        )
        z = first.sample(1, seed=0)
        assert torch.equal(first.synthesize(z, "z"), second.synthesize(z, "z"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "up"),
        ({"up": "yes"}, "4 blocks, and 3 answers"),
        ({"up": 3}, "does not fit together"),
        ({"up": [True] * 5}, "4 blocks, and 5 answers"),
        ({"up": [True] * 4, "epsilon": "small"}, "does not fit together"),
        ({"up": [True] * 4, "output_epsilon": None}, "does not fit together"),
        ({"up": [True] * 4, "class_names": ["a"]}, "1 names of 5 classes"),
        ({"up": [True] * 4, "class_names": [1, 2, 3, 4, 5]}, "expected a text for each"),
        ({"up": [True] * 4, "hair": 3}, "hair"),
    ],
)
def test_other_settings_of_the_own_format_are_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "own.pth", "biggan", read_checkpoint(GOLDEN / "bigdeep_tiny32").state_dict, settings)
    with pytest.raises(CheckpointError, match=words):
        load_generator(tmp_path / "own.pth", device="cpu")


def test_images_of_a_galaxy_are_refused() -> None:
    with pytest.raises(ValueError, match="65536 pixels a side; expected 4096 at most"):
        BigGAN([(8, 8)] * 14, [True] * 14, False, 4, 4, 2)


def test_settings_beside_the_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The training's own state_dict.pth tells them, a config.json of the user's comes first."""
    shutil.copy(AJBROCK, tmp_path / "G_ema.pth")
    torch.save(
        {"itr": 3, "config": {"BN_eps": 1e-3, "G_nl": "inplace_relu", "resolution": 32}}, tmp_path / "state_dict.pth"
    )
    assert read_checkpoint(tmp_path / "G_ema.pth").settings["epsilon"] == 1e-3
    assert load_generator(tmp_path, device="cpu").name == tmp_path.name
    assert "BN_eps" not in caplog.text
    (tmp_path / "config.json").write_text('{"BN_eps": 0.01}')
    assert read_checkpoint(tmp_path / "G_ema.pth").settings["epsilon"] == 0.01
    for settings, words in (
        ({"BN_eps": "small"}, "BN_eps is small"),
        ({"BN_eps": -1}, "BN_eps is -1"),
        ({"G_nl": "leaky_relu"}, "trained with G_nl 'leaky_relu'"),
        ({"resolution": 64}, "do not lead to the resolution 64"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(tmp_path / "G_ema.pth")


def test_names_of_classes(folder: Path) -> None:
    names = ["tench, Tinca tinca", "goldfish", "great white shark", "tiger shark", "hammerhead"]
    labels = {str(index): name for index, name in enumerate(names)}
    (folder / "config.json").write_text(changed(id2label=labels))
    generator = load_generator(folder, device="cpu", class_idx=["Goldfish", "tench, tinca tinca", "4"])
    assert generator.class_idx == [1, 0, 4]
    with pytest.raises(HiganError, match=r"class shark; .* has classes 0 to 4 \(close: tiger shark"):
        load_generator(folder, device="cpu", class_idx="shark")
    checkpoint = read_checkpoint(folder)
    write_checkpoint(folder / "own.pth", checkpoint.family, checkpoint.state_dict, checkpoint.settings)
    assert load_generator(folder / "own.pth", device="cpu", class_idx="hammerhead").class_idx == 4
    for bad in ({}, names, labels | {"2": 3}, labels | {"1": "a\nb"}, {"0": "tench"}):
        (folder / "config.json").write_text(changed(id2label=bad))
        with pytest.raises(CheckpointError, match="id2label does not name 5 classes"):
            read_checkpoint(folder)


def changed(**values: Any) -> str:
    config = CONFIG | values
    return json.dumps({key: value for key, value in config.items() if value is not None})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"eps": ' + "9" * 5000 + "}", "cannot be read"),
        ("[1, 2]", "holds a list"),
        (changed(eps=None), "eps is None; expected the float"),
        (changed(eps=float("nan")), "eps is nan"),
        (changed(eps=-1e-4), "eps is -0.0001"),
        (changed(eps="1e-4"), "eps is 1e-4"),
        (changed(layers=None), "layers is None"),
        (changed(layers=[[1, 16, 8]] * 4), r"layers holds \[1, 16, 8\]"),
        (changed(layers=[[True, 16, 8]] * 10**5), "layers holds"),
        (changed(layers=[]), "says 0 layers"),
        (changed(layers=[*CONFIG["layers"], [True, 1, 1]]), "says 5 layers"),
        (changed(layers=[[True, 16, 4], *CONFIG["layers"][1:]]), "has 64 to 32 channels"),
        (changed(attention_layer_position=1), "attention at 1"),
        (changed(attention_layer_position=True), "attention_layer_position is True"),
        (changed(n_stats=51), "says n_stats 51; the tensors say 6"),
        (changed(num_classes=6), "num_classes 6"),
        (changed(z_dim=128), "z_dim 128"),
        (changed(channel_width=10**30), "channels"),
        (changed(output_dim=64), "output_dim 64; the tensors say 32"),
    ],
)
def test_other_settings_are_refused(config: str, words: str, folder: Path) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=words) as error:
        load_generator(folder, device="cpu")
    assert len(str(error.value)) < 600 + len(str(folder)) and "\n" not in str(error.value)


def test_missing_files(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"without its config\.json"):
        load_generator(folder, device="cpu")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(HiganError, match="is a folder without weights"):
        load_generator(folder, device="cpu")
    with pytest.raises(CheckpointError, match=r"a folder without weights; expected pytorch_model\.bin"):
        read_checkpoint(folder)


Change = Callable[[dict[str, torch.Tensor]], Any]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("generator.bn.weight"), "without the tensor 'generator.bn.weight'"),
        (lambda t: t.pop("generator.layers.0.conv_1.weight_u"), "without the tensor"),
        (lambda t: t.update(extra=torch.zeros(3)), "unknown tensor 'extra'"),
        (lambda t: t.update({"generator.layers.0.conv_1.weight_u": torch.zeros(3)}), "damaged"),
        (lambda t: t.update({"generator.layers.0.conv_1.weight_v": torch.zeros(144)}), "NaN or infinity"),
        (lambda t: t.update({"generator.layers.0.conv_1.bias": torch.zeros(5)}), r"convolutions\.1\.bias"),
        (lambda t: t.update({"generator.bn.running_vars": torch.full((6, 4), torch.nan)}), "NaN"),
        (lambda t: t.update({"embeddings.weight": torch.zeros(10, 0)}), "num_classes"),
        (lambda t: t.update({"generator.layers.99.conv_1.bias": torch.zeros(5)}), "layers"),
    ],
)
def test_other_tensors_are_refused(change: Change, words: str, folder: Path) -> None:
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    change(tensors)
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=words):
        load_generator(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("shared.weight"), "does not fit together"),
        (lambda t: t.pop("blocks.1.0.conv_sc.bias"), "without the tensor"),
        (lambda t: t.update({"blocks.3.0.conv1.bias": torch.zeros(24)}), "without the tensor"),
        (lambda t: t.update({"linear.weight": torch.ones(384, 6)}), "fit together"),
        (lambda t: t.update({"linear.u0": torch.zeros(1, 384)}), "NaN"),
        (lambda t: t.update({"extra.weight": torch.zeros(3)}), "unknown tensor"),
    ],
)
def test_other_tensors_of_ajbrock_are_refused(change: Change, words: str, tmp_path: Path) -> None:
    tensors = torch.load(AJBROCK, weights_only=True)
    change(tensors)
    torch.save(tensors, tmp_path / "G_ema.pth")
    with pytest.raises(CheckpointError, match=words):
        load_generator(tmp_path / "G_ema.pth", device="cpu")


def test_stages_of_the_deep_network() -> None:
    assert doubling([(4, 4)] * 6, {}) == [False, True] * 3
    assert doubling([(4, 4)] * 3, {}) == [True] * 3
    assert doubling([(16, 16), (16, 16), (16, 16), (16, 8), (8, 8), (8, 4)], {}) == [False, True] * 3
    assert doubling([(4, 4)] * 6, {"G_depth": 1}) == [True] * 6
    for sizes, depth in (([(4, 4)] * 6, 4), ([(8, 4), (4, 4)], 2), ([(4, 4)] * 6, "2"), ([(4, 4)] * 2, None)):
        with pytest.raises(CheckpointError, match="no stages of"):
            doubling(sizes, {} if depth is None else {"G_depth": depth})
