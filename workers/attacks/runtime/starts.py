"""Where a boundary attack starts: an image of the data set with another predicted class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from prunegrid.workers.attacks.base import AttackContext, Batch
from prunegrid.workers.attacks.runtime.draws import generator

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Draws of uniform noise where no image of the data set will do.
NOISE = 64


def dataset_starts(
    network: Network, batch: Batch, context: AttackContext, shuffle: Callable[[Any], None]
) -> tuple[np.ndarray, np.ndarray]:
    """As Foolbox's DatasetAttack: image i of a batch of n tries the pool's first n images except
    the i-th, in shuffled order, until one has another class than its label.

    `shuffle`: shuffles a list in place. Returns starts [n, h, w, c], and whether one was found.
    A misclassified image starts at itself. Raises ValueError where the pool is too small.
    """
    pool = context.pool
    n = len(batch)
    if pool is None or len(pool) < n:
        size = 0 if pool is None else len(pool)
        raise ValueError(
            f"start images: Foolbox draws from as many as the batch has, expected {n} or more, "
            f"got {size}; take a batch_size of at most {size}"
        )
    classes = network.logits(pool.images[:n]).argmax(axis=1)
    found = network.logits(batch.images).argmax(axis=1) != batch.labels
    starts = batch.images.copy()
    for i in range(n):
        order = [j for j in range(n) if j != i]
        shuffle(order)
        if found[i]:
            continue
        for j in order:
            if classes[j] != batch.labels[i]:
                starts[i] = pool.images[j]
                found[i] = True
                break
    return starts, found


def nearest_starts(
    network: Network, batch: Batch, context: AttackContext, *, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` starts for each image, whatever its batch: the nearest pool images (L2) of other
    predicted classes, one of each class. Where the pool has none, uniform noise drawn for this
    image alone.

    Each is (starts [n, h, w, c], whether one was found [n]).
    """
    n = len(batch)
    out = [(batch.images.copy(), np.zeros(n, bool)) for _ in range(count)]
    if context.pool is not None and len(context.pool):
        classes = network.predictions(context.pool.images, context.micro_batches)
        flat = context.pool.images.reshape(len(context.pool), -1)
        for row in range(n):
            others = np.flatnonzero(classes != batch.labels[row])
            gaps = flat[others] - batch.images[row].reshape(1, -1)
            nearest = others[np.argsort(np.square(gaps).sum(axis=1), kind="stable")]
            _, firsts = np.unique(classes[nearest], return_index=True)
            for (starts, found), place in zip(out, np.sort(firsts), strict=False):
                starts[row], found[row] = context.pool.images[nearest[place]], True
    starts, found = out[0]
    for i in np.flatnonzero(~found):
        rng = generator(context.seed, int(batch.indices[i]), "noise-start")
        noise = rng.random((NOISE, *batch.images.shape[1:]), np.float32)
        hits = np.flatnonzero(network.predictions(noise, context.micro_batches) != batch.labels[i])
        if len(hits):
            starts[i], found[i] = noise[hits[0]], True
    return out
