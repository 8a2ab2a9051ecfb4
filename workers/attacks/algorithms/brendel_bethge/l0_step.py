"""One L0 step of Brendel & Bethge along the boundary, for many images at once. Pure NumPy.

For each image: the fewest elements that differ from the original x0, such that the linearised
boundary b . delta = c is met, x + delta stays in [0, 1] and |delta|_2 <= radius (Brendel et al.
2019, appendix). In nearly every case the radius is slack and the answer has a closed form: go
back to x0, then move the elements that bring most, largest first, until the boundary is met.
The other cases go to `trust_region.py`.

Sums run in index order (`add.accumulate`), since Foolbox's compiled loops do and a sum's last
bit depends on its order.
"""

from __future__ import annotations

import numpy as np

from prunegrid.workers.attacks.algorithms.brendel_bethge.trust_region import (
    least_norm_to_boundary,
    sequential_sum,
    solve_with_radius,
    towards_boundary,
)

#: Elements sorted at first; most answers move fewer. Then GROWTH times as many.
FIRST_SORTED = 32
GROWTH = 8
#: Elements of which only the largest is looked at, at first.
BLOCK = 32
#: What float32 may be wrong by, relative to the terms of a sum; closer calls go to float64.
ROUGH = 1e-3


def l0_steps(
    x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """float64 [n, d] steps from x; x0, x, b: float32 [n, d]; c, radius: [n]."""
    c = np.asarray(c, np.float64)
    plain = _plain(x, b, c, radius)
    if plain.all():
        return _fill(x0, x, b, c)
    delta = np.empty(x.shape)
    rows = np.flatnonzero(plain)
    if len(rows):
        delta[rows] = _fill(x0[rows], x[rows], b[rows], c[rows])
    for i in np.flatnonzero(~plain):
        delta[i] = _careful(x0[i], x[i], b[i], c[i], float(radius[i]))
    return delta


def _plain(x: np.ndarray, b: np.ndarray, c: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """bool [n]: the boundary is within reach for sure, and all the box within the radius."""
    # An element brings |b| (1 - x) if it goes to 1, |b| x if it goes to 0.
    sign = np.where(c > 0, 1.0, -1.0)
    steep = np.abs(b).sum(axis=1, dtype=np.float64)
    net = b.sum(axis=1, dtype=np.float64)
    reach = (steep + sign * net) / 2 - sign * np.einsum("nd,nd->n", b, x)
    span = np.sqrt(x.shape[1])
    plain: np.ndarray = (reach > np.abs(c) + ROUGH * steep) & (span < radius * (1 - ROUGH))
    return plain


def _careful(x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: float, radius: float) -> np.ndarray:
    """One image, where the boundary may be out of reach or the radius may bind."""
    wide0, wide, slope = (a.astype(np.float64) for a in (x0, x, b))
    room = np.where((slope > 0) == (c > 0), 1.0 - wide, 0.0 - wide)
    if abs(sequential_sum(0.0, slope * room)) < abs(c):
        return towards_boundary(wide, slope, c, radius)
    if (
        np.sqrt(sequential_sum(0.0, room * room)) >= radius
        and least_norm_to_boundary(wide, slope, c) > radius
    ):
        return towards_boundary(wide, slope, c, radius)
    delta: np.ndarray = _fill(x0[None], x[None], b[None], np.array([c]))[0]
    if np.linalg.norm(delta) <= radius:
        return delta
    return solve_with_radius(wide0, wide, slope, c, radius)


def _fill(x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The closed form, [n, d], without a radius."""
    n, d = x0.shape
    delta: np.ndarray = x0.astype(np.float64) - x
    slope = b.astype(np.float64)
    met = np.array([slope[i].dot(delta[i]) for i in range(n)])
    lack = c - met
    # Candidates by float32; what decides, their order and sums, is float64.
    todo = np.arange(n)
    signed = b * np.where(lack > 0, np.float32(1), np.float32(-1))[:, None]
    rough = np.maximum(signed, 0)
    rough -= x0 * signed  # |b| (1 - x0) or |b| x0, whichever way is needed
    lost = 1e-6 * np.abs(b).max(axis=1)
    count = min(FIRST_SORTED, d)
    while len(todo):
        order, cut = _largest(rough if len(todo) == n else rough[todo], count)
        missed = cut * (1 + ROUGH) + lost[todo]
        at0, at = x0[todo[:, None], order], slope[todo[:, None], order]
        more = (lack[todo] > 0)[:, None]
        up = np.where(at > 0, more | (lack[todo] == 0)[:, None], (at == 0) | ~more)
        total = np.where(up, 1.0, 0.0) - at0
        gain = total * at
        inner = np.argsort(np.abs(gain), axis=1)[:, ::-1]
        order, total, gain = (np.take_along_axis(a, inner, axis=1) for a in (order, total, gain))
        reached = np.add.accumulate(np.column_stack([met[todo], gain]), axis=1)[:, :-1]
        last = ~(np.abs(c[todo, None] - reached) > np.abs(gain))
        stop = np.where(last.any(axis=1), last.argmax(axis=1), count - 1)
        rows = np.arange(len(todo))
        enough = last[rows, stop]
        settled = (enough & (np.abs(gain[rows, stop]) > missed)) | (count == d)
        whole = np.arange(count) < np.where(enough, stop, count)[:, None]
        delta[todo[settled, None], order[settled]] += (total * whole)[settled]
        part = rows[settled & enough]  # the last element moves as far as is needed
        i, element = todo[part], order[part, stop[part]]
        delta[i, element] += (c[i] - reached[part, stop[part]]) / (slope[i, element] + 1e-20)
        todo = todo[~settled]
        count = min(count * GROWTH, d)
    return delta


def _largest(size: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n, count] of each row's largest elements in any order, and the least of them;
    where all are taken none is left out, and the least is below any."""
    n, d = size.shape
    if count == d:
        return np.broadcast_to(np.arange(d), size.shape), np.full(n, -np.inf)
    blocks = d // BLOCK
    if blocks < 2 * count:
        return _partitioned(size, count)
    # The blocks' largest are elements too: the count-th of them is not above the count-th of all.
    tops = size[:, : blocks * BLOCK].reshape(n, BLOCK, blocks).max(axis=1)
    least = np.partition(tops, blocks - count, axis=1)[:, blocks - count]
    rows, columns = np.nonzero(size >= least[:, None])
    each = np.bincount(rows, minlength=n)
    width = int(each.max())
    if width > d // 4:  # ties without end
        return _partitioned(size, count)
    few = np.full((n, width), -np.inf, size.dtype)
    place = np.zeros((n, width), np.intp)
    at = np.arange(len(rows)) - np.repeat(np.cumsum(each) - each, each)
    few[rows, at], place[rows, at] = size[rows, columns], columns
    best, cut = _partitioned(few, count)
    return np.take_along_axis(place, best, axis=1), cut


def _partitioned(size: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    n, d = size.shape
    # Values alone partition in half the time of indices; ties at the cut are the exception.
    cut = np.partition(size, d - count, axis=1)[:, d - count]
    rows, columns = np.nonzero(size >= cut[:, None])
    if len(rows) == n * count:
        return columns.reshape(n, count), cut
    return np.argpartition(size, d - count, axis=1)[:, d - count :], cut
