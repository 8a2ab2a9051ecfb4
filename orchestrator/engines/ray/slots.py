"""Slots: long-lived worker actors, each on a node that we chose, and which of them takes what.

A slot is of use once its actor has answered and its node's data is prepared. Actors never
restart by themselves: a dead one is dropped, and `resize` makes another where there is room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunegrid.orchestrator.engines.ray.node_resources import Need, Node, capacity
from prunegrid.workers.contract import Attempt, DataSettings, Task, WorkerSettings
from prunegrid.workers.entry import Worker
from prunegrid.workers.process import Whereabouts

_WARM = 3  #: models whose weights a worker keeps (`prunegrid.workers.warm`)


@dataclass(kw_only=True, eq=False)
class Slot:
    number: int
    node: str
    actor: Any
    share: int  #: how many slots' room it has
    arriving: Any  #: the call that its actor answers first; None once it has
    born_s: float
    where: Whereabouts | None = None
    attempt: Attempt | None = None
    call: Any = None  #: the running attempt's object reference
    started_s: float = 0.0
    free_s: float = 0.0  #: since when it has no work
    question: Any = None  #: a progress call under way
    heard_s: float = 0.0  #: when it last answered one about this attempt, or started it
    said: tuple[str, float, str, float] = ("", 0.0, "", 0.0)
    warm: deque[str] = field(default_factory=lambda: deque(maxlen=_WARM))
    leaving: bool = False  #: it gets no more work, and goes when it has none
    stopping: bool = False  #: its worker was asked to save its state and end

    @property
    def name(self) -> str:
        return f"{self.where.host if self.where else 'worker'}/{self.number}"


class SlotPool:
    """Not thread-safe; the engine owns it."""

    def __init__(self, ray: Any, settings: WorkerSettings, runner: str, need: Need) -> None:
        self._ray = ray
        self._settings = settings
        self._runner = runner
        self._need = need
        self._next_number = 0
        self.slots: list[Slot] = []
        self._data: list[DataSettings] = []
        self._prepared: dict[str, int] = {}  #: node -> how many of `_data` are there
        self._preparing: dict[str, tuple[Slot, Any]] = {}  #: node -> who does it, and its call

    # ------------------------------------------------------------------ coming and going

    def add(self, node: str, share: int = 1) -> Slot:
        ray, need = self._ray, self._need.times(share)
        limit = self._settings.gpu_memory_mib
        settings = dataclasses.replace(
            self._settings,
            gpu_memory_mib=limit * share if limit is not None else None,
            gpu_frac=min(1.0, need.gpus) if need.gpus else 1.0,
        )
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        options = ray.remote(Worker).options(
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one runs, the other answers progress() and request_stop()
            scheduling_strategy=affinity(node, soft=False),
        )
        actor = options.remote(settings, self._runner)
        now_s = time.monotonic()
        slot = Slot(
            number=self._next_number,
            node=node,
            actor=actor,
            share=share,
            arriving=actor.whereabouts.remote(),
            born_s=now_s,
            free_s=now_s,
        )
        self._next_number += 1
        self.slots.append(slot)
        return slot

    def drop(self, slot: Slot) -> None:
        """End its actor, whatever that does."""
        with contextlib.suppress(Exception):
            self._ray.kill(slot.actor)
        if slot in self.slots:
            self.slots.remove(slot)
        if self._preparing.get(slot.node, (None,))[0] is slot:
            del self._preparing[slot.node]

    def drop_node(self, node: str) -> list[Slot]:
        """All slots of a node that is gone; returns those that had work."""
        gone = [slot for slot in self.slots if slot.node == node]
        for slot in gone:
            self.drop(slot)
        self._prepared.pop(node, None)
        return [slot for slot in gone if slot.attempt is not None]

    def resize(self, nodes: Iterable[Node], reserved: str | None = None) -> None:
        """Slots wherever there is room for one more. `reserved`: a node whose room is being
        cleared for a larger slot."""
        for node in nodes:
            if node.id == reserved:
                continue
            used = sum(slot.share for slot in self.slots if slot.node == node.id)
            for _ in range(capacity(node, self._need) - used):
                self.add(node.id)

    def arrivals(self) -> list[tuple[Slot, Exception]]:
        """Take note of actors that have answered; returns those that never will."""
        calls = {slot.arriving: slot for slot in self.slots if slot.arriving is not None}
        if not calls:
            return []
        failed = []
        done, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for call in done:
            slot = calls[call]
            try:
                slot.where = self._ray.get(call)
                slot.arriving, slot.free_s = None, time.monotonic()
            except Exception as error:
                failed.append((slot, error))
        return failed

    # ------------------------------------------------------------------ data, once per node

    def note_data(self, data: DataSettings, node: str | None = None) -> None:
        """A data set that tasks need, and where it is prepared already, if anywhere."""
        if data in self._data:
            return
        if node is not None and self._prepared.get(node, 0) == len(self._data):
            self._prepared[node] = len(self._data) + 1
        self._data.append(data)

    def prepare_nodes(self) -> list[tuple[str, str]]:
        """Have one slot of each new node prepare its data while the node's others wait.

        Returns (node, reason) where that failed."""
        failed = []
        for node, (slot, call) in list(self._preparing.items()):
            if not self._ray.wait([call], timeout=0)[0]:
                continue
            del self._preparing[node]
            try:
                reason = self._ray.get(call)
            except Exception as error:
                reason = str(error).strip().splitlines()[0]
            slot.free_s = time.monotonic()
            if reason:
                failed.append((node, reason))
            else:
                self._prepared[node] = self._prepared.get(node, 0) + 1
        for slot in self.slots:
            ready = self._prepared.get(slot.node, 0)
            idle = slot.arriving is None and slot.attempt is None
            if idle and ready < len(self._data) and slot.node not in self._preparing:
                self._preparing[slot.node] = (slot, slot.actor.prepare.remote(self._data[ready]))
        return failed

    # ------------------------------------------------------------------ who takes what

    def usable(self) -> list[Slot]:
        """Slots that have work or may get it."""
        wanted = len(self._data)
        return [
            slot
            for slot in self.slots
            if slot.attempt is not None
            or (
                slot.arriving is None
                and not slot.leaving
                and self._prepared.get(slot.node, 0) >= wanted
            )
        ]

    def idle(self) -> list[Slot]:
        return [slot for slot in self.usable() if slot.attempt is None]


def choose(
    idle: Sequence[Slot], task: Task, *, share: int = 1, avoid: Collection[str] = ()
) -> Slot | None:
    """The slot for a task: with room enough, else None; the smallest such; on no node of `avoid`
    if possible; where its parent's weights are warm; else the one idle for the longest."""
    parent = getattr(task, "parent_key", None)
    fit = [slot for slot in idle if slot.share >= share]
    if not fit:
        return None

    def badness(slot: Slot) -> tuple[bool, int, bool, float]:
        cold = parent is None or parent not in slot.warm
        return slot.node in avoid, slot.share, cold, slot.free_s

    return min(fit, key=badness)
