"""The last step of `strict` B&B: no element stays changed that the class does not need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workers.attacks.base import Batch, Job
from workers.attacks.network import Network

#: Elements that are tried at their old value.
MOST_RESTORED = 64


def look_at(
    look: Callable[..., Any], x: np.ndarray, labels: np.ndarray, rows: np.ndarray, job: Job
) -> tuple[np.ndarray, np.ndarray]:
    """Margins [len(rows)] and their gradients [len(rows), h, w, c], in micro-batches."""
    margin = np.empty(len(rows), np.float32)
    gradient = np.empty((len(rows), *x.shape[1:]), np.float32)
    place = np.arange(len(rows))
    for here, padded in job.lanes.pieces(place):
        with job.lanes.attempt():
            m, g = look(x[rows[padded]], labels[rows[padded]])
            margin[here], gradient[here] = m.numpy()[: len(here)], g.numpy()[: len(here)]
    return margin, gradient


def restore_elements(
    network: Network, batch: Batch, found: np.ndarray, job: Job
) -> tuple[np.ndarray, np.ndarray]:
    """Push the changed elements to the ends of the box that help, then put them back one by
    one, those that bring least first, wherever the class stays changed.

    Returns images [n, h, w, c] and the passes made of each, [n].
    """
    n, shape = len(batch), batch.images.shape
    labels = batch.labels.astype(np.int32)
    _, slopes = look_at(network.margin_and_gradient(), found, labels, np.arange(n), job)
    gradient = slopes.reshape(n, -1)
    clean = batch.images.reshape(n, -1)
    best = found.reshape(n, -1).copy()
    ends = np.where(gradient > 0, np.float32(0), np.where(gradient < 0, np.float32(1), best))
    pushed = np.where(best != clean, ends, best)
    fine = network.predictions(pushed.reshape(shape), job.lanes) != batch.labels
    best[fine] = pushed[fine]
    passes = np.full(n, 2, np.int64)
    changed = best != clean
    gain = np.where(changed, np.abs(gradient * (best - clean)), np.inf)
    order = np.argsort(gain, axis=1, kind="stable")
    counts = np.minimum(changed.sum(axis=1), MOST_RESTORED)
    for k in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > k)
        tried = best[rows]
        at = order[rows, k]
        tried[np.arange(len(rows)), at] = clean[rows, at]
        classes = network.predictions(tried.reshape(-1, *shape[1:]), job.lanes)
        good = classes != batch.labels[rows]
        best[rows[good]] = tried[good]
        passes[rows] += 1
        job.ticker.tick(1.0, "B&B: putting elements back")
    return best.reshape(shape), passes
