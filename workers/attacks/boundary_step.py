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

from workers.attacks.trust_region import (
    least_norm_to_boundary,
    sequential_sum,
    solve_with_radius,
    towards_boundary,
)

#: Elements sorted at first; most answers move far fewer.
FIRST_SORTED = 256


def l0_steps(
    x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """float64 [n, d] steps from x; x0, x, b: float32 or float64 [n, d]; c, radius: [n]."""
    x0, x, b = (np.asarray(a, np.float64) for a in (x0, x, b))
    c = np.asarray(c, np.float64)
    toward_one = (b > 0) == (c > 0)[:, None]
    room = np.where(toward_one, 1.0 - x, 0.0 - x)
    # The farthest reach; pairwise sums decide all but the closest calls.
    reach = np.abs(np.einsum("nd,nd->n", b, room))
    span = np.einsum("nd,nd->n", room, room)
    delta = np.empty_like(x)
    plain = (reach > np.abs(c) * (1 + 1e-9)) & (np.sqrt(span) < radius * (1 - 1e-9))
    rows = np.flatnonzero(plain)
    if len(rows):
        delta[rows] = _fill(x0[rows], x[rows], b[rows], c[rows])
    for i in np.flatnonzero(~plain):
        delta[i] = _careful(x0[i], x[i], b[i], c[i], room[i], float(radius[i]))
    return delta


def _careful(
    x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: float, room: np.ndarray, radius: float
) -> np.ndarray:
    """One image, where the boundary may be out of reach or the radius may bind."""
    if abs(sequential_sum(0.0, b * room)) < abs(c):
        return towards_boundary(x, b, c, radius)
    if (
        np.sqrt(sequential_sum(0.0, room * room)) >= radius
        and least_norm_to_boundary(x, b, c) > radius
    ):
        return towards_boundary(x, b, c, radius)
    delta = _fill(x0[None], x[None], b[None], np.array([c]))[0]
    if np.linalg.norm(delta) <= radius:
        return delta
    return solve_with_radius(x0, x, b, c, radius)


def _fill(x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The closed form, [n, d], without a radius."""
    n, d = x0.shape
    delta = x0 - x
    met = np.array([b[i].dot(delta[i]) for i in range(n)])
    more = (c - met > 0)[:, None]
    up = np.where(b > 0, more | (c - met == 0)[:, None], (b == 0) | ~more)
    total = np.where(up, 1.0 - x0, 0.0 - x0)
    gain = total * b
    size = np.abs(gain)
    todo = np.arange(n)
    count = min(FIRST_SORTED, d)
    while len(todo):
        part = size[todo]
        if count < d:
            top = np.argpartition(part, d - count, axis=1)[:, d - count :]
            inner = np.argsort(np.take_along_axis(part, top, axis=1), axis=1)[:, ::-1]
            order = np.take_along_axis(top, inner, axis=1)
        else:
            order = np.argsort(part, axis=1)[:, ::-1]
        ordered = np.take_along_axis(gain[todo], order, axis=1)
        reached = np.add.accumulate(np.column_stack([met[todo], ordered]), axis=1)[:, :-1]
        last = ~(np.abs(c[todo, None] - reached) > np.abs(ordered))
        enough = last.any(axis=1)
        stop = np.where(enough, last.argmax(axis=1), count)
        settled = np.flatnonzero(enough | (count == d))
        for j in settled:
            i, k = todo[j], stop[j]
            moved = order[j, :k]
            delta[i, moved] += total[i, moved]
            if enough[j]:
                at = order[j, k]
                delta[i, at] += (c[i] - reached[j, k]) / (b[i, at] + 1e-20)
        todo = np.delete(todo, settled)
        count = d
    return delta
