"""Small networks of the kinds that people bring."""

from __future__ import annotations

import keras
from keras import layers as kl


def lenet(input_shape, classes, width=1):
    """LeNet-300-100 with narrower layers; ends in a softmax."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            kl.Flatten(),
            kl.Dense(30 * width, activation="relu"),
            kl.Dense(10 * width, activation="relu"),
            kl.Dense(classes, activation="softmax"),
        ]
    )


def mobile(input_shape, classes):
    """An inverted residual as in MobileNetV2, and one that halves the image."""
    inputs = keras.Input(input_shape)
    x = kl.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = kl.ReLU(6.0)(kl.BatchNormalization()(x))
    for stride in (1, 2):
        y = kl.Conv2D(8, 1, use_bias=False)(x)
        y = kl.ReLU(6.0)(kl.BatchNormalization()(y))
        y = kl.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
        y = kl.ReLU(6.0)(kl.BatchNormalization()(y))
        y = kl.BatchNormalization()(kl.Conv2D(4, 1, use_bias=False)(y))
        x = kl.Add()([x, y]) if stride == 1 else y
    return keras.Model(inputs, kl.Dense(classes)(kl.GlobalAveragePooling2D()(x)))


class Positions(kl.Layer):
    """Adds a learned vector to each place."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], name="table")

    def call(self, x):
        return x + self.table


class Block(kl.Layer):
    """Attention and two dense layers, with dropout; its layers are within it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attend = kl.MultiHeadAttention(2, 4, dropout=0.2, name="attend")
        self.norms = [kl.LayerNormalization(name=f"norm{n}") for n in (1, 2)]
        self.wide = kl.Dense(16, activation="gelu", name="wide")
        self.narrow = kl.Dense(8, name="narrow")
        self.drop = kl.Dropout(0.2)

    def call(self, x, training=None):
        y = self.norms[0](x)
        x = x + self.attend(y, y, training=training)
        y = self.wide(self.norms[1](x))
        return x + self.narrow(self.drop(y, training=training))


def vit(input_shape, classes):
    inputs = keras.Input(input_shape)
    x = kl.Reshape((-1, 8))(kl.Conv2D(8, 4, strides=4, name="patches")(inputs))
    x = Block(name="block")(Positions(name="positions")(x))
    return keras.Model(inputs, kl.Dense(classes, name="head")(kl.GlobalAveragePooling1D()(x)))


def nested(input_shape, classes):
    """A model within a model within a model."""
    inner = keras.Sequential([kl.Conv2D(4, 3, name="conv"), kl.ReLU()], name="inner")
    image = keras.Input(input_shape)
    body = keras.Model(image, kl.Flatten()(kl.MaxPooling2D(4)(inner(image))), name="body")
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, kl.Dense(classes, name="head")(body(inputs)))


def grouped(inputs, classes, layers):
    """A residual network of grouped convolutions, in the form of the catalog's functions."""
    x = layers.conv(inputs, "stem", 8, 3, stride=2, relu=True)
    y = kl.Conv2D(8, 3, padding="same", groups=2, name="groups")(x)
    x = layers.relu(kl.Add(name="add")([x, layers.norm(y, "norm")]), "relu")
    return layers.dense(kl.GlobalAveragePooling2D(name="average")(x), "logits", classes)


def every_kernel(input_shape, classes):
    """A layer of each kind that has kernels."""
    inputs = keras.Input(input_shape)
    x = kl.SeparableConv2D(4, 3, depth_multiplier=2, name="separable")(inputs)
    x = kl.Conv2DTranspose(6, 3, strides=2, name="transposed")(x)
    x = kl.Conv2D(6, 3, groups=3, name="grouped")(x)
    x = kl.DepthwiseConv2D(3, name="depthwise")(x)
    x = kl.Reshape((-1, 6))(x)
    x = kl.Conv1D(4, 3, strides=2, name="conv1d")(x)
    shared = kl.Dense(4, name="shared")
    x = shared(shared(x))
    x = kl.EinsumDense("abc,cde->abde", output_shape=(312, 2, 3), name="einsum")(x)
    x = kl.EinsumDense("...xy,yz->...xz", output_shape=(2, 5), name="dots")(x)
    return keras.Model(inputs, kl.Dense(classes, name="head")(kl.Flatten()(x)))


def two_outputs(input_shape, classes):
    inputs = keras.Input(input_shape)
    x = kl.Flatten()(inputs)
    return keras.Model(inputs, [kl.Dense(classes)(x), kl.Dense(classes)(x)])


def wrong_classes(input_shape):
    return keras.Sequential([keras.Input(input_shape), kl.Flatten(), kl.Dense(7)])


def hidden_softmax(input_shape, classes):
    inputs = keras.Input(input_shape)
    x = kl.Dense(classes)(kl.Flatten()(inputs))
    return keras.Model(inputs, keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), 1, keepdims=True))


def recurrent(input_shape, classes):
    rows = kl.Reshape((input_shape[0], -1))
    return keras.Sequential(
        [keras.Input(input_shape), rows, kl.LSTM(3, name="memory"), kl.Dense(classes)]
    )


def seeded(input_shape, classes):
    fixed = keras.initializers.GlorotUniform(seed=1)
    dense = kl.Dense(classes, kernel_initializer=fixed)
    return keras.Sequential([keras.Input(input_shape), kl.Flatten(), dense])


def fails(input_shape, classes):
    raise RuntimeError("no luck")


def of_rows(input_shape, classes):
    """A network of [height, width], as Keras' first tutorial has it; its softmax is a layer."""
    rows = keras.Input(input_shape[:2])
    x = kl.Reshape((*input_shape[:2], 1))(kl.Rescaling(2.0)(rows))
    x = kl.Flatten()(kl.Conv2D(4, 3, activation="relu", name="conv")(x))
    return keras.Model(rows, kl.Softmax()(kl.Dense(classes, name="head")(x)))


def of_vectors(input_shape, classes):
    """A network of height x width x channels numbers."""
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return keras.Sequential(
        [keras.Input((size,)), kl.Dense(8, activation="relu"), kl.Dense(classes)]
    )


def sixteen_by_twelve(input_shape, classes):
    return of_rows((16, 12, 1), classes)
