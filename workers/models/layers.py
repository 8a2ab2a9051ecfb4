"""What a network's function makes its layers with."""

from __future__ import annotations

from typing import Any, Literal

import keras

from prunegrid.workers.keys import derive_seed

PROJECTION = "_project"  #: ends the name of a residual block's projection


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
