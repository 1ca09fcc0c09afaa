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

from higan.checkpoints import Checkpoint, infer_settings, whole_lod
from higan.checkpoints.formats import genforce, nvlabs

GOLDEN = Path(__file__).parent / "golden"
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
        state_dict, found = nvlabs.convert(dict(tensors), arguments)
        return Checkpoint("nvlabs", "stylegan2", infer_settings("stylegan2", state_dict) | found, state_dict)
    state_dict, found = genforce.convert(family, dict(tensors))
    found = infer_settings(family, state_dict) | found
    if "lod" in found:
        found["lod"] = whole_lod(found["lod"], found["resolution"])
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
