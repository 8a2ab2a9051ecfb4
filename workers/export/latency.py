"""How long one forward pass takes on this machine, dense and shrunk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from prunegrid.workers.export.shrink import ShrinkError, shrink


def dense_and_shrunk_ms(model: keras.Model, batch_size: int) -> tuple[float, float | None]:
    """Milliseconds of the model as it is, and without its dead channels. None for the latter where
    `shrink` can't make the smaller network."""
    try:
        small = shrink(model)
    except (ValueError, ShrinkError):
        return latencies_ms([model], batch_size=batch_size)[0], None
    dense_ms, shrunk_ms = latencies_ms([model, small], batch_size=batch_size)
    return dense_ms, shrunk_ms


def latencies_ms(
    models: Sequence[keras.Model],
    *,
    batch_size: int = 1,
    repeats: int = 30,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, ...]:
    """The median milliseconds of a compiled forward pass of `batch_size` images, per model.

    The models take turns, so that other load on the machine slows all of them alike. The first
    `warmup` rounds compile, and do not count. The result is copied to the host; otherwise an
    asynchronous device would look instant.
    """
    calls = [_compiled(model, batch_size) for model in models]
    times: list[list[float]] = [[] for _ in models]
    for number in range(warmup + repeats):
        for call, mine in zip(calls, times, strict=True):
            started_s = clock()
            call()
            elapsed_s = clock() - started_s
            if number >= warmup:
                mine.append(elapsed_s * 1000)
    return tuple(statistics.median(mine) for mine in times)


def _compiled(model: keras.Model, batch_size: int) -> Callable[[], np.ndarray]:
    import tensorflow as tf

    shape = (batch_size, *model.input_shape[1:])
    images = tf.constant(np.random.default_rng(0).random(shape, dtype=np.float32))
    forward = tf.function(lambda batch: model(batch, training=False))
    return lambda: np.asarray(forward(images))
