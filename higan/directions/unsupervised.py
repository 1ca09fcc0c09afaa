"""Directions without scores: principal components, the closed form of the style weights, and random ones as a control.

What such a direction means is not known: its target is none, and re-scoring tells what it moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from higan.devices import require_memory
from higan.directions.boundaries import Boundary
from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.layer_sets import parse_layers
from higan.generators.network import layered, single

METHODS = ("pca", "activations", "closed_form", "random")
BATCH = 1024
MOST_VALUES = 2**15  # of an activation whose components are taken whole


def find_directions(
    generator: Generator,
    method: str = "pca",
    num: int = 20,
    layers: str | int | Sequence[int] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> list[Boundary]:
    """Return directions that are found without scores, the most telling first.

    Parameters
    ----------
    method
        "pca": principal components of w (Härkönen et al. 2020, "GANSpace", section 2.2).
        "activations": principal components of the activations that leave a layer, and the codes that draw them, by
        least squares (the same, for generators without w).
        "closed_form": eigenvectors of the style weights (Shen and Zhou 2021, "Closed-form factorization of latent
        semantics in GANs", equation 6).
        "random": random unit directions, as a control.
    num
        How many, at most as many as the code has values.
    layers
        "closed_form": whose weights are factorised, and which the directions are to move; None: all. "activations": the
        one layer whose activations are taken; None: the first.
    samples, seed
        Of the samples whose components are taken, and of random directions.

    Returns
    -------
    Boundaries of space w (z of a generator without it), of target None, called `pca_00`, ...; `info` holds the method,
    the index and, of components, the share of the variance (of the closed form: of the eigenvalues).

    Raises
    ------
    HiganError
        An unknown method, numbers out of range, layers that the model does not have, or a method that it cannot serve.

    >>> boundaries = find_directions(generator, "closed_form", 5, layers="2-5")
    """
    space = single(generator.spaces)
    width = generator.code_shape(space)[0]
    if method not in METHODS:
        raise HiganError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    if not 1 <= num <= width:
        raise HiganError(f"{num} directions; {generator.name} has 1 to {width} in space {space}")
    chosen = None if layers is None else tuple(parse_layers(layers, max(generator.num_layers, 1)))
    if chosen is not None and method in ("pca", "random"):
        raise HiganError(f"--layers has no meaning for {method}; leave it out")
    if method == "random":
        found = np.random.default_rng([seed, 5]).standard_normal((num, width))
        shares = None
    elif method == "closed_form":
        found, values = style_eigenvectors(generator, chosen)
        shares = values / values.sum()
    else:
        if not num < samples:
            raise HiganError(f"{samples} samples are too few for {num} components; give more --samples than --num")
        if method == "pca":
            if not layered(space):
                raise HiganError(
                    f"{generator.name} ({generator.family}) has no w, and z varies alike everywhere; use activations"
                )
            found, values = principal_components(draw_codes(generator, samples, seed))
        else:
            if chosen is not None and len(chosen) != 1:
                raise HiganError(f"activations are those of one layer, found {len(chosen)}; give --layers 3, say")
            found, values = activation_components(generator, (chosen or (0,))[0], samples, seed, num)
            chosen = None
        shares = values / values.sum()
    boundaries = []
    for index, direction in enumerate(found[:num]):
        info = {"method": method, "index": index, "seed": seed}
        info |= {"layers_from": "file"} if chosen else {}
        if shares is not None:
            info["share"] = float(f"{shares[index]:.6g}")
        name = f"{method}_{index:02d}"
        unit = (direction / np.linalg.norm(direction))[None].astype(np.float32)
        boundaries.append(Boundary(name, unit, space, chosen, info, target=None))
    return boundaries


def draw_codes(generator: Generator, num: int, seed: int) -> np.ndarray:
    """Return w of `num` samples, float64 [num, D]."""
    require_memory(8 * num * generator.w_dim, f"{num} codes")
    blocks = [
        generator.map(generator.sample(min(BATCH, num - start), seed, start)).cpu().double().numpy()
        for start in range(0, num, BATCH)
    ]
    return np.concatenate(blocks)


def principal_components(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components [D, D] of codes [N, D], largest variance first, and their variances [D]."""
    values, vectors = np.linalg.eigh(np.cov(codes, rowvar=False))
    return upright(vectors.T[::-1]), values[::-1].clip(min=0)


def style_eigenvectors(generator: Generator, layers: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvectors [D, D] of the style weights of layers (None: all), and their eigenvalues [D].

    As in the authors' program, the weights of every channel are scaled to norm 1 first.
    """
    if not generator.has_layers:
        raise HiganError(f"{generator.name} ({generator.family}) has no styles to factorise; use activations or random")
    found = style_weights(generator)
    weights = np.concatenate([found[layer] for layer in (range(len(found)) if layers is None else layers)]).T
    norms = np.linalg.norm(weights, axis=0)
    weights = weights[:, norms > 0] / norms[norms > 0]
    values, vectors = np.linalg.eigh(weights @ weights.T)
    return upright(vectors.T[::-1]), values[::-1].clip(min=0)


def style_weights(generator: Generator) -> list[np.ndarray]:
    """Return the weights A [C, D] of every layer's style s = A w + b: the styles of unit codes less those of zero."""
    codes = torch.cat([torch.eye(generator.w_dim), torch.zeros(1, generator.w_dim)])
    styles = generator.styles(codes[:, None].repeat(1, generator.num_layers, 1))
    return [(style[:-1] - style[-1:]).double().cpu().numpy().T for style in styles]


def activation_components(
    generator: Generator, layer: int, samples: int, seed: int, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes [num, D] that draw the principal components of what leaves a layer, and the variances [num].

    With x the coordinates of a sample's activations among the components, the directions U are the least squares of
    |U x - code|² over the samples (Härkönen et al. 2020, equation 3).
    """
    from sklearn.decomposition import PCA

    codes, activations = [], []
    for start in range(0, samples, generator.batch_size):
        z = generator.sample(min(generator.batch_size, samples - start), seed, start)
        found = generator.follow(z, generator.spaces[0])
        entry = found[generator.entry]
        state = generator.advance(generator.initial(entry), entry, 0, min(layer + 1, generator.num_layers))
        left = next(part for part in state if part is not None and part.ndim > 1)
        codes.append(found[single(generator.spaces)].cpu().numpy())
        activations.append(left.float().flatten(1).cpu().numpy())
        if start == 0:
            if activations[0].shape[1] > MOST_VALUES:
                raise HiganError(
                    f"layer {layer} gives {activations[0].shape[1]} values a sample; choose an earlier one"
                )
            require_memory(8 * samples * activations[0].shape[1], f"the activations of {samples} samples")
    table = np.concatenate(activations)
    most = min(num, *table.shape)
    pca = PCA(most, svd_solver="randomized", random_state=seed).fit(table)
    coordinates = pca.transform(table).astype(np.float64)
    target = np.concatenate(codes).astype(np.float64)
    directions = np.linalg.lstsq(coordinates, target - target.mean(axis=0), rcond=None)[0]
    return upright(directions), pca.explained_variance_.astype(np.float64)


def upright(directions: np.ndarray) -> np.ndarray:
    """Return directions [K, D] with their signs chosen: the largest value of each is positive."""
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return directions * np.where(largest < 0, -1, 1)
