"""StyleGAN3, both configurations: the reference program's codes, styles and images, its files, its transform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GOLDEN, further_tensors, read_case
from support.model import write_model
from support.scripts import assert_refused, run
from torch import Tensor

from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.checkpoints.formats import nvlabs_stylegan3
from higan.checkpoints.networks import StoredNetwork
from higan.directions.boundaries import Boundary, write_boundary
from higan.editing.edits import synthesize_steps
from higan.errors import CheckpointError, HiganError
from higan.generators import build_network, load_generator
from higan.generators.generator import Generator
from higan.generators.stylegan3 import StyleGAN3

CODES, IMAGES, FEATURES = 2e-5, 5e-5, 2e-5
FILES = ["sg3t_r32", "sg3r_r32", "sg3t_r16_c3"]


def network_of(description: dict[str, Any]) -> StyleGAN3:
    """The network of a case from its weight rule, with filters that are designed here."""
    settings = description["settings"]
    arguments = settings["synthesis_kwargs"]
    tensors = further_tensors(description) | {"synthesis.input.transform": torch.eye(3)}
    state_dict, found = nvlabs_stylegan3.convert_tensors(tensors, arguments)
    found |= StyleGAN3.infer_settings({name: tuple(value.shape) for name, value in state_dict.items()})
    network = StyleGAN3(**(found | {"radial": arguments.get("use_radial_filters", False)}))
    network.load_state_dict(network.state_dict() | state_dict)
    return network


def difference(found: Tensor, expected: np.ndarray) -> float:
    return (found - torch.from_numpy(expected)).abs().max().item()


@pytest.mark.parametrize("name", [*FILES, "sg3r_r32_wide"])
def test_reference_numbers(name: str) -> None:
    description, arrays = read_case(name)
    generator = Generator(network_of(description), name)
    labels = arrays["c"] if generator.label_dim else None
    w = generator.map(arrays["z"], labels)
    assert difference(w, arrays["w"]) <= CODES
    wp = generator.broadcast(w)
    assert difference(wp, arrays["wp"]) <= CODES
    styles = generator.styles(wp)
    assert len(styles) == generator.num_layers == description["num_ws"]
    for key in [key for key in arrays if key.startswith("style")]:
        assert difference(styles[int(key.removeprefix("style"))], arrays[key]) <= CODES
    features = generator.advance(generator.initial(wp[:1]), wp[:1], 0, 1)[0][:, :4]
    assert difference(features, arrays["input_features_first"]) <= FEATURES
    assert difference(generator.render(wp), arrays["image"]) <= IMAGES
    steps = np.abs(generator.synthesize(wp).numpy().astype(int) - arrays["image_uint8"].astype(int))
    assert steps.max() <= 1 and (steps > 0).mean() < 1e-3
    for key in [key for key in arrays if key.startswith("wp_psi")]:
        psi, *cutoff = key.removeprefix("wp_psi").split("_cutoff")
        generator.truncation_psi = float(psi)
        generator.truncation_layers = int(cutoff[0]) if cutoff else generator.num_layers
        truncated = generator.broadcast(w)
        assert difference(truncated, arrays[key]) <= CODES
        assert difference(generator.render(truncated), arrays[key.replace("wp", "image")]) <= IMAGES
    assert difference(generator.render(arrays["wp_random"]), arrays["image_wp_random"]) <= IMAGES
    generator.network.get_buffer("input.transform").copy_(torch.from_numpy(arrays["transform"]))
    assert difference(generator.render(wp), arrays["image_transform"]) <= IMAGES


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    """A pickle of the reference program holds what the weight rule gives; our own format gives it back."""
    description, arrays = read_case(name)
    checkpoint = read_checkpoint(GOLDEN / f"{name}.pkl")
    network = build_network(checkpoint)
    assert (checkpoint.format, checkpoint.family) == ("nvlabs_stylegan3", "stylegan3")
    expected = network_of(description).state_dict()
    for key, value in network.state_dict().items():
        assert torch.allclose(value, expected[key], rtol=0, atol=1e-7 if "filter" in key else 0), key
    write_checkpoint(tmp_path / "own.pth", checkpoint.family, checkpoint.state_dict, checkpoint.settings)
    own = load_generator(tmp_path / "own.pth", device="cpu")
    wp = torch.from_numpy(arrays["wp"])
    assert torch.equal(own.render(wp), Generator(network, name).render(wp))
    assert own.truncation_psi == 1


def test_layers_and_gradients() -> None:
    generator = load_generator(GOLDEN / "sg3t_r16_c3.pkl", device="cpu", class_idx=1)
    wp = generator.to_wp(generator.sample(2, seed=0), "z")
    images = generator.synthesize(wp)
    for layer in (0, 1, 7, 15):
        moved = wp.clone()
        moved[:, layer] += 1
        shared = generator.advance(generator.initial(wp), wp, 0, layer)
        found = generator.image(generator.advance(shared, moved, layer, generator.num_layers))
        assert torch.equal(found, generator.synthesize(moved))
        assert not torch.equal(found, images)
        steps = list(synthesize_steps(generator, torch.stack([wp, moved], dim=1)))
        assert np.array_equal(np.stack(steps)[:, 1], found.numpy())
    generator.noise = "random"  # there is none
    assert torch.equal(generator.synthesize(wp), images)
    z = generator.sample(2, seed=0)
    assert torch.allclose(generator.normalize(5 * z, "z"), z, atol=1e-6)
    code = wp[:1].requires_grad_()
    generator.render(code).square().sum().backward()
    assert code.grad is not None and (code.grad.abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("name", ["sg3t_r32", "sg3r_r32"])
def test_bf16(name: str) -> None:
    _, arrays = read_case(name)
    generator = load_generator(GOLDEN / f"{name}.pkl", device="cpu", precision="bf16")
    found = generator.synthesize(arrays["wp"]).float()
    assert (found - torch.from_numpy(arrays["image_uint8"]).float()).abs().mean() <= 1.5


def test_half_precision_range() -> None:
    _, arrays = read_case("sg3r_r32")
    network = build_network(read_checkpoint(GOLDEN / "sg3r_r32.pkl")).requires_grad_(False)
    generator = Generator(network, "large")
    expected = generator.render(torch.from_numpy(arrays["wp"]))
    network.prepare(torch.float16)
    assert (generator.render(torch.from_numpy(arrays["wp"])) - expected).abs().mean() < 0.02


def test_transform_moves_and_turns() -> None:
    """R turns by 90 degrees as a picture is turned; a translation is a shift, both measured on the reference."""
    generator = load_generator(GOLDEN / "sg3r_r32.pkl", device="cpu", rotate=0.0)
    wp = generator.to_wp(generator.sample(1, seed=0), "z")
    wp[:, 0] = 0  # of the input, whose own bias may turn
    still = generator.render(wp)
    turned = load_generator(GOLDEN / "sg3r_r32.pkl", device="cpu", rotate=90.0).render(wp)
    plain = load_generator(GOLDEN / "sg3r_r32.pkl", device="cpu", translate=(4 / 32, 0.0)).render(wp)
    assert still.std() > 0.01
    deviation = float(still.std())
    assert (plain[..., 10:22, 10 + 4 : 22] - still[..., 10:22, 10 : 22 - 4]).abs().max() / deviation < 2e-3
    assert (turned - still).abs().max() / deviation > 0.5
    description, arrays = read_case("sg3t_r32")
    stored = Generator(network_of(description), "stored")
    matrix = np.linalg.inv(arrays["transform"].astype(np.float64))
    angle = float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
    stored.network.transform((float(matrix[0, 2]), float(matrix[1, 2])), angle)  # type: ignore[attr-defined]
    assert difference(stored.render(torch.from_numpy(arrays["wp"])), arrays["image_transform"]) <= IMAGES
    with pytest.raises(HiganError, match=r"stylegan2_rooms .stylegan2. cannot move or turn"):
        load_generator("stylegan2_rooms", device="cpu", rotate=10.0)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(GOLDEN / "sg3t_r16_c3.pkl")
    build_network(checkpoint)
    for settings, words in (
        ({"margin": 12}, "layers have sides of"),
        ({"filter_size": 1000}, "1000 taps per rate"),
        ({"filter_size": 4}, "_filter is shape"),
        ({"resolution": 10**5}, "side of 100000"),
    ):
        write_checkpoint(tmp_path / "wrong.pth", "stylegan3", checkpoint.state_dict, checkpoint.settings | settings)
        with pytest.raises(CheckpointError, match=words):
            load_generator(tmp_path / "wrong.pth", device="cpu")
    two = {
        name: value[:2] if name.startswith("layers.14.") else value
        for name, value in checkpoint.state_dict.items()
        if name != "layers.14.magnitude"
    } | {"layers.14.magnitude": torch.ones([])}
    write_checkpoint(tmp_path / "two.pth", "stylegan3", two, {})
    with pytest.raises(CheckpointError, match="2-channel images"):
        load_generator(tmp_path / "two.pth", device="cpu")
    attributes = {"synthesis.L0_36_8.conv_clamp": 1.0, "synthesis.L1_36_8.conv_clamp": 2.0}
    with pytest.raises(CheckpointError, match="several values of conv_clamp"):
        nvlabs_stylegan3.convert(StoredNetwork({}, attributes=attributes))
    for name in ("synthesis.L0_36_8.weight", "synthesis.input.colour"):
        with pytest.raises(CheckpointError, match="a StyleGAN3 with"):
            nvlabs_stylegan3.convert_tensors({name: torch.zeros(1)}, {})


def test_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 1 draws moved and turned images of the same codes; re-scoring moves every layer, that of the input too."""
    model, predictor = GOLDEN / "sg3t_r16_c3.pkl", "--predictor_name=support.model:own_predictor"
    for name, options in (("still", []), ("turned", ["--rotate=30", "--translate=0.1,0"])):
        options += ["--class_idx=1", "--num=4", "--generate_prediction", predictor]
        assert run("synthesize", model, *options, "-o", tmp_path / name) == 0
    still, turned = ((tmp_path / name / "w.npy").read_bytes() for name in ("still", "turned"))
    assert still == turned
    still, turned = ((tmp_path / name / "attribute.npy").read_bytes() for name in ("still", "turned"))
    assert still != turned
    assert json.loads((tmp_path / "turned" / "run.json").read_text())["settings"]["translate"] == [0.1, 0]
    for wild in ("--rotate=inf", "--translate=nan,0"):
        assert run("synthesize", model, wild, "-o", tmp_path / "wild") == 2
    codes, options = str(tmp_path / "turned" / "w.npy"), ["--interpolate", "-S", "3", "--save_raw_synthesis"]
    assert run("manipulate", model, "-c", codes, *options, "-o", tmp_path / "between") == 0
    record = json.loads(next((tmp_path / "between").glob("*manipulated*.json")).read_text())
    assert (record["translate"], record["rotate"]) == ([0.1, 0], 30)  # drawn as the codes were
    boundary = write_boundary(Boundary("warmth", np.eye(1, 20, dtype=np.float32)), tmp_path)
    (tmp_path / "list.txt").write_text(f"(warmth, w): {boundary}\n")
    options = ["--class_idx=1", "--num=3", "--layerwise_rescoring", "--control=2", predictor]
    assert run("rescore", model, tmp_path / "list.txt", *options, "-o", tmp_path / "rescore") == 0
    assert np.load(tmp_path / "rescore" / "rescore_delta.npy").shape[1] == 1 + 16
    assert_refused(capsys, "invalid pair value: '1'", "synthesize", model, "--translate=1")
    assert_refused(capsys, "cannot move or turn", "synthesize", write_model(tmp_path), "--rotate=1", "--skip_image")
