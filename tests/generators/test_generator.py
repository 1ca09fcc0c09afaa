"""The interface of generators: sampling, spaces, truncation, labels, noise, shared prefixes, batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import case_checkpoint, read_case

import higan
from higan import devices
from higan.checkpoints import write_checkpoint
from higan.errors import CheckpointError, HiganError
from higan.generators import build_network, load_generator
from higan.generators.generator import Generator, NotFiniteError, to_uint8
from higan.generators.layers import sample_sphere
from higan.generators.network import State
from higan.generators.stylegan import StyleGAN, normalize_batch, normalize_rows
from higan.generators.stylegan2 import StyleGAN2
from higan.generators.zoo import MODELS, PAPER_FOLDERS, find_file, folders, read_zoo
from higan.predictors import NAMES as PREDICTORS

CHANNELS = {4: 8, 8: 8, 16: 8}


def tiny(**settings: object) -> StyleGAN2:
    torch.manual_seed(0)
    network = StyleGAN2(16, CHANNELS, z_dim=12, w_dim=10, mapping_layers=2, **settings)  # type: ignore[arg-type]
    for layer in network.layers:
        torch.nn.init.constant_(layer.noise_strength, 0.3)
    return network


def golden(name: str, **settings: object) -> Generator:
    return Generator(build_network(case_checkpoint(read_case(name)[0])), name, **settings)  # type: ignore[arg-type]


def test_sample_depends_on_seed_and_row_alone() -> None:
    z = sample_sphere(3000, 12, seed=3, start=0)
    assert np.array_equal(z[1500:1700], sample_sphere(200, 12, seed=3, start=1500))
    assert np.array_equal(z[:1], sample_sphere(1, 12, seed=3, start=0))
    assert not np.isclose(z, sample_sphere(3000, 12, seed=4, start=0)).any(axis=1).all()
    assert z.dtype == np.float32
    assert np.allclose(np.linalg.norm(z, axis=1), np.sqrt(12), rtol=1e-6)


@pytest.mark.parametrize("dim", [1, 7, 8, 20, 512])
def test_sample_is_normal(dim: int) -> None:
    z = sample_sphere(4000, dim, seed=0, start=10**12)
    assert z.shape == (4000, dim)
    assert len(np.unique(z[:, 0])) > (1000 if dim > 1 else 1)
    assert abs(z.mean()) < 0.05
    if dim == 512:
        assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.002
        assert np.abs(np.corrcoef(z[:, :32].T) - np.eye(32)).max() < 0.08


def test_sample_does_not_change() -> None:
    """Seeds name images in users' notes: these numbers must stay what they are."""
    expected = [1.3750902, 0.97628677, -0.96640307, -0.4712284]
    assert np.allclose(sample_sphere(2, 4, seed=5, start=7)[1], expected, atol=1e-6)


def test_spaces_agree() -> None:
    model = Generator(tiny(), "tiny", truncation_psi=0.5, truncation_layers=3)
    assert (model.num_layers, model.z_dim, model.w_dim, model.spaces) == (6, 12, 10, ("z", "w", "wp"))
    z = model.sample(3, seed=0)
    w = model.map(z)
    wp = model.broadcast(w)
    assert wp.shape == (3, 6, 10)
    assert torch.equal(model.psi(), torch.tensor([0.5, 0.5, 0.5, 1, 1, 1]))
    assert torch.equal(wp[:, 5], w)
    assert torch.allclose(wp[:, 0], model.network.w_avg + 0.5 * (w - model.network.w_avg))
    images = model.synthesize(wp)
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == torch.uint8
    for codes, space in ((z, "z"), (w, "w"), (z.numpy(), "z")):
        assert torch.equal(model.synthesize(codes, space), images)


def test_truncation_layers_beyond_the_last_mean_all() -> None:
    model = Generator(tiny(), "tiny", truncation_psi=0.5, truncation_layers=18)
    assert model.truncation_layers == 6
    assert torch.equal(model.psi(), torch.full((6,), 0.5))


def test_codes_do_not_depend_on_the_batch() -> None:
    model = golden("sg2ada_r16_resnet")
    z = model.sample(9, seed=1)
    assert torch.equal(model.map(z)[:2], model.map(z[:2]))
    images = model.synthesize(z, "z")
    model.batch_size = 2
    steps = (model.synthesize(z, "z").int() - images.int()).abs()
    assert steps.max() <= 1
    assert (steps > 0).float().mean() < 1e-3


@pytest.mark.parametrize("name", ["stylegan_tiny16", "stylegan2_tiny16", "sg2ada_r16_resnet"])
@pytest.mark.parametrize("noise", ["const", "random"])
def test_shared_prefix(name: str, noise: str) -> None:
    model = golden(name, noise=noise)
    wp = model.to_wp(model.sample(2, seed=0), "z")
    expected = model.synthesize(wp)
    for layer in range(model.num_layers + 1):
        state = model.advance(model.initial(wp), wp, 0, layer)
        assert torch.equal(model.image(model.advance(state, wp, layer, model.num_layers)), expected)


def test_a_change_of_one_layer_leaves_the_prefix_alone() -> None:
    model = golden("stylegan_tiny16")
    wp = model.to_wp(model.sample(1, seed=0), "z")
    moved = wp.clone()
    moved[:, 3] += 1
    prefix = model.advance(model.initial(wp), wp, 0, 3)
    found = model.image(model.advance(prefix, moved, 3, 6))
    assert torch.equal(found, model.synthesize(moved))
    assert not torch.equal(found, model.synthesize(wp))


@pytest.mark.parametrize("name", ["stylegan_tiny16", "stylegan2_tiny16", "sg2ada_r16_resnet", "sg2ada_r16_clamp"])
def test_render_has_gradients(name: str) -> None:
    model = golden(name)
    wp = model.to_wp(model.sample(1, seed=0), "z").requires_grad_()
    model.render(wp).square().sum().backward()
    gradient = wp.grad
    assert gradient is not None
    assert (gradient.abs().sum(dim=(0, 2)) > 0).all()
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        change = (model.render(wp + step).square().sum() - model.render(wp - step).square().sum()) / 2
    assert change.item() == pytest.approx((gradient * step).sum().item(), rel=0.05)


def test_noise() -> None:
    model = Generator(tiny(), "tiny", noise="random")
    z = model.sample(4, seed=0)
    images = model.synthesize(z, "z")
    model.batch_size = 1
    assert (model.synthesize(z, "z").int() - images.int()).abs().max() <= 1
    model.noise = "const"
    const = model.synthesize(z, "z")
    model.noise = "none"
    none = model.synthesize(z, "z")
    for layer in model.network.layers:
        layer.noise.zero_()
    model.network.prepare(torch.float32)
    model.noise = "const"
    assert not torch.equal(const, images)
    assert torch.equal(none, model.synthesize(z, "z"))
    with pytest.raises(HiganError, match="const, none, random"):
        Generator(tiny(), "tiny", noise="fresh")


def test_labels() -> None:
    model = Generator(tiny(label_dim=3), "conditional")
    z = model.sample(2, seed=0)
    one_hot = torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    w = model.map(z, one_hot)
    assert torch.equal(w, model.map(z, torch.tensor([1, 2])))
    assert torch.equal(w[:1], model.map(z[:1], 1))
    assert not torch.equal(w, model.map(z, 0))
    model.batch_size = 1
    assert torch.equal(model.synthesize(z, "z", label=[1, 2]), model.synthesize(w, "w"))
    with pytest.raises(HiganError, match="choose a class from 0 to 2"):
        model.map(z)
    for label in (3, -1, [0, 1, 2], [0.5, 0.5], [[1.0, 0.0]]):
        with pytest.raises(HiganError, match=r"class|labels"):
            model.map(z, label)
    with pytest.raises(HiganError, match="not conditional"):
        Generator(tiny(), "tiny").map(z, 0)


def test_pggan_has_no_layers() -> None:
    model = golden("pggan_tiny16")
    assert model.spaces == ("z",)
    z = model.sample(2, seed=0)
    assert model.synthesize(z, "z").shape == (2, 16, 16, 3)
    for call in (
        lambda: model.map(z),
        lambda: model.broadcast(z),
        lambda: model.styles(z),
        lambda: model.to_wp(z, "z"),
        lambda: model.synthesize(z),
    ):
        with pytest.raises(HiganError, match="pggan"):
            call()


def test_wrong_codes() -> None:
    model = Generator(tiny(), "tiny")
    with pytest.raises(HiganError, match=r"\[N, 6, 10\]"):
        model.synthesize(torch.zeros(2, 10))
    with pytest.raises(HiganError, match="no space 'x'"):
        model.synthesize(torch.zeros(2, 10), "x")
    with pytest.raises(HiganError, match="from 0"):
        model.sample(-1, seed=0)
    with pytest.raises(HiganError, match="start <= stop"):
        model.advance(model.initial(torch.zeros(1, 6, 10)), torch.zeros(1, 6, 10), 3, 7)


def test_no_codes_no_images() -> None:
    model = Generator(tiny(), "tiny")
    assert model.synthesize(torch.zeros(0, 6, 10)).shape == (0, 16, 16, 3)


def test_lack_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Generator(tiny(), "tiny")
    z = model.sample(7, seed=0)
    expected = model.synthesize(z, "z")
    model.batch_size = 4
    advance, limit = Generator.advance, 2

    def scarce(self: Generator, state: State, wp: torch.Tensor, start: int, stop: int) -> State:
        if len(wp) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return advance(self, state, wp, start, stop)

    monkeypatch.setattr(Generator, "advance", scarce)
    assert torch.equal(model.synthesize(z, "z"), expected)
    assert model.batch_size == 2
    limit = 0
    with pytest.raises(HiganError, match="one image at a time"):
        model.synthesize(z, "z")
    monkeypatch.setattr(devices, "is_out_of_memory", lambda error: False)
    with pytest.raises(torch.OutOfMemoryError):
        model.synthesize(z, "z")


def test_an_image_that_is_not_finite_is_named() -> None:
    model = Generator(tiny(), "tiny")
    wp = model.to_wp(model.sample(7, seed=0), "z")
    expected = model.synthesize(wp)
    wp[5, 2] = torch.nan
    model.batch_size = 2
    with pytest.raises(NotFiniteError, match="for sample 5"):
        model.synthesize(wp)
    flags: list[torch.Tensor] = []
    images = model.synthesize(wp, finite=flags)
    assert torch.cat(flags).tolist() == [True] * 5 + [False, True]
    assert torch.equal(images[:5], expected[:5])


def test_to_uint8() -> None:
    values = torch.tensor([-2, -1, -0.999, 0, 0.0039, 1, 2.0]).reshape(1, 1, 1, 7)
    assert to_uint8(values).flatten().tolist() == [0, 0, 0, 128, 128, 255, 255]


def test_training_path_is_the_same_function() -> None:
    """Unprepared weights, fresh noise and autograd, as models/stylegan2_rooms trains it."""
    network = tiny()
    w = network.map(torch.randn(2, 12))
    wp = w[:, None].expand(-1, 6, -1)
    noises = [layer.noise.expand(2, -1, -1, -1) for layer in network.layers]
    images = network(wp, noises)
    images.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    prepared = Generator(network, "tiny")
    assert torch.allclose(prepared.render(wp), images, atol=1e-5)


@pytest.mark.parametrize("truncation", [None, 0.3])
def test_load_generator(tmp_path: Path, truncation: float | None) -> None:
    path = tmp_path / "rooms.pth"
    network = tiny()
    write_checkpoint(path, "stylegan2", {name: value.half() for name, value in network.state_dict().items()}, {})
    model = higan.load_generator(path, device="cpu", truncation_psi=truncation)
    assert (model.name, model.family, model.resolution, model.predictor) == ("rooms", "stylegan2", 16, "")
    assert (model.truncation_psi, model.truncation_layers) == (truncation or 0.5, 6)
    assert len(model.sha256) == 64
    assert model.synthesize(model.sample(1, seed=0), "z").shape == (1, 16, 16, 3)


def test_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path))
    with pytest.raises(HiganError) as error:
        load_generator("stylegan_bedroom")
    for part in ("karras2019stylegan-bedrooms-256x256.pkl", str(tmp_path), "StyleGAN", "stylegan2_rooms"):
        assert part in str(error.value)
    with pytest.raises(HiganError, match="stylegan_bedroom"):
        load_generator("stylegan_bedrom")
    with pytest.raises(HiganError, match="folder"):
        load_generator(tmp_path)
    write_checkpoint(tmp_path / "stylegan2_church.pth", "stylegan2", tiny().state_dict(), {})
    model = load_generator("stylegan2_church", device="cpu")
    assert (model.name, model.truncation_psi, model.predictor) == ("stylegan2_church", 0.5, "scene")


def test_zoo_tables() -> None:
    zoo = read_zoo()
    for family, names in {
        "pggan": "bedroom livingroom kitchen churchoutdoor tower bridge restaurant celebahq cat",
        "stylegan": "ffhq celebahq bedroom cat car livingroom diningroom kitchen apartment churchoutdoor tower bridge "
        "restaurant classroom conferenceroom ffhq256 ffhq512",
        "stylegan2": "ffhq church cat horse car rooms ada_ffhq ada_afhqcat",
        "stylegan3": "t_ffhq r_ffhq t_ffhqu256 r_metfacesu t_afhqv2 r_afhqv2",
    }.items():
        for name in names.split():
            assert zoo[f"{family}_{name}"]["family"] == family
    for model in zoo.values():
        assert model["files"]
        assert model.get("predictor") in (None, *PREDICTORS)
        assert model["published"]
        assert model["licence"]
        assert model["resolution"] in (32, 64, 128, 256, 512, 1024)


@pytest.mark.parametrize("inside", ["", "models", "models/pretrain", "models/pretrain/pytorch", "predictors/pretrain"])
def test_folders_of_the_paper_s_programs(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (
        ["models/pretrain/pytorch"]
        if inside.startswith("models")
        else ["predictors/pretrain", "predictors/annotations"]
    )
    for folder in PAPER_FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HIGAN_MODELS", str(tmp_path / inside))
    assert {(tmp_path / folder).resolve() for folder in kept} <= {folder.resolve() for folder in folders()}
    monkeypatch.delenv("HIGAN_MODELS")
    assert folders() == [MODELS]
    monkeypatch.chdir(tmp_path)
    assert folders() == [MODELS, *map(Path, PAPER_FOLDERS)]
    path = tmp_path / "models/pretrain/pytorch/stylegan_bedroom256_generator.pth"
    path.write_bytes(b"")
    assert find_file("stylegan_bedroom", read_zoo()["stylegan_bedroom"]) == path.relative_to(tmp_path)


def test_wrong_settings(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    write_checkpoint(path, "stylegan2", tiny().state_dict(), {"architecture": "cubist"})
    with pytest.raises(CheckpointError, match="cubist"):
        load_generator(path)
    two = {name: value[:2] if value.shape[:1] == (3,) else value for name, value in tiny().state_dict().items()}
    write_checkpoint(path, "stylegan2", two, {})
    with pytest.raises(CheckpointError, match=r"2-channel images; expected 1 .grey., 3 .RGB., 4 .RGBA."):
        load_generator(path)
    write_checkpoint(path, "stylegan2", tiny().state_dict(), {})
    with pytest.raises(HiganError, match="fp16 needs a CUDA device"):
        load_generator(path, device="cpu", precision="fp16")
    with pytest.raises(HiganError, match="fp32, bf16, fp16"):
        load_generator(path, device="cpu", precision="int8")


def test_settings_out_of_range() -> None:
    for settings, words in (
        ({"truncation_psi": 101.0}, r"truncation_psi is 101\.0; expected a number from -100 to 100"),
        ({"truncation_psi": float("nan")}, "truncation_psi is nan"),
        ({"truncation_layers": -1}, r"truncation_layers is -1; expected 0 \(none\) or more"),
        ({"class_idx": 0}, "not conditional"),
    ):
        with pytest.raises(HiganError, match=words):
            Generator(tiny(), "tiny", **settings)  # type: ignore[arg-type]
    model = Generator(tiny(label_dim=3), "conditional")
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(HiganError, match="has classes 0 to 2"):
            model.map(model.sample(2, seed=0), labels)
    with pytest.raises(ValueError, match=r"needs labels \[N, 3\]"):
        model.network.map(model.sample(2, seed=0))


def test_an_image_needs_every_layer() -> None:
    model = Generator(tiny(), "tiny")
    with pytest.raises(ValueError, match="has not passed the last layer"):
        model.image(model.initial(torch.zeros(1, 6, 10)))


def test_layers_left_out_of_a_growing_stylegan() -> None:
    """Its last block is not there yet: the image is half as large, and each of its pixels is repeated."""
    torch.manual_seed(0)
    whole = StyleGAN(16, CHANNELS, z_dim=12, w_dim=10, mapping_layers=2)
    growing = StyleGAN(16, CHANNELS, z_dim=12, w_dim=10, mapping_layers=2, lod=1)
    growing.load_state_dict(whole.state_dict())
    model = Generator(growing, "growing")
    wp = model.to_wp(model.sample(2, seed=0), "z")
    images = model.synthesize(wp)
    assert images.shape == (2, 16, 16, 3)
    assert torch.equal(images, images[:, ::2, ::2].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))
    moved = wp.clone()
    moved[:, 4:] += 1  # of layers that are not there
    assert torch.equal(model.synthesize(moved), images)
    moved[:, 3] += 1
    assert not torch.equal(model.synthesize(moved), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_forms_of_instance_norm_agree(dtype: torch.dtype) -> None:
    """The first is a CPU's, the second a GPU's."""
    torch.manual_seed(0)
    x = (3 * torch.randn(3, 5, 8, 8) + 2).to(dtype)
    scale, offset = torch.randn(2, 3, 5)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05  # a rounding more in bfloat16, of values up to 10
    deviation, mean = torch.std_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)
    expected = (x.float() - mean) / deviation * scale[:, :, None, None] + offset[:, :, None, None]
    for form in (normalize_rows, normalize_batch):
        found = form(x, scale, offset)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)
