"""Random draws: stateless per image for `strict`, Foolbox's global streams for the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from workers.keys import derive_seed


def generator(seed: int, image: int, *parts: int | float | str) -> np.random.Generator:
    """Depends on its arguments alone: Philox is counter-based and the same everywhere."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, "attack", image, *parts)))


def uniform(shape: tuple[int, ...], seed: int, image: int, eps: float, restart: int) -> np.ndarray:
    """float32 in [-1, 1), one image's random start."""
    draw = generator(seed, image, eps, restart).random(shape, np.float32)
    return draw * np.float32(2) - np.float32(1)


@contextlib.contextmanager
def seeded_foolbox(seed: int, stream: int) -> Iterator[None]:
    """Foolbox draws from TensorFlow's and NumPy's global generators: seed both for one slice of
    a shard, and give NumPy's back as it was."""
    number = derive_seed(seed, "foolbox", stream) % 2**31
    state = np.random.get_state()
    np.random.seed(number)
    tf.random.set_seed(number)
    try:
        yield
    finally:
        np.random.set_state(state)
