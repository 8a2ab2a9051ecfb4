"""ALMA: an augmented Lagrangian whose multipliers follow each image's constraint.

Rony et al. 2021, "Augmented Lagrangian Adversarial Attacks" (ICCV), sections 3 and 4, algorithm 1,
with the penalty P2, the ratio of logit differences, and the L2 norm as distance.
https://arxiv.org/abs/2011.11857
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.base import Attack, AttackContext, Batch, Results, row_norms
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real
from prunegrid.workers.attacks.runtime.geometry import Nearest, unit, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.attacks.runtime.oracle import Ascended

#: Steps between two looks at whether the constraint got nearer, by the part IMPROVED of it; where
#: not, its penalty grows by GROWTH.
CHECK, IMPROVED, GROWTH = 10, 0.95, 1.2
#: The multiplier stays between these.
LEAST, MOST = 1e-6, 1e12
#: Halvings of the search for the first step size.
HALVINGS = 20


@attack(
    AttackEntry(name="alma_l2", title="ALMA L2", norm="l2", finds="minimum-norm", loss="margin")
)
@dataclass(frozen=True, kw_only=True)
class AlmaL2(Attack):
    """The defaults are the paper's. An image takes `steps` passes forward and as many back.

    With fewer than four classes the margin takes the place of its ratio.
    """

    steps: int = count(1000, "steps", search=(10, 10_000), spends="steps")
    first_distance: float = real(1.0, "length of the first step", search=(0.01, 10.0))
    last_stepsize: float = real(0.01, "last step size over the first", search=(1e-3, 1.0))
    alpha: float = real(0.9, "weight of the past in every average", search=(0.3, 0.99))

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        from prunegrid.workers.attacks.runtime.oracle import RATIO_CLASSES, Oracle

        oracle, nearest = Oracle(network, batch, context), Nearest(batch.images, "l2")
        loss: Ascended = "ratio" if network.classes >= RATIO_CLASSES else "margin"
        n, clean = len(batch), batch.images
        rows, x = np.arange(n), clean
        alpha, rest = np.float32(self.alpha), np.float32(1 - self.alpha)
        penalty, multiplier, size = (np.ones(n) for _ in range(3))
        square, move = np.ones_like(clean), np.zeros_like(clean)
        seen, first_seen = np.zeros(n, bool), np.full(n, self.steps + 1)
        at_check = np.zeros(n)
        for step in range(self.steps):
            found = oracle.slopes(rows, x, loss)
            over = -found.loss.astype(np.float64)  # the constraint: below 0
            if step == 0:
                at_check = over
            elif (step + 1) % CHECK == 0:
                near = seen | (over < IMPROVED * at_check)
                penalty, at_check = np.where(near, penalty, GROWTH * penalty), over
            if step:
                fresh = _slope(over, penalty, multiplier)
                multiplier = self.alpha * multiplier + (1 - self.alpha) * fresh
                multiplier = np.clip(multiplier, LEAST, MOST)
            first_seen = np.where(found.adversarial & ~seen, step, first_seen)
            seen |= found.adversarial
            nearest.offer(rows, x, found.adversarial)
            slope = -wide(_slope(over, penalty, multiplier), clean) * found.gradient
            if step == 0:
                size = self._first_size(clean, slope)
            else:
                slope = slope + unit(x - clean)
            late = np.maximum(step - first_seen, 0) / (self.steps - first_seen)
            square = alpha * square + rest * np.square(slope)
            move = alpha * move + slope / (np.sqrt(square) + np.float32(1e-8))
            pace = size * self.last_stepsize**late
            x = np.clip(x - wide(pace, clean) * move, 0.0, 1.0)
            context.ticker.tick(step / self.steps, "ALMA")
        return (oracle.result(nearest.images, nearest.found, "l2"),)

    def _first_size(self, clean: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """float64 [n]: such that a step against the slope, within the box, is as long as asked
        for; 1 where there is no slope."""

        def short(size: np.ndarray) -> np.ndarray:
            moved = np.clip(clean - wide(size, clean) * slope, 0.0, 1.0) - clean
            under: np.ndarray = row_norms(moved, "l2") <= self.first_distance
            return under

        low, high = np.zeros(len(clean)), np.ones(len(clean))
        sloped = row_norms(slope, "l2") > 0
        while (growing := short(high) & sloped & (high < MOST)).any():
            low, high = np.where(growing, high, low), np.where(growing, 2 * high, high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            under = short(middle)
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        size: np.ndarray = np.where(sloped, (low + high) / 2, 1.0)
        return size


def _slope(over: np.ndarray, penalty: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """float64 [n]: of the penalty P2 (the paper's appendix) at `over`. P2 is, with multiplier m
    and penalty r, m y + m r y^2 + r^2 y^3 / 6 above y = 0 and m y / (1 - r y) below."""
    above = multiplier + 2 * multiplier * penalty * over + penalty**2 * over**2 / 2
    below = multiplier / np.square(1 - penalty * np.minimum(over, 0.0))
    slope: np.ndarray = np.where(over >= 0, above, below)
    return slope
