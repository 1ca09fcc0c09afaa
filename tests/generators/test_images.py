"""Images that are not square, not RGB, or larger than 1024x1024: networks, pages, videos, files and predictors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.model import NAMES
from torch import Tensor

from higan.checkpoints import write_checkpoint
from higan.editing.edits import synthesize_steps
from higan.files import encode_image, to_rgb
from higan.generators import load_generator
from higan.generators.generator import Generator
from higan.generators.pggan import PGGAN
from higan.generators.stylegan import StyleGAN
from higan.generators.stylegan2 import StyleGAN2
from higan.predictors.predictor import Predictor
from higan.report.grid import write_grid_page
from higan.report.page import encode_rows
from higan.report.video import Mosaic

CHANNELS = {4: 6, 8: 6, 16: 6}


def make(kind: type[StyleGAN] | type[StyleGAN2], size: tuple[int, int], channels: int = 3, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    network = kind(16, CHANNELS, 12, 10, 2, image_channels=channels, start_size=size)
    torch.nn.init.normal_(network.const)
    for layer in network.layers:
        torch.nn.init.constant_(layer.noise_strength, 0.3)
    return Generator(network, "tiny", truncation_psi=0.7, truncation_layers=3)


@pytest.mark.parametrize("kind", [StyleGAN, StyleGAN2])
@pytest.mark.parametrize("size", [(4, 2), (4, 6)])
@pytest.mark.parametrize("noise", ["const", "none", "random"])
def test_images_that_are_not_square(kind: type[StyleGAN] | type[StyleGAN2], size: tuple[int, int], noise: str) -> None:
    generator = make(kind, size)
    generator.noise = noise
    height, width = (side * 4 for side in size)
    assert generator.image_size == (height, width)
    assert generator.resolution == max(height, width)
    images = generator.synthesize(generator.sample(3, seed=0), "z")
    assert images.shape == (3, height, width, 3)
    assert generator.synthesize(torch.zeros(0, 12), "z").shape == (0, height, width, 3)
    wp = generator.to_wp(generator.sample(3, seed=0), "z")
    steps = list(synthesize_steps(generator, torch.stack([wp, wp + 0.1], dim=1)))
    assert np.array_equal(np.stack(steps)[:, 0], images.numpy())


@pytest.mark.parametrize("kind", [StyleGAN, StyleGAN2])
def test_transposed_weights_give_the_transposed_image(kind: type[StyleGAN] | type[StyleGAN2]) -> None:
    lying, standing = make(kind, (4, 6)), make(kind, (6, 4))
    turned = {name: value.mT if value.ndim == 4 else value for name, value in lying.network.state_dict().items()}
    standing.network.load_state_dict(turned)
    standing.network.prepare(torch.float32)
    wp = lying.to_wp(lying.sample(2, seed=0), "z")
    assert torch.allclose(standing.render(wp), lying.render(wp).mT, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images(tmp_path: Path, channels: int) -> None:
    generator = make(StyleGAN2, (4, 4), channels)
    settings = {"start_size": (4, 4), "image_channels": channels}
    write_checkpoint(tmp_path / "model.pth", "stylegan2", generator.network.state_dict(), settings)
    found = load_generator(tmp_path / "model.pth", device="cpu", truncation_psi=0.7, truncation_layers=3)
    assert found.image_channels == channels
    images = found.synthesize(found.sample(4, seed=0), "z")
    assert torch.equal(images, generator.synthesize(generator.sample(4, seed=0), "z"))
    assert images.shape == (4, 16, 16, channels)
    pictures = images.numpy()
    write_grid_page(tmp_path / "page.html", iter(pictures), num=4, title="page")
    strips, _, size = encode_rows(iter([pictures]), 1)
    assert size == (16, 16) and len(strips) == 1
    assert Mosaic().frame(list(pictures)).shape[2] == 3
    for image_format, mode in (("png", "L" if channels == 1 else "RGBA"), ("jpg", "L" if channels == 1 else "RGB")):
        (tmp_path / "picture").write_bytes(encode_image(pictures[0], image_format))
        with Image.open(tmp_path / "picture") as image:
            assert image.mode == mode and image.size == (16, 16)


@pytest.mark.parametrize("channels", [1, 4])
def test_pggan_of_other_channels(channels: int) -> None:
    generator = Generator(PGGAN(16, CHANNELS, 12, image_channels=channels), "tiny")
    assert generator.synthesize(generator.sample(2, seed=0), "z").shape == (2, 16, 16, channels)


def test_what_is_transparent_is_shown_on_a_checkerboard() -> None:
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[:8, :, :] = 100, 150, 200, 255
    shown = to_rgb(picture[None])[0]
    assert (shown[:8] == (100, 150, 200)).all()
    assert (shown[8:, :8] == 204).all() and (shown[8:, 8:] == 255).all()
    assert np.array_equal(to_rgb(picture[:, :, :1]), picture[:, :, [0, 0, 0]])


def test_predictors_see_rgb() -> None:
    seen: list[Tensor] = []

    def score(images: Tensor) -> dict[str, Tensor]:
        seen.append(images)
        return {"attribute": torch.zeros(len(images), len(NAMES))}

    predictor = Predictor("seen", {"attribute": list(NAMES)}, score, torch.device("cpu"))
    grey = torch.full((2, 8, 8, 1), 77, dtype=torch.uint8)
    clear = torch.tensor([10, 20, 30, 0], dtype=torch.uint8).expand(2, 8, 8, 4)
    full = torch.tensor([10, 20, 30, 255], dtype=torch.uint8).expand(2, 8, 8, 4)
    for images, expected in ((grey, (77, 77, 77)), (clear, (255, 255, 255)), (full, (10, 20, 30))):
        predictor.predict(images)
        assert torch.equal(seen[-1], torch.tensor(expected, dtype=torch.uint8).expand(2, 8, 8, 3))


def test_large_images_are_inferred() -> None:
    """2048x2048: the settings come from shapes alone."""
    with torch.device("meta"):
        network = StyleGAN2(2048, {4 * 2**block: 2 for block in range(10)}, 8, 8, 2)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    settings = StyleGAN2.infer_settings(shapes)
    assert (settings["resolution"], settings["start_size"], network.num_layers) == (2048, (4, 4), 20)
    assert network.image_size == (2048, 2048)


def test_a_network_without_layers() -> None:
    """Of PGGAN, all is done where the state begins; z stays z, whatever its scale was."""
    network = PGGAN(16, CHANNELS, 12)
    z = torch.from_numpy(network.sample(2, seed=0, start=0))
    state = network.initial(z)
    assert network.styles(z) == [] and network.noise_size(0) == (0, 0)
    assert network.layer(0, state, z) is state and network.map(z) is z and network.broadcast(z, torch.ones(0)) is z
    assert torch.allclose(network.normalize(5 * z), z, atol=1e-6)
