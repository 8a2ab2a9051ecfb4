"""Architectures: Keras 3 functional models that end in logits.

To add one: a file here with a function `build(inputs, classes, layers)` that applies layers made
by `Layers` to a Keras input and returns the logits tensor, and an entry in workers/catalog/.
`Layers` gives every layer a stable name, and a kernel that depends on the seed and that name
alone: neither build order nor other models in the process change an initial weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np

from prunegrid.workers.catalog import ARCHITECTURES, load
from prunegrid.workers.models.layers import PROJECTION, Layers
from prunegrid.workers.pruning.counts import KernelLayer


def build(
    architecture: str, input_shape: tuple[int, int, int], classes: int, *, seed: int
) -> keras.Model:
    """A fresh network: images [n, h, w, c] in [0, 1] to logits [n, classes].

    Raises ValueError where the images are too small for the architecture, or a layer can't be
    pruned and counted.
    """
    entry = ARCHITECTURES[architecture]
    height, width, channels = input_shape
    least = entry.min_size
    if min(height, width) < least:
        raise ValueError(
            f"{architecture}: expected images of at least {least}x{least}, "
            f"got {height}x{width}x{channels}"
        )
    return network_of(entry.target, input_shape, classes, seed=seed, name=architecture)


def network_of(
    target: str, input_shape: tuple[int, int, int], classes: int, *, seed: int, name: str
) -> keras.Model:
    """What the function at `target` builds. Raises ValueError where a layer can't be pruned and
    counted."""
    inputs = keras.Input(input_shape, name="image")
    model = keras.Model(inputs, load(target)(inputs, classes, Layers(seed)), name=name)
    kernels(model)  # refused now, not after training
    return model


_KINDS: Mapping[Literal["conv", "depthwise", "dense"], type[keras.Layer]] = {
    "conv": keras.layers.Conv2D,
    "depthwise": keras.layers.DepthwiseConv2D,
    "dense": keras.layers.Dense,
}


def prunable(model: keras.Model) -> tuple[KernelLayer, ...]:
    """The layers that pruning works on, in the network's order; no biases, no batch norm."""
    return tuple(layer for layer in kernels(model) if layer.prunable)


def kernels(model: keras.Model) -> tuple[KernelLayer, ...]:
    """Every conv, depthwise and dense layer, in the network's order. Raises ValueError for another
    layer with kernels, and for layers inside another one: they could be neither pruned nor
    counted."""
    out = []
    for layer in model.layers:
        kind = next((kind for kind, of in _KINDS.items() if isinstance(layer, of)), None)
        if kind is None:
            nested = any(inner.variables for inner in layer._flatten_layers(include_self=False))
            if nested or any(v.name.endswith(("kernel", "embeddings")) for v in layer.variables):
                raise ValueError(
                    f"layer {layer.name!r} ({type(layer).__name__}) can't be pruned and counted: "
                    "expected Conv2D, DepthwiseConv2D and Dense for all layers with kernels, none "
                    "inside another layer"
                )
            continue
        out.append(
            KernelLayer(
                name=layer.name,
                path=f"{layer.name}/kernel",
                kind=kind,
                shape=tuple(int(n) for n in layer.kernel.shape),
                positions=math.prod(layer.output.shape[1:-1]),
                prunable=not layer.name.endswith(PROJECTION),
            )
        )
    return tuple(out)


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """`layer/variable` -> every variable that a trained model keeps, batch norm's moving
    statistics included. The names do not depend on what else was built in this process."""
    out = {}
    for layer in model.layers:
        for variable in layer.variables:
            if "seed_generator" not in variable.path:
                out[f"{layer.name}/{variable.name}"] = variable
    return out


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
