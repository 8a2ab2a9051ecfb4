"""Architectures: Keras 3 functional models that end in logits.

To add one: a file here with a function `build(inputs, classes, layers)` that applies layers made
by `Layers` to a Keras input and returns the logits tensor, and an entry in workers/catalog/.
`Layers` gives every layer a stable name, and a kernel that depends on the seed and that name
alone: neither build order nor other models in the process change an initial weight.
"""

from __future__ import annotations

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
    counted = {layer.path for layer in kernels(model)}
    for layer in model.layers:
        left = {f"{layer.name}/{v.name}" for v in layer.variables if v.name.endswith("kernel")}
        nested = len(list(layer._flatten_layers(include_self=False))) > 0 and layer.variables
        if nested or left - counted:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) can't be pruned and counted: "
                "expected Conv2D and Dense layers for all kernels, none inside another layer"
            )
    return model


def prunable(model: keras.Model) -> tuple[KernelLayer, ...]:
    """The layers that pruning works on, in the network's order; no biases, no batch norm."""
    return tuple(layer for layer in kernels(model) if layer.prunable)


def kernels(model: keras.Model) -> tuple[KernelLayer, ...]:
    """Every conv and dense layer, in the network's order."""
    out = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            kind: Literal["conv", "dense"] = "conv"
            positions = int(height * width)
        elif isinstance(layer, keras.layers.Dense):
            kind, positions = "dense", 1
        else:
            continue
        out.append(
            KernelLayer(
                name=layer.name,
                path=f"{layer.name}/kernel",
                kind=kind,
                shape=tuple(int(n) for n in layer.kernel.shape),
                positions=positions,
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
