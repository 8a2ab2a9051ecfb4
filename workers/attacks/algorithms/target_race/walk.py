"""Along the boundary, from an adversarial image to the side that is nearest to the clean one.

After Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack", section 3: the clean image is projected on the linearised boundary, and the next point lies
on the way there from the best one. What is changed: the plane is a running mean of the planes seen,
since the nearest point of a boundary with kinks lies in a kink, where the planes of its two sides
alternate; the plane is overshot less and less; a part of the way is taken that grows after a
success and shrinks after a miss; no step starts further away than the best adversarial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.algorithms.target_race.descent import dual_norms
from prunegrid.workers.attacks.base import Batch, row_norms
from prunegrid.workers.attacks.declaration import Norm
from prunegrid.workers.attacks.runtime.geometry import Nearest, cosine, onto_plane, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.heartbeats import Ticker
    from prunegrid.workers.attacks.runtime.oracle import Oracle

#: Weight of earlier planes in the mean.
INERTIA = 0.5
#: How far beyond the plane the first and the last step aim, as a part of the distance.
OVERSHOOT = (0.02, 0.001)
#: The part of the way after a success and after a miss, over the part before; and its least.
SUCCESS, MISS, LEAST = 1.5, 0.7, 0.01
#: Halvings of the way back to the clean image, in the end.
HALVINGS = 6


def along_boundary(
    oracle: Oracle,
    pairs: Batch,
    rows: np.ndarray,
    nearest: Nearest,
    norm: Norm,
    *,
    steps: int,
    ticker: Ticker,
) -> None:
    """`rows` of the pairs, all of which `nearest` has; it gets what is nearer."""
    clean = pairs.images
    targets = np.zeros(len(pairs), np.int32)
    targets[rows] = oracle.classes(rows, nearest.images)
    x = nearest.images.copy()
    part = np.ones(len(rows))
    slope, height = np.zeros_like(clean[rows]), np.zeros(len(rows))
    for step in range(steps):
        before = nearest.distance[rows]
        found = oracle.slopes(rows, x, "target-margin", targets)
        nearest.offer(rows, x[rows], found.adversarial)
        distance = nearest.distance[rows]
        # The margin falls by its slope from what the linear model has at the clean image.
        falls = found.gradient
        ahead = np.where(found.flat, found.ahead, -found.loss).astype(np.float64)
        ahead += inner(falls, x[rows] - clean[rows])
        steep = np.maximum(dual_norms(falls, norm), 1e-30)
        weight = np.float32(0 if step == 0 else INERTIA)
        slope = weight * slope + (1 - weight) * falls / wide(steep, clean)
        height = weight * height + (1 - weight) * ahead / steep
        if step:
            nearer = distance < before
            part = np.clip(np.where(nearer, SUCCESS * part, MISS * part), LEAST, 1.0)
        over = cosine(*OVERSHOOT, step, steps)
        aim = np.maximum(height, 0.0) + over * distance * dual_norms(slope, norm)
        best = nearest.images[rows] - clean[rows]
        straight = onto_plane(clean[rows], -slope, aim, norm)
        moved = best + wide(part, clean) * (straight - best)
        limit = (1 - over / 4) * distance / np.maximum(row_norms(moved, norm), 1e-30)
        moved = moved * wide(np.minimum(limit, 1.0), clean)
        x[rows] = np.clip(clean[rows] + moved, 0.0, 1.0)
        ticker.tick(step / steps, "along the boundary")
    _bisect(oracle, pairs, rows, nearest)


def _bisect(oracle: Oracle, pairs: Batch, rows: np.ndarray, nearest: Nearest) -> None:
    """The nearest adversarial seen between the clean image and the best."""
    clean, x = pairs.images, pairs.images.copy()
    way = nearest.images[rows] - clean[rows]
    near, far = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        x[rows] = np.clip(clean[rows] + wide(middle, clean) * way, 0.0, 1.0)
        over = oracle.margins(rows, x) < 0
        nearest.offer(rows, x[rows], over)
        far, near = np.where(over, middle, far), np.where(over, near, middle)


def inner(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64 [n]: products of rows, summed."""
    flat = (one.astype(np.float64) * other).reshape(len(one), -1)
    total: np.ndarray = flat.sum(axis=1)
    return total
