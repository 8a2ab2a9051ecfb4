"""Towards each target: a direction, and a distance that shrinks and grows.

After Rony et al. 2019, "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
Attacks and Defenses", algorithm 1. What is changed: the loss is the difference of two logits, of
the label and of one target; lengths are in units of the way to the linearised boundary, so that no
scale of images or logits matters; the first steps and changes of the distance are large, and both
shrink; targets that stay behind leave; in Linf a step goes by the signs of a gradient with
momentum, and is cut off at the distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import Batch, row_norms
from prunegrid.workers.attacks.declaration import Norm
from prunegrid.workers.attacks.runtime.geometry import Nearest, cosine, steepest, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.heartbeats import Ticker
    from prunegrid.workers.attacks.runtime.oracle import Oracle

#: After these parts of the steps a third of an image's targets leaves, those that are furthest, and
#: any other that is further than so many times the nearest.
BEHIND = ((1 / 6, 1.6), (5 / 12, 1.4))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Of the first and the last step, and along half a cosine between them."""

    length: tuple[float, float]  #: over the way to the linearised boundary
    change: tuple[float, float]  #: of the distance, as a part of it
    momentum: float  #: weight of earlier gradients


# Parameters: what to attack, how, and how long.
def descend(
    oracle: Oracle,
    pairs: Batch,
    targets: np.ndarray,
    norm: Norm,
    pace: Pace,
    *,
    steps: int,
    of_each: int,
    ticker: Ticker,
) -> Nearest:
    """`pairs`: each image `of_each` times in a row, with `targets` int32 [n * of_each].

    Returns the nearest adversarial of each pair.
    """
    clean, m = pairs.images, len(pairs)
    nearest = Nearest(clean, norm)
    furthest = row_norms(np.maximum(clean, 1 - clean), norm)
    delta, slope = np.zeros_like(clean), np.zeros_like(clean)
    size, unit_length = np.zeros(m), np.zeros(m)
    leave = {max(1, round(part * steps)): factor for part, factor in BEHIND}
    active, left = np.arange(m), of_each
    for step in range(steps):
        if step in leave:
            left -= left // 3
            reached = np.where(nearest.found, nearest.distance, size).reshape(-1, of_each)
            ranks = reached.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            near = reached <= leave[step] * reached.min(axis=1, keepdims=True)
            active = np.flatnonzero((near & (ranks < left)).ravel())
        x = clean + delta
        found = oracle.slopes(active, x, "target-margin", targets)
        nearest.offer(active, x[active], found.adversarial)
        gradient = found.gradient
        if step == 0:
            height = np.where(found.flat, found.ahead, -found.loss)
            way = np.maximum(height, 1e-6) / np.maximum(dual_norms(gradient, norm), 1e-30)
            size = np.minimum(way, furthest)
            unit_length = size.copy()
        else:
            change = cosine(*pace.change, step, steps)
            size[active] *= np.where(found.adversarial, 1 - change, 1 + change)
            size = np.minimum(size, furthest)
        if pace.momentum:
            mean = np.abs(gradient).reshape(len(active), -1).mean(axis=1)
            even = gradient / wide(np.maximum(mean, 1e-30), gradient)
            slope[active] = gradient = np.float32(pace.momentum) * slope[active] + even
        length = cosine(*pace.length, step, steps) * unit_length[active]
        here, reach = delta[active] + wide(length, clean) * steepest(gradient, norm), size[active]
        if norm == "linf":
            here = np.clip(here, -wide(reach, clean), wide(reach, clean))
        else:
            here = here * wide(reach / np.maximum(row_norms(here, norm), 1e-30), clean)
        delta[active] = np.clip(clean[active] + here, 0.0, 1.0) - clean[active]
        ticker.tick(step / steps, f"race of targets, {len(active)} at work")
    return nearest


def dual_norms(slopes: np.ndarray, norm: Norm) -> np.ndarray:
    """float64 [n]: how fast a function with such a slope rises along a step of length 1."""
    if norm == "linf":
        total: np.ndarray = np.abs(slopes, dtype=np.float64).reshape(len(slopes), -1).sum(axis=1)
        return total
    return row_norms(slopes, "l2")
