"""Inversion: pictures of any kind as the model takes them, codes found again, runs that go on, what is refused."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.model import SETTINGS, write_model
from support.scripts import run

import higan
from higan import inversion as program
from higan.checkpoints import __main__ as checkpoints
from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.commands.scripts import run_script
from higan.editing import inversion as optimisation
from higan.editing import inversion_files
from higan.editing import pictures as pictures_module
from higan.editing.inversion import (
    STATISTICS,
    autocorrelation,
    first_codes,
    percentile,
    pixel_loss,
    ramp,
    remark,
    sample_statistics,
    tune,
    visible,
)
from higan.editing.pictures import blend, find_pictures, read_picture
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.pggan import PGGAN
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors import features as features_module
from higan.predictors.features import load_features

SIZE = (16, 16)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return higan.load_generator(write_model(tmp_path_factory.mktemp("model")))


def ramp_picture(width: int, height: int) -> Image.Image:
    """Return a picture that grows brighter to the right, RGB."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2))


def command(*arguments: object) -> int:
    """Run `python -m higan.inversion` in this process; return its exit status."""
    before, sys.argv = sys.argv, ["inversion", *map(str, arguments)]
    try:
        run_script(program.main)
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


# pictures


def test_crop_keeps_the_aspect(tmp_path: Path) -> None:
    ramp_picture(100, 40).save(tmp_path / "wide.png")
    picture = read_picture(tmp_path / "wide.png", SIZE)
    assert picture.image.shape == (16, 16, 3) and picture.photo.shape == (40, 40, 3)
    assert abs(int(picture.image.mean()) - 127) < 4  # the middle
    assert read_picture(tmp_path / "wide.png", SIZE, "0,0,20,20").image.mean() < 40
    assert read_picture(tmp_path / "wide.png", SIZE, "stretch").photo.shape == (40, 100, 3)
    assert read_picture(tmp_path / "wide.png", (8, 16)).photo.shape == (40, 80, 3)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    rgb = ramp_picture(32, 32)
    expected = np.asarray(rgb.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    for name, picture in {
        "grey.png": rgb.convert("L"),
        "deep.png": deep,
        "cmyk.jpg": rgb.convert("CMYK"),
        "alpha.png": rgb.convert("RGBA"),
        "palette.png": rgb.quantize(256),
    }.items():
        picture.save(tmp_path / name, **({"quality": 100} if name.endswith("jpg") else {}))
        found = read_picture(tmp_path / name, SIZE).image.astype(int)
        assert np.abs(found - expected).max() <= 4, name
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png", SIZE).image == 255).all()  # on white


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    ramp_picture(64, 32).save(tmp_path / "turned.jpg", exif=exif)
    picture = read_picture(tmp_path / "turned.jpg", SIZE, "stretch")
    assert picture.photo.shape == (64, 32, 3)
    assert picture.image[0].mean() < 40 < 200 < picture.image[-1].mean()


def bomb() -> bytes:
    """Return a PNG of 60,000 x 60,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no picture"),
        (b"hello", "no picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "no picture|damaged"),
        (bomb(), "pixels"),
    ],
)
def test_a_bad_picture_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(HiganError, match=message):
        read_picture(tmp_path / "bad.png", SIZE)


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    ramp_picture(1, 1).save(tmp_path / "dot.png")
    ramp_picture(40, 40).save(tmp_path / "good.png")
    cut = (tmp_path / "good.png").read_bytes()[:-30]
    (tmp_path / "cut.png").write_bytes(cut)
    with pytest.raises(HiganError, match="1 x 1 pixels; expected 16 a side"):
        read_picture(tmp_path / "dot.png", SIZE)
    with pytest.raises(HiganError, match="damaged"):
        read_picture(tmp_path / "cut.png", SIZE)
    with pytest.raises(HiganError, match="lies outside"):
        read_picture(tmp_path / "good.png", SIZE, "30,30,20,20")
    with pytest.raises(HiganError, match="expected center, stretch"):
        read_picture(tmp_path / "good.png", SIZE, "left")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HiganError, match="holds no picture"):
        find_pictures([tmp_path / "empty"])
    with pytest.raises(HiganError, match="there is no picture"):
        find_pictures([tmp_path / "none.png"])
    (tmp_path / "._good.png").write_bytes(b"what macOS leaves beside a file on other disks")
    assert [path.name for path in find_pictures([tmp_path])] == ["cut.png", "dot.png", "good.png"]


def test_blend_changes_only_where_the_edit_acts() -> None:
    generator = np.random.default_rng(0)
    photo = generator.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    before = np.full((16, 16, 3), 100, np.uint8)
    after = before.copy()
    after[:4, :4] = 160
    assert np.array_equal(blend(photo, before, before), photo)
    mixed = blend(photo, before, after)
    assert np.array_equal(mixed[40:, 40:], photo[40:, 40:])
    assert (mixed[:10, :10].astype(int) - photo[:10, :10]).mean() > 20


# the optimisation


def test_own_samples_are_found_again(generator: Generator) -> None:
    pictures = generator.synthesize(generator.sample(2, 5), "z").cpu().numpy()
    found = higan.invert(generator, pictures, steps=100)
    statistics = sample_statistics(generator)
    average = generator.synthesize(statistics.place(torch.zeros(2, 1, 16), generator)).cpu().numpy()
    error = np.square(average.astype(float) - pictures).mean(axis=(1, 2, 3))
    assert found.codes.shape == (2, 6, 16) and found.space == "wp" and found.losses.shape == (100, 2)
    assert (found.psnr > 10 * np.log10(255**2 / error) + 10).all()  # than the average: ten times nearer
    assert np.array_equal(found.images, generator.synthesize(found.codes).cpu().numpy())
    assert (found.losses[-1] < found.losses[0] / 3).all()
    assert (found.image_percentile < 99).all() and (found.code_percentile < 100).all()
    assert "2 pictures" in repr(found)


def test_an_inversion_depends_on_nothing_but_its_picture(generator: Generator) -> None:
    pictures = generator.synthesize(generator.sample(3, 5), "z").cpu().numpy()
    together = higan.invert(generator, pictures, steps=20)
    alone = higan.invert(generator, pictures[1:2], steps=20)
    assert repr(alone).startswith("Inversion of 1 picture: ")
    assert torch.allclose(together.codes[1:2], alone.codes, atol=2e-3)


def test_a_model_without_layers() -> None:
    torch.manual_seed(0)
    generator = Generator(PGGAN(16, {4: 8, 8: 8, 16: 8}, 16), "plain")
    picture = generator.synthesize(generator.sample(1, 3), "z").cpu().numpy()
    found = higan.invert(generator, picture, steps=150)
    assert found.space == "z" and found.codes.shape == (1, 16) and found.psnr[0] > 20


def test_noise_is_said_to_be_no_picture_of_the_model(generator: Generator) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3)).astype(np.uint8)
    found = higan.invert(generator, noise, steps=60)
    own = higan.invert(generator, generator.synthesize(generator.sample(1, 5), "z").cpu().numpy(), steps=60)
    assert found.image_percentile[0] == 100 > own.image_percentile[0] and found.psnr[0] < own.psnr[0]


def test_features_take_part(generator: Generator) -> None:
    pictures = generator.synthesize(generator.sample(1, 5), "z").cpu().numpy()
    plain = higan.invert(generator, pictures, steps=12)
    with_features = higan.invert(generator, pictures, steps=12, features=lambda images: [images, images[:, :, ::2]])
    assert not torch.allclose(plain.codes, with_features.codes)


def test_the_parts(generator: Generator) -> None:
    images = torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    assert pixel_loss(images, images).tolist() == [0, 0]
    # a constant difference of 0.5 is the same at each of the four scales: 4 * (0.5 + 2 * 0.25)
    assert torch.allclose(pixel_loss(images, images + 0.5), torch.full((2,), 4.0), atol=1e-5)
    assert pixel_loss(images[..., :2, :2], images[..., :2, :2] + 0.5).tolist() == pytest.approx([1.0, 1.0])
    assert ramp(0.5, 0.5) == 1 and ramp(1, 1 - 0.125) == pytest.approx(0.5) and ramp(0.01, 0.5) == pytest.approx(0.2)
    assert percentile(np.array([1.0, 2, 3, 4]), np.array([0.0, 2.5, 9])).tolist() == [0, 50, 100]
    statistics = sample_statistics(generator)
    assert statistics.codes.shape == (STATISTICS, 6, 16)
    target = generator.render(statistics.codes[7:8])
    starts = first_codes(generator, statistics, target, 3)
    assert starts.shape == (3, 1, 16) and not starts[0].any()
    assert torch.allclose(statistics.place(starts[1:2], generator), statistics.codes[7:8], atol=1e-4)


@pytest.mark.parametrize("change", [{"steps": 5}, {"starts": 0}, {"images": np.zeros((1, 8, 8, 3), np.uint8)}])
def test_what_cannot_be_inverted(generator: Generator, change: dict) -> None:
    with pytest.raises(HiganError, match=r"expected|inverted from"):
        higan.invert(generator, **({"images": np.zeros((1, *SIZE, 3), np.uint8)} | change))


def test_features_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    name, features = load_features(None, "rooms", device)
    assert name == "rooms" and features is not None
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(values.sum() for values in features(images)).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert load_features(None, "scene", device) == ("none", None) == load_features("none", "rooms", device)
    (tmp_path / "own_features.py").write_text("def make(device):\n    return lambda images: [images]\n")
    monkeypatch.chdir(tmp_path)
    assert load_features("own_features:make", "", device)[1] is not None
    for bad in ("nothing", "own_features:none", "no_such_module:make"):
        with pytest.raises(HiganError, match="features"):
            load_features(bad, "", device)


def test_hidden_colours_do_not_count() -> None:
    images = torch.rand(1, 4, 8, 8) * 2 - 1
    images[:, 3, :4] = -1  # transparent
    others = images.clone()
    others[:, :3, :4] = 0.5
    assert torch.allclose(visible(images), visible(others)) and (visible(images)[:, :3, :4] == 1).all()  # on white
    others[:, :3, 4:] = 0.5
    assert not torch.allclose(visible(images), visible(others))


# tuning the model


def noisy_generator(tmp_path: Path) -> Generator:
    """Return the tiny model, whose layers use their noise, and few samples for its statistics."""
    generator = higan.load_generator(write_model(tmp_path))
    for name, strength in generator.network.named_parameters():
        if name.endswith("noise_strength"):
            strength.data.fill_(0.3)
    generator.network.prepare(torch.float32)
    return generator


@pytest.mark.parametrize("what", ["weights", "noise", "both"])
def test_a_tuned_model_draws_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(optimisation, "NOISE_WEIGHT", 0.0)  # on so few pixels the noise would do nothing but whiten
    generator = noisy_generator(tmp_path)
    pictures = np.stack([np.asarray(ramp_picture(16, 16))] * 2)
    codes = generator.to_wp(generator.sample(2, 1), "z")
    state = {name: value.clone() for name, value in generator.network.state_dict().items()}
    before = tune(generator, codes, pictures, what, steps=1, batch_size=1)
    after = tune(generator, codes, pictures, what, steps=30)
    assert after.shape == (2,) and (after > before).all()
    assert not any(tensor.requires_grad for tensor in generator.network.parameters())
    found = generator.network.state_dict()
    changed = {name.rpartition(".")[2] for name, value in state.items() if not torch.equal(value, found[name])}
    assert ("noise" in changed) == (what != "weights") and ("weight" in changed) == (what != "noise")
    assert all(
        name.startswith(("layers", "outputs", "const")) for name in state if not torch.equal(state[name], found[name])
    )
    if what == "noise":
        noise = found["layers.4.noise"]
        assert float(noise.mean()) == pytest.approx(0, abs=1e-5)
        assert float(noise.square().mean()) == pytest.approx(1, abs=1e-4)


def test_noise_is_kept_white(tmp_path: Path) -> None:
    generator = noisy_generator(tmp_path)
    noise = next(value for name, value in generator.network.named_buffers() if name == "layers.4.noise")
    before = float(autocorrelation(noise))
    codes = generator.to_wp(generator.sample(1, 1), "z")
    tune(generator, codes, np.asarray(ramp_picture(16, 16))[None], "noise", steps=20)
    assert float(autocorrelation(noise)) < before / 4


def test_noise_that_is_smooth_is_told() -> None:
    torch.manual_seed(0)
    white = torch.randn(1, 1, 32, 32)
    smooth = torch.nn.functional.avg_pool2d(white, 3, 1, 1)
    assert autocorrelation(smooth / smooth.std()) > 5 * autocorrelation(white)
    # one scale: the squared mean products of neighbours, in both directions
    assert float(autocorrelation(torch.ones(1, 1, 8, 8))) == 2


def test_what_cannot_be_tuned(generator: Generator) -> None:
    pictures = np.zeros((1, *SIZE, 3), np.uint8)
    with pytest.raises(HiganError, match="a code for each picture"):
        tune(generator, torch.zeros(2, 6, 16), pictures)
    plain = Generator(PGGAN(16, {4: 8, 8: 8, 16: 8}, 16), "plain")
    with pytest.raises(HiganError, match="no noise of its own"):
        tune(plain, torch.ones(1, 16), pictures, "noise")


# the command


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_models_of_other_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, mode: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optimisation, "STATISTICS", 40)
    settings = SETTINGS | {"image_channels": channels}
    write_checkpoint("other.pth", "stylegan2", StyleGAN2(**settings).state_dict(), settings)
    photo = ramp_picture(40, 30).convert("RGBA")
    photo.putalpha(Image.new("L", photo.size, 128))
    photo.save("photo.png")
    assert command("other.pth", "photo.png", "-o", "out", "--steps", 10, "--starts", 1, "--features", "rooms") == 0
    assert np.load("out/wp.npy").shape == (1, 6, 16)
    for view in ("before", "after"):
        assert Image.open(f"out/photo_{view}.png").mode == mode
    np.save("direction.npy", np.eye(1, 16, dtype=np.float32))
    boundaries = tmp_path / "boundaries" / "other"
    boundaries.mkdir(parents=True)
    np.save(boundaries / "bright_boundary.npy", np.eye(1, 16, dtype=np.float32))
    blended = ("other.pth", "bright", "--picture", "photo.png", "--blend", "--invert_steps=10", "-o", "blended")
    assert run("simple_manipulate", *blended) == 0


def test_command_tunes_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optimisation, "STATISTICS", 40)
    original = higan.load_generator(write_model(tmp_path))
    for index in range(2):
        ramp_picture(20 + index, 20).save(f"{index}.png")
    arguments = ["tiny.pth", "0.png", "1.png", "-o", "out", "--steps", 10, "--tune", "weights", "--tune_steps", 8]
    arguments += ["--truncation_psi", 0.7]
    assert command(*arguments) == 0
    said = capsys.readouterr().out
    assert "tuned: out/tuned/tiny.pth" in said and said.count("dB with the tuned model") == 2
    tuned = Path("out/tuned/tiny.pth")
    first, psnr = tuned.read_bytes(), np.load("out/tuned.npy")
    assert (psnr > np.load("out/inversion.npy")["psnr"]).all()
    assert "tuned/tiny.pth, tuned to them" in Path("out/inversion.html").read_text()
    assert command(*arguments) == 0  # finished: nothing is done again
    assert tuned.read_bytes() == first

    generator = higan.load_generator(tuned)
    assert generator.tuned_from == ("tiny", original.sha256)
    pictures = generator.synthesize(np.load("out/wp.npy")).numpy()
    assert np.array_equal(pictures[1], np.asarray(Image.open("out/1_after.png")))

    monkeypatch.setattr("sys.argv", ["checkpoints", str(tuned), "--convert", "again.safetensors"])
    checkpoints.main()
    assert f"tuned from         tiny ({original.sha256[:12]})" in capsys.readouterr().out
    assert read_checkpoint("again.safetensors").tuned_from == ("tiny", original.sha256)

    # boundaries and codes of the model belong to the tuned one
    np.save("direction.npy", np.eye(1, 16, dtype=np.float32))
    Path("direction.json").write_text(f'{{"model_name": "tiny", "model_sha256": "{original.sha256}"}}')
    edit = ("direction.npy", "-c", "out/wp.npy", "--layerwise_manipulation", "--generate_html")
    assert run("manipulate", str(tuned), *edit, "-o", "edited") == 0
    said = capsys.readouterr().out
    assert "truncation_psi 0.7" in said and "nearer to their pictures" not in said
    assert "16 × 16, tuned)" in Path("edited/direction_w_viz.html").read_text()
    assert run("manipulate", "tiny.pth", *edit, "-o", "edited") == 0
    assert "tuned/tiny.pth, in its folder, draws these codes nearer" in capsys.readouterr().out

    # a new run tunes anew, and one that was killed before the weights were whole too
    assert command(*arguments[:-2], "--tune_steps", 8, "--truncation_psi", 0.5, "--overwrite") == 0
    tuned.unlink()
    assert command(*arguments[:-2], "--truncation_psi", 0.5) == 0
    assert tuned.exists()
    ramp_picture(20, 20).save("0_after.png")
    mine = Path("0_after.png").read_bytes()
    assert command("tiny.pth", "0.png", "0_after.png", "-o", ".", "--steps", 10) == 2
    assert "0_after.png would be written over by a picture of this run" in capsys.readouterr().err
    assert Path("0_after.png").read_bytes() == mine
    other = read_checkpoint(tuned)
    del other.state_dict["w_avg"]
    write_checkpoint(tuned, other.family, other.state_dict, other.settings)
    assert command(*arguments[:-2], "--truncation_psi", 0.5) == 2
    assert "out/tuned/tiny.pth holds other tensors than tiny; remove it" in capsys.readouterr().err
    assert command(*arguments[:3], "-o", "bad", "--noise", "random") == 2
    assert command(*arguments[:3], "-o", "bad", "--noise", "none", "--tune", "both") == 2
    assert not Path("bad").exists()


def test_little_memory_takes_fewer_pictures_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optimisation, "STATISTICS", 20)
    write_model(tmp_path)
    for index in range(4):
        ramp_picture(20 + index, 20).save(f"{index}.png")
    most = 2
    sizes: list[int] = []
    original = inversion_files.invert

    def scarce(generator: Generator, pictures: np.ndarray, *rest: object) -> object:
        sizes.append(len(pictures))
        if len(pictures) > most:
            raise torch.OutOfMemoryError("out of memory")
        return original(generator, pictures, *rest)

    monkeypatch.setattr(inversion_files, "invert", scarce)
    arguments = ["tiny.pth", *(f"{index}.png" for index in range(4)), "--steps", 10, "--starts", 1]
    monkeypatch.setattr(inversion_files, "MOST_LINES", 3)
    assert command(*arguments, "-o", "out") == 0
    said = capsys.readouterr().out
    assert "4 pictures: " in said and "0: " not in re.sub(r"\d:\d", "", said)  # not a line for each of many
    assert sizes[-3:] == [4, 2, 2] and np.load("out/wp.npy").any(axis=(1, 2)).all()
    most = 0
    assert command(*arguments, "-o", "none") == 2
    assert "memory does not suffice for one image at a time" in capsys.readouterr().err


def test_names_of_many_pictures() -> None:
    assert inversion_files.unique_names(["a", "a", "a_2", "b", "a"]) == ["a", "a_2", "a_2_2", "b", "a_3"]
    assert len(set(inversion_files.unique_names(["same"] * 10_000))) == 10_000
    long = inversion_files.unique_names(["b" * 250, "b" * 251, "\u5199" * 84, "\udcff"])
    assert long == ["b" * 200, "b" * 200 + "_2", "\u5199" * 66, "\udcff"], "files called after them have longer names"


def test_only_well_formed_words_say_what_was_tuned(tmp_path: Path) -> None:
    state = read_checkpoint(write_model(tmp_path)).state_dict
    for name in ("tuned.pth", "tuned.safetensors"):
        write_checkpoint(tmp_path / name, "stylegan2", state, SETTINGS, ("tiny", "ab" * 32))
        assert read_checkpoint(tmp_path / name).tuned_from == ("tiny", "ab" * 32)
    for bad in (("tiny", "no digest"), ("\n", "ab" * 32), ("a" * 200, "ab" * 32)):
        write_checkpoint(tmp_path / "bad.pth", "stylegan2", state, SETTINGS, bad)
        assert read_checkpoint(tmp_path / "bad.pth").tuned_from is None


def test_command_goes_on_and_its_codes_are_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    (tmp_path / "pictures").mkdir()
    for index in range(3):
        ramp_picture(30 + index, 20).save(tmp_path / "pictures" / f"{index}.png")
    ramp_picture(20, 20).save(tmp_path / "0.png")
    arguments = ["tiny.pth", "pictures", "0.png", "-o", "out", "--steps", 12, "--batch_size", 1]
    calls: list[int] = []
    original = inversion_files.invert

    def killed(*args: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(inversion_files, "invert", killed)
    assert command(*arguments) == 130
    assert command(*arguments) == 0
    assert len(calls) == 5  # two were done before
    codes = np.load("out/wp.npy")
    assert codes.shape == (4, 6, 16) and np.load("out/loss.npy").shape == (4, 12)
    assert (tmp_path / "out" / "inversion.html").stat().st_size > 2000
    assert sorted(path.name for path in (tmp_path / "out").glob("0*.png")) == sorted(
        f"{name}_{view}.png" for name in ("0", "0_2") for view in ("before", "after", "difference")
    )
    assert "dB" in capsys.readouterr().out
    np.save("direction.npy", np.eye(1, 16, dtype=np.float32))
    Path("list.txt").write_text("(direction, w): direction.npy\n")
    status = run("manipulate", "tiny.pth", "list.txt", "-c", "out/wp.npy", "--latent_space_type=wp",
                 "--layerwise_manipulation", "-o", "edited")  # fmt: skip
    assert status == 0
    assert np.load("edited/direction_w_manipulated_wp.npy").shape[:2] == (4, 7)
    assert command("tiny.pth", "none.png", "-o", "bad") == 2
    assert command("tiny.pth", "0.png", "-o", "bad", "--steps", 1) == 2
    assert not Path("bad").exists()


def test_one_picture_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    boundaries = tmp_path / "boundaries" / "tiny"
    boundaries.mkdir(parents=True)
    np.save(boundaries / "bright_boundary.npy", np.eye(1, 16, dtype=np.float32))
    ramp_picture(60, 40).save(tmp_path / "photo.png")
    arguments = ("tiny.pth", "bright", "--picture", "photo.png", "--invert_steps=12", "-o", "out")
    assert run("simple_manipulate", *arguments) == 0
    assert run("simple_manipulate", *arguments, "--blend") == 0
    assert "looking for the code of photo.png in 12 steps" in capsys.readouterr().out
    assert np.load("out/tiny_bright_manipulated_wp.npy").shape == (1, 5, 6, 16)
    for option in ("--blend", "--crop=stretch"):
        assert run("simple_manipulate", "tiny.pth", "bright", option, "-o", "bad") == 2
    assert run("simple_manipulate", *arguments, "-c", "photo.npy") == 2
    assert run("simple_manipulate", *arguments, "--samples=3") == 2
    assert run("simple_manipulate", "tiny.pth", "bright", "--picture", "none.png", "-o", "bad") == 2
    said = capsys.readouterr().err
    assert (
        "give --picture" in said and "leave one out" in said and "there is one picture" in said and "none.png" in said
    )
    assert not Path("bad").exists()


def test_what_is_said_of_a_code_far_out() -> None:
    assert remark(31.26, 50, 50) == "31.3 dB"
    text = remark(20, 99.9, 100)
    assert "outside of what the model draws: 100.0 %" in text and "the code lies farther out than 99.9 %" in text


def test_features_whose_files_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(device: torch.device) -> None:
        raise HiganError("no weights")

    monkeypatch.setitem(features_module.KNOWN, "rooms", missing)
    assert load_features(None, "rooms", torch.device("cpu")) == ("none", None)
    with pytest.raises(HiganError, match="no weights"):
        load_features("rooms", "", torch.device("cpu"))


def test_large_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp_picture(64, 64).save(tmp_path / "large.png")
    assert read_picture(tmp_path / "large.png", SIZE, photo_side=20).photo.shape == (20, 20, 3)
    monkeypatch.setattr(pictures_module, "MOST_PIXELS", 1000)
    with pytest.raises(HiganError, match="64 x 64 pixels; expected 1000 in all at most"):
        read_picture(tmp_path / "large.png", SIZE)
