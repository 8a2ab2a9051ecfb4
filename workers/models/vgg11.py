"""VGG11-like: eight convolutions with batch norm, two dense layers (the paper's, for CIFAR-10)."""

from __future__ import annotations

from typing import Any

import keras

from prunegrid.workers.models.layers import Layers

_WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
_POOLED = (2, 4, 6, 8)  #: convolutions followed by a max pool; the batch norm comes after it


def build(inputs: Any, classes: int, layers: Layers) -> Any:
    """[n, 32, 32, c] to logits [n, classes]."""
    x = inputs
    for number, width in enumerate(_WIDTHS, start=1):
        x = layers.conv(x, f"conv{number}", width, 3, relu=True)
        if number in _POOLED:
            x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.norm(x, f"norm{number}")
    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(x, "dense1", 1024, relu=True)
    return layers.dense(x, "logits", classes)
