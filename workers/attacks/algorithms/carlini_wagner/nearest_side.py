"""The last step of `strict` C&W: from an adversarial image along the boundary to the side that is
nearest to the clean one, in L2.

Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack", section 3, without its restarts: project the clean image on the linearised boundary,
step there from the best adversarial, less far after a miss; bisect in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import AttackContext, Batch, row_norms

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

PROJECTIONS = 20
#: Steps from the clean image to the linearised boundary.
CROSSINGS = 20
#: Beyond the linearised boundary by this part of its distance.
OVERSHOOT = 1.05
#: Halvings of the way back to the clean image.
HALVINGS = 8
#: Iterations of a projection on a plane within the box.
REACHES = 12


def nearest_side(
    network: Network, batch: Batch, found: np.ndarray, claimed: np.ndarray, context: AttackContext
) -> tuple[np.ndarray, np.ndarray]:
    """`found`: [n, h, w, c], adversarial where `claimed`, and nothing else is touched.

    Returns images no further than `found`, and the passes made of each, [3, n]: forward, backward,
    and forward where the margin had no slope.
    """
    rows = np.flatnonzero(claimed)
    out, passes = found.copy(), np.zeros((3, len(batch)), np.int64)
    if not len(rows):
        return out, passes
    part = batch.take(rows)
    best, more = _project(network, part, _bisect(network, part, found[rows], context), context)
    out[rows] = _bisect(network, part, best, context)
    passes[:, rows] = more
    passes[0, rows] += 2 * HALVINGS
    return out, passes


def linear_crossing(
    network: Network, batch: Batch, context: AttackContext
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps to the linearised boundary, each a projection of the clean image, from the clean
    image on. Neither the scale of the logits nor the flat ends of tanh stop it, nor a best other
    class that no input moves (a pruned network's logit may be its bias).

    Moosavi-Dezfooli et al. 2016, "DeepFool", section 3, towards all other classes at once.
    Returns images [n, h, w, c], whether the class changed [n], and the queries made of each [n].
    """
    n, shape = len(batch), batch.images.shape
    margins = network.margin_and_gradient(slope="all")
    labels = batch.labels.astype(np.int32)
    clean = batch.images.reshape(n, -1)
    at = clean.copy()
    found, queries = np.zeros(n, bool), np.zeros(n, np.int64)
    active = np.arange(n)
    for _ in range(CROSSINGS):
        margin, slopes = context.micro_batches.map(margins, active, at.reshape(shape), labels)
        queries[active] += 1
        over = margin < 0
        found[active[over]] = True
        slope, margin, active = slopes.reshape(len(active), -1)[~over], margin[~over], active[~over]
        if not len(active):
            break
        fall = margin + np.einsum("nd,nd->n", slope, clean[active] - at[active])
        # At least a little: right at the boundary the fall rounds to nothing.
        fall = OVERSHOOT * np.maximum(fall, 1e-3 * np.linalg.norm(slope, axis=1))
        at[active] = _onto_plane(clean[active], slope, fall).astype(np.float32)
        context.ticker.tick(1.0, "C&W: to the linearised boundary")
    return at.reshape(shape), found, queries


def _project(
    network: Network, batch: Batch, start: np.ndarray, context: AttackContext
) -> tuple[np.ndarray, np.ndarray]:
    n, shape = len(batch), batch.images.shape
    margins = network.margin_and_gradient(slope="movable")
    labels = batch.labels.astype(np.int32)
    clean = batch.images.reshape(n, -1)
    best, at = start.copy(), start.copy()
    best_norm = row_norms(best - batch.images, "l2") * (1 + 1e-9)
    passes = np.zeros((3, n), np.int64)
    slope, height = np.zeros_like(clean), np.zeros(n)
    part = np.ones(n, np.float32)
    for _ in range(PROJECTIONS):
        margin, slopes, flat, backward = context.micro_batches.map(
            margins, np.arange(n), at, labels
        )
        passes += np.stack([np.ones(n, np.int64), backward, flat])
        norm = row_norms(at - batch.images, "l2")
        closer = (margin < 0) & (norm < best_norm)
        best[closer], best_norm[closer] = at[closer], norm[closer]
        slope[closer], height[closer] = slopes.reshape(n, -1)[closer], margin[closer]
        part = np.where(closer, np.minimum(part * 2, 1), part / 2).astype(np.float32)
        # The margin that the linear model around the best has at the clean image: what a
        # shortest step must undo.
        here = best.reshape(n, -1)
        ahead = height + np.einsum("nd,nd->n", slope, clean - here)
        projected = _onto_plane(clean, slope, OVERSHOOT * np.maximum(ahead, 0.0))
        # Part of the way from the best, less after a miss: boundaries are curved.
        at = (here + part[:, None] * (projected - here)).astype(np.float32).reshape(shape)
        context.ticker.tick(1.0, "C&W: to the nearest side")
    return best, passes


def _onto_plane(clean: np.ndarray, slope: np.ndarray, fall: np.ndarray) -> np.ndarray:
    """The nearest point to `clean` [n, d] in the box at which a function with this slope has
    fallen by `fall` [n]: clean - reach * slope, clipped. The other
    elements must make up for what clipping takes away: the reach is found by iteration."""
    steep = np.maximum(np.einsum("nd,nd->n", slope, slope), 1e-20)
    reach = fall / steep
    point: np.ndarray = np.clip(clean - reach[:, None] * slope, 0.0, 1.0)
    for _ in range(REACHES):
        got = np.einsum("nd,nd->n", slope, clean - point)
        reach = reach * np.clip(fall / np.maximum(got, 1e-20), 1.0, 4.0)
        point = np.clip(clean - reach[:, None] * slope, 0.0, 1.0)
    return point


def _bisect(
    network: Network, batch: Batch, found: np.ndarray, context: AttackContext
) -> np.ndarray:
    """The nearest adversarial seen between the clean image and `found`."""
    n = len(batch)
    near, far = np.zeros(n, np.float32), np.ones(n, np.float32)
    way, best = found - batch.images, found.copy()
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        tried = np.clip(batch.images + middle[:, None, None, None] * way, 0.0, 1.0)
        good = network.predictions(tried, context.micro_batches) != batch.labels
        best[good] = tried[good]
        far, near = np.where(good, middle, far), np.where(good, near, middle)
    return best
