"""Architectures: Keras 3 functional models that end in logits.

To add one: a file here with a function `build(inputs, classes, layers)` that applies layers made
by `Layers` to a Keras input and returns the logits tensor, and an entry in workers/catalog/.
`Layers` gives every layer a stable name, and a kernel that depends on the seed and that name
alone: neither build order nor other models in the process change an initial weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from prunegrid.workers.catalog import ARCHITECTURES, load
from prunegrid.workers.keys import derive_seed
from prunegrid.workers.pruning.counts import KernelLayer


class Layers:
    """Makes named, seeded layers. Kernels are Glorot uniform, biases zero."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _glorot(self, name: str) -> keras.initializers.Initializer:
        seed = derive_seed(self._seed, "init", name) % 2**31
        return keras.initializers.GlorotUniform(seed=seed)

    # Parameters: the part of Keras' Conv2D that architectures vary, by its names.
    def conv(
        self,
        x: Any,
        name: str,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        padding: Literal["same", "valid"] = "same",
        bias: bool = False,
        relu: bool = False,
    ) -> Any:
        layer = keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding=padding,
            use_bias=bias,
            activation="relu" if relu else None,
            kernel_initializer=self._glorot(name),
            name=name,
        )
        return layer(x)

    def dense(self, x: Any, name: str, units: int, *, relu: bool = False) -> Any:
        layer = keras.layers.Dense(
            units,
            activation="relu" if relu else None,
            kernel_initializer=self._glorot(name),
            name=name,
        )
        return layer(x)

    def norm(self, x: Any, name: str) -> Any:
        return keras.layers.BatchNormalization(name=name)(x)

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.ReLU(name=name)(x)


PROJECTION = "_project"  #: ends the name of a residual block's projection


def build(
    architecture: str, input_shape: tuple[int, int, int], classes: int, *, seed: int
) -> keras.Model:
    """A fresh network: images [n, h, w, c] in [0, 1] to logits [n, classes].

    Raises ValueError where the images are too small for the architecture, and for layers that
    could be neither pruned nor counted.
    """
    entry = ARCHITECTURES[architecture]
    height, width, channels = input_shape
    least = entry.min_size
    if min(height, width) < least:
        raise ValueError(
            f"{architecture}: expected images of at least {least}x{least}, "
            f"got {height}x{width}x{channels}"
        )
    inputs = keras.Input(input_shape, name="image")
    logits = load(entry.target)(inputs, classes, Layers(seed))
    model = keras.Model(inputs, logits, name=architecture)
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
    layer with kernels, which would be neither pruned nor counted."""
    out = []
    for layer in model.layers:
        kind = next((kind for kind, of in _KINDS.items() if isinstance(layer, of)), None)
        if kind is None:
            if any(v.name.endswith(("kernel", "embeddings")) for v in layer.trainable_variables):
                raise ValueError(
                    f"{layer.name}: expected Conv2D, DepthwiseConv2D or Dense where a layer has "
                    f"kernels, got {type(layer).__name__}"
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
