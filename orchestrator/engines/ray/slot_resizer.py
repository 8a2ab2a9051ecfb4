"""A larger slot for a task that ran out of memory. Pure: slots and nodes in, changes out.

Its neighbours on one GPU (on one node, if there is no GPU) get no new work; once they have ended,
the larger slot takes their place. It ends as soon as no task needs one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from prunegrid.orchestrator.engines.ray.node_resources import (
    Need,
    Node,
    capacity,
    largest_share,
)
from prunegrid.orchestrator.engines.ray.worker_slot import SlotState, WorkerSlot

STARTS_WITHIN_S = 120.0  #: else a larger slot is taken to be impossible


@dataclass(frozen=True, kw_only=True)
class Resize:
    """What to do now, by the slots' numbers."""

    drain: tuple[int, ...] = ()
    undrain: tuple[int, ...] = ()
    start: tuple[str, int] | None = None  #: a node, and the share of a slot to start there


@dataclass(frozen=True, kw_only=True)
class Reservation:
    node: str
    share: int
    victims: frozenset[int]  #: slots that end for it


class SlotResizer:
    """At most one larger slot is made at a time. Not thread-safe; the worker pool owns it."""

    def __init__(self, need: Need) -> None:
        self._need = need
        self._reservation: Reservation | None = None
        self._impossible = 10**9  #: the smallest share that did not start

    @property
    def reserved(self) -> str | None:
        """The node on which no ordinary slot is to be started meanwhile."""
        return self._reservation.node if self._reservation else None

    def share_for(self, wanted: int, nodes: Iterable[Node]) -> int:
        """The largest share, up to the wanted one, that some node can give."""
        if wanted <= 1:
            return 1
        return largest_share(nodes, self._need, min(wanted, self._impossible - 1))

    def step(
        self, slots: Collection[WorkerSlot], share: int, nodes: Sequence[Node], now_s: float
    ) -> Resize:
        """`share`: the largest that a waiting task needs, 1 if none does; `nodes`: those that may
        get work."""
        drain = []
        for slot in slots:
            late = slot.state is SlotState.STARTING and now_s - slot.since_s > STARTS_WITHIN_S
            if slot.share > 1 and late:
                self._impossible = min(self._impossible, slot.share)
            if slot.share > 1 and (late or (share <= 1 and slot.attempt is None)):
                drain.append(slot.number)
        if self._reservation is not None:
            return self._go_on(self._reservation, slots, share, nodes, drain)
        if share > 1 and not any(slot.share >= share for slot in slots):
            self._reservation = self._reserve(slots, share, nodes)
            if self._reservation is not None:
                drain += self._reservation.victims
        return Resize(drain=tuple(drain))

    def _go_on(
        self,
        held: Reservation,
        slots: Collection[WorkerSlot],
        share: int,
        nodes: Sequence[Node],
        drain: list[int],
    ) -> Resize:
        left = tuple(slot.number for slot in slots if slot.number in held.victims)
        usable = any(node.id == held.node for node in nodes)
        if left and usable and share > 1:
            return Resize(drain=tuple(drain))
        self._reservation = None
        if not usable:
            return Resize(drain=tuple(drain))
        if share <= 1:  # no task needs it any more
            return Resize(drain=tuple(drain), undrain=left)
        return Resize(drain=tuple(drain), start=(held.node, held.share))

    def _reserve(
        self, slots: Collection[WorkerSlot], share: int, nodes: Sequence[Node]
    ) -> Reservation | None:
        """Where the fewest attempts have to end first."""
        best: tuple[int, Reservation] | None = None
        for node in nodes:
            if not capacity(node, self._need.times(share)):
                continue
            here = [slot for slot in slots if slot.node == node.id]
            for group in self._groups(here):
                if _room(group) < min(share, self._slots_of_a_device(group)):
                    continue  # some have not started yet: their device is not known
                group.sort(key=lambda slot: slot.attempt is not None)
                victims: list[WorkerSlot] = []
                for slot in [*group, *(slot for slot in here if slot not in group)]:
                    if _room(victims) < share:
                        victims.append(slot)
                busy = sum(slot.attempt is not None for slot in victims)
                if best is None or busy < best[0]:
                    numbers = frozenset(slot.number for slot in victims)
                    best = busy, Reservation(node=node.id, share=share, victims=numbers)
        return best[1] if best else None

    def _groups(self, here: Iterable[WorkerSlot]) -> list[list[WorkerSlot]]:
        """A node's slots by the device that they share; all of them if there is none."""
        groups: dict[str, list[WorkerSlot]] = defaultdict(list)
        for slot in here:
            if slot.state is not SlotState.STARTING:
                groups[slot.device if 0 < self._need.gpus < 1 else ""].append(slot)
        return list(groups.values())

    def _slots_of_a_device(self, group: Sequence[WorkerSlot]) -> int:
        """How many ordinary slots a GPU holds; if there is none, all that there are."""
        gpus = self._need.gpus
        return int(1 / gpus + 1e-9) if 0 < gpus < 1 else max(len(group), 2)


def _room(slots: Iterable[WorkerSlot]) -> int:
    return sum(slot.share for slot in slots)
