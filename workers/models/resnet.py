"""ResNet8 and ResNet18 with pre-activation blocks (He et al. 2016, "Identity mappings")."""

from __future__ import annotations

from typing import Any

import keras

from prunegrid.workers.models.layers import PROJECTION, Layers


def build_resnet8(inputs: Any, classes: int, layers: Layers) -> Any:
    """[n, h, w, c] to logits [n, classes]; the paper's, for 32x32x3."""
    x = layers.conv(inputs, "conv1", 32, 3, stride=2, relu=True)
    for number, width in enumerate((64, 128, 256), start=1):
        x = _block(x, f"block{number}", width, layers, stride=2)
    return _head(x, classes, layers)


def build_resnet18(inputs: Any, classes: int, layers: Layers) -> Any:
    """[n, h, w, c] to logits [n, classes]; the paper's, for 224x224x3."""
    x = layers.conv(inputs, "conv1", 64, 7, stride=2, relu=True)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    before = 64
    for number, width in enumerate((64, 64, 128, 128, 256, 256, 512, 512), start=1):
        x = _block(x, f"block{number}", width, layers, stride=1 if width == before else 2)
        before = width
    return _head(x, classes, layers)


def _block(x: Any, name: str, width: int, layers: Layers, *, stride: int) -> Any:
    """Batch norm, relu, conv, batch norm, relu, conv, add; a projection where shapes change."""
    y = layers.relu(layers.norm(x, f"{name}_norm1"), f"{name}_relu1")
    shortcut = x
    if stride != 1:
        shortcut = layers.conv(x, f"{name}{PROJECTION}", width, 1, stride=stride)
    y = layers.conv(y, f"{name}_conv1", width, 3, stride=stride)
    y = layers.relu(layers.norm(y, f"{name}_norm2"), f"{name}_relu2")
    y = layers.conv(y, f"{name}_conv2", width, 3)
    return keras.layers.Add(name=f"{name}_add")([shortcut, y])


def _head(x: Any, classes: int, layers: Layers) -> Any:
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return layers.dense(x, "logits", classes)
