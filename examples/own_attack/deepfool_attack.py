"""DeepFool (Moosavi-Dezfooli et al. 2016), written from the paper: step by step to the nearest of
the boundaries that a linear network would have."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from prunegrid.workers.attacks.function_attack import AttackedNetwork
from prunegrid.workers.user_options import Limits


def deepfool(
    network: AttackedNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    steps: Annotated[int, Limits(minimum=1, search=(5, 200), spends="steps")] = 50,
    overshoot: Annotated[float, Limits(minimum=0)] = 0.02,
) -> tuple[np.ndarray, np.ndarray]:
    """Images beyond the boundary, near the given ones in L2, and queries of each.

    steps: at most
    overshoot: how much further than to the boundary, of the way
    """
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def slopes(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = network.scores(x)
        return scores, tape.batch_jacobian(scores, x)

    n = len(images)
    everyone = np.arange(n)
    moved = np.zeros_like(images)
    active = np.ones(n, dtype=bool)
    queries = np.zeros(n, dtype=np.int64)
    for _ in range(steps):
        at = np.clip(images + (1 + overshoot) * moved, 0, 1).astype(np.float32)
        scores, jacobian = (each.numpy() for each in slopes(tf.constant(at)))
        queries += active
        active &= scores.argmax(axis=1) == labels
        if not active.any():
            break
        gaps = scores - scores[everyone, labels][:, None]
        ways = jacobian - jacobian[everyone, labels][:, None]
        lengths = np.sqrt(np.square(ways.reshape(n, gaps.shape[1], -1)).sum(axis=2))
        distances = np.abs(gaps) / np.maximum(lengths, 1e-12)
        distances[everyone, labels] = np.inf
        nearest = distances.argmin(axis=1)
        far = np.abs(gaps[everyone, nearest]) + 1e-4
        size = far / np.maximum(np.square(lengths[everyone, nearest]), 1e-12)
        step = size[:, None, None, None] * ways[everyone, nearest]
        moved += np.where(active[:, None, None, None], step, 0).astype(np.float32)
    return np.clip(images + (1 + overshoot) * moved, 0, 1).astype(np.float32), queries
