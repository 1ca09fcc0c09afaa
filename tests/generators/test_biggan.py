"""BigGAN: the reference programs' pictures, the quirks that change them, z and truncation, layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import further_tensors, read_case
from torch import Tensor

from higan.checkpoints import Checkpoint
from higan.checkpoints.formats.biggan import from_ajbrock, from_huggingface
from higan.editing.inversion import invert
from higan.errors import CheckpointError, HiganError
from higan.generators import build_network
from higan.generators.biggan import BigGAN, interpolation, sample_truncated
from higan.generators.generator import Generator

CODES, IMAGES = 2e-5, 5e-5  # absolute, as in test_golden_generators.py
HUGGINGFACE = ["bigdeep_tiny32", "bigdeep_r32_stats51"]
AJBROCK = ["biggan_aj_tiny32", "biggan_aj_r64", "biggan_aj_deep32"]


def make(name: str, change: Callable[[dict[str, Tensor]], None] | None = None, **settings: Any) -> Generator:
    """The generator of a case, with its tensors changed if asked for."""
    description = read_case(name)[0]
    tensors = further_tensors(description)
    if change is not None:
        change(tensors)
    if name in HUGGINGFACE:
        state_dict, found = from_huggingface(tensors, description["settings"])
    else:
        state_dict, found = from_ajbrock(tensors, {"BN_eps": description["settings"]["BN_eps"]})
    return Generator(build_network(Checkpoint("biggan", "biggan", found, state_dict)), name, **settings)


def difference(found: Tensor, expected: np.ndarray) -> float:
    return (found - torch.from_numpy(expected)).abs().max().item()


@pytest.mark.parametrize("name", HUGGINGFACE)
def test_huggingface(name: str) -> None:
    description, arrays = read_case(name)
    generator = make(name)
    for psi in description["truncations"]:
        generator.truncation_psi = psi
        w = generator.map(arrays["z"], arrays["class_vector"])
        assert difference(w, arrays["cond"]) <= CODES
        wp = generator.broadcast(w)
        own = psi == description["truncation_of_image"]
        image = arrays["image" if own else f"image_truncation{psi}"]
        assert difference(generator.render(wp), image) <= IMAGES
        if own:
            steps = np.abs(generator.synthesize(wp).numpy().astype(int) - arrays["image_uint8"])
            assert steps.max() <= 1 and (steps > 0).mean() < 1e-3
            styles = generator.styles(wp)
            channels = arrays["gen_z"].shape[1] // 16
            expected = arrays["gen_z"].reshape(-1, 16, channels).swapaxes(1, 2).reshape(len(wp), -1)
            assert difference(styles[0], expected) <= CODES
            assert difference(styles[1][:, :channels], arrays["scale_layer0_bn0"]) <= CODES
            found = generator.advance(
                generator.initial(wp), wp, 0, 1 + description["settings"]["attention_layer_position"]
            )
            assert difference(found[0][:1, :4], arrays["attention_out_first"]) <= IMAGES


@pytest.mark.parametrize("name", AJBROCK)
def test_ajbrock(name: str) -> None:
    arrays = read_case(name)[1]
    generator = make(name)
    wp = generator.to_wp(arrays["z"], "z", torch.from_numpy(arrays["label"]))
    assert difference(generator.render(wp), arrays["image"]) <= IMAGES
    steps = np.abs(generator.synthesize(wp).numpy().astype(int) - arrays["image_uint8"])
    assert steps.max() <= 1 and (steps > 0).mean() < 1e-3
    styles = generator.styles(wp)
    assert difference(styles[0], arrays["linear"]) <= CODES
    assert difference(styles[1][:, : arrays["gain_block0_bn1"].shape[1]], arrays["gain_block0_bn1"]) <= CODES
    mixed = generator.broadcast(np.concatenate([arrays["z_half"], arrays["y_mixed"]], axis=1))
    assert difference(generator.render(mixed), arrays["image_mixed_z_half"]) <= IMAGES


def test_bf16() -> None:
    arrays = read_case("biggan_aj_r64")[1]
    generator = make("biggan_aj_r64", dtype=torch.bfloat16)
    image = generator.synthesize(generator.to_wp(arrays["z"], "z", 0 * arrays["label"] + arrays["label"]))
    steps = np.abs(image.numpy().astype(int) - arrays["image_uint8"])
    assert steps.mean() <= 1.5 and np.quantile(steps, 0.999) <= 12


def test_interpolation_of_statistics_is_the_references() -> None:
    """Swapped factors, and a place that is not rounded: psi 0.56 of 51 rows is just above 28, which takes row 29."""
    assert interpolation(0.4, 51) == (20, 21, 1.0)
    assert interpolation(1.0, 51) == (50, 50, 1.0)
    row, other, share = interpolation(0.56, 51)
    assert (row, other) == (28, 29) and 0 < share < 1e-12
    row, other, share = interpolation(0.58, 51)
    assert (row, other) == (28, 29) and share > 1 - 1e-12
    row, other, share = interpolation(0.437, 51)
    assert (row, other) == (21, 22) and share == pytest.approx(0.85)
    assert all(interpolation(1.0, count)[1] == count - 1 for count in range(2, 200))
    assert interpolation(0.3, 1) == (0, 0, 1.0)


def test_stored_spectral_vectors_are_not_partners() -> None:
    """sigma is of the stored u and v, as they are: twice the v halves the weight and changes the picture."""
    arrays = read_case("bigdeep_tiny32")[1]

    def change(tensors: dict[str, Tensor]) -> None:
        tensors["generator.layers.0.conv_1.weight_v"] *= 2

    expected, changed = make("bigdeep_tiny32"), make("bigdeep_tiny32", change)
    weights = [g.network.blocks[0].convolutions[1].weight for g in (expected, changed)]
    assert torch.allclose(weights[0], 2 * weights[1])
    wp = [g.to_wp(arrays["z"], "z", torch.from_numpy(arrays["class_vector"])) for g in (expected, changed)]
    assert (expected.render(wp[0]) - changed.render(wp[1])).abs().max() > 1e-3


def test_power_iteration_is_made_once() -> None:
    """A u0 that is no singular vector, and not of length 1, gives the sigma of one iteration from it."""
    u = torch.arange(1.0, 25)[None]

    def change(tensors: dict[str, Tensor]) -> None:
        tensors["blocks.0.0.conv1.u0"] = u

    weight = further_tensors(read_case("biggan_aj_tiny32")[0])["blocks.0.0.conv1.weight"]
    rows = weight.flatten(1).double()
    v = (u.double() @ rows).flatten()
    sigma = (rows @ (v / v.norm())).norm()
    found = make("biggan_aj_tiny32", change).network.blocks[0].convolutions[0].weight
    assert torch.allclose(found, (weight / sigma).float(), rtol=1e-5)
    assert sigma < 0.98 * torch.linalg.matrix_norm(rows, 2)


def rename_statistics(to: tuple[str, str]) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            for kind, new in zip(("stored_mean", "stored_var"), to, strict=True):
                if name.endswith(kind):
                    tensors[name.removesuffix(kind) + new] = tensors.pop(name)

    return change


def test_own_batch_norm_is_the_same_function() -> None:
    """--mybn: other names, and counters that a plain forward pass does not use."""
    arrays = read_case("biggan_aj_tiny32")[1]

    def change(tensors: dict[str, Tensor]) -> None:
        rename_statistics(("bn.stored_mean", "bn.stored_var"))(tensors)
        for name in [name for name in tensors if name.endswith("bn.stored_mean")]:
            tensors[name.replace("stored_mean", "accumulation_counter")] = torch.ones(1)

    generator = make("biggan_aj_tiny32", change)
    wp = generator.to_wp(arrays["z"], "z", torch.from_numpy(arrays["label"]))
    assert difference(generator.render(wp), arrays["image"]) <= IMAGES


def test_cross_replica_norm_adds_its_gain() -> None:
    """normalised + (1 + gain) + bias in the blocks, normalised + gain + bias at the end: ajbrock's evaluation mode."""
    generator = make("biggan_aj_tiny32", rename_statistics(("bn.running_mean", "bn.running_var")))
    network = generator.network
    block, code = network.blocks[0], network.read(1, torch.randn(3, generator.w_dim))
    x = torch.randn(3, 24, 4, 4)
    scale, shift = (values[:, :24, None, None] for values in block.norm(code))
    mean, variance = block.norm.means[0, :24, None, None], block.norm.variances[0, :24, None, None]
    gain, bias = (part[:, :24, None, None] for part in block.norm.style(code).chunk(2, dim=1))
    normal = (x - mean) / (variance + 1e-5).sqrt()
    assert torch.allclose(x * scale + shift, normal + (1 + gain) + bias, atol=1e-5)
    scale, shift = (values[:, :, None, None] for values in network.norm())
    mean, variance = network.norm.means[0, :, None, None], network.norm.variances[0, :, None, None]
    expected = (x - mean) / (variance + 1e-5).sqrt() + (network.norm.gain + network.norm.bias)[:, None, None]
    assert torch.allclose(x * scale + shift, expected, atol=1e-5)


def test_last_norm_has_its_own_epsilon() -> None:
    state_dict, settings = from_ajbrock(further_tensors(read_case("biggan_aj_tiny32")[0]), {"BN_eps": 0.5})
    network = build_network(Checkpoint("biggan", "biggan", settings, state_dict))
    assert {block.norm.epsilon for block in network.blocks} == {0.5} and network.norm.epsilon == 1e-5


def test_classes_without_a_shared_embedding() -> None:
    """--G_shared off: tables of gains and biases per class, and z for the linear layer alone."""

    def change(tensors: dict[str, Tensor]) -> None:
        del tensors["shared.weight"]
        for name in [name for name in tensors if name.endswith(("gain.weight", "bias.weight"))]:
            tensors[name] = torch.randn(4, len(tensors[name]), generator=torch.Generator().manual_seed(len(name)))
            for part in ("u0", "sv0"):
                del tensors[name.replace("weight", part)]

    generator = make("biggan_aj_tiny32", change)
    assert (generator.z_dim, generator.w_dim, generator.label_dim) == (5, 9, 4)
    wp = generator.to_wp(generator.sample(2, 0), "z", torch.tensor([1, 3]))
    assert torch.equal(wp[:, 0, 5:], torch.zeros(2, 4)) and torch.equal(wp[:, 1:, :5], torch.zeros(2, 3, 5))
    tensors: dict[str, Tensor] = further_tensors(read_case("biggan_aj_tiny32")[0])
    change(tensors)
    styles = generator.styles(wp)[1]
    assert torch.equal(styles[0, :24], tensors["blocks.0.0.bn1.gain.weight"][1])
    assert torch.equal(styles[1, 48:72], tensors["blocks.0.0.bn1.bias.weight"][3])


def test_z_is_a_truncated_normal_times_psi() -> None:
    z = sample_truncated(4000, 20, seed=3, start=0)
    assert z.dtype == np.float32 and np.abs(z).max() <= 2
    assert np.array_equal(z[1500:1700], sample_truncated(200, 20, seed=3, start=1500))
    assert z.std() == pytest.approx(0.8796, abs=0.005)  # of the normal distribution cut off at 2
    assert abs(z.mean()) < 0.01 and np.abs(np.corrcoef(z.T) - np.eye(20)).max() < 0.08
    assert (np.abs(z) < 1).mean() == pytest.approx(0.6827 / 0.9545, abs=0.01)
    whole, half = (make("bigdeep_tiny32", truncation_psi=psi).sample(3, seed=5, start=2) for psi in (1.0, 0.5))
    assert torch.equal(0.5 * whole, half)
    assert np.allclose(sample_truncated(1, 3, 5, 7), [[-0.6004111, 0.8092654, -0.26581898]], atol=1e-6)


def test_truncation_acts_on_z_alone() -> None:
    generator = make("biggan_aj_r64", truncation_psi=0.5)
    z = generator.sample(2, seed=0)
    w = generator.map(z, 1)
    assert torch.equal(w[:, : generator.z_dim], z) and torch.equal(generator.psi(), torch.ones(5))
    assert torch.equal(generator.normalize(z, "z"), z)
    with pytest.raises(HiganError, match="truncates z: give 0"):
        make("biggan_aj_r64", truncation_layers=2)
    for psi in (0, 1.2, -0.5):
        with pytest.raises(HiganError, match="statistics for numbers above 0, up to 1"):
            make("bigdeep_tiny32", truncation_psi=psi)


@pytest.mark.parametrize("name", ["bigdeep_tiny32", "biggan_aj_tiny32"])
def test_each_layer_reads_its_own_code(name: str) -> None:
    """What a layer does not read changes nothing; what it reads does; a layer-wise code is all of the conditioning."""
    generator = make(name)
    wp = generator.to_wp(generator.sample(1, seed=0), "z", 1)
    image = generator.render(wp)
    for layer in (0, 1, generator.num_layers - 1):
        parts = generator.network.parts(layer)
        unread = torch.ones(generator.w_dim, dtype=torch.bool)
        for part in parts:
            unread[part] = False
        moved = wp.clone()
        moved[:, layer, unread] += 1
        assert torch.equal(generator.render(moved), image)
        moved[:, layer, ~unread] += 1
        assert not torch.equal(generator.render(moved), image)
        assert (wp[:, layer, unread] == 0).all()
    state = generator.advance(generator.initial(wp), wp, 0, 2)
    assert torch.equal(generator.image(generator.advance(state, wp, 2, generator.num_layers)), generator.synthesize(wp))


def test_render_has_gradients() -> None:
    generator = make("biggan_aj_deep32")
    wp = generator.to_wp(generator.sample(1, seed=0), "z", 2).requires_grad_()
    generator.render(wp).square().sum().backward()
    assert wp.grad is not None and (wp.grad.abs().sum(dim=(0, 2)) > 0).all()


def test_own_samples_are_found_again() -> None:
    generator = make("biggan_aj_tiny32", class_idx=3)
    pictures = generator.synthesize(generator.sample(2, seed=0), "z").numpy()
    found = invert(generator, pictures, steps=60)
    assert found.codes.shape == (2, generator.num_layers, generator.w_dim) and found.space == "wp"
    others = (pictures[::-1].astype(float) - pictures) / 255
    assert (found.psnr > 10 - 10 * np.log10(np.square(others).mean(axis=(1, 2, 3)))).all()  # 10 dB nearer than those


def test_contradictions_are_refused() -> None:
    blocks = [(16, 8), (8, 8)]
    with pytest.raises(ValueError, match="conditioning 'hair'; expected one of whole, chunks, first"):
        BigGAN(blocks, [True, True], False, 6, 4, 2, conditioning="hair")
    with pytest.raises(ValueError, match="a block of 8 channels makes 16"):
        BigGAN([(16, 8), (8, 16)], [True, True], True, 6, 4, 2)
    network = BigGAN(blocks, [True, False], False, 6, 4, 2)
    with pytest.raises(ValueError, match=r"needs labels \[N, 2\]"):
        network.map(torch.zeros(1, 6))
    with pytest.raises(ValueError, match="`prepare` first"):
        network.norm()


def test_several_classes_need_those_of_the_codes() -> None:
    generator = make("biggan_aj_tiny32", class_idx=[3, 1])
    z = generator.sample(3, seed=0, start=1)
    with pytest.raises(HiganError, match="draws several classes; give those of these codes"):
        generator.map(z)
    labels = generator.labels(3, start=1)
    assert labels is not None and labels.tolist() == [1, 3, 1]
    assert torch.equal(generator.map(z, labels)[1:2], generator.map(z[1:2], 3))


def test_there_is_no_noise() -> None:
    generator = make("biggan_aj_tiny32", noise="none")
    wp = generator.to_wp(generator.sample(1, seed=0), "z", 2)
    assert torch.equal(generator.synthesize(wp), make("biggan_aj_tiny32").synthesize(wp))


def test_statistics_of_one_psi_are_refused() -> None:
    description = read_case("bigdeep_tiny32")[0]
    tensors = further_tensors(description)
    one = {name: value[:1] if "running_" in name else value for name, value in tensors.items()}
    with pytest.raises(CheckpointError, match="statistics of a single psi"):
        from_huggingface(one, description["settings"] | {"n_stats": 1})
