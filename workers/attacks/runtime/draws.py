"""Random draws: stateless per image for `strict`, Foolbox's global streams for the others.

Imports TensorFlow only where Foolbox's draws need it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.keys import derive_seed

if TYPE_CHECKING:
    import tensorflow as tf


def generator(seed: int, image: int, *parts: int | float | str) -> np.random.Generator:
    """Depends on its arguments alone: Philox is counter-based and the same everywhere."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, "attack", image, *parts)))


def uniform(shape: tuple[int, ...], seed: int, image: int, eps: float, restart: int) -> np.ndarray:
    """float32 in [-1, 1), the random start of one image."""
    draw = generator(seed, image, eps, restart).random(shape, np.float32)
    return draw * np.float32(2) - np.float32(1)


def _number(seed: int, stream: int) -> int:
    return derive_seed(seed, "foolbox", stream) % 2**31


@contextlib.contextmanager
def seeded_foolbox(seed: int, stream: int) -> Iterator[None]:
    """Foolbox draws from TensorFlow's and NumPy's global generators: seed both for one slice of
    a shard, and give NumPy's back as it was."""
    import tensorflow as tf

    number = _number(seed, stream)
    state = np.random.get_state()
    np.random.seed(number)
    tf.random.set_seed(number)
    try:
        yield
    finally:
        np.random.set_state(state)


class FoolboxDraws:
    """What Foolbox draws within `seeded_foolbox`, bit by bit, with no global generator.

    `tf.random.set_seed` would discard all kernels of the process, and compiled attacks take tens
    of milliseconds to create theirs again. After it, TensorFlow seeds its n-th random operation
    with the n-th number of Python's generator of that seed, and starts Philox from both.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._number = _number(seed, stream)
        self._operations = random.Random(self._number)
        #: In place, as np.random.shuffle.
        self.shuffle = np.random.RandomState(self._number).shuffle

    def uniform(self, shape: tf.TensorShape, low: float, high: float) -> tf.Tensor:
        """float32 in [low, high)."""
        import tensorflow as tf

        operation = self._operations.randint(0, 2**31 - 1)
        philox = tf.random.Generator.from_state([0, operation, self._number], alg="philox")
        return philox.uniform(shape, low, high, tf.float32)
