"""sigma-zero: gradient descent on a smooth count of the changed elements.

Cina et al. 2024, "sigma-zero: Gradient-based Optimization of L0-norm Adversarial Examples" (ICLR
2025), section 2 and algorithm 1. https://arxiv.org/abs/2402.01879
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import Attack, AttackContext, Batch, Results
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real
from prunegrid.workers.attacks.runtime.geometry import Nearest, cosine, unit, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Adam's.
BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8
#: The last step size over the first.
LAST_STEP = 0.1


@attack(
    AttackEntry(
        name="sigma_zero_l0",
        title="sigma-zero L0",
        norm="l0",
        finds="minimum-norm",
        loss="margin",
    )
)
@dataclass(frozen=True, kw_only=True)
class SigmaZeroL0(Attack):
    """The defaults are the paper's. An image takes `steps` passes forward and as many back."""

    steps: int = count(1000, "steps", search=(10, 10_000), spends="steps")
    stepsize: float = real(1.0, "Adam's first step size", search=(0.01, 1.0))
    sigma: float = real(1e-3, "square at which an element counts half", search=(1e-5, 1.0))
    threshold: float = real(0.3, "first change below which an element is put back")
    threshold_step: float = real(0.01, "change of the threshold, per step and step size")

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, nearest = Oracle(network, batch, context), Nearest(batch.images, "l0")
        rows, clean = np.arange(len(batch)), batch.images
        delta, m, v = (np.zeros_like(clean) for _ in range(3))
        threshold = np.full(len(batch), self.threshold)
        sigma, elements = np.float32(self.sigma), np.float32(clean[0].size)
        for step in range(self.steps):
            x = clean + delta
            found = oracle.slopes(rows, x, "margin")
            nearest.offer(rows, x, found.adversarial)
            # Down the count, and the margin as long as it is above 0.
            slope = 2 * sigma * delta / np.square(np.square(delta) + sigma) / elements
            slope = slope - wide(~found.adversarial, clean) * found.gradient
            slope = unit(slope, "linf")
            m = np.float32(BETA_1) * m + np.float32(1 - BETA_1) * slope
            v = np.float32(BETA_2) * v + np.float32(1 - BETA_2) * np.square(slope)
            size = cosine(self.stepsize, LAST_STEP * self.stepsize, step, self.steps)
            first, second = 1 - BETA_1 ** (step + 1), 1 - BETA_2 ** (step + 1)
            move = m / (np.sqrt(v / np.float32(second)) + np.float32(ADAM_EPSILON))
            delta = np.clip(clean + delta - np.float32(size / first) * move, 0.0, 1.0) - clean
            after = cosine(self.stepsize, LAST_STEP * self.stepsize, step + 1, self.steps)
            threshold += np.where(found.adversarial, 1, -1) * self.threshold_step * after
            threshold = np.clip(threshold, 0.0, 1.0)
            delta = np.where(np.abs(delta) < wide(threshold, clean), np.float32(0), delta)
            context.ticker.tick(step / self.steps, "sigma-zero")
        return (oracle.result(nearest.images, nearest.found, "l0"),)
