"""The network that a score looks at: its gradients, and its training images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from prunegrid.workers.data.base import ImageSplit
from prunegrid.workers.keys import derive_seed
from prunegrid.workers.models.kernels import variables
from prunegrid.workers.training.steps import cross_entropy

_Compiled: TypeAlias = Callable[[keras.Model, tuple[str, ...]], Callable[..., Any]]


class TrainedNetwork:
    """Meets `scores.NetworkView`. Pruning changes none of it."""

    def __init__(
        self,
        model: keras.Model,
        paths: Mapping[str, str],
        split: ImageSplit,
        seed: int,
        *,
        lost: bool = False,
    ) -> None:
        """`paths`: of the kernels, as `variables` has them, by layer. `seed`: draws the order of
        the images."""
        self.model = model
        self.lost = lost
        own = variables(model)
        self._paths = paths
        self._kernels = {layer: own[path] for layer, path in paths.items()}
        self._split = split
        self._seed = seed

    def kernel(self, layer: str) -> Any:
        return self._kernels[layer]

    def batches(self, count: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order: list[int] = []
        passes = 0
        for _ in range(count):
            while len(order) < size:
                rng = np.random.default_rng(derive_seed(self._seed, "score", passes))
                order += rng.permutation(len(self._split)).tolist()
                passes += 1
            picked, order = np.array(order[:size]), order[size:]
            images = self._split.images[picked].astype(np.float32) / np.float32(255)
            yield images, self._split.labels[picked]

    def gradients(self, batches: int, batch_size: int) -> dict[str, np.ndarray]:
        return self._mean(_of_the_mean, batches, batch_size)

    def squared_gradients(self, images: int) -> dict[str, np.ndarray]:
        size = min(images, _MOST_AT_ONCE)
        return self._mean(_squares, -(-images // size), size)

    def _mean(self, compiled: _Compiled, batches: int, size: int) -> dict[str, np.ndarray]:
        run = compiled(self.model, tuple(self._paths.values()))
        total = {name: np.zeros(tuple(kernel.shape)) for name, kernel in self._kernels.items()}
        for images, labels in self.batches(batches, size):
            for name, part in zip(total, run(images, labels), strict=True):
                total[name] += part.numpy()
        return {name: each / batches for name, each in total.items()}


#: Images whose squared gradients are summed in one call.
_MOST_AT_ONCE = 64


@functools.lru_cache(maxsize=4)
def _of_the_mean(model: keras.Model, paths: tuple[str, ...]) -> Callable[..., Any]:
    """(images, labels) to the gradients of their mean loss. Compiled once for each network: the
    next step of a chain uses it again."""
    kernels = [variables(model)[path].value for path in paths]

    def run(images: Any, labels: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            loss = tf.reduce_mean(cross_entropy(labels, model(images, training=False)))
        return _filled(tape.gradient(loss, kernels), kernels)

    return tf.function(run, input_signature=_signature(model))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=4)
def _squares(model: keras.Model, paths: tuple[str, ...]) -> Callable[..., Any]:
    """(images, labels) to the mean of the squares of each image's gradients."""
    kernels = [variables(model)[path].value for path in paths]

    def run(images: Any, labels: Any) -> Any:
        totals = [tf.zeros(kernel.shape) for kernel in kernels]
        count = tf.shape(images)[0]
        for i in tf.range(count):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(kernels)
                logits = model(images[i : i + 1], training=False)
                loss = tf.reduce_sum(cross_entropy(labels[i : i + 1], logits))
            slopes = _filled(tape.gradient(loss, kernels), kernels)
            totals = [t + tf.square(s) for t, s in zip(totals, slopes, strict=True)]
        return [t / tf.cast(count, tf.float32) for t in totals]

    return tf.function(run, input_signature=_signature(model))  # type: ignore[no-any-return]


def _filled(slopes: list[Any], kernels: list[Any]) -> list[Any]:
    """0 where the loss does not depend on a kernel."""
    return [
        tf.zeros(kernel.shape) if slope is None else slope
        for slope, kernel in zip(slopes, kernels, strict=True)
    ]


def _signature(model: keras.Model) -> tuple[Any, Any]:
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    return images, tf.TensorSpec((None,), tf.int32)
