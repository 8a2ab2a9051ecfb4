"""Which channels of a network are constants: the same value at every position of every image.

A pruned filter's output does not depend on the image, yet it is seldom 0: its bias, or a batch
norm's shift, makes it another constant. A channel can be removed exactly when its value is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

#: float64 [channels]: a channel's value, NaN where it depends on the image or is not known.
Constants: TypeAlias = np.ndarray


def constant_channels(model: keras.Model) -> dict[str, Constants]:
    """The constants of each layer's output, by layer name; after a flatten one per feature.

    Expects finite weights. Raises ValueError for a layer of a type that is not in `RULES`.
    """
    out: dict[str, Constants] = {}
    for layer in model.layers:
        rule = RULES.get(type(layer))
        if rule is None:
            choices = ", ".join(sorted(known.__name__ for known in RULES))
            what = "a model within it" if isinstance(layer, keras.Model) else type(layer).__name__
            raise ValueError(
                f"{layer.name}: expected layers of {choices} alone in a network to shrink, "
                f"got {what}"
            )
        if getattr(layer, "groups", 1) > 1 or getattr(layer, "depth_multiplier", 1) > 1:
            raise ValueError(
                f"{layer.name}: expected a convolution of one group, or of one output for each "
                "input channel, got another: which channels belong together is not known"
            )
        if unknown := [name for name in parents(layer) if name not in out]:
            raise ValueError(
                f"{layer.name}: expected to take what layers return in a network to shrink, got "
                f"the operation {unknown[0]}"
            )
        out[layer.name] = rule(layer, [out[name] for name in parents(layer)])
    return out


def parents(layer: keras.Layer) -> tuple[str, ...]:
    """The layers whose outputs this one takes, by name, in order."""
    if isinstance(layer, keras.layers.InputLayer):
        return ()
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return tuple(tensor._keras_history.operation.name for tensor in tensors)


def kernel(layer: keras.Layer) -> np.ndarray:
    """[h, w, in, out]; a dense layer's is a 1x1 convolution's."""
    array = np.asarray(layer.kernel, dtype=np.float64)
    return array if array.ndim == 4 else array[None, None]


def bias(layer: keras.Layer) -> np.ndarray:
    """[out], zeros where the layer has none."""
    if not layer.use_bias:
        return np.zeros(layer.kernel.shape[-1])
    return np.asarray(layer.bias, dtype=np.float64)


def pads(layer: keras.Layer) -> bool:
    """Whether the layer may see zeros from outside the image, beside its input's constants."""
    is_conv = isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    return is_conv and layer.padding != "valid" and max(layer.kernel_size) > 1


def _image(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    return np.full(layer.output.shape[-1], np.nan)


def _of_images(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    """A layer before all that have weights: every number depends on the image. Raises ValueError
    for one elsewhere."""
    before = layer
    while isinstance(before, keras.layers.Reshape | keras.layers.Rescaling):
        before = before.input._keras_history.operation
    if not isinstance(before, keras.layers.InputLayer):
        raise ValueError(
            f"{layer.name}: expected {type(layer).__name__} of the images alone in a network to "
            f"shrink, got one of what {before.name} returns"
        )
    return np.full(layer.output.shape[-1], np.nan)


def _weighted(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    """An output is constant where every input that it weighs is constant. With padding those inputs
    must be 0, since the border sees fewer of them."""
    (values,) = inputs
    usable = (values == 0) if pads(layer) else ~np.isnan(values)
    array = kernel(layer)
    used = (array != 0).any(axis=(0, 1))
    varies = (used & ~usable[:, None]).any(axis=0)
    sums = np.where(usable, values, 0) @ array.sum(axis=(0, 1)) + bias(layer)
    return _activated(layer, np.where(varies, np.nan, sums))


def _activated(layer: keras.Layer, values: Constants) -> Constants:
    if layer.activation is keras.activations.relu:
        return np.asarray(np.maximum(values, 0))  # NaN stays
    if layer.activation is keras.activations.relu6:
        return np.asarray(np.clip(values, 0, 6))
    if layer.activation is keras.activations.linear:
        return values
    return np.full_like(values, np.nan)  # another activation: nothing is known


def _depthwise(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    """Each channel for itself, of its own input; as `_weighted` with padding."""
    (values,) = inputs
    usable = (values == 0) if pads(layer) else ~np.isnan(values)
    array = np.asarray(layer.kernel, dtype=np.float64)[..., 0]  # [h, w, channels]
    varies = (array != 0).any(axis=(0, 1)) & ~usable
    shift = np.asarray(layer.bias, dtype=np.float64) if layer.use_bias else 0.0
    sums = np.where(usable, values, 0) * array.sum(axis=(0, 1)) + shift
    return _activated(layer, np.where(varies, np.nan, sums))


def _norm(layer: keras.layers.BatchNormalization, inputs: list[Constants]) -> Constants:
    mean = np.asarray(layer.moving_mean, dtype=np.float64)
    variance = np.asarray(layer.moving_variance, dtype=np.float64)
    gamma = np.asarray(layer.gamma, dtype=np.float64) if layer.scale else 1.0
    beta = np.asarray(layer.beta, dtype=np.float64) if layer.center else 0.0
    # Where gamma is 0, a channel that depends on the image becomes a constant.
    known = np.where(np.isnan(inputs[0]) & (gamma == 0), mean, inputs[0])
    return np.asarray((known - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta)


def _flatten(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    """Channels are last, so the features of one position stay together."""
    return np.tile(inputs[0], layer.output.shape[-1] // len(inputs[0]))


def _relu(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    if layer.negative_slope or layer.threshold:
        return np.full_like(inputs[0], np.nan)
    most = np.inf if layer.max_value is None else layer.max_value
    return np.asarray(np.clip(inputs[0], 0, most))  # NaN stays


def _activation(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    return _activated(layer, inputs[0])


def _unchanged(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    return inputs[0]  # a max pool pads with minus infinity


def _add(layer: keras.Layer, inputs: list[Constants]) -> Constants:
    return np.asarray(sum(inputs))  # NaN in any is NaN


#: To shrink networks with another type of layer, add its rule, and its role in groups.py.
RULES: Mapping[type, Callable[[Any, list[Constants]], Constants]] = {
    keras.layers.InputLayer: _image,
    keras.layers.Reshape: _of_images,
    keras.layers.Rescaling: _of_images,
    keras.layers.Conv2D: _weighted,
    keras.layers.Dense: _weighted,
    keras.layers.BatchNormalization: _norm,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.ReLU: _relu,
    keras.layers.Activation: _activation,
    keras.layers.Dropout: _unchanged,
    keras.layers.MaxPooling2D: _unchanged,
    keras.layers.GlobalAveragePooling2D: _unchanged,
    keras.layers.Flatten: _flatten,
    keras.layers.Add: _add,
}
