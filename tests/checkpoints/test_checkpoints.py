"""Every format gives the same state dict, bit for bit, and the project's own format keeps it."""

from __future__ import annotations

import io
import json
import math
import pickle
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, case_checkpoint, digest, read_case, rule_checkpoint, rule_tensors

from higan.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from higan.checkpoints.formats import genforce, nvlabs, tensorflow
from higan.checkpoints.networks import find_networks
from higan.checkpoints.pickles import unpickling
from higan.errors import CheckpointError
from higan.generators import build_network

FILES = {
    "tf_pggan_tiny16.pkl": ("tensorflow", "pggan_tiny16"),
    "tf_stylegan_tiny16.pkl": ("tensorflow", "stylegan_tiny16"),
    "tf_stylegan2_tiny16.pkl": ("tensorflow", "stylegan2_tiny16"),
    "sg2ada_synthetic.pkl": ("nvlabs", "sg2ada_synthetic"),
    "stylegan2_tiny16.pth": ("genforce", "stylegan2_tiny16"),
    "pggan_tiny16_oldformat.pth": ("genforce", "pggan_tiny16"),
}


def same(first: Checkpoint, second: Checkpoint) -> bool:
    return (
        first.family == second.family
        and first.settings == second.settings
        and first.state_dict.keys() == second.state_dict.keys()
        and all(torch.equal(value, second.state_dict[name]) for name, value in first.state_dict.items())
    )


@pytest.mark.parametrize("name", FILES)
def test_formats_agree_exactly(name: str, tmp_path: Path) -> None:
    kind, case = FILES[name]
    expected = case_checkpoint(read_case(case)[0])
    renamed = tmp_path / "weights.zip"  # the name tells nothing
    renamed.write_bytes((GOLDEN / name).read_bytes())
    found = read_checkpoint(renamed)
    assert found.format == kind
    assert same(found, expected)
    for value in found.state_dict.values():
        assert value.dtype == torch.float32
        assert value.is_contiguous()
    build_network(found)


@pytest.mark.parametrize("name", ["stylegan2_tiny16.pth", "pggan_tiny16_oldformat.pth"])
def test_file_tensors_have_the_stored_digest(name: str) -> None:
    stored = unpickling.read_objects(GOLDEN / name)
    tensors = {key: value.load() for key, value in stored.items()}
    description, _ = read_case(FILES[name][1])
    assert digest(tensors) == description["state_dict_sha256"]
    reference = torch.load(GOLDEN / name, weights_only=True)
    assert all(torch.equal(tensors[key], value) for key, value in reference.items())


def test_nvlabs_tensors_have_the_stored_digest() -> None:
    content = unpickling.read_objects(GOLDEN / "sg2ada_synthetic.pkl")
    network = find_networks(content, 10**9)[0]
    assert network.path == ("G_ema",)
    description, _ = read_case("sg2ada_synthetic")
    assert digest(network.load()) == description["state_dict_sha256"]
    assert network.arguments["synthesis_kwargs"]["conv_clamp"] == 256
    assert network.arguments["mapping_kwargs"]["num_layers"] == 4
    assert network.attributes["synthesis.b16.conv1.conv_clamp"] == 256


@pytest.mark.parametrize("name", FILES)
def test_own_format_keeps_everything(name: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(GOLDEN / name)
    build_network(checkpoint)
    path = tmp_path / "own.pth"
    write_checkpoint(path, checkpoint.family, checkpoint.state_dict, checkpoint.settings)
    found = read_checkpoint(path)
    assert found.format == "native"
    assert same(found, checkpoint)
    content = torch.load(path, weights_only=True)
    assert (content["format"], content["version"], content["family"]) == ("higan", 1, checkpoint.family)
    assert [file.name for file in tmp_path.iterdir()] == ["own.pth"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(tmp_path / "own.pth", "pggan", {"lod": torch.zeros([])}, {})
    assert not list(tmp_path.iterdir())


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(GOLDEN / "stylegan2_tiny16.pth")
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        narrow = {name: value.to(dtype) for name, value in checkpoint.state_dict.items()}
        write_checkpoint(tmp_path / "own.pth", "stylegan2", narrow, {})
        found = read_checkpoint(tmp_path / "own.pth").state_dict
        assert all(torch.equal(found[name], value.float()) for name, value in narrow.items())


@pytest.mark.parametrize("name", ["pggan", "pggan_fused", "stylegan_auto", "stylegan2_skip"])
def test_256_networks_have_the_reference_keys(name: str) -> None:
    """Names and shapes of the paper's programs at 256x256."""
    entry = json.loads((GOLDEN / "keys_256.json").read_text())[name]
    zero = torch.zeros([])
    tensors = {key: zero.expand(shape) for key, shape, _ in entry["state_dict"] if not key.endswith(genforce.FIXED)}
    assert genforce.family_of(tensors) == (entry["family"], False)
    state_dict, settings = genforce.convert_tensors(entry["family"], tensors)
    fused = {"pggan_fused": (8, 16, 32, 64, 128, 256), "stylegan_auto": (128, 256)}
    assert settings.get("fused", ()) == fused.get(name, ())
    checkpoint = Checkpoint("genforce", entry["family"], settings, state_dict)
    build_network(checkpoint)
    assert checkpoint.settings["resolution"] == 256


def repickled(name: str, protocol: int, tmp_path: Path) -> Path:
    """A TensorFlow pickle written again by another protocol, the classes being empty ones."""
    modules = {"tfutil": types.ModuleType("tfutil"), "dnnlib": types.ModuleType("dnnlib")}
    modules["dnnlib.tflib"] = types.ModuleType("dnnlib.tflib")
    modules["dnnlib.tflib.network"] = types.ModuleType("dnnlib.tflib.network")
    for place in ("tfutil", "dnnlib.tflib.network"):
        modules[place].Network = type("Network", (), {"__module__": place})  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        content = pickle.loads((GOLDEN / name).read_bytes())
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path
    finally:
        for module in modules:
            del sys.modules[module]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["tf_pggan_tiny16.pkl", "tf_stylegan2_tiny16.pkl"])
def test_protocols(name: str, protocol: int, tmp_path: Path) -> None:
    assert same(read_checkpoint(repickled(name, protocol, tmp_path)), read_checkpoint(GOLDEN / name))


def test_fused_tensorflow_pggan() -> None:
    """A fused layer's kernel is stored with its channel axes swapped."""
    description, _ = read_case("pggan_r32_fused")
    rows = [[key, [min(size, 6) for size in shape], dtype] for key, shape, dtype in description["state_dict"]]
    tensors = rule_tensors(rows, 0)
    expected, settings = genforce.convert_tensors("pggan", dict(tensors))
    assert settings["fused"] == (8, 16, 32)
    variables = {
        "lod": torch.zeros([]),
        "4x4/Dense/weight": tensors["layer0.conv.weight"].flip(2, 3).transpose(0, 1).reshape(6, -1),
        "4x4/Conv/weight": tensors["layer1.conv.weight"].permute(2, 3, 1, 0),
        "8x8/Conv0_up/weight": tensors["layer2.weight"].transpose(2, 3),
        "8x8/Conv1/bias": tensors["layer3.wscale.bias"],
        "32x32/Conv0_up/weight": tensors["layer6.weight"].transpose(2, 3),
    }
    found, settings = tensorflow.convert_tensors("pggan", {k: v.contiguous() for k, v in variables.items()}, {})
    assert settings["fused"] == (8, 32)
    assert all(torch.equal(expected[name], value) for name, value in found.items())


@pytest.mark.parametrize(("choice", "sizes"), [("auto", (128,)), (True, (8, 16, 128)), (False, None)])
def test_fused_tensorflow_stylegan(choice: object, sizes: object) -> None:
    variables = {f"{size}x{size}/Conv1/bias": torch.zeros(3) for size in (8, 16, 128)}
    _, settings = tensorflow.convert_tensors("stylegan", variables, {"fused_scale": choice})
    assert settings.get("fused") == sizes


@pytest.mark.parametrize(("name", "value"), [("label_size", 10), ("blur_filter", [1]), ("nonlinearity", "relu")])
def test_unsupported_tensorflow_arguments(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=name):
        tensorflow.convert_tensors("stylegan", {"4x4/Conv/bias": torch.zeros(3)}, {name: value})


def test_nvlabs_without_noise_and_with_labels() -> None:
    description, _ = read_case("sg2ada_synthetic")
    tensors = rule_tensors(description["state_dict"], 0)
    tensors = {name: value for name, value in tensors.items() if "noise" not in name}
    tensors["mapping.embed.weight"], tensors["mapping.embed.bias"] = torch.ones(28, 7), torch.zeros(28)
    tensors["mapping.fc0.weight"] = torch.ones(28, 48)
    arguments = {"mapping_kwargs": {"lr_multiplier": 0.1}, "synthesis_kwargs": {}}
    checkpoint = rule_checkpoint("stylegan2-ada", tensors, arguments)
    network = build_network(checkpoint)
    assert checkpoint.settings["label_dim"] == 7
    assert checkpoint.settings["z_dim"] == 20
    assert checkpoint.settings["mapping_multiplier"] == 0.1
    assert all(layer.noise_strength == 0 for layer in network.layers)
    w = network.map(torch.randn(2, 20), torch.eye(7)[:2])
    assert w.shape == (2, 28)
    with pytest.raises(CheckpointError, match="activation"):
        nvlabs.convert_tensors({}, {"activation": "relu"})


def test_numpy_arrays_of_every_order(tmp_path: Path) -> None:
    arrays = {
        "c": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "half": np.arange(3, dtype=np.float16),
        "scalar": np.float32(2.5),
        "int": np.arange(3),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
    }
    for protocol in (2, 3, 4, 5):
        path = tmp_path / "arrays.pkl"
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        for name, value in unpickling.read_objects(path).items():
            assert np.array_equal(value.load().numpy(), arrays[name]), (protocol, name)


def test_torch_tensors_of_every_type(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32)
    tensors = {
        "view": base.reshape(2, 3, 4).permute(2, 0, 1),
        "slice": base[5:9],
        "bf16": base.bfloat16(),
        "half": base.half(),
        "double": base.double(),
        "long": torch.arange(5),
        "bool": torch.tensor([True, False]),
        "number": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(base),
    }
    for new in (True, False):
        file = io.BytesIO()
        torch.save(tensors, file, _use_new_zipfile_serialization=new)
        (tmp_path / "tensors.pth").write_bytes(file.getvalue())
        for name, value in unpickling.read_objects(tmp_path / "tensors.pth").items():
            assert torch.equal(value.load(), tensors[name].float()), (new, name)


def test_command_line_says_what_it_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The computed average is said, and written into the converted file."""
    from higan.checkpoints.__main__ import main

    out = tmp_path / "out.safetensors"
    monkeypatch.setattr(sys, "argv", ["x", str(GOLDEN / "rosinality_snapshot16.pt"), "--convert", str(out)])
    main()
    assert "note               the file has no average of w: computed from 4096 samples" in capsys.readouterr().out
    written = read_checkpoint(out)
    assert build_network(written).w_avg.any()
    assert written.notes == []


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out.pth"
    command = [sys.executable, "-m", "higan.checkpoints", str(GOLDEN / "tf_stylegan_tiny16.pkl"), "--convert", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    for word in ("tensorflow", "stylegan", "35,081 values", "mapping_layers"):
        assert word in result.stdout
    written, original = read_checkpoint(out), read_checkpoint(GOLDEN / "tf_stylegan_tiny16.pkl")
    build_network(original)
    assert same(written, original)


LOADING = """
import sys, time
import torch

def resident(peak):
    name = "VmHWM:" if peak else "VmRSS:"
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

before = resident(peak=False)
from higan.generators import load_generator
begin = time.process_time()
load_generator(sys.argv[1], device="cpu")
print(time.process_time() - begin, resident(peak=True) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a program's peak memory")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("own", "stylegan2_skip"), ("stream", "stylegan2_skip"), ("zip", "stylegan_auto"), ("zip", "pggan_fused")],
)
def test_loading_is_quick_and_lean(kind: str, name: str, tmp_path: Path) -> None:
    """Full width at 256x256: under 3x the file above a process that has torch, seconds at most on a busy machine.

    The peak is that of the child's own memory (VmHWM); ru_maxrss would begin at the size of the process that starts it.
    """
    entry = json.loads((GOLDEN / "keys_256.json").read_text())[name]
    torch.manual_seed(0)
    values = torch.rand(2**23)
    tensors = {key: values[: math.prod(shape)].clone().reshape(shape) for key, shape, _ in entry["state_dict"]}
    tensors |= {key: torch.zeros([]) for key in ("lod", "synthesis.lod") if key in tensors}
    path = tmp_path / "large.pth"
    if kind == "own":
        state_dict, settings = genforce.convert_tensors(entry["family"], tensors)
        write_checkpoint(path, entry["family"], state_dict, settings)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    assert path.stat().st_size > 90e6
    command = [sys.executable, "-c", LOADING, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    seconds, memory = map(float, result.stdout.split())
    assert memory > path.stat().st_size  # the weights themselves, or nothing was measured
    assert memory < 3 * path.stat().st_size
    assert seconds < 10  # processor time, all threads; 2 s of wall time when nothing else runs


def test_reading_does_not_take_long() -> None:
    begin = time.process_time()
    read_checkpoint(GOLDEN / "sg2ada_synthetic.pkl")
    assert time.process_time() - begin < 1
