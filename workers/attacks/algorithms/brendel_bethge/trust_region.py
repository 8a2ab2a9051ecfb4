"""The rare cases of Brendel & Bethge's step: a boundary out of reach, a radius that binds.

Both follow the dual problems in the appendix of Brendel et al. 2019. Arithmetic and its order are
those of Foolbox 3.3.4, so that a whole run stays equal to it bit by bit. x and x + delta are in
[0, 1]; all arrays are float64 [d].
"""

from __future__ import annotations

import numpy as np

from prunegrid.workers.attacks.algorithms.brendel_bethge.nelder_mead import maximise_2d
from prunegrid.workers.attacks.algorithms.brendel_bethge.quasi_newton import minimise_above_zero

EPS = 1e-10
#: A search that has not closed in after this many halvings never will.
MOST_HALVINGS = 5000


def sequential_sum(start: float, terms: np.ndarray) -> float:
    """start + terms[0] + terms[1] + ..., rounded after each addition."""
    if not len(terms):
        return start
    return float(np.add.accumulate(np.concatenate([[start], terms]))[-1])


def towards_boundary(x: np.ndarray, b: np.ndarray, c: float, radius: float) -> np.ndarray:
    """The longest step towards the boundary within radius and box: delta = -b / (2 mu) clipped,
    with the multiplier mu >= 0 that maximises the dual."""
    sign = -np.sign(c)
    squared = radius * radius

    def dual(mu: float) -> tuple[float, float]:
        """Minus the dual value, and minus its derivative."""
        raw = -sign * b * (1 / (2 * mu + EPS))
        low, high = raw < 0.0 - x, raw > 1.0 - x
        step = np.where(low, 0.0 - x, np.where(high, 1.0 - x, raw))
        inner = (b + 2 * mu * step) * (b / (2 * (mu * mu) + EPS))
        slopes = np.empty(2 * len(x))
        slopes[0::2] = np.where(low | high, 0.0, inner)
        slopes[1::2] = step * step
        value = sequential_sum(-mu * squared, (b + mu * step) * step)
        return -value, -sequential_sum(-squared, slopes)

    with np.errstate(all="ignore"):
        mu = minimise_above_zero(dual, 1.0)
        denominator = 2 * mu
        if abs(denominator) > EPS:
            delta = -b / denominator
        elif denominator >= 0:
            delta = -b / EPS
        else:
            delta = b / EPS
    delta = np.where(delta < 0.0 - x, 0.0 - x, delta)
    return np.where(delta > 1.0 - x, 1.0 - x, delta)


def least_norm_to_boundary(x: np.ndarray, b: np.ndarray, c: float) -> float:
    """The smallest |delta|_2 with b . delta = c within the box: delta = lambda b / 2 clipped,
    lambda by doubling, then halving."""
    norm_b = np.linalg.norm(b)
    lower = 2 * c / (norm_b * norm_b + EPS)
    upper: float | np.floating = np.inf if c > 0 else -np.inf if c < 0 else np.nan
    at = lower
    toward_one = (b > 0) == (c > 0)
    room = np.where(toward_one, 1.0 - x, 0.0 - x)
    squares = 0.0
    for _ in range(MOST_HALVINGS):
        raw = at * b / 2
        step = np.where(toward_one, np.minimum(room, raw), np.maximum(room, raw))
        reached = sequential_sum(0.0, b * step)
        squares = sequential_sum(0.0, step * step)
        if abs(reached) < abs(c):
            if np.isinf(upper):
                at *= 2
            else:
                lower = at
                at = (upper - lower) / 2 + lower
        else:
            upper = at
            at = (upper - lower) / 2 + lower
        if 0.999 * abs(c) - EPS < abs(reached) < 1.001 * abs(c) + EPS:
            break
    return float(np.sqrt(squares))


def solve_with_radius(
    x0: np.ndarray, x: np.ndarray, b: np.ndarray, c: float, radius: float
) -> np.ndarray:
    """Fewest changed elements with a radius that binds: the dual in (lambda, mu), mu >= 0, by
    Nelder-Mead, then one element touched up so that the boundary is met."""
    back = x0 - x
    to_zero, to_one = 0.0 - x, 1.0 - x
    squared = radius * radius

    def choices(lam: float, mu: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per element: step, whether it differs from x0, and its term of the Lagrangian."""
        stay = lam * b * back
        if mu > 0:
            stay = stay + mu * (back * back)
            move = -lam * b * (1 / (2 * mu + EPS))
            move = np.where(move < to_zero, to_zero, np.where(move > to_one, to_one, move))
            cost = 1 + lam * b * move + mu * (move * move)
            keep = stay <= cost
            term = np.where(
                keep, mu * (back * back) + lam * b * back, 1 + mu * (move * move) + lam * b * move
            )
            return np.where(keep, back, move), ~keep, term
        down, up = 1 + lam * b * to_zero, 1 + lam * b * to_one
        keep = (stay <= down) & (stay <= up)
        lower = down < up
        move = np.where(lower, to_zero, to_one)
        term = np.where(
            keep, mu * (back * back) + lam * b * back, 1 + mu * (move * move) + lam * b * move
        )
        return np.where(keep, back, move), ~keep, term

    def dual(lam: float, mu: float) -> float:
        return sequential_sum(-mu * squared - lam * c, choices(lam, mu)[2])

    def touched_up(lam: float, mu: float) -> np.ndarray | None:
        delta, differs, _ = choices(lam, mu)
        missing = c - sequential_sum(0.0, b * delta)
        norm = sequential_sum(0.0, delta * delta)
        new = delta + missing / (b + np.sign(b) * EPS)
        new_norm = norm - delta * delta + new * new
        fits = (np.abs(b) > 0) & (x + new <= 1) & (x + new >= 0) & (new_norm <= squared)
        at = np.flatnonzero(fits)
        if not len(at):
            return None
        count = (
            int(differs.sum())
            - (np.abs(delta - back) > 1e-10)[at].astype(int)
            + (np.abs(new - back) > 1e-10)[at].astype(int)
        )
        best = at[np.lexsort((new_norm[at], count))[0]]
        delta[best] = new[best]
        return delta

    with np.errstate(all="ignore"):
        lam, mu = maximise_2d(dual)
        for dl, dm in (
            (0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1),
        ):  # fmt: skip
            delta = touched_up(lam + dl * 1e-5, mu + dm * 1e-5)
            if delta is not None:
                return delta
        return choices(lam, mu)[0]
