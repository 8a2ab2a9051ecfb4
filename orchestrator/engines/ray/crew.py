"""The crew: which worker actors there are, on nodes that come, go, drain and fail."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

from prunegrid.orchestrator.engines.engine import Notice
from prunegrid.orchestrator.engines.ray.autoscaler import Autoscaler
from prunegrid.orchestrator.engines.ray.clearing import Clearing
from prunegrid.orchestrator.engines.ray.failures import is_own_failure, why_not_started
from prunegrid.orchestrator.engines.ray.node_exclusion import NodeExclusion
from prunegrid.orchestrator.engines.ray.node_resources import (
    Need,
    Node,
    capacity,
    describe_shortage,
)
from prunegrid.orchestrator.engines.ray.nodes import Nodes, label
from prunegrid.orchestrator.engines.ray.slots import Slot, SlotPool
from prunegrid.orchestrator.engines.ray.start import EngineError
from prunegrid.workers.contract import Outcome, Success, WorkerSettings

STEP_EVERY_S = 0.2
SPARE_S = 60.0  #: an idle slot beyond the demand goes after that, where nodes cost money
CROWDED_S = 30.0  #: no actor within that time: others use the cluster, or it is stuck
DOUBT_S = 1.5  #: after an actor did not answer
BIRTHS = 3  #: actors of a node that may fail to start before it is excluded


class Crew:
    """Not thread-safe; the engine owns it and calls `step` often."""

    def __init__(
        self,
        ray: Any,
        nodes: Nodes,
        autoscaler: Autoscaler,
        need: Need,
        settings: WorkerSettings,
        runner: str,
    ) -> None:
        self.nodes = nodes
        self.need = need
        self.pool = SlotPool(ray, settings, runner, need)
        self.exclusion = NodeExclusion()
        self.clearing = Clearing(self.pool, need)
        self.notices: list[Notice] = []
        self.birth_failure = ""  #: why the last actor that did not start did not
        self.elastic = autoscaler.offers(need)
        self._autoscaler = autoscaler
        self._births: dict[str, int] = defaultdict(int)  #: node -> actors that failed to start
        self._doubted_s: dict[str, float] = {}
        self._stepped_s = self._last_room_s = -1e9
        self._lacking = ""  #: why there is no room, as last said
        self._demand = 1  #: tasks that could run; at first there is data to prepare
        self._stopping = False

    def healthy(self) -> list[Node]:
        """Nodes that may get work."""
        now_s = time.monotonic()
        return [
            node
            for node in self.nodes.alive.values()
            if not node.draining and not self.exclusion.is_excluded(node.id, now_s)
        ]

    def step(self, *, largest: int, now: bool = False) -> list[Slot]:
        """See who came and went, and act on it. `largest`: the largest share that a waiting
        task asks for. Returns slots that went with their node and had work.

        Raises EngineError where no worker starts on any node.
        """
        if not now and time.monotonic() - self._stepped_s < STEP_EVERY_S:
            return []
        self._stepped_s = time.monotonic()
        self.notices += self.nodes.look()
        alive = self.nodes.alive
        gone = {slot.node for slot in self.pool.slots} - set(alive)
        lost = [slot for node in sorted(gone) for slot in self.pool.drop_node(node)]
        for slot, error in self.pool.arrivals():
            self._stillborn(slot, error)
        for node, reason in self.pool.prepare_nodes():
            self.fence(node, f"its data can't be prepared: {reason}")
        self._drain()
        if not self._stopping:
            healthy = self.healthy()
            self.clearing.step(largest, healthy)
            if self.elastic:
                self._spare()
                self._ask()
            self.pool.resize(self._needed(healthy), reserved=self.clearing.node)
        self._check_room()
        return lost

    def _needed(self, healthy: list[Node]) -> list[Node]:
        """Nodes to fill with slots: all, but where nodes cost money only while there is work."""
        if self.elastic and len(self._staying()) >= self._demand:
            return []
        now_s = time.monotonic()
        return [n for n in healthy if now_s - self._doubted_s.get(n.id, -1e9) > DOUBT_S]

    def demand(self, tasks: int) -> None:
        self._demand = tasks

    def _ask(self) -> None:
        self._autoscaler.request(self.need, self._missing(), held=len(self._staying()))

    def _staying(self) -> list[Slot]:
        return [slot for slot in self.pool.slots if not slot.leaving]

    def _missing(self) -> int:
        """Room to ask for in all: none once every task has a slot. The autoscaler counts nodes
        that we can't use, too."""
        if len(self._staying()) >= self._demand:
            return 0
        of_use = {node.id for node in self.healthy()}
        useless = [node for node in self.nodes.alive.values() if node.id not in of_use]
        return self._demand + sum(capacity(node, self.need) for node in useless)

    def leave(self) -> None:
        """No more work: what was asked for is no longer wanted, and all actors end."""
        if self.elastic:
            self._autoscaler.cancel(self.need)
        for slot in list(self.pool.slots):
            self.pool.drop(slot)

    def request_stop(self) -> None:
        self._stopping = True
        for slot in self.pool.slots:
            slot.actor.request_stop.remote()

    # ------------------------------------------------------------------ what happens to nodes

    def ended(self, slot: Slot, outcome: Outcome) -> None:
        """An attempt's end tells of its node's health."""
        now_s = time.monotonic()
        if isinstance(outcome, Success):
            self.exclusion.succeeded(slot.node, now_s)
        elif reason := self.exclusion.failed(slot.node, outcome.key, outcome.kind, now_s):
            self._say_fenced(slot.node, f"{reason}, the last one {outcome.kind}: {outcome.message}")

    def fence(self, node: str, reason: str) -> None:
        self.exclusion.exclude(node, time.monotonic())
        self._say_fenced(node, reason)

    def _say_fenced(self, node: str, reason: str) -> None:
        for slot in [slot for slot in self.pool.slots if slot.node == node]:
            slot.leaving = True
            if slot.attempt is None:
                self.pool.drop(slot)
        known = self.nodes.alive.get(node)
        name = label(known) if known else node[:8]
        term_s = self.exclusion.term_s(node, time.monotonic())
        text = f"node {name} gets no more tasks for {term_s / 60:.0f} min: {reason}"
        self.notices.append(Notice(kind="node-fenced", node=name, text=text, for_s=term_s))

    def doubt(self, node: str) -> None:
        """An actor there did not answer: no new ones until Ray knows whether the node is gone."""
        self._doubted_s[node] = time.monotonic()

    def _stillborn(self, slot: Slot, error: Exception) -> None:
        self.pool.drop(slot)
        self.doubt(slot.node)
        if not is_own_failure(error):
            return
        self._births[slot.node] += 1
        self.birth_failure = f"no worker starts: {why_not_started(error)}"
        if self._births[slot.node] >= BIRTHS and slot.node in self.nodes.alive:
            self._births[slot.node] = 0
            self.fence(slot.node, self.birth_failure)

    def _drain(self) -> None:
        """Where a node is to go away, what runs there saves its state and ends as LOST."""
        for slot in list(self.pool.slots):
            node = self.nodes.alive.get(slot.node)
            if node is None or not node.draining:
                continue
            slot.leaving = True
            if slot.attempt is None:
                self.pool.drop(slot)
            elif not slot.stopping:
                slot.stopping = True
                slot.actor.request_stop.remote()

    def _spare(self) -> None:
        """Let idle slots go, a whole node's if may be, so that the autoscaler can take it back."""
        beyond = len(self.pool.slots) - self._demand
        if beyond <= 0:
            return
        busy: Counter[str] = Counter()
        free_s: dict[str, float] = defaultdict(float)
        for slot in self.pool.slots:
            busy[slot.node] += slot.attempt is not None
            free_s[slot.node] = max(free_s[slot.node], slot.free_s)
        idle = [slot for slot in self.pool.slots if slot.attempt is None and not slot.arriving]
        idle.sort(key=lambda slot: (busy[slot.node], free_s[slot.node], slot.node))
        for slot in idle[:beyond]:
            if time.monotonic() - slot.free_s > SPARE_S:
                self.pool.drop(slot)

    def _check_room(self) -> None:
        """Say where tasks wait for room that nobody offers, once for each reason. Raises
        EngineError."""
        now_s = time.monotonic()
        nobody_waits = self.elastic and not self._demand
        if self.pool.usable() or self._last_room_s < 0 or nobody_waits:
            self._last_room_s, self._lacking = now_s, ""
            return
        healthy = self.healthy()
        if not healthy and self.birth_failure and self.nodes.alive and not self.elastic:
            raise EngineError(self.birth_failure)
        if now_s - self._last_room_s < CROWDED_S:
            return
        if self.nodes.alive and not healthy:
            text = "every node is excluded or draining: waiting for one"
        elif not any(capacity(node, self.need) for node in healthy):
            text = describe_shortage(self.nodes.alive.values(), self.need)
            text += "; the autoscaler was asked for more" if self.elastic else "; waiting for one"
        else:
            text = f"no worker has started for {CROWDED_S:.0f} s: others may use the cluster"
        if text != self._lacking:
            self._lacking = text
            self.notices.append(Notice(kind="no-room", node="", text=text))
