"""Fewer changed elements by exchange, in L0.

A tabu search (Glover 1989, "Tabu search, part I") over the set of changed elements. Every query
gives a margin and its gradient, and so an estimate of what each element contributes. Where the
image is adversarial, the element that contributes least goes back to its clean value. Where it is
not, the element that would contribute most is changed, in exchange for the one that contributes
least once the set has only one element fewer than the best. An element that has just been moved
stays for a few queries, so that no exchange is undone by the next, and no set is queried twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import AttackContext, Batch

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Queries for which a moved element stays as it is.
TENURE = 3
#: Elements tried in turn until one makes a set that was not queried before.
TRIES = 16


class SeenSets:
    """Sets of changed elements that were queried, of `n` images with `d` elements each.

    `queries`: of an image, at most.
    """

    def __init__(self, n: int, d: int, queries: int) -> None:
        self._marks = np.random.default_rng(0).integers(1, 2**63, d, np.uint64)
        self._seen = np.zeros((n, queries), np.uint64)
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


def exchange_elements(
    network: Network,
    batch: Batch,
    found: np.ndarray,
    most: np.ndarray,
    seen: SeenSets,
    rows: np.ndarray,
    context: AttackContext,
) -> tuple[np.ndarray, np.ndarray]:
    """`found`: [n, h, w, c], adversarial; `most`: int [n], queries that an image may take;
    `rows`: int [n], where `seen` has these images.

    Returns adversarial images [n, h, w, c] with no more changed elements than `found`, and the
    passes made of each, [3, n]: forward, backward, and forward where the margin had no slope.
    """
    n, shape = len(batch), batch.images.shape
    labels = batch.labels.astype(np.int32)
    margins = network.margin_and_gradient(slope="movable")
    clean = batch.images.reshape(n, -1)
    best = found.reshape(n, -1).copy()
    size = (best != clean).sum(axis=1)
    x = best.copy()
    passes = np.zeros((3, n), np.int64)
    queries = passes[0]
    free_from = np.zeros(x.shape, np.int32)  #: the query from which on an element may move
    active = np.flatnonzero((most > 0) & (size > 1))
    while len(active):
        margin, slopes, flat, backward = context.micro_batches.map(
            margins, active, x.reshape(shape), labels
        )
        passes[:, active] += np.stack([np.ones(len(active), np.int64), backward, flat])
        here, there = x[active], clean[active]
        changed = here != there
        seen.add(rows[active], changed)
        over, count = margin < 0, changed.sum(axis=1)
        hit = over & (count <= size[active])
        best[active[hit]], size[active[hit]] = here[hit], count[hit]
        free = free_from[active] <= queries[active, None]
        slope, goal = slopes.reshape(len(active), -1), size[active] - 1
        back = np.where(over, 0, count >= goal) + np.maximum(count - goal, 0)
        x[active] = _put_back(here, there, slope, free, back)
        short = np.flatnonzero(~over)
        line = active[short]
        x[line] = _brought_in(
            x[line], there[short], slope[short], free[short] & ~changed[short], seen, rows[line]
        )
        in_or_out, columns = np.nonzero((x[active] != there) != changed)
        free_from[active[in_or_out], columns] = queries[active[in_or_out]] + TENURE + 1
        alive = (x[active] != here).any(axis=1)  # without a slope there is no estimate
        active = active[alive & (queries[active] < most[active]) & (size[active] > 1)]
        context.ticker.tick(1.0, f"exchanging elements, {len(active)} images at work")
    return best.reshape(shape), passes


def _put_back(
    x: np.ndarray, clean: np.ndarray, slope: np.ndarray, free: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """[n, d]: x with back[i] of its changed elements, those that contribute least, at their clean
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
    seen: SeenSets,
    rows: np.ndarray,
) -> np.ndarray:
    """[n, d]: x with one more of the free elements changed: the one that contributes most and
    makes a set that was not queried before."""
    end, out = _ends(slope), x.copy()
    gain = np.where(free & (end != clean), slope * (clean - end), np.float32(-1))
    marks, left = seen.mark(x != clean), np.arange(len(x))
    for _ in range(TRIES):
        most = gain[left].argmax(axis=1)
        left, most = left[gain[left, most] > 0], most[gain[left, most] > 0]
        known = seen.knows(rows[left], marks[left], most)
        gain[left[known], most[known]] = -1
        out[left[~known], most[~known]] = end[left[~known], most[~known]]
        left = left[known]
        if not len(left):
            break
    return out


def _ends(slope: np.ndarray) -> np.ndarray:
    """float32 [n, d]: the end of the box where the margin is lower."""
    return (slope <= 0).astype(np.float32)
