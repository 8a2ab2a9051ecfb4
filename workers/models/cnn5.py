"""CNN5: two convolutions, three dense layers (the paper's network for MNIST)."""

from __future__ import annotations

from typing import Any

import keras

from prunegrid.workers.models.layers import Layers


def build(inputs: Any, classes: int, layers: Layers) -> Any:
    """[n, 28, 28, c] to logits [n, classes]."""
    x = layers.conv(inputs, "conv1", 6, 5, bias=True, relu=True)
    x = keras.layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.conv(x, "conv2", 16, 5, padding="valid", bias=True, relu=True)
    x = keras.layers.MaxPooling2D(2, name="pool2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(x, "dense1", 120, relu=True)
    x = layers.dense(x, "dense2", 84, relu=True)
    return layers.dense(x, "logits", classes)
