"""Room for one slot larger than the others: a task that ran out of memory gets more of a machine.

Its neighbours on one device (on one node, where there is no GPU) get no new work; once they are
done, their room is the large slot's. It goes as soon as no task waits for one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prunegrid.orchestrator.engines.ray.node_resources import Need, Node, capacity, largest_share
from prunegrid.orchestrator.engines.ray.slots import Slot, SlotPool

ARRIVES_WITHIN_S = 120.0


def slots_of_a_device(need: Need, group: Sequence[Slot]) -> int:
    """How many slots of the usual size a GPU holds; where there is none, all there are."""
    return int(1 / need.gpus + 1e-9) if 0 < need.gpus < 1 else max(len(group), 2)


class Clearing:
    """At most one at a time. Not thread-safe; the crew owns it."""

    def __init__(self, pool: SlotPool, need: Need) -> None:
        self._pool = pool
        self._need = need
        self._node: str | None = None
        self._share = 1
        self._victims: list[Slot] = []
        self._impossible = 10**9  #: shares from here on could not be had after all

    @property
    def node(self) -> str | None:
        """Whose room is being cleared."""
        return self._node

    def share_for(self, wanted: int, nodes: Iterable[Node]) -> int:
        """The largest share, up to the wanted one, that some node can give."""
        if wanted <= 1:
            return 1
        return largest_share(nodes, self._need, min(wanted, self._impossible - 1))

    def step(self, share: int, nodes: Sequence[Node]) -> None:
        """`share`: the largest that a waiting task asks for; 1: none does."""
        large = [slot for slot in self._pool.slots if slot.share > 1]
        for slot in large:
            late = slot.arriving and time.monotonic() - slot.born_s > ARRIVES_WITHIN_S
            if late:
                self._impossible = min(self._impossible, slot.share)
            if late or (share <= 1 and slot.attempt is None):
                self._pool.drop(slot)
        if self._node is not None:
            self._go_on(share)
        elif share > 1 and not any(slot.share >= share for slot in self._pool.slots):
            self._begin(share, nodes)

    def _begin(self, share: int, nodes: Sequence[Node]) -> None:
        best: tuple[int, str, list[Slot]] | None = None
        for node in nodes:
            if not capacity(node, self._need.times(share)):
                continue
            for group in self._groups(node.id):
                if len(group) < min(share, slots_of_a_device(self._need, group)):
                    continue  # some are on their way yet: their device is not known
                others = [s for s in self._pool.slots if s.node == node.id and s not in group]
                group.sort(key=lambda slot: slot.attempt is not None)
                victims = [*group, *others][:share]
                busy = sum(slot.attempt is not None for slot in victims)
                if best is None or busy < best[0]:
                    best = (busy, node.id, victims)
        if best is not None:
            _, self._node, self._victims = best
            self._share = share
            for slot in self._victims:
                slot.leaving = True
            self._go_on(share)

    def _groups(self, node: str) -> list[list[Slot]]:
        """A node's slots that share a device; all of them where there is none."""
        groups: dict[str, list[Slot]] = defaultdict(list)
        for slot in self._pool.slots:
            if slot.node == node and slot.share == 1 and slot.where is not None:
                groups[slot.where.gpus if 0 < self._need.gpus < 1 else ""].append(slot)
        return list(groups.values())

    def _go_on(self, share: int) -> None:
        for slot in [s for s in self._victims if s.attempt is None and s in self._pool.slots]:
            self._pool.drop(slot)
        if share <= 1:  # nobody waits for it any more
            for slot in self._victims:
                slot.leaving = False
        elif any(slot in self._pool.slots for slot in self._victims):
            return
        else:
            assert self._node is not None
            self._pool.add(self._node, self._share)
        self._node, self._victims = None, []
