"""Few elements by exchange: the minimum-norm L0 attacks of our own. `exchange_l0`:

1. From the clean image towards each of the highest other classes by the fewest elements that move
   the linearised margin over the boundary (the L0 step of `brendel_bethge`, from the other side).
2. From the nearest images of other classes to the boundary and along it, as Brendel and Bethge.
3. The nearest results go on by exchanges of single elements, a tabu search over the set of changed
   elements (`exchange.py`).

No image takes more than `passes` passes. What each part brings is in docs/attacks.md.
`bb_exchange_l0` is 2. and 3. with Brendel and Bethge's options.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.algorithms.brendel_bethge import BoundaryL0, Leave
from prunegrid.workers.attacks.algorithms.brendel_bethge.l0_step import l0_steps
from prunegrid.workers.attacks.algorithms.element_exchange.exchange import (
    SeenSets,
    exchange_elements,
)
from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Results,
    row_norms,
)
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count
from prunegrid.workers.attacks.runtime.geometry import Nearest
from prunegrid.workers.attacks.runtime.starts import nearest_starts

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Images to start from, each of another class where there are such.
STARTS = 7
#: Halvings of the way to the boundary; 9 would separate all 256 grey levels.
BISECTIONS = 4
FOLLOW = BoundaryL0(binary_search_steps=BISECTIONS)
#: A start is left after this many steps without a smaller norm...
PATIENCE = 4
#: ... or that many, once it was where the best other class had no slope.
FLAT_PATIENCE = 8
#: Steps towards a class: at most, and without a smaller norm once the class is reached.
AIMED, AIMED_PATIENCE = 10, 2
#: How far over the boundary such a step aims.
OVERSHOOT = 1.1
#: Results that go on, the nearest first; each but the last gets this part of the passes left.
LEADS = 4
LEAD_SHARE = 0.35
#: Passes of an image by `bb_exchange_l0`, at most: a third of Foolbox's B&B with 30 searches and
#: 500 steps, 533.
MOST_PASSES = 177
#: Passes of an image that are made outside: clean prediction, starts, verification.
CHECKS = 3


@attack(
    AttackEntry(
        name="exchange_l0",
        title="Exchange L0",
        norm="l0",
        finds="minimum-norm",
        loss="margin",
        extra=0,
        strict_extra=0,
    )
)
@dataclass(frozen=True, kw_only=True)
class ExchangeL0(Attack):
    """The default is a third of what Foolbox's B&B takes with the paper's settings, 533."""

    passes: int = count(177, "passes of an image, at most", minimum=20, spends="steps")
    targets: int = count(4, "other classes to aim at, by their scores", minimum=0)

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        aimed = self._aimed(network, batch, context) if self.targets else None
        return (search(network, batch, context, FOLLOW, most=self.passes, aimed=aimed),)

    def _aimed(
        self, network: Network, batch: Batch, context: AttackContext
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """From the clean image towards each target: images [n, h, w, c] and their L0 [n], infinite
        where none was found; and the passes made of each image, [3, n]: forward, backward, and
        forward where the margin had no slope."""
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, n = Oracle(network, batch, context), len(batch)
        found, norms, shape = [], [], batch.images.shape
        flat = batch.images.reshape(n, -1)
        for aims in oracle.highest_others(self.targets).T:
            nearest, x = Nearest(batch.images, "l0"), batch.images.copy()
            slope, since = np.zeros_like(flat), np.zeros(n, np.int64)
            active = np.arange(n)
            for step in range(AIMED):
                before = nearest.distance[active]
                seen = oracle.slopes(active, x, "target-margin", aims)
                nearest.offer(active, x[active], seen.adversarial)
                stuck = nearest.found[active] & (nearest.distance[active] >= before)
                since[active] += stuck
                margin = np.where(seen.flat, seen.ahead, -seen.loss).astype(np.float64)
                fall = -seen.gradient.reshape(len(active), -1)
                if step:
                    fall = (1 - FOLLOW.momentum) * fall + FOLLOW.momentum * slope[active]
                slope[active] = fall
                here = x[active].reshape(len(active), -1)
                aim = np.where(margin > 0, -OVERSHOOT * margin, -(2 - OVERSHOOT) * margin)
                radius = np.full(len(active), FOLLOW.lr * flat.shape[1])
                move = l0_steps(flat[active], here, fall, aim, radius)
                x[active] = (here + move.astype(np.float32)).reshape(-1, *shape[1:])
                active = active[since[active] < AIMED_PATIENCE]
                if not len(active):
                    break
                context.ticker.tick(0.0, "exchange: towards other classes")
            found.append(nearest.images)
            norms.append(nearest.distance)
        return found, norms, oracle.passes()


@attack(
    AttackEntry(
        name="bb_exchange_l0",
        title="B&B + exchange L0",
        norm="l0",
        finds="minimum-norm",
        loss="margin",
        first_name="bb_l0",
    )
)
class BBExchangeL0(BoundaryL0):
    """Brendel and Bethge's walk from several starts, then exchanges of single elements.

    1. From the nearest images of up to seven other classes to the boundary, by 4 halvings at most,
       and along it with `bb_l0`'s options. A start is left after 4 steps without a smaller norm.
    2. The four nearest results go on by a tabu search over the set of changed elements, which
       exchanges single ones and queries no set twice (`exchange.py`).

    An image takes at most 177 passes, and no more than Foolbox's B&B would with the same options.
    Its result is the same in any shard, batch and order. It is `exchange_l0` without steps towards
    the highest other classes; what each part brings is in docs/attacks.md.
    """

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        most = min(MOST_PASSES, self.binary_search_steps + self.steps + 3)
        few = dataclasses.replace(
            self, binary_search_steps=min(self.binary_search_steps, BISECTIONS)
        )
        return (search(network, batch, context, few, most=most),)


# Parameters: what to attack, and how.
def search(
    network: Network,
    batch: Batch,
    context: AttackContext,
    follow: BoundaryL0,
    *,
    most: int,
    aimed: tuple[list[np.ndarray], list[np.ndarray], np.ndarray] | None = None,
) -> AttackResult:
    """From the nearest images of other classes along the boundary as `follow` does, and then by
    exchanges from the nearest results, those of `aimed` (`ExchangeL0._aimed`) among them.

    most: passes of an image.
    """
    n, left = len(batch), most - CHECKS
    found, norms, passes = aimed or ([], [], np.zeros((3, n), np.int64))
    queries = passes[0]
    every = nearest_starts(network, batch, context, count=STARTS)
    for number, (starts, started) in enumerate(every):
        # Where the first takes long, little is left for others.
        limit = (left - queries) // 2
        place, norm = batch.images.copy(), np.full(n, np.inf)
        keep = np.flatnonzero(started & ((limit > BISECTIONS) | (number == 0)))
        if len(keep):
            context.ticker.share_of(number, STARTS + 1)
            part = batch.take(keep)
            leave = Leave(most=limit[keep], patience=PATIENCE, flat_patience=FLAT_PATIENCE)
            ours, more = follow.follow(network, part, starts[keep], context, leave)
            passes[:, keep] += more
            place[keep], norm[keep] = ours, row_norms(ours - part.images, "l0")
        found.append(place)
        norms.append(norm)
    context.ticker.share_of(STARTS, STARTS + 1)
    images, distance = batch.images.copy(), np.full(n, np.inf)
    seen = SeenSets(n, batch.images[0].size, most)
    ranks, rows = np.argsort(norms, axis=0, kind="stable"), np.arange(n)
    places, sizes = np.array(found), np.array(norms)
    for lead in range(LEADS):
        chosen = ranks[lead]
        keep = np.flatnonzero(np.isfinite(sizes[chosen, rows]))
        if not len(keep):
            continue
        rest = np.maximum(left - queries[keep], 0)
        limit = rest if lead == LEADS - 1 else (rest * LEAD_SHARE).astype(np.int64)
        part = batch.take(keep)
        start = places[chosen, rows][keep]
        ours, more = exchange_elements(network, part, start, limit, seen, keep, context)
        passes[:, keep] += more
        norm = row_norms(ours - part.images, "l0")
        closer = norm < distance[keep]
        images[keep[closer]], distance[keep[closer]] = ours[closer], norm[closer]
    return AttackResult(
        images=images,
        claimed=np.isfinite(distance),
        distance=distance,
        queries=queries + 1,
        backward=passes[1],
        flat=passes[2],
    )
