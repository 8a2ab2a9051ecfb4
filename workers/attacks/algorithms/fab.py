"""Fast adaptive boundary attack: along the boundary towards the clean image.

Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack"
(ICML), section 2 and algorithm 1; towards one class at a time, as in their "Reliable evaluation of
adversarial robustness with an ensemble of diverse parameter-free attacks", section 6.1.
https://arxiv.org/abs/1907.02044
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunegrid.workers.attacks.base import Attack, AttackContext, Batch, Results, row_norms
from prunegrid.workers.attacks.declaration import AttackEntry, Norm, attack, count, real
from prunegrid.workers.attacks.runtime.geometry import Nearest, onto_plane, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.attacks.runtime.oracle import Oracle


@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """The defaults are AutoAttack's.

    An image takes 1 + 2 * targets * steps passes forward and targets * steps back. With an eps, as
    a part of AutoAttack, it leaves as soon as it has an adversarial within, and no other counts.
    """

    norm: ClassVar[Norm]

    targets: int = count(9, "other classes, the highest first", spends="rounds")
    steps: int = count(100, "steps towards each class", search=(10, 10_000), spends="steps")
    alpha_max: float = real(0.1, "largest pull towards the clean image", search=(0.01, 1.0))
    eta: float = real(1.05, "how far beyond the linearised boundary a step aims", minimum=1.0)
    beta: float = real(0.9, "what is left of the way after a success", search=(0.5, 0.99))

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, nearest = Oracle(network, batch, context), Nearest(batch.images, self.norm)
        (enough,) = context.eps or (-1.0,)
        ranked = oracle.highest_others(self.targets)
        for rank in range(ranked.shape[1]):
            x = batch.images.copy()
            for step in range(self.steps):
                rows = np.flatnonzero(nearest.distance > enough)
                if not len(rows):
                    break
                x[rows] = self._ahead(oracle, rows, x, batch.images, ranked[:, rank])
                over = oracle.margins(rows, x) < 0
                nearest.offer(rows, x[rows], over)
                hit = rows[over]
                clean = batch.images[hit]
                x[hit] = clean + np.float32(self.beta) * (x[hit] - clean)
                done = (rank + step / self.steps) / ranked.shape[1]
                context.ticker.tick(done, f"FAB, {len(rows)} images at work")
        claimed = nearest.distance <= enough if context.eps else nearest.found
        return (oracle.result(nearest.images, claimed, self.norm),)

    # Parameters: all that a step looks at.
    def _ahead(
        self,
        oracle: Oracle,
        rows: np.ndarray,
        x: np.ndarray,
        images: np.ndarray,
        targets: np.ndarray,
    ) -> np.ndarray:
        """[len(rows), ...]: between the projections of the point and of the clean image on the
        boundary as linearised at the point."""
        found = oracle.slopes(rows, x, "target-margin", targets)
        height = np.where(found.flat, -found.ahead, found.loss).astype(np.float64)
        here, clean, slope = x[rows], images[rows], found.gradient
        way = ((clean - here) * slope).reshape(len(rows), -1).astype(np.float64).sum(axis=1)
        from_here = onto_plane(here, slope, height, self.norm)
        from_clean = onto_plane(clean, slope, height + way, self.norm)
        own, pull = (np.maximum(row_norms(d, self.norm), 1e-8) for d in (from_here, from_clean))
        alpha = wide(np.minimum(own / (own + pull), self.alpha_max), here)
        eta = np.float32(self.eta)
        ahead = (1 - alpha) * (here + eta * from_here) + alpha * (clean + eta * from_clean)
        out: np.ndarray = np.clip(ahead, 0.0, 1.0)
        return out


@attack(
    AttackEntry(
        name="fab_linf",
        title="FAB Linf",
        norm="linf",
        finds="minimum-norm",
        loss="margin",
        step_passes=2,
    )
)
class FABLinf(FAB):
    norm = "linf"


@attack(
    AttackEntry(
        name="fab_l2",
        title="FAB L2",
        norm="l2",
        finds="minimum-norm",
        loss="margin",
        step_passes=2,
    )
)
class FABL2(FAB):
    norm = "l2"
