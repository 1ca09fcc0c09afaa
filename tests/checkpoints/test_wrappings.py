"""The same network in every wrapping that programs put around it, and that the average over the training is chosen."""

from __future__ import annotations

import argparse
import collections
import io
import pathlib
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, further_tensors, read_case, rule_tensors
from torch import Tensor, nn

from higan.checkpoints import Checkpoint, read_checkpoint
from higan.checkpoints.formats import genforce, nvlabs
from higan.checkpoints.networks import StoredNetwork, plain_arguments
from higan.errors import CheckpointError
from higan.generators import build_network, load_generator

STATE = further_tensors(read_case("sg3sg2_r16")[0])
OTHER = {key: value + 1 for key, value in STATE.items()}
TRAINED = "no average over the training is in the file"


def read(content: object, path: Path, new: bool = True) -> Checkpoint:
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return read_checkpoint(path)


def agree(found: Checkpoint, expected: Checkpoint) -> bool:
    return found.family == expected.family and all(
        torch.equal(value, found.state_dict[name]) for name, value in expected.state_dict.items()
    )


@pytest.fixture(scope="module")
def expected() -> Checkpoint:
    state_dict, settings = nvlabs.convert_tensors(dict(STATE), {})
    return Checkpoint("nvlabs", "stylegan2", settings, state_dict)


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


WRAPPINGS: dict[str, Any] = {
    "bare": STATE,
    "an ordered dictionary": collections.OrderedDict(STATE),
    "DataParallel": prefixed("module."),
    "G_ema": {"G": OTHER, "G_ema": STATE, "D": {}},
    "G_ema, first": {"G_ema": STATE, "G": OTHER},
    "G_ema of DataParallel": {"G": prefixed("module.", OTHER), "G_ema": prefixed("module.")},
    "models": {"models": {"generator": OTHER, "generator_smooth": STATE}, "optimizers": {}},
    "Lightning": {"state_dict": prefixed("G_ema.") | prefixed("G.", OTHER), "epoch": 1, "callbacks": {}},
    "Lightning, two parts": {"state_dict": prefixed("model.generator_ema.") | prefixed("model.generator.", OTHER)},
    "a namespace beside it": {"args": argparse.Namespace(size=16), "g": OTHER, "g_ema": STATE},
    "a path and a device": {"path": pathlib.PurePosixPath("/data"), "device": torch.device("cpu"), "g_ema": STATE},
    "default dictionaries": {"callbacks": collections.defaultdict(list, a=[1]), "ema": STATE},
    "keys that are no texts": {1: {(2, "a"): None, None: {1.5}, b"x": 0, torch.float32: 1}, "ema": STATE},
    "frozen sets and tuples": {"a": frozenset([(1, "b"), b"c"]), "ema": STATE},
    "tensors of other types": {"a": torch.zeros(3, dtype=torch.complex64), "ema": STATE},
    "an optimiser": {"g_ema": STATE, "g_optim": torch.optim.Adam([nn.Parameter(torch.zeros(3))]).state_dict()},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrappings(name: str, expected: Checkpoint, tmp_path: Path) -> None:
    for new in (True, False) if name != "tensors of other types" else (True,):
        found = read(WRAPPINGS[name], tmp_path / "file.pt", new)
        assert agree(found, expected)
        assert found.notes == []


@pytest.mark.parametrize("name", ["g", "generator", "netG"])
def test_a_network_that_is_no_average_is_used_with_a_note(name: str, expected: Checkpoint, tmp_path: Path) -> None:
    found = read({name: STATE, "d": {}}, tmp_path / "file.pt")
    assert agree(found, expected)
    assert found.notes == [f"{TRAINED}: {name} is used as it is"]


class Node(nn.Module):
    """A module of a class that the reader cannot know, with tensors and attributes."""


def module(state: dict[str, Tensor], attributes: dict[str, Any] | None = None) -> Node:
    """A tree of modules whose state dict is `state`; `attributes` are set on every layer."""
    top = Node()
    for name, value in state.items():
        node: nn.Module = top
        *path, last = name.split(".")
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = dict(node.named_children())[part]
        if "noise_const" in name:
            node.register_buffer(last, value)
        else:
            node.register_parameter(last, nn.Parameter(value))
    for name, node in top.named_modules():
        if name.endswith(("conv0", "conv1", "torgb")):
            vars(node).update(attributes or {})
    return top


@pytest.mark.parametrize("new", [True, False])
def test_whole_modules(new: bool, expected: Checkpoint, tmp_path: Path) -> None:
    """As PTI saves them; also inside of another module, and the one that is an average among several."""
    made, other = module(STATE, {"conv_clamp": np.float64(256)}), module(OTHER)
    wrapped = Node()
    wrapped.add_module("module", made)
    for content in (made, wrapped, {"G_ema": made, "G": other}, {"G": other, "G_ema": wrapped}):
        found = read(content, tmp_path / "model.pt", new)
        assert agree(found, expected)
        assert found.settings["clamp"] == 256
        build_network(found)


def test_clamps_of_the_layers(tmp_path: Path) -> None:
    assert "clamp" not in read(module(STATE, {"conv_clamp": None}), tmp_path / "none.pt").settings
    made = module(STATE, {"conv_clamp": 256})
    made.synthesis.b8.conv1.conv_clamp = 128
    with pytest.raises(CheckpointError, match=r"several values of conv_clamp: \['128', '256'\]"):
        read(made, tmp_path / "two.pt")


def test_the_stylegan2_of_the_stylegan3_program() -> None:
    """Its conv_clamp of 256 is a default of the constructor, which only the layers' attributes tell."""
    description, arrays = read_case("sg3sg2_r16")
    path = GOLDEN / "sg3sg2_r16.pkl"
    checkpoint = read_checkpoint(path)
    state_dict, settings = nvlabs.convert_tensors(further_tensors(description), {})
    assert agree(checkpoint, Checkpoint("nvlabs", "stylegan2", settings, state_dict))
    assert checkpoint.settings["clamp"] == 256
    generator = load_generator(path, truncation_psi=1.0)
    w = generator.map(arrays["z"])
    assert np.abs(w.numpy() - arrays["w"]).max() <= 2e-5
    for key, psi in (("image", 1.0), ("image_psi0.7", 0.7)):
        generator.truncation_psi, generator.truncation_layers = psi, generator.num_layers
        wp = generator.broadcast(w)
        assert np.abs(wp.numpy() - arrays[key.replace("image", "wp")]).max() <= 2e-5
        assert np.abs(generator.render(wp).numpy() - arrays[key]).max() <= 5e-5
    images = generator.render(torch.from_numpy(arrays["wp_random"]))
    assert np.abs(images.numpy() - arrays["image_wp_random"]).max() <= 5e-5


@pytest.fixture
def tensorflow() -> Iterator[Any]:
    """Makes networks of the TensorFlow programs, whose class exists only as a name that a pickle can hold."""
    place = types.ModuleType("dnnlib.tflib.network")
    place.Network = type("Network", (), {"__module__": place.__name__})  # type: ignore[attr-defined]
    sys.modules |= {name: types.ModuleType(name) for name in ("dnnlib", "dnnlib.tflib")} | {place.__name__: place}
    stored = pickle.loads((GOLDEN / "tf_stylegan2_tiny16.pkl").read_bytes())[2]

    def make(add: float = 0.0, **arguments: object) -> Any:
        network = place.Network()  # type: ignore[attr-defined]
        vars(network).update(vars(stored) | {"static_kwargs": vars(stored)["static_kwargs"] | arguments})
        shifted = [(name, value + np.float32(add)) for name, value in vars(stored)["variables"]]
        vars(network)["variables"] = shifted
        return network

    yield make
    for name in ("dnnlib", "dnnlib.tflib", place.__name__):
        del sys.modules[name]


def test_tensorflow_containers(tensorflow: Any, tmp_path: Path) -> None:
    expected = read_checkpoint(GOLDEN / "tf_stylegan2_tiny16.pkl")
    average, trained = tensorflow(), tensorflow(add=1.0)
    for content in (
        average,
        (trained, trained, average),
        [trained, trained, average],
        {"Gs": average, "G": trained, "D": None},
        {"G": trained, "D": trained, "Gs": average},
        (trained, trained, trained, average),  # E, G, D, Gs
    ):
        (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
        assert agree(read_checkpoint(tmp_path / "file.pkl"), expected)


def test_tensorflow_arguments(tensorflow: Any, tmp_path: Path) -> None:
    """conv_clamp is stylegan2-ada's; what changes nothing here does not matter; numpy's numbers count as numbers."""
    arguments = {"conv_clamp": np.float64(256), "resolution_w": 16, "randomize_noise": True, "func": np.zeros((3, 3))}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(tensorflow(**arguments, label_size=np.int64(0))))
    checkpoint = read_checkpoint(tmp_path / "file.pkl")
    assert checkpoint.settings["clamp"] == 256
    assert isinstance(checkpoint.settings["clamp"], float)
    build_network(checkpoint)
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(tensorflow(label_size=np.int64(10))))
    with pytest.raises(CheckpointError, match="trained with label_size 10"):
        read_checkpoint(tmp_path / "file.pkl")


def test_tensorflow_networks_that_are_not_square(tensorflow: Any, tmp_path: Path) -> None:
    """eps696/stylegan2 widens constant and noise (init_res) and keeps every name."""
    network = tensorflow()
    synthesis = vars(network)["components"]["synthesis"]
    wide = ("4x4/Const/const", *(f"noise{layer}" for layer in range(5)))
    vars(synthesis)["variables"] = [
        (name, np.concatenate([value, value[..., : value.shape[3] // 2]], axis=3) if name in wide else value)
        for name, value in vars(synthesis)["variables"]
    ]

    def write(size: object) -> Path:
        vars(network)["static_kwargs"] = vars(network)["static_kwargs"] | {"init_res": [4, 6], "size": size}
        (tmp_path / "wide.pkl").write_bytes(pickle.dumps((network, network, network)))
        return tmp_path / "wide.pkl"

    for size in (None, [16, 24]):
        generator = load_generator(write(size))
        assert generator.image_size == (16, 24)
        assert generator.synthesize(generator.sample(1, 0), "z").shape == (1, 16, 24, 3)
    with pytest.raises(CheckpointError, match=r"size \[18, 24\]; supported: \[16, 24\]"):
        read_checkpoint(write([18, 24]))


def test_plain_arguments() -> None:
    """What is no plain value is left out; lists are kept as long as a filter is."""
    values = {"a": 1, "b": [1, 3, 3, 1], "c": object(), "d": [[1]], "j": [0] * 99}
    values["e"] = {"f": "x", "g": {"h": {"i": 1}}}
    assert plain_arguments(values) == {"a": 1, "b": [1, 3, 3, 1], "e": {"f": "x", "g": {"h": {}}}}


@pytest.mark.parametrize(("name", "average"), [("g_ema", True), ("EMA_model", True), ("Gs", True), ("gsub", None)])
def test_names_of_averages(name: str, average: bool | None) -> None:
    assert StoredNetwork({}, path=("state_dict", name)).averaged is average
    assert StoredNetwork({}, path=("generator", "decoder")).averaged is False


ZOO = {
    "pggan": {".conv.weight": ".weight", ".wscale.bias": ".bias"},
    "stylegan": {
        ".fc.weight": ".weight",
        ".wscale.bias": ".bias",
        ".conv.weight": ".weight",
        ".epilogue.style_mod.dense": ".style",
        ".epilogue": "",
    },
    "stylegan2": {".fc.weight": ".weight"},
}


@pytest.mark.parametrize("family", ZOO)
def test_the_zoo_of_genforce(family: str, tmp_path: Path) -> None:
    """The same network under the older names and, smoothed, in the zoo's file and in a training checkpoint."""
    description, _ = read_case(f"{family}_tiny16")
    older = rule_tensors(description["state_dict"], description["seed"], description.get("overrides"))
    newer = {}
    for key, value in older.items():
        if family == "stylegan2" and value.ndim == 4 and key.endswith(".weight"):
            value = value.permute(3, 2, 0, 1).contiguous()
        for before, after in ZOO[family].items():
            key = key.replace(before, after)
        newer[key] = value
    state_dict, settings = genforce.convert_tensors(family, older)
    others = {key: value + 1 for key, value in newer.items()}
    zoo = {"generator": others, "discriminator": {"input0.weight": torch.zeros(3)}, "generator_smooth": newer}
    for content in (newer, zoo, {"models": zoo, "running_metadata": {"iter": 5}}):
        found = read(content, tmp_path / "file.pth")
        assert found.format == "genforce"
        assert agree(found, Checkpoint("genforce", family, settings, state_dict))
        assert found.settings == settings
        assert found.notes == []
        build_network(found)


def test_fused_layers_of_the_zoo_s_stylegan(tmp_path: Path) -> None:
    """From 128x128 on, the program's default: the file does not tell."""
    state = {f"synthesis.layer{layer}.weight": torch.ones(4, 4, 3, 3) for layer in range(1, 14)}
    state["synthesis.layer0.apply_noise.weight"] = torch.ones(4)
    assert read(state, tmp_path / "file.pth").settings["fused"] == (128, 256)


def test_only_what_is_small_enough_is_walked_through(tmp_path: Path) -> None:
    """A thousand dictionaries are looked at, four deep."""
    content: dict[str, Any] = {"g_ema": STATE}
    for _ in range(5):
        content = {"a": content}
    with pytest.raises(CheckpointError, match="a dictionary of a"):
        read(content, tmp_path / "deep.pt")
    with pytest.raises(CheckpointError, match="a dictionary of 0"):
        read({str(index): {} for index in range(2000)} | {"g_ema": STATE}, tmp_path / "wide.pt")


def test_a_module_in_itself(tmp_path: Path) -> None:
    file = io.BytesIO()
    node: Any = module(STATE)
    node._modules["again"] = node
    torch.save({"G_ema": node}, file)
    (tmp_path / "file.pt").write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match="nested in a way"):
        read_checkpoint(tmp_path / "file.pt")
