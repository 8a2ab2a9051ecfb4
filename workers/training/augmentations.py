"""Random flips and crops, drawn per image for a whole epoch, so that results depend neither on
batches nor on interruptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from prunegrid.workers.contract import Augmentation


def draw_moves(count: int, augmentation: str, seed: int) -> np.ndarray:
    """One epoch's flips and shifts per image: int32 [count, 3] (flip 0 or 1, row, column)."""
    how = Augmentation.named(augmentation)
    if how == Augmentation():
        return np.zeros((count, 3), dtype=np.int32)
    rng = np.random.default_rng(seed)
    flips = rng.integers(0, 2, count) * how.flip
    shifts = rng.integers(0, 2 * how.pad + 1, (count, 2))
    return np.column_stack([flips, shifts]).astype(np.int32)


def augment(images: Any, moves: Any, augmentation: str) -> Any:
    """Flip left to right, pad with zeros, crop back to the old size. Images: [n, h, w, c] of any
    type. `moves`: from `draw_moves`; row and column of the crop in the padded image."""
    how = Augmentation.named(augmentation)
    if how.flip:
        flip = tf.cast(moves[:, 0], tf.bool)[:, None, None, None]
        images = tf.where(flip, images[:, :, ::-1, :], images)
    if not how.pad:
        return images
    height, width = images.shape[1], images.shape[2]
    images = tf.pad(images, [[0, 0], [how.pad, how.pad], [how.pad, how.pad], [0, 0]])
    rows = moves[:, 1:2] + tf.range(height)[None, :]
    columns = moves[:, 2:3] + tf.range(width)[None, :]
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)
