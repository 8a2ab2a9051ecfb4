"""Architectures: Keras 3 functional models that end in logits.

To add one: a file here with a function `build(inputs, classes, layers)` that applies layers made
by `Layers` to a Keras input and returns the logits tensor, and an entry in workers/catalog/.
`Layers` gives every layer a stable name, and a kernel that depends on the seed and that name
alone: neither build order nor other models in the process change an initial weight.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from prunegrid.workers.catalog import ARCHITECTURES, load
from prunegrid.workers.contract import OwnNetwork
from prunegrid.workers.models.kernels import kernels, variables
from prunegrid.workers.models.layers import Layers
from prunegrid.workers.models.own_networks import built_by, read_from


def build(
    architecture: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    seed: int | None,
    own: OwnNetwork | None = None,
    file: Path | None = None,
) -> keras.Model:
    """A fresh network: images [n, h, w, c] in [0, 1] to logits [n, classes].

    `own`: of a network that the grid brings; `file`: what it holds, where it is a file's, with the
    file's weights where `seed` is None. Raises ValueError where the images do not fit, or the
    user's code fails.
    """
    if own is not None and own.code is not None:
        return built_by(own.code, input_shape, classes, seed=seed or 0)
    if file is not None:
        name = architecture if own is None else own.label
        return read_from(file, input_shape, classes, name=name, seed=seed)
    entry = ARCHITECTURES[architecture]
    height, width, channels = input_shape
    least = entry.min_size
    if min(height, width) < least:
        raise ValueError(
            f"{architecture}: expected images of at least {least}x{least}, "
            f"got {height}x{width}x{channels}"
        )
    return network_of(entry.target, input_shape, classes, seed=seed or 0, name=architecture)


def network_of(
    target: str, input_shape: tuple[int, int, int], classes: int, *, seed: int, name: str
) -> keras.Model:
    """What the function at `target` builds. Raises ValueError where a layer can't be pruned and
    counted."""
    inputs = keras.Input(input_shape, name="image")
    model = keras.Model(inputs, load(target)(inputs, classes, Layers(seed)), name=name)
    kernels(model)  # refused now, not after training
    return model


def get_weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables(model).items()}


def set_weights(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Raises ValueError where names or shapes differ."""
    own = variables(model)
    if set(own) != set(weights):
        raise ValueError(f"weights: expected {sorted(own)}, got {sorted(weights)}")
    for name, variable in own.items():
        if tuple(variable.shape) != weights[name].shape:
            raise ValueError(
                f"weights of {name}: expected shape {tuple(variable.shape)}, "
                f"got {weights[name].shape}"
            )
        variable.assign(weights[name])
