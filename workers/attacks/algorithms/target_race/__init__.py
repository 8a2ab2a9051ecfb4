"""A race of targets to the decision boundary, and a walk along it: minimum-norm attacks of our own.

Where an attack ends is decided more by the class that it aims at, and by the valley that it happens
to enter, than by its number of steps. So every image runs towards several classes at once, in steps
that first are several times as long as the way to the boundary, and then shrink (`descent.py`). The
targets that stay behind leave. The nearest results go along the boundary to the point of it that is
nearest to the clean image (`walk.py`).

What each part brings, and how the results compare to other attacks', is in docs/attacks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunegrid.workers.attacks.algorithms.target_race.descent import Pace, descend
from prunegrid.workers.attacks.algorithms.target_race.walk import along_boundary
from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Gathered,
    Results,
)
from prunegrid.workers.attacks.declaration import AttackEntry, Norm, attack, count

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network


@dataclass(frozen=True, kw_only=True)
class TargetRace(Attack):
    """The options of both norms.

    An image takes at most targets * steps passes in the race, of which the targets that leave
    spare some two fifths; leads * (walk + 7) after it, of which seven are forward alone; and one to
    rank the classes: 469 by the defaults.
    """

    norm: ClassVar[Norm]
    pace: ClassVar[Pace]

    targets: int = count(9, "other classes, by their scores", search=(2, 20), spends="rounds")
    steps: int = count(60, "steps towards each", search=(20, 200), spends="steps")
    leads: int = count(4, "of the nearest results, which go along the boundary")
    walk: int = count(30, "steps of each along the boundary")

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """A micro-batch of images at a time: each becomes as many rows as it has targets."""
        gathered, size = Gathered(batch, self.norm), context.micro_batches.nominal
        starts = range(0, len(batch), size)
        for number, start in enumerate(starts):
            context.ticker.share_of(number, len(starts))
            rows = np.arange(start, min(start + size, len(batch)))
            gathered.add(rows, self._race(network, batch.take(rows), context))
        return (gathered.result(),)

    def _race(self, network: Network, batch: Batch, context: AttackContext) -> AttackResult:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, n = Oracle(network, batch, context), len(batch)
        targets = oracle.highest_others(self.targets)
        owners = np.repeat(np.arange(n), targets.shape[1])
        pairs = batch.take(owners)
        runner = Oracle(network, pairs, context)
        nearest = descend(
            runner, pairs, targets.ravel(), self.norm, self.pace,
            steps=self.steps, of_each=targets.shape[1], ticker=context.ticker,
        )  # fmt: skip
        ranks = np.argsort(nearest.distance.reshape(n, -1), axis=1, kind="stable")
        leads = (ranks[:, : self.leads] + np.arange(n)[:, None] * targets.shape[1]).ravel()
        leads = leads[nearest.found[leads]]
        if len(leads):
            along_boundary(
                runner, pairs, leads, nearest, self.norm, steps=self.walk, ticker=context.ticker
            )
        oracle.count(runner, owners)
        best = np.arange(n) * targets.shape[1] + nearest.distance.reshape(n, -1).argmin(axis=1)
        return oracle.result(nearest.images[best], nearest.found[best], self.norm)


@attack(
    AttackEntry(
        name="target_race_l2",
        title="Target race L2",
        norm="l2",
        finds="minimum-norm",
        loss="margin",
        strict_extra=152,
    )
)
class TargetRaceL2(TargetRace):
    norm = "l2"
    pace = Pace(length=(5.0, 0.02), change=(0.5, 0.005), momentum=0.0)


@attack(
    AttackEntry(
        name="target_race_linf",
        title="Target race Linf",
        norm="linf",
        finds="minimum-norm",
        loss="margin",
        strict_extra=152,
    )
)
class TargetRaceLinf(TargetRace):
    norm = "linf"
    pace = Pace(length=(2.0, 0.02), change=(0.5, 0.005), momentum=0.75)
