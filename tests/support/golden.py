"""The stored cases of tests/golden: weights by rule, expected codes and images (see tests/golden/README.md)."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from higan.checkpoints import Checkpoint
from higan.checkpoints.formats import genforce, nvlabs

GOLDEN = Path(__file__).parents[1] / "golden"
FIXED = ("resample_filter", "blur.kernel", "filter.kernel", "upsample.kernel", "truncation.truncation")


def rule_weight(key: str, shape: list[int], seed: int) -> np.ndarray | None:
    """The tensor that the weight rule gives a generator's state-dict key; None for one that is always the same."""
    if key.endswith(FIXED):
        return None
    *parts, last = key.split(".")
    if last == "lod":
        return np.zeros(shape, np.float32)
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    value = np.asarray(generator.standard_normal(tuple(shape))).astype(np.float32)
    if parts[:1] == ["mapping"] and "embed" not in parts and last in ("weight", "bias"):
        return np.float32({"weight": 100, "bias": 10}[last]) * value
    if last == "w_avg":
        return np.float32(0.2) * value
    if last == "noise_strength" or key.endswith("apply_noise.weight"):
        return np.float32(0.1) * value
    if key.endswith("affine.bias"):
        return np.float32(1) + np.float32(0.1) * value
    if last == "bias":
        return np.float32(0.1) * value
    to_rgb = any(part == "torgb" or part.startswith("output") for part in parts)
    if last == "weight" and to_rgb and not {"style", "affine"} & set(parts):
        return np.float32(0.3) * value
    return value


FURTHER_FIXED = ("kernel", "resample_filter", "up_filter", "down_filter", "transform", "weight_u", "weight_v")


def further_weight(key: str, shape: list[int], seed: int) -> np.ndarray | None:
    """The tensor of the weight rule of the further families; None for one that the architecture defines."""
    *parts, last = key.split(".")
    if last in FURTHER_FIXED:
        return None
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    value = np.asarray(generator.standard_normal(tuple(shape))).astype(np.float32)
    tenth = np.float32(0.1) * value
    if last in ("running_vars", "running_var", "stored_var", "magnitude_ema"):
        return np.abs(value) * np.float32(0.5) + np.float32(0.5)
    if last in ("running_means", "running_mean", "stored_mean"):
        return tenth
    if last in ("w_avg", "latent_avg"):
        return np.float32(0.2) * value
    if parts[:1] in (["mapping"], ["style"]) and "embed" not in parts:
        return np.float32({"weight": 100, "bias": 10}[last]) * value
    if last == "noise_strength" or key.endswith("noise.weight"):
        return tenth
    if key == "synthesis.input.affine.weight":
        return np.float32(0.2) * value
    if key == "synthesis.input.affine.bias":
        return np.eye(1, 4, dtype=np.float32)[0] + tenth
    if key.endswith(("affine.bias", "modulation.bias")) or last == "gain" or key == "generator.bn.weight":
        return np.float32(1) + tenth
    if last == "bias":
        return tenth
    if key in ("embeddings.weight", "shared.weight"):
        return np.float32(0.5) * value
    to_rgb = any(part == "torgb" or part.startswith("to_rgb") for part in parts)
    if last == "weight" and to_rgb and not {"affine", "modulation"} & set(parts):
        return np.float32(0.3) * value
    return value


def further_tensors(description: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of a case of the further families, without the tensors that the architecture defines."""
    overrides, seed = description.get("overrides", {}), description["seed"]
    tensors = {}
    for key, shape, _ in description["state_dict"]:
        value = further_weight(key, shape, seed)
        if value is not None:
            value = np.full(shape, overrides[key], np.float32) if key in overrides else value
            tensors[key] = torch.from_numpy(np.asarray(value))
    for key in [key for key, *_ in description["state_dict"] if key.endswith("weight_u")]:  # spectral norms
        matrix = tensors[key.replace("weight_u", "weight_orig")].flatten(1).double().numpy()
        u = np.random.default_rng([seed, zlib.crc32(key.encode())]).standard_normal(len(matrix))
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
        tensors[key] = torch.from_numpy(u.astype(np.float32))
        tensors[key.replace("weight_u", "weight_v")] = torch.from_numpy(v.astype(np.float32))
    return tensors


def read_case(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a case."""
    description = json.loads((GOLDEN / f"{name}.json").read_text())
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return description, dict(arrays)


def rule_tensors(keys: list[list[Any]], seed: int, overrides: dict[str, float] | None = None) -> dict[str, Tensor]:
    """The state dict of the rule for [key, shape, dtype] rows, without the tensors that the architecture defines."""
    tensors = {}
    for key, shape, _ in keys:
        value = rule_weight(key, shape, seed)
        if value is not None:
            value = np.array((overrides or {}).get(key, value), np.float32)
            tensors[key] = torch.from_numpy(value)
    return tensors


def rule_checkpoint(family: str, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Checkpoint:
    """A case's network in the layout of the project, through the converters' functions alone."""
    if family == "stylegan2-ada":
        arguments = settings["mapping_kwargs"] | settings["synthesis_kwargs"]
        state_dict, found = nvlabs.convert_tensors(dict(tensors), arguments)
        return Checkpoint("nvlabs", "stylegan2", found, state_dict)
    state_dict, found = genforce.convert_tensors(family, dict(tensors))
    return Checkpoint("genforce", family, found, state_dict)


def case_checkpoint(description: dict[str, Any]) -> Checkpoint:
    """The network of a case."""
    tensors = rule_tensors(description["state_dict"], description["seed"], description.get("overrides"))
    return rule_checkpoint(description["family"], tensors, description["settings"])


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a state dict as tests/golden/README.md defines it."""
    value = hashlib.sha256()
    for key in sorted(tensors):
        if not key.endswith(FIXED):
            value.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    return value.hexdigest()


def scene_weight(key: str, shape: list[int], seed: int) -> np.ndarray:
    """The tensor that the weight rule gives a state-dict key of the scene family."""
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    values = np.asarray(generator.standard_normal(tuple(shape))).astype(np.float32)
    last = key.rpartition(".")[2]
    if last == "running_var":
        return np.abs(values) * np.float32(0.5) + np.float32(0.5)
    if last in ("running_mean", "bias"):
        return np.float32(0.1) * values
    if values.ndim == 1:
        return np.float32(1) + np.float32(0.1) * values
    if key == "fc.weight":
        return np.float32(0.002) * values
    return values * np.float32(np.sqrt(2.0 / np.prod(shape[1:])))


def write_scene_files(weights: Path, annotations: Path, attributes: list[str]) -> None:
    """Write the scene predictor's files into two folders as they are published, as PyTorch before 0.4.1 wrote them."""
    case, _ = read_case("scene_predictor")
    state = {
        f"module.{key}": torch.from_numpy(scene_weight(key, shape, case["seed"]))
        for key, shape, _ in case["state_dict"]
        if not key.endswith("num_batches_tracked")
    }
    checkpoint = {"arch": "wideresnet18", "epoch": 90, "state_dict": state}
    torch.save(checkpoint, weights / "wideresnet18_places365.pth.tar", _use_new_zipfile_serialization=False)
    values = np.random.default_rng([case["seed"], zlib.crc32(b"W_attribute")]).standard_normal((102, 512))
    np.save(weights / "W_sceneattribute_wideresnet18.npy", np.float32(0.001) * values.astype(np.float32))
    categories = "".join(f"/c/category{index}/indoor {index}\n" for index in range(365))
    (annotations / "categories_places365.txt").write_text(categories)
    (annotations / "labels_sunattribute.txt").write_text("".join(f"{name}\n" for name in attributes))
