"""Decoupled direction and norm: a gradient's direction, and a norm that shrinks and grows.

Rony et al. 2019, "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
Attacks and Defenses" (CVPR), section 4 and algorithm 1, without quantised pixels.
https://arxiv.org/abs/1811.09600
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import Attack, AttackContext, Batch, Results, row_norms
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real
from prunegrid.workers.attacks.runtime.geometry import Nearest, cosine, unit, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Length of the last step along the gradient's direction; the first one's is 1.
LAST_STEP = 0.01


@attack(AttackEntry(name="ddn_l2", title="DDN L2", norm="l2", finds="minimum-norm"))
@dataclass(frozen=True, kw_only=True)
class DDNL2(Attack):
    """The defaults are the paper's. An image takes `steps` passes forward and as many back."""

    steps: int = count(100, "steps", search=(10, 10_000), spends="steps")
    initial_norm: float = real(1.0, "norm of the first step", search=(0.1, 10.0))
    gamma: float = real(0.05, "change of the norm, per step", search=(0.01, 0.3))

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, nearest = Oracle(network, batch, context), Nearest(batch.images, "l2")
        rows, clean = np.arange(len(batch)), batch.images
        delta, x = np.zeros_like(clean), clean
        size = np.full(len(batch), self.initial_norm)
        furthest = row_norms(np.maximum(clean, 1 - clean), "l2")
        for step in range(self.steps):
            found = oracle.slopes(rows, x, "cross-entropy")
            nearest.offer(rows, x, found.adversarial)
            length = np.float32(cosine(1.0, LAST_STEP, step, self.steps))
            delta = delta + length * unit(found.gradient)
            size *= np.where(found.adversarial, 1 - self.gamma, 1 + self.gamma)
            size = np.minimum(size, furthest)
            x = np.clip(clean + wide(size, clean) * unit(delta), 0.0, 1.0)
            delta = x - clean
            context.ticker.tick(step / self.steps, "DDN")
        return (oracle.result(nearest.images, nearest.found, "l2"),)
