"""Micro-batches of one padded shape, which shrinks where memory does not suffice.

A kernel may round differently at another batch shape, and C&W amplifies a last bit into percents.
Shapes are multiples of 16, below which oneDNN and Eigen change their blocking. In most of these
shapes an image's result depends neither on its place nor on the other images; not in all: a matrix
product in blocks of six rows (AVX2) rounds the last two of 32 or 128 rows differently. Such a shape
is left out (`Network.place_matters`). `tests/attacks/test_shards.py` tests the outcome.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

#: Shapes are multiples of this, and none is smaller.
QUANTUM = 16
#: How much larger a shape may be than the one asked for: a multiple of a block of 6, 9 or 12 rows
#: and of 16 lies within.
LARGER = 144


def padded_size(images: int) -> int:
    """The next multiple of QUANTUM."""
    return max(QUANTUM, -(-images // QUANTUM) * QUANTUM)


class MicroBatches:
    """Pieces of work in the shape `size`, or in a larger one where places matter in that; it
    halves, down to 16, where memory runs out.

        for rows, padded in micro_batches.pieces(active):
            with micro_batches.attempt():
                state[rows] = compute(inputs[padded])[: len(rows)]

    which `map` does for a function without state.

    A piece that did not fit comes again, smaller: the body must not write before it has computed.
    `smaller_is_equal`: the device gives the same bits in any multiple of 16 up to `size`, so that
    a last piece need not be padded to the full shape. `place_matters`: in which shapes the device
    rounds an image's results by its place.
    """

    def __init__(
        self,
        size: int,
        *,
        smaller_is_equal: bool = False,
        place_matters: Callable[[int], bool] = lambda shape: False,
    ) -> None:
        self.nominal = padded_size(size)  #: as asked for, whatever the device allowed
        self.smaller_is_equal = smaller_is_equal
        self._place_matters = place_matters
        self._failed = False
        larger = range(self.nominal, self.nominal + LARGER, QUANTUM)
        self.size = next((n for n in larger if not place_matters(n)), self.nominal)

    def pieces(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, the same padded by repetition of the last one), in order."""
        start = 0
        while start < len(rows):
            self._failed = False
            piece = rows[start : start + self.size]
            shape = padded_size(len(piece)) if self.smaller_is_equal else self.size
            yield piece, np.concatenate([piece, np.repeat(piece[-1:], shape - len(piece))])
            if not self._failed:
                start += len(piece)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Raises what the device raised where even 16 images do not fit."""
        try:
            yield
        except (tf.errors.ResourceExhaustedError, MemoryError):
            if self.size <= QUANTUM:
                raise
            smaller = range(padded_size(self.size // 2), QUANTUM, -QUANTUM)
            self.size = next((n for n in smaller if not self._place_matters(n)), QUANTUM)
            self._failed = True

    def map(
        self, function: Callable[..., tuple[Any, ...]], rows: np.ndarray, *arrays: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """`function` of array[rows] for each of the arrays: what it returns for each row.

        `function`: to tensors or arrays with a row for each image. `rows`: at least one.
        """
        found: list[list[np.ndarray]] = []
        for here, padded in self.pieces(rows):
            with self.attempt():
                results = function(*(array[padded] for array in arrays))
                found.append([np.asarray(result)[: len(here)] for result in results])
        return tuple(np.concatenate(column) for column in zip(*found, strict=True))
