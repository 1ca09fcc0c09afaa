"""Weight files that can be read and hold no network: each is refused for what it is."""

from __future__ import annotations

import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_files import network_pickle, saved
from support.golden import GOLDEN, case_checkpoint, read_case, rule_tensors

from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.checkpoints.networks import find_networks
from higan.checkpoints.pickles import unpickling
from higan.errors import CheckpointError
from higan.generators import build_network
from higan.generators.generator import Generator
from higan.generators.stylegan2 import StyleGAN2

SETTINGS: dict[str, Any] = {"resolution": 8, "channels": {4: 4, 8: 4}, "z_dim": 6, "w_dim": 6, "mapping_layers": 2}
STATE = StyleGAN2(**SETTINGS).state_dict()
OWN: dict[str, Any] = {
    "format": "higan",
    "version": 1,
    "family": "stylegan2",
    "settings": {},
    "state_dict": dict(STATE),
}
NVLABS = rule_tensors(read_case("sg2ada_synthetic")[0]["state_dict"], 0)


def less(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in STATE.items() if key != name}


def tensorflow_pickle(network: dict[str, Any]) -> bytes:
    """The pickle of a network of the TensorFlow programs in that state."""
    module = types.ModuleType("tfutil")
    kind = type("Network", (), {"__module__": "tfutil"})
    module.Network = kind  # type: ignore[attr-defined]
    made = kind()
    vars(made).update(network)
    sys.modules["tfutil"] = module
    try:
        return pickle.dumps(made, protocol=4)
    finally:
        del sys.modules["tfutil"]


def variables() -> dict[str, np.ndarray]:
    """The variables in the stored TensorFlow file of a StyleGAN2."""
    _, _, network = unpickling.read_objects(GOLDEN / "tf_stylegan2_tiny16.pkl")
    return {name: value.numpy() for name, value in find_networks(network, 10**9)[0].load().items()}


def with_variables(changes: dict[str, np.ndarray], **more: Any) -> bytes:
    return tensorflow_pickle({"variables": list((variables() | changes).items()), "static_kwargs": {}} | more)


def discriminator() -> bytes:
    return network_pickle(b"}").replace(b"\x8c\tGenerator", b"\x8c\rDiscriminator")


REFUSED = {
    "an empty tensor": (saved(OWN | {"state_dict": STATE | {"w_avg": torch.zeros(0)}}), r"w_avg is empty.*\[0\]"),
    "a discriminator": (discriminator(), "an object of class Discriminator; expected the weights of a generator"),
    "no state dict": (saved(OWN | {"state_dict": None}), r"state_dict \(an object of type NoneType\)"),
    "a setting below zero": (saved(OWN | {"settings": {"clamp": -1.0}}), r"clamp is -1\.0; expected a number from 0"),
    "a tensor for a setting": (saved(OWN | {"settings": {"lod": torch.zeros(2)}}), r"lod is a tensor of shape \[2\]"),
    "twenty thousand settings": (saved(OWN | {"settings": {"fused": [0] * 20_000}}), "more than [0-9]* settings"),
    "a setting of another family": (saved(OWN | {"settings": {"lod": 0}}), "does not fit together: .*lod"),
    "no first bias": (saved(OWN | {"state_dict": less("outputs.0.bias")}), "without the tensor .outputs.0.b"),
    "a dictionary of dictionaries": (saved({"a": {}, "b": 3}), r"a \(a dictionary of 0 entries\), b .*int"),
    "a network by another name": (
        b"\x80\x04}\x8c\x03net" + network_pickle(b"}")[2:-1] + b"s.",
        r"a dictionary of net \(an object of class Generator\)",
    ),
    "parameters in a list": (network_pickle(b"}\x8c\x0b_parameters]Nas"), "_parameters is no dictionary"),
    "an unknown tensor of NVlabs'": (saved(NVLABS | {"synthesis.b4.extra": torch.zeros(3)}), "'synthesis.b4.extra'"),
    "a network of the Theano program": (tensorflow_pickle({"param_values": []}), "of the Theano program"),
    "a TensorFlow network without variables": (tensorflow_pickle({"variables": None}), "without its list of variables"),
    "TensorFlow variables without names": (tensorflow_pickle({"variables": [("a",)]}), "list of variables is damaged"),
    "an unknown TensorFlow variable": (with_variables({"4x4/Extra/weight": np.zeros(3)}), "'4x4/Extra/weight'"),
    "a TensorFlow variable of three dimensions": (
        with_variables({"4x4/Conv/weight": np.zeros((3, 3, 3))}),
        r"shape \[3, 3, 3\]; expected 4 dimensions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        build_network(read_checkpoint(tmp_path / "weights"))


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_the_only_output_of_a_tensorflow_stylegan2(architecture: str, tmp_path: Path) -> None:
    """It is called after its resolution there, and is the first of the list here."""
    skip = case_checkpoint(read_case("stylegan2_tiny16")[0])
    arrays = {name: value for name, value in variables().items() if "ToRGB" not in name or name.startswith("16x16")}
    if architecture == "resnet":
        widths = [len(skip.state_dict[f"layers.{layer}.bias"]) for layer in (0, 2, 4)]
        for size, before, after in zip((8, 16), widths, widths[1:], strict=False):
            arrays[f"{size}x{size}/Skip/weight"] = np.ones((1, 1, before, after), np.float32)
    content = {"variables": list(arrays.items()), "static_kwargs": {"architecture": architecture}}
    (tmp_path / "weights.pkl").write_bytes(tensorflow_pickle(content))
    found = read_checkpoint(tmp_path / "weights.pkl")
    assert found.settings["architecture"] == architecture
    assert [name for name in found.state_dict if name.startswith("outputs.1")] == []
    for part in ("weight", "bias", "style.weight", "style.bias"):
        assert torch.equal(found.state_dict[f"outputs.0.{part}"], skip.state_dict[f"outputs.2.{part}"])
    model = Generator(build_network(found), "tiny")
    assert model.synthesize(model.sample(2, seed=0), "z").shape == (2, 16, 16, 3)


def test_a_network_that_is_too_large_for_its_file_costs_no_memory(tmp_path: Path) -> None:
    row = io.BytesIO()
    torch.save({"layer0.conv.weight": torch.zeros(1), "output0.conv.weight": torch.zeros(1).expand(2**40)}, row)
    (tmp_path / "weights").write_bytes(row.getvalue())
    with pytest.raises(CheckpointError, match="does not fit into its storage"):
        read_checkpoint(tmp_path / "weights")


def test_half_written_weights_are_not_left(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_checkpoint(tmp_path / "nowhere" / "own.pth", "stylegan2", STATE, {})
    assert not list(tmp_path.iterdir())
