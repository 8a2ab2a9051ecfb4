"""The last part of `strict` B&B: fewer changed elements by exchange, in L0.

A tabu search (Glover 1989, "Tabu search, part I") over which elements are changed. Every look at
the network gives a margin and its gradient, and so a guess at what each element brings. Where the
class is another one, the element that brings least goes back to its old value; where it is not,
one is changed that brings most, in exchange for one that brings least once there are as many as
in the best but one. What has just been moved stays for a few looks, so that no exchange is undone
by the next, and nothing comes in that makes a set which was looked at before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prunegrid.workers.attacks.base import Batch, Job
from prunegrid.workers.attacks.network import Network

#: Looks for which a moved element stays as it is.
TENURE = 3
#: Elements tried in turn until one makes a set that no look has seen.
TRIES = 16


class Memory:
    """Sets of changed elements that were looked at for each of `n` images with `d` elements."""

    def __init__(self, n: int, d: int, looks: int) -> None:
        self._marks = np.random.default_rng(0).integers(1, 2**63, d, np.uint64)
        self._seen = np.zeros((n, looks), np.uint64)
        self._count = np.zeros(n, np.int64)

    def mark(self, changed: np.ndarray) -> np.ndarray:
        """uint64 [n] of sets bool [n, d]: exclusive or of their elements' marks."""
        marks = np.where(changed, self._marks, np.uint64(0))
        out: np.ndarray = np.bitwise_xor.reduce(marks, axis=1)
        return out

    def add(self, rows: np.ndarray, changed: np.ndarray) -> None:
        self._seen[rows, self._count[rows]] = self.mark(changed)
        self._count[rows] += 1

    def knows(self, rows: np.ndarray, marks: np.ndarray, elements: np.ndarray) -> np.ndarray:
        """Whether row i has seen the set of mark i with element i more; bool [len(rows)]."""
        full = np.bitwise_xor(marks, self._marks[elements])
        known: np.ndarray = (self._seen[rows] == full[:, None]).any(axis=1)
        return known


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


def exchange_elements(
    network: Network,
    batch: Batch,
    found: np.ndarray,
    most: np.ndarray,
    memory: Memory,
    rows: np.ndarray,
    job: Job,
) -> tuple[np.ndarray, np.ndarray]:
    """`found`: [n, h, w, c], adversarial; `most`: int [n], looks that an image may take; `rows`:
    int [n], where `memory` has these images.

    Returns adversarial images [n, h, w, c] with no more changed elements than `found`, and the
    passes made of each, [n].
    """
    n, shape = len(batch), batch.images.shape
    labels, look = batch.labels.astype(np.int32), network.margin_and_gradient()
    clean = batch.images.reshape(n, -1)
    best = found.reshape(n, -1).copy()
    size = (best != clean).sum(axis=1)
    x = best.copy()
    passes = np.zeros(n, np.int64)
    free_from = np.zeros(x.shape, np.int32)  #: the look from which on an element may move
    active = np.flatnonzero((most > 0) & (size > 1))
    while len(active):
        margin, slopes = look_at(look, x.reshape(shape), labels, active, job)
        passes[active] += 1
        here, there = x[active], clean[active]
        changed = here != there
        memory.add(rows[active], changed)
        over, count = margin < 0, changed.sum(axis=1)
        hit = over & (count <= size[active])
        best[active[hit]], size[active[hit]] = here[hit], count[hit]
        free = free_from[active] <= passes[active, None]
        slope, goal = slopes.reshape(len(active), -1), size[active] - 1
        back = np.where(over, 0, count >= goal) + np.maximum(count - goal, 0)
        x[active] = _put_back(here, there, slope, free, back)
        short = np.flatnonzero(~over)
        line = active[short]
        x[line] = _brought_in(
            x[line], there[short], slope[short], free[short] & ~changed[short], memory, rows[line]
        )
        in_or_out, columns = np.nonzero((x[active] != there) != changed)
        free_from[active[in_or_out], columns] = passes[active[in_or_out]] + TENURE + 1
        alive = (x[active] != here).any(axis=1)  # no slope, no guess
        active = active[alive & (passes[active] < most[active]) & (size[active] > 1)]
        job.ticker.tick(1.0, f"B&B: exchanging elements, {len(active)} images at work")
    return best.reshape(shape), passes


def _put_back(
    x: np.ndarray, clean: np.ndarray, slope: np.ndarray, free: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """[n, d]: x with back[i] of its changed elements, those that bring least, at their old
    values, and with the others at the end of the box where the margin is lower."""
    changed = x != clean
    loss = np.where(changed, slope * (clean - x), np.float32(np.inf))
    # Those that have just been moved only where there are no others.
    loss += np.where(changed & ~free, np.float32(1e9), np.float32(0))
    end = _ends(slope)
    out = np.where(changed & (end != clean) & (slope != 0), end, x)
    back = np.minimum(back, changed.sum(axis=1))
    for k in range(int(back.max(initial=0))):
        rows = np.flatnonzero(back > k)
        worst = loss[rows].argmin(axis=1)
        out[rows, worst] = clean[rows, worst]
        loss[rows, worst] = np.inf
    return out


def _brought_in(
    x: np.ndarray,
    clean: np.ndarray,
    slope: np.ndarray,
    free: np.ndarray,
    memory: Memory,
    rows: np.ndarray,
) -> np.ndarray:
    """[n, d]: x with one element more, of those that are free the one that brings most and makes
    a set that was not looked at."""
    end, out = _ends(slope), x.copy()
    gain = np.where(free & (end != clean), slope * (clean - end), np.float32(-1))
    marks, left = memory.mark(x != clean), np.arange(len(x))
    for _ in range(TRIES):
        most = gain[left].argmax(axis=1)
        left, most = left[gain[left, most] > 0], most[gain[left, most] > 0]
        known = memory.knows(rows[left], marks[left], most)
        gain[left[known], most[known]] = -1
        out[left[~known], most[~known]] = end[left[~known], most[~known]]
        left = left[known]
        if not len(left):
            break
    return out


def _ends(slope: np.ndarray) -> np.ndarray:
    """float32 [n, d]: the end of the box where the margin is lower."""
    return (slope <= 0).astype(np.float32)
