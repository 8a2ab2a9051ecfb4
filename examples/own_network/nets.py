"""Networks as functions: each gets the images' shape and the number of classes from the data set,
and its other parameters from `options` in the grid file."""

from __future__ import annotations

import keras
from keras import layers


def lenet(input_shape: tuple[int, int, int], classes: int, *, width: int = 1) -> keras.Model:
    """LeNet-300-100 (LeCun et al. 1998), `width` times as wide."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(300 * width, activation="relu", name="hidden1"),
            layers.Dense(100 * width, activation="relu", name="hidden2"),
            layers.Dense(classes, name="logits"),
        ]
    )


def mobilenet(input_shape: tuple[int, int, int], classes: int, *, blocks: int = 3) -> keras.Model:
    """Inverted residuals with depthwise convolutions (Sandler et al. 2018, "MobileNetV2")."""
    image = keras.Input(input_shape)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for number in range(1, blocks + 1):
        y = layers.Conv2D(48, 1, use_bias=False, name=f"widen{number}")(x)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{number}")(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
        y = layers.Conv2D(16, 1, use_bias=False, name=f"narrow{number}")(y)
        x = layers.Add()([x, layers.BatchNormalization()(y)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x))
