"""The gradient towards images of few channels, in full vectors and with the same bits.

oneDNN's convolutions compute 16 output channels at once. Towards one grey channel 15 of these
vector lanes are empty, and the first convolution's gradient takes a quarter of a CNN5's pass. Here
some rows of the image are computed as channels, from kernels with zeros above and below. An
output is the same chain of multiplications and additions, in the same order, and zeros that are
added to it change nothing. The order is undocumented in oneDNN: `same_bits` measures it on the
device, at every batch shape, before the gradient is computed in this way.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

#: MicroBatches of the widest vectors, in float32.
LANES = 16


@dataclass(frozen=True, kw_only=True)
class FirstConvolution:
    """A convolution over the images themselves, of stride 1, zeros around ("same")."""

    image: tuple[int, int, int]  #: height, width, channels
    kernel: tuple[int, int, int, int]  #: height, width, in, out

    @property
    def rows(self) -> int:
        """Image rows to compute at once: as many as divide the height and fit the lanes."""
        height, _, channels = self.image
        most = LANES // channels
        return max(n for n in range(1, max(most, 1) + 1) if height % n == 0)

    def gradient(self, slopes: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Of outputs' slopes [n, h', w', out] to the images' [n, h, w, in]."""
        height, width, channels = self.image
        rows = self.rows
        # A zero behind the kernel's elements fills the gaps between its copies.
        elements = tf.concat([tf.reshape(kernel, [-1]), tf.zeros([1])], axis=0)
        tall = tf.gather(elements, self._places())
        around = [(size // 2, (size - 1) // 2) for size in self.kernel[:2]]
        steep = tf.nn.conv2d(slopes, tall, [1, rows, 1, 1], [(0, 0), *around, (0, 0)])
        apart = tf.reshape(steep, (-1, height // rows, width, rows, channels))
        return tf.reshape(tf.transpose(apart, (0, 1, 3, 2, 4)), (-1, height, width, channels))

    def _places(self) -> np.ndarray:
        """Where each element of the tall kernel [height + rows - 1, width, out, rows * in] is
        in the flat one; behind its end for a zero."""
        height, width, inputs, outputs = self.kernel
        count = height * width * inputs * outputs
        turned = np.arange(count, dtype=np.int32).reshape(self.kernel)[::-1, ::-1]
        turned = turned.transpose(0, 1, 3, 2)
        shape = (height + self.rows - 1, width, outputs, self.rows, inputs)
        places = np.full(shape, count, np.int32)
        for row in range(self.rows):
            places[row : row + height, :, :, row] = turned
        return places.reshape(*shape[:3], -1)

    def same_bits(self, batch: int) -> bool:
        """Whether both ways agree on noise; sums in another order hardly ever do."""
        return _same_bits(self, batch)


@functools.cache
def _same_bits(first: FirstConvolution, batch: int) -> bool:
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((batch, *first.image[:2], first.kernel[3]), np.float32)
    kernel = rng.standard_normal(first.kernel, np.float32)
    usual, ours = _both_ways(first)(slopes, kernel)
    return np.array_equal(usual.numpy(), ours.numpy())


@functools.cache
def _both_ways(first: FirstConvolution) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Compiled, as attacks are: TensorFlow chooses other kernels otherwise."""

    def both(slopes: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = (tf.shape(slopes)[0], *first.image)
        with tf.GradientTape() as tape:
            images = tf.zeros(shape)
            tape.watch(images)
            outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        return tape.gradient(outputs, images, slopes), first.gradient(slopes, kernel)

    signature = [tf.TensorSpec((None, None, None, first.kernel[3])), tf.TensorSpec(first.kernel)]
    compiled: Callable[..., tuple[tf.Tensor, tf.Tensor]] = tf.function(
        both, input_signature=signature
    )
    return compiled


def first_convolution(model: Any) -> tuple[Any, FirstConvolution] | None:
    """The first convolution and its shape; None where the gradient can't be computed this way."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.layers.Conv2D):
            break
    else:
        return None
    usual = (
        len(layer._inbound_nodes) == 1  # a layer that is used twice has no one input
        and tuple(layer.input.shape) == tuple(model.input_shape)
        and layer.strides == layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and layer.padding == "same"
        and layer.compute_dtype == "float32"
    )
    if not usual or tf.config.list_physical_devices("GPU"):
        return None
    first = FirstConvolution(image=tuple(model.input_shape[1:]), kernel=tuple(layer.kernel.shape))
    return (layer, first) if first.rows > 1 else None


@contextlib.contextmanager
def in_full_vectors(layer: Any, first: FirstConvolution) -> Iterator[None]:
    """Functions traced within compute their gradient this way, and none towards the kernel."""

    def convolve(inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        weights = tf.convert_to_tensor(kernel)

        def convolved(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            outputs = tf.nn.conv2d(x, weights, 1, "SAME")
            return outputs, lambda slopes: first.gradient(slopes, weights)

        return tf.custom_gradient(convolved)(inputs)

    # Keras' convolution layers call this method, which subclasses may replace.
    object.__setattr__(layer, "convolution_op", convolve)
    try:
        yield
    finally:
        object.__delattr__(layer, "convolution_op")
