"""Codes of files in every form that tools write: their space by one rule, their shape, their numbers."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.golden import GOLDEN
from support.model import LAYERS, write_model

from higan import load_generator
from higan.checkpoints import arrays
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.codes import Codes

D = 16
RNG = np.random.default_rng(5)
Z, W = (RNG.standard_normal((3, D)).astype(np.float32) for _ in range(2))
WP = RNG.standard_normal((3, LAYERS, D)).astype(np.float32)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load_generator(write_model(tmp_path_factory.mktemp("model")), device="cpu")


def save(path: Path, content: Any) -> Path:
    """Write `content` as the kind of file that its name says."""
    if path.suffix == ".pt":
        torch.save(content, path)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    else:
        np.save(path, content, allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("name", "content", "asked", "space", "expected"),
    [
        ("w.npy", W, None, "w", W),
        ("ffhq_w.npy", W, None, "w", W),
        ("ffhq-wp.npy", WP, None, "wp", WP),
        ("codes.w+.npy", WP, None, "wp", WP),
        ("wood_w_manipulated_wp.npy", WP[:, None].repeat(5, 1), None, "wp", WP.repeat(5, 0)),
        ("wood_w_manipulated_w.npy", W[:, None].repeat(LAYERS, 1), None, "w", W.repeat(LAYERS, 0)),
        ("codes.npy", W[:, None], "w", "w", W),
        ("codes.npy", W[:, None].repeat(2, 1), "w", "w", W.repeat(2, 0)),
        ("codes.npy", WP, None, "wp", WP),
        ("codes.npy", WP[0], "wp", "wp", WP[:1]),
        ("w.npy", W[0], None, "w", W[:1]),
        ("w.npy", (9 * W).astype(np.int64), None, "w", np.trunc(9 * W)),
        ("wp.npy", np.asfortranarray(WP.astype(np.float64)), None, "wp", WP),
        ("z.npy", W, "w", "w", W),
        ("projected_w.npz", {"w": WP[:1]}, None, "wp", WP[:1]),
        ("dlatents.npz", {"dlatents": WP, "noise": W}, None, "wp", WP),
        ("both.npz", {"z": Z, "w": W}, "w", "w", W),
        ("latents.npy", {"a.jpg": WP[0], "b.jpg": WP[1]}, None, "wp", WP[:2]),
        ("latents.pt", torch.from_numpy(WP), None, "wp", WP),
        ("latents.pt", {"a.jpg": torch.from_numpy(WP[:1]), "b.jpg": torch.from_numpy(WP[1:2])}, None, "wp", WP[:2]),
        ("face.pt", {"a.jpg": OrderedDict(img=torch.zeros(3, 4), latent=torch.from_numpy(WP[2]))}, "wp", "wp", WP[2:]),
        ("face.pt", [torch.from_numpy(WP[0]), torch.from_numpy(WP[1])], None, "wp", WP[:2]),
    ],
)
def test_what_other_tools_write(
    tmp_path: Path, generator: Generator, name: str, content: Any, asked: str | None, space: str, expected: np.ndarray
) -> None:
    codes = Codes(generator, path=save(tmp_path / name, content), space=asked)
    assert (codes.space, codes.num) == (space, len(expected)) and name in codes.source
    np.testing.assert_allclose(codes.rows(0, codes.num), expected, atol=1e-6)
    np.testing.assert_array_equal(codes.rows(codes.num - 1, codes.num), codes.rows(0, codes.num)[-1:])


def test_z_lies_on_the_sphere(tmp_path: Path, generator: Generator) -> None:
    codes = Codes(generator, path=save(tmp_path / "z.npy", Z))
    np.testing.assert_allclose(codes.rows(0, 3), Z / np.linalg.norm(Z, axis=1, keepdims=True) * 4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "asked", "words"),
    [
        ("codes.npy", W, None, r"holds codes \[3, 16\], which may be of z or w: say which with --latent_space_type"),
        ("codes.npy", WP[0], None, r"\[6, 16\], which may be of z or w or wp"),
        ("codes.npy", WP, "w", r"holds codes \[3, 6, 16\]; tiny expects \[N, 16\] in w"),
        ("codes.npy", W[:, :5], None, r"expects \[N, 16\] in z or \[N, 16\] in w or \[N, 6, 16\] in wp"),
        ("codes.npy", W.astype(complex), "w", r"holds complex128 \[3, 16\]; expected numbers"),
        ("codes.npy", W[:0], "w", r"holds float32 \[0, 16\]; expected numbers"),
        ("codes.npy", np.where(np.isclose(W, W[1, 2]), np.inf, W), "w", "code 1 holds NaN or infinity"),
        (
            "both.npz",
            {"z": Z, "w": W},
            None,
            "holds z, w; expected one array of codes.*choose with --latent_space_type",
        ),
        ("more.npz", {"a": Z, "b": WP}, None, "holds a, b; expected one array of codes, or codes of one shape"),
        ("objects.npz", {"w": np.array({"a": W}, object)}, None, "its 'w' is no plain array"),
        ("text.npy", {"a": "b"}, None, "holds no arrays"),
        ("none.pt", 3, None, "is truncated or not an array .it holds an object of type int without arrays."),
    ],
)
def test_what_is_refused(
    tmp_path: Path, generator: Generator, name: str, content: Any, asked: str | None, words: str
) -> None:
    with pytest.raises(HiganError, match=words):
        Codes(generator, path=save(tmp_path / name, content), space=asked)


def test_all_codes_are_checked(tmp_path: Path, generator: Generator) -> None:
    codes = np.zeros((9000, D))
    assert Codes(generator, path=save(tmp_path / "w.npy", codes)).num == 9000
    codes[8123, 1] = np.inf
    with pytest.raises(HiganError, match="code 8123 holds NaN or infinity"):
        Codes(generator, path=save(tmp_path / "w.npy", codes))


def test_a_record_decides_the_space(tmp_path: Path, generator: Generator) -> None:
    path = save(tmp_path / "z.npy", W)
    (tmp_path / "z.json").write_text(json.dumps({"space": "w", "model_name": "tiny"}))
    assert Codes(generator, path=path).source.endswith("z.npy: 3 codes of w (by its record)")
    with pytest.raises(HiganError, match=r"holds codes of space w \(by its record\), but z was asked for"):
        Codes(generator, path=path, space="z")
    (tmp_path / "z.json").write_text(json.dumps({"truncation_psi": "half"}))
    with pytest.raises(HiganError, match="truncation_psi is 'half'; correct it"):
        Codes(generator, path=path)
    for text, words in (("[", "not readable JSON"), ("[]", "holds a list; expected an object")):
        (tmp_path / "z.json").write_text(text)
        with pytest.raises(HiganError, match=words):
            Codes(generator, path=path)


def test_a_space_that_the_model_lacks(tmp_path: Path) -> None:
    generator = load_generator(GOLDEN / "pggan_tiny16_oldformat.pth", device="cpu")
    path = save(tmp_path / "w.npy", np.ones((2, generator.z_dim)))
    with pytest.raises(HiganError, match=r"codes of space w \(by the file's name\); .*has z: give --latent_space_type"):
        Codes(generator, path=path)
    assert Codes(generator, path=path, space="z").num == 2


def test_a_file_that_cannot_be_read(tmp_path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(arrays, "open_file", fail)
    with pytest.raises(HiganError, match=r"w\.npy cannot be read: Input/output error"):
        Codes(generator, path=save(tmp_path / "w.npy", W))


def test_damaged_archives_are_refused(tmp_path: Path, generator: Generator) -> None:
    whole = save(tmp_path / "w.npz", {"w": np.zeros((3, LAYERS, D))}).read_bytes()
    for content in (
        whole[:-30],
        whole[:40],
        whole.replace(b"NUMPY", b"NUMPX", 1),
        whole.replace(b"(3, 6, 16)", b"(9, 6, 16)"),
    ):
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(HiganError, match=r"w\.npz is truncated or not an array"):
            Codes(generator, path=tmp_path / "w.npz")
    with pytest.raises(HiganError, match="there is no file"):
        Codes(generator, path=tmp_path / "gone.npz")
