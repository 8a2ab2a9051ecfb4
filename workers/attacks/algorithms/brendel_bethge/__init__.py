"""Brendel & Bethge's attacks: follow the decision boundary to the nearest point.

Brendel et al. 2019, "Accurate, reliable and fast robustness evaluation", sections 2 and 3.
Foolbox 3.3.4: L0BrendelBethgeAttack, and its classes for the other norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.algorithms.brendel_bethge.l0_step import l0_steps
from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    Batch,
    Results,
    measured,
    row_norms,
)
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real
from prunegrid.workers.attacks.runtime.draws import FoolboxDraws
from prunegrid.workers.attacks.runtime.starts import dataset_starts, nearest_starts

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network


@dataclass(frozen=True, kw_only=True)
class Leave:
    """When an image leaves a search along the boundary before its steps are used up."""

    most: np.ndarray  #: int [n]: queries that it may take
    patience: int  #: steps without a smaller norm
    flat_patience: int  #: likewise, once it was where the best other class had no slope


@dataclass(frozen=True, kw_only=True)
class BrendelBethge(Attack):
    """The options of all norms. The defaults are Foolbox's."""

    binary_search_steps: int = count(10, "halvings of the way from the start to the boundary")
    steps: int = count(1000, "steps along the boundary", search=(10, 10_000), spends="steps")
    lr: float = real(1e-3, "radius of the first trust region, per element", search=(1e-4, 1e8))
    lr_decay: float = real(0.5, "factor of the radius at each decay", search=(0.1, 0.95))
    lr_num_decay: int = count(20, "decays of the radius", search=(2, 60))
    momentum: float = real(0.8, "weight of earlier boundary gradients", search=(0.3, 0.95))
    overshoot: float = real(1.1, "how far over the boundary a step aims", search=(1.01, 1.5))


@attack(
    AttackEntry(
        name="bb_linf",
        title="B&B Linf",
        norm="linf",
        finds="minimum-norm",
        loss="margin",
        foolbox_class="LinfinityBrendelBethgeAttack",
    )
)
class BrendelBethgeLinf(BrendelBethge):
    pass


@attack(
    AttackEntry(
        name="bb_l2",
        title="B&B L2",
        norm="l2",
        finds="minimum-norm",
        loss="margin",
        foolbox_class="L2BrendelBethgeAttack",
    )
)
class BrendelBethgeL2(BrendelBethge):
    pass


@dataclass(frozen=True, kw_only=True)
class BoundaryL0(BrendelBethge):
    """Along the boundary in L0, each image for itself. The defaults are the paper's settings."""

    binary_search_steps: int = count(30, "halvings of the way from the start to the boundary")
    steps: int = count(500, "steps along the boundary", search=(10, 10_000), spends="steps")
    lr: float = real(1e7, "radius of the first trust region, per element", search=(1e-4, 1e8))
    lr_num_decay: int = count(30, "decays of the radius", search=(2, 60))

    @property
    def interval(self) -> int:
        """Steps between two decays of the radius."""
        return max(1, int(self.steps / self.lr_num_decay))

    def follow(
        self,
        network: Network,
        batch: Batch,
        starts: np.ndarray,
        context: AttackContext,
        leave: Leave | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """From a start each to the boundary, and along it until the steps are used up or, where
        they may leave, no further.

        Returns the best adversarials [n, h, w, c] and the passes made of each image, [3, n]:
        forward, backward, and forward where the margin had no slope.
        """
        from prunegrid.workers.attacks.algorithms.brendel_bethge.bisection import bisector

        n, micro_batches = len(batch), context.micro_batches
        x0, labels = batch.images, batch.labels.astype(np.int32)
        flat0 = x0.reshape(n, -1)
        bisect = bisector(network, self.binary_search_steps)
        margins = network.margin_and_gradient(slope="movable")
        (x,) = micro_batches.map(lambda *a: bisect(*a)[:1], np.arange(n), x0, starts, labels)
        passes = np.zeros((3, n), np.int64)
        queries = passes[0]
        queries += self.binary_search_steps
        best = starts.copy()
        best_norm = row_norms(x0 - best, "l0_loose")
        since, was_flat = np.zeros(n, np.int64), np.zeros(n, bool)
        boundary = np.zeros_like(x0.reshape(n, -1))
        active = np.arange(n) if leave is None else np.flatnonzero(queries < leave.most)
        lr = self.lr
        for step in range(1, self.steps + 1):
            if not len(active):
                break
            if (step + 1) % self.interval == 0:
                lr *= self.lr_decay
            margin, slopes, flat, backward = micro_batches.map(margins, active, x, labels)
            passes[1:, active] += np.stack([backward, flat])
            was_flat[active[flat]] = True
            gradient = slopes.reshape(len(active), -1)
            norm = row_norms(x0[active] - x[active], "l0_loose")
            closer = (norm < best_norm[active]) & (margin < 0)
            hit = active[closer]
            best[hit], best_norm[hit] = x[hit], norm[closer]
            since[active] = np.where(closer, 0, since[active] + 1)
            if step > 1:
                gradient = (1 - self.momentum) * gradient + self.momentum * boundary[active]
            boundary[active] = gradient
            here = x[active].reshape(len(active), -1)
            radius = np.full(len(active), lr * x0[0].size * micro_batches.nominal)
            delta = l0_steps(flat0[active], here, gradient, self._target(margin), radius)
            x[active] = (here + delta.astype(np.float32)).reshape(-1, *x0.shape[1:])
            queries[active] += 1
            if leave is not None:
                patience = np.where(was_flat, leave.flat_patience, leave.patience)
                stay = (since < patience) & (queries < leave.most)
                active = active[stay[active]]
            context.ticker.tick(step / self.steps, f"B&B step {step}, {len(active)} images at work")
        return best, passes

    def _target(self, margin: np.ndarray) -> np.ndarray:
        """The change of the margin that a step aims at: slightly over the boundary."""
        return np.where(margin > 0, -self.overshoot * margin, -(2 - self.overshoot) * margin)


@attack(
    AttackEntry(
        name="bb_l0",
        title="B&B L0",
        norm="l0",
        finds="minimum-norm",
        loss="margin",
        foolbox_class="L0BrendelBethgeAttack",
        edition=2,
    )
)
class BrendelBethgeL0(BoundaryL0):
    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """All images go through the steps together.

        Foolbox gives up a batch in which one image has no start; here that image alone is lost.
        """
        shuffle = FoolboxDraws(context.seed, context.stream).shuffle
        starts, started = dataset_starts(network, batch, context, shuffle)
        keep = np.flatnonzero(started)
        n = len(batch)
        images = batch.images.copy()
        queries, backward = 1, 0
        if len(keep):
            part = batch.take(keep)
            images[keep], queries = self._follow(network, part, starts[keep], context)
            backward = self.steps
        each, back = (np.full(n, count, np.int64) for count in (queries, backward))
        return (measured(batch, "l0", images, started, each, backward=back),)

    def _follow(
        self, network: Network, batch: Batch, starts: np.ndarray, context: AttackContext
    ) -> tuple[np.ndarray, int]:
        """Best adversarials [n, h, w, c] and the queries made of each image."""
        import tensorflow as tf

        from prunegrid.workers.attacks.algorithms.brendel_bethge.bisection import bisector

        n = len(batch)
        x0, labels = batch.images, tf.constant(batch.labels.astype(np.int32))
        flat0 = x0.reshape(n, -1)
        margins = network.margin_and_gradient()
        bisect = bisector(network, self.binary_search_steps)
        x, asked = (t.numpy() for t in bisect(x0, starts, labels))
        best = starts.copy()
        best_norm = row_norms(x0 - best, "l0_loose")
        boundary = np.zeros_like(x0.reshape(n, -1))
        lr = self.lr
        for step in range(1, self.steps + 1):
            margin, slopes = (t.numpy() for t in margins(tf.constant(x), labels))
            norm = row_norms(x0 - x, "l0_loose")
            closer = (norm < best_norm) & (margin < 0)
            best[closer], best_norm[closer] = x[closer], norm[closer]
            now = slopes.reshape(n, -1)
            boundary = now if step == 1 else (1 - self.momentum) * now + self.momentum * boundary
            if (step + 1) % self.interval == 0:
                lr *= self.lr_decay
            here = x.reshape(n, -1)
            # The trust region grows with the batch: its radius is scaled by all its elements.
            radius = np.full(n, lr * float(x0.size))
            deltas = l0_steps(flat0, here, boundary, self._target(margin), radius)
            x = (here + deltas.astype(np.float32)).reshape(x0.shape)
            context.ticker.tick(step / self.steps, f"B&B step {step} of {self.steps}")
        return best, int(asked) + self.steps + 3

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """As Foolbox, with a start, a radius and a bisection of each image's own: the nearest
        image of another class, and the radius of one micro-batch."""
        ((starts, started),) = nearest_starts(network, batch, context, count=1)
        images, passes = batch.images.copy(), np.zeros((3, len(batch)), np.int64)
        if len(keep := np.flatnonzero(started)):
            part = batch.take(keep)
            images[keep], passes[:, keep] = self.follow(network, part, starts[keep], context)
        forward, backward, flat = passes
        return (measured(batch, "l0", images, started, forward + 1, backward=backward, flat=flat),)
