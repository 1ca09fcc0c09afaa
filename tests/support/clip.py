"""A CLIP model small enough for tests, with random weights, as transformers saves one."""

from __future__ import annotations

import contextlib
import io
import json
import string
from pathlib import Path

import torch


def write_clip(folder: Path, side: int = 32) -> Path:
    """Write a tiny CLIP of pictures of side² and return its folder: its phrases are spelled letter by letter."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = [*string.ascii_lowercase, *string.digits]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    end = len(tokens) - 1
    common = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": len(tokens), "max_position_embeddings": 24, "bos_token_id": end - 1, "eos_token_id": end}
    config = CLIPConfig(
        text_config=common | words | {"pad_token_id": end},
        vision_config=common | {"image_size": side, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config)
        for parameter in model.parameters():  # of a size that makes scores differ
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        model.save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    preprocessing = {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": side},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder
