"""Channels of StyleSpace as directions: moves of w+ that change a single style value of a single layer.

A layer's style is an affine map of its code, s = A w + b: the code change of least norm that adds 1 to one channel and
nothing to the others is a column of A's pseudo-inverse. So a channel is edited and re-scored as any direction of w+ is.
What else reads the code of that layer, such as StyleGAN2's output to RGB of the same block, moves along.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from higan.directions.boundaries import Boundary, find_name, fit_for_files
from higan.directions.slopes import Slopes
from higan.directions.unsupervised import style_weights
from higan.errors import HiganError
from higan.generators import Generator

ALONE = 0.99  # of what a move adds to the layer's styles, in squares, that has to be the channel's
CUTOFF = 1e-4  # singular values below this share of the largest count as zero


def find_channels(
    generator: Generator, slopes: Slopes, codes: torch.Tensor, names: Sequence[str], num: int = 5
) -> list[Boundary]:
    """Return the channels that move each score most and the other scores least, the best first.

    To first order a channel raises score k by g_k standard deviations when it moves by one of its own; channels are
    ranked by |g_k| times the share of g_k² in the squares of all scores' rises (after Wu, Lischinski and Shechtman
    2021, "StyleSpace analysis", section 4, which ranks by consistency among samples and localises by gradients).

    Parameters
    ----------
    slopes
        Of all scores, per layer of w+ [K, L, D], as `gradient_slopes(..., per_layer=True)` returns them.
    codes
        w+ of samples, [N, L, D], whose styles' spread is one unit of a channel.
    names
        The scores to find channels of.
    num
        Channels of each score.

    Returns
    -------
    Boundaries of w+ [1, L, D] of norm 1, called NAME_LAYER_CHANNEL, with the score as target; `info` holds layer,
    channel, how far the style moves per unit of distance, its standard deviation, and how many of these lie in distance
    2 (`reach`). Channels that no code moves alone, of layers with more channels than a code has values, are left out.

    Raises
    ------
    HiganError
        The model has no styles, slopes are not per layer, or no channel can be moved alone.
    """
    if not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no styles; channels need a StyleGAN")
    if slopes.values.ndim != 3:
        raise HiganError("slopes are not per layer; channels need those of w+")
    found = [channel_moves(weights) for weights in style_weights(generator)]
    spreads = [style.double().std(dim=0).cpu().numpy() for style in generator.styles(codes)]
    places: list[tuple[int, int]] = []
    effects = []
    for layer, (moves, alone) in enumerate(found):
        usable = np.flatnonzero(alone >= ALONE)
        places += [(layer, int(channel)) for channel in usable]
        effects.append(slopes.values[:, layer] @ moves[:, usable] * spreads[layer][usable])
    table = np.concatenate(effects, axis=1)  # [K, channels]
    if not places:
        raise HiganError(f"no channel of {generator.name} can be moved alone by a code; use other directions")
    share = table**2 / np.maximum((table**2).sum(axis=0), 1e-300)
    boundaries = []
    for name in names:
        find_name(name, slopes.names, "score", "the predictor")
        own = table[slopes.names.index(name)]
        merit = np.abs(own) * share[slopes.names.index(name)]
        for rank in np.argsort(-merit, kind="stable")[:num]:
            layer, channel = places[rank]
            move = found[layer][0][:, channel] * np.sign(own[rank] or 1)
            direction = np.zeros((1, *codes.shape[1:]), np.float32)
            direction[0, layer] = move / np.linalg.norm(move)
            info = {
                "method": "channels",
                "layer": layer,
                "channel": channel,
                "style_per_distance": float(f"{np.sign(own[rank] or 1) / np.linalg.norm(move):.6g}"),
                "style_std": float(f"{spreads[layer][channel]:.6g}"),
                "expected_effect": float(f"{abs(own[rank]):.4g}"),
                "share": float(f"{share[slopes.names.index(name), rank]:.4g}"),
                "reach": float(f"{2 / np.linalg.norm(move) / spreads[layer][channel]:.4g}"),
                "norm": "all layers",
                "layers_from": "file",
            }
            title = f"{fit_for_files(name)}_{layer:02d}_{channel:03d}"
            boundaries.append(Boundary(title, direction, generator.entry, (layer,), info, name))
    return boundaries


def channel_moves(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the code changes [D, C] that move one channel each, and which share of what they move is the channel's."""
    moves = np.linalg.pinv(weights, rcond=CUTOFF)
    moved = weights @ moves  # [C, C], the identity where every channel can be moved alone
    squares = np.square(moved)
    return moves, np.diagonal(squares) / np.maximum(squares.sum(axis=0), 1e-300)
