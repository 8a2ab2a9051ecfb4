"""A training split's batches: from a copy on the device where it fits, else read ahead from disk.

Both give the same batches, so that a data set's size changes no result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from prunegrid.workers.data.base import ImageSplit

#: A larger split is streamed from its memory map. CIFAR-10 takes 150 MB, Imagenette 1.4 GB.
RESIDENT_BYTES = 512 * 2**20
_READ_AHEAD = 4


class Source(Protocol):
    """Gives a compiled training loop its images."""

    def epoch(self, order: np.ndarray, batch_size: int) -> Any:
        """The `cursor` for `batch`, at the beginning of `order`."""

    @staticmethod
    def batch(cursor: Any, picked: Any) -> Any:
        """uint8 images of the next batch, whose indices are `picked`. Called in a tf.function, once
        for each batch of the epoch, in order. Static: compiled steps outlive a training, and a
        bound method would keep its images on the device."""


class Resident:
    """All images on the device, as uint8."""

    def __init__(self, split: ImageSplit) -> None:
        self._images = tf.constant(np.asarray(split.images))

    def epoch(self, order: np.ndarray, batch_size: int) -> Any:
        return self._images

    @staticmethod
    def batch(cursor: Any, picked: Any) -> Any:
        return tf.gather(cursor, picked)


class Streamed:
    """Another thread reads a few batches ahead while the device computes."""

    def __init__(self, split: ImageSplit) -> None:
        self._images = split.images
        self._plan: tuple[np.ndarray, int] = (np.empty(0, np.int32), 1)
        batch = tf.TensorSpec((None, *split.images.shape[1:]), tf.uint8)
        # One data set for all epochs: TensorFlow never frees a generator function.
        data = tf.data.Dataset.from_generator(self._read, output_signature=batch)
        self._data = data.prefetch(_READ_AHEAD)

    def epoch(self, order: np.ndarray, batch_size: int) -> Any:
        self._plan = (order, batch_size)
        return iter(self._data)

    def _read(self) -> Iterator[np.ndarray]:
        order, size = self._plan
        for start in range(0, len(order), size):
            yield gather(self._images, order[start : start + size])

    @staticmethod
    def batch(cursor: Any, picked: Any) -> Any:
        return next(cursor)


def source(split: ImageSplit, *, resident_bytes: int = RESIDENT_BYTES) -> Source:
    return Resident(split) if split.images.nbytes <= resident_bytes else Streamed(split)


def gather(images: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """images[picked]; a memory map is read front to back."""
    order = np.argsort(picked, kind="stable")
    out = np.empty((len(picked), *images.shape[1:]), dtype=images.dtype)
    out[order] = images[picked[order]]
    return out
