"""The worker pool: its slots on nodes that come, go, drain and fail, and what each slot runs.

Pure, as `worker_slot.py` is: `handle` takes an event and returns instructions; time comes inside
events. Each attempt that is submitted is reported exactly once.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from prunegrid.orchestrator.engines.engine import Notice
from prunegrid.orchestrator.engines.ray.failures import never_started
from prunegrid.orchestrator.engines.ray.node_exclusion import NodeExclusion
from prunegrid.orchestrator.engines.ray.node_resources import (
    Need,
    Node,
    capacity,
    describe_shortage,
)
from prunegrid.orchestrator.engines.ray.slot_resizer import SlotResizer
from prunegrid.orchestrator.engines.ray.worker_slot import (
    AssignEvent,
    CheckEvent,
    DrainEvent,
    Instruction,
    NodeGoneEvent,
    PreparedEvent,
    PrepareEvent,
    ReportEnd,
    SlotEvent,
    SlotState,
    StartFailedEvent,
    StartWorker,
    StopAttemptEvent,
    UndrainEvent,
    WorkerLostEvent,
    WorkerSlot,
    choose,
    transition,
)
from prunegrid.orchestrator.scheduling.events import StopEvent, TickEvent
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.workers.contract import Attempt, DataSettings, FailureKind, Outcome, Success

SPARE_S = 60.0  #: an idle slot beyond the demand ends after that, where an autoscaler runs
CROWDED_S = 30.0  #: no worker starts within that time: others use the cluster, or it is stuck
DOUBT_S = 1.5  #: after a worker could not be reached: its node may be gone
START_FAILURES = 3  #: of workers on one node, until it is excluded
AVOID_S = 60.0  #: an attempt waits that long for another node than one that it failed on


@dataclass(frozen=True, kw_only=True)
class NodesEvent:
    """The nodes that are alive, by id."""

    nodes: Mapping[str, Node]
    at_s: float


@dataclass(frozen=True, kw_only=True)
class SubmittedEvent:
    attempt: Attempt
    at_s: float


@dataclass(frozen=True, kw_only=True)
class DataEvent:
    """A data set that attempts will need; `node`: where it is prepared already, if anywhere."""

    data: DataSettings
    node: str | None
    at_s: float


PoolEvent: TypeAlias = SlotEvent | NodesEvent | SubmittedEvent | DataEvent | TickEvent | StopEvent


@dataclass(frozen=True, kw_only=True)
class Notify:
    notice: Notice


@dataclass(frozen=True, kw_only=True)
class RequestNodes:
    """Request nodes for `slots` slots in all from the autoscaler, including the `held` ones that
    exist; 0 requests nothing."""

    slots: int
    held: int


@dataclass(frozen=True, kw_only=True)
class Abort:
    """No worker starts on any node: go no further."""

    message: str


PoolInstruction: TypeAlias = Instruction | Notify | RequestNodes | Abort


class WorkerPool:
    """Not thread-safe; the engine owns it, feeds it a TickEvent several times a second, and
    performs every instruction at once."""

    def __init__(
        self,
        need: Need,
        *,
        elastic: bool,
        silence_s: float,
        timeout_s: float | None = None,
        most: int | None = None,
    ) -> None:
        """`need`: of one slot; `elastic`: an autoscaler may start nodes that hold slots, and they
        cost money; `silence_s`, `timeout_s`: see CheckEvent; `most`: slots, None for no limit."""
        self.elastic = elastic
        self.most = most
        self.slots: dict[int, WorkerSlot] = {}  #: by number, in the order of their start
        self.start_failure = ""  #: why the last worker that did not start did not
        self.demand = 1  #: attempts that could run at once; at first there is data to prepare
        self._need = need
        self._silence_s = silence_s
        self._timeout_s = timeout_s
        self._nodes: Mapping[str, Node] = {}
        self._exclusion = NodeExclusion()
        self._resizer = SlotResizer(need)
        self._queue: deque[tuple[float, Attempt]] = deque()  #: with when it came
        self._failed_on: dict[str, set[str]] = defaultdict(set)  #: task -> nodes
        self._data: list[DataSettings] = []
        self._prepared: dict[str, int] = {}  #: node -> how many of `_data`, in order, it has
        self._start_failures: Counter[str] = Counter()  #: by node
        self._doubted_s: dict[str, float] = {}  #: node -> when a worker there was out of reach
        self._started = 0
        self._stopping = False
        self._usable_s: float | None = None  #: when a slot was last of use
        self._shortage = ""  #: why there is none, as last said
        self._now_s = 0.0
        self._out: list[PoolInstruction] = []

    # ------------------------------------------------------------------ views

    def healthy(self) -> list[Node]:
        """Nodes that may get work."""
        return [
            node
            for node in self._nodes.values()
            if not node.draining and not self._exclusion.is_excluded(node.id, self._now_s)
        ]

    def usable(self) -> list[WorkerSlot]:
        """Slots that have an attempt or may get one now."""
        return [
            slot for slot in self.slots.values() if slot.attempt is not None or self._is_ready(slot)
        ]

    def idle(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots.values() if self._is_ready(slot)]

    def _is_ready(self, slot: WorkerSlot) -> bool:
        prepared = self._prepared.get(slot.node, 0)
        return slot.state is SlotState.IDLE and prepared >= len(self._data)

    @property
    def awaits_news(self) -> bool:
        """Whether a worker died and its node may have, too: look at the nodes anew."""
        return any(slot.state is SlotState.DYING for slot in self.slots.values())

    def _staying(self) -> int:
        return sum(slot.state is not SlotState.DRAINING for slot in self.slots.values())

    # ------------------------------------------------------------------ events

    def handle(self, event: PoolEvent) -> list[PoolInstruction]:
        """The instructions that follow from one event, in order."""
        self._now_s = event.at_s
        match event:
            case SlotEvent():
                self._hear(event)
            case SubmittedEvent():
                self._queue.append((event.at_s, event.attempt))
            case NodesEvent():
                self._see(event.nodes)
            case DataEvent():
                self._note_data(event.data, event.node)
            case TickEvent():
                self._tick()
            case StopEvent():
                self._stopping = True
                for slot in list(self.slots.values()):
                    self._apply(StopAttemptEvent(slot=slot.number, at_s=self._now_s))
        if self._stopping:
            self._out += [ReportEnd(ended=never_started(a)) for _, a in self._queue]
            self._queue.clear()
        self._dispatch()
        out, self._out = self._out, []
        return out

    def _apply(self, event: SlotEvent) -> None:
        before = self.slots.get(event.slot)
        if before is None:
            return  # it ended meanwhile
        after, instructions = transition(before, event)
        self.slots[event.slot] = after
        if after.state is SlotState.ENDED:
            del self.slots[event.slot]
        self._out += instructions
        for instruction in instructions:
            if isinstance(instruction, ReportEnd):
                self._learn(before.node, instruction.ended.outcome)

    def _hear(self, event: SlotEvent) -> None:
        """What a slot's worker did."""
        slot = self.slots.get(event.slot)
        if slot is None:
            return
        self._apply(event)
        match event:
            case StartFailedEvent():
                self._doubted_s[slot.node] = self._now_s
                if event.other_code:
                    self._notify(Notice(kind="other-code", node=slot.node[:8], text=event.reason))
                if event.reason:
                    self._note_start_failure(slot.node, event.reason)
            case PreparedEvent(reason=None) if slot.state is SlotState.PREPARING:
                self._prepared[slot.node] = self._prepared.get(slot.node, 0) + 1
            case PreparedEvent() if slot.state is SlotState.PREPARING:
                self._exclusion.exclude(slot.node, self._now_s)
                self._leave(slot.node, f"its data can't be prepared: {event.reason}")
            case WorkerLostEvent(kind=FailureKind.LOST):
                self._doubted_s[slot.node] = self._now_s

    def _note_start_failure(self, node: str, reason: str) -> None:
        self.start_failure = f"no worker starts: {reason}"
        self._start_failures[node] += 1
        if self._start_failures[node] >= START_FAILURES and node in self._nodes:
            del self._start_failures[node]
            self._exclusion.exclude(node, self._now_s)
            self._leave(node, self.start_failure)

    def _learn(self, node: str, outcome: Outcome) -> None:
        """What an attempt's end says about its node."""
        if isinstance(outcome, Success):
            self._failed_on.pop(outcome.key, None)
            self._exclusion.succeeded(node, self._now_s)
            return
        if not POLICIES[outcome.kind].blameless:
            self._failed_on[outcome.key].add(node)
        if reason := self._exclusion.failed(node, outcome.key, outcome.kind, self._now_s):
            self._leave(node, f"{reason}, the last one {outcome.kind}: {outcome.message}")

    def _leave(self, node: str, reason: str) -> None:
        """A node was excluded: its slots end."""
        self._drain(slot.number for slot in self._on(node))
        name = self._nodes[node].label if node in self._nodes else node[:8]
        term_s = self._exclusion.term_s(node, self._now_s)
        text = f"node {name} gets no more tasks for {term_s / 60:.0f} min: {reason}"
        self._notify(Notice(kind="node-fenced", node=name, text=text, for_s=term_s))

    def _on(self, node: str) -> list[WorkerSlot]:
        return [slot for slot in self.slots.values() if slot.node == node]

    def _drain(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self._apply(DrainEvent(slot=number, at_s=self._now_s))

    def _notify(self, notice: Notice) -> None:
        self._out.append(Notify(notice=notice))

    def _see(self, nodes: Mapping[str, Node]) -> None:
        """On a draining node, attempts save their state and end as LOST."""
        self._nodes = nodes
        self._prepared = {node: n for node, n in self._prepared.items() if node in nodes}
        for slot in list(self.slots.values()):
            if slot.node not in nodes:
                self._apply(NodeGoneEvent(slot=slot.number, at_s=self._now_s))
            elif nodes[slot.node].draining:
                self._apply(DrainEvent(slot=slot.number, at_s=self._now_s))
                self._apply(StopAttemptEvent(slot=slot.number, at_s=self._now_s))

    def _note_data(self, data: DataSettings, node: str | None) -> None:
        if data in self._data:
            return
        if node is not None and self._prepared.get(node, 0) == len(self._data):
            self._prepared[node] = len(self._data) + 1
        self._data.append(data)

    # ------------------------------------------------------------------ time

    def _tick(self) -> None:
        for slot in list(self.slots.values()):
            if slot.attempt is not None:
                check = CheckEvent(
                    slot=slot.number,
                    silence_s=self._silence_s,
                    timeout_s=self._timeout_s,
                    at_s=self._now_s,
                )
                self._apply(check)
        if not self._stopping:
            self._prepare_nodes()
            healthy = self.healthy()
            self._resize(healthy)
            if self.elastic:
                self._spare()
                self._out.append(RequestNodes(slots=self._missing(), held=self._staying()))
            self._fill(healthy)
        self._check_shortage()

    def _prepare_nodes(self) -> None:
        """One slot of each node prepares the next data set, while the node's others wait."""
        preparing = {s.node for s in self.slots.values() if s.state is SlotState.PREPARING}
        for slot in list(self.slots.values()):
            prepared = self._prepared.get(slot.node, 0)
            lacks = prepared < len(self._data) and slot.node not in preparing
            if lacks and slot.state is SlotState.IDLE:
                preparing.add(slot.node)
                data = self._data[prepared]
                self._apply(PrepareEvent(slot=slot.number, data=data, at_s=self._now_s))

    def _resize(self, healthy: list[Node]) -> None:
        largest = max((self._share(attempt) for _, attempt in self._queue), default=1)
        resize = self._resizer.step(self.slots.values(), largest, healthy, self._now_s)
        self._drain(resize.drain)
        for number in resize.undrain:
            self._apply(UndrainEvent(slot=number, at_s=self._now_s))
        if resize.start is not None:
            self._start(*resize.start)

    def _missing(self) -> int:
        """Slots to request in all: none once every task has one. The autoscaler also counts nodes
        that may not get work."""
        if self._staying() >= self.demand:
            return 0
        useful = {node.id for node in self.healthy()}
        useless = [node for node in self._nodes.values() if node.id not in useful]
        return self.demand + sum(capacity(node, self._need) for node in useless)

    def _spare(self) -> None:
        """End idle slots beyond the demand, a whole node's if possible, so that the autoscaler can
        take the node back."""
        beyond = len(self.slots) - self.demand
        if beyond <= 0:
            return
        busy: Counter[str] = Counter()
        idle_s: dict[str, float] = defaultdict(float)
        for slot in self.slots.values():
            busy[slot.node] += slot.attempt is not None
            idle_s[slot.node] = max(idle_s[slot.node], slot.since_s)
        idle = [s for s in self.slots.values() if s.state in (SlotState.IDLE, SlotState.PREPARING)]
        idle.sort(key=lambda slot: (busy[slot.node], idle_s[slot.node], slot.node))
        self._drain(s.number for s in idle[:beyond] if self._now_s - s.since_s > SPARE_S)

    def _fill(self, healthy: list[Node]) -> None:
        """Start slots on every node that has room; if nodes cost money, only while there is work
        for more."""
        if self.elastic and self._staying() >= self.demand:
            return
        for node in healthy:
            doubted = self._now_s - self._doubted_s.get(node.id, -1e9) <= DOUBT_S
            if doubted or node.id == self._resizer.reserved:
                continue
            used = sum(slot.share for slot in self._on(node.id))
            for _ in range(capacity(node, self._need) - used):
                if self.most is not None and len(self.slots) >= self.most:
                    return
                self._start(node.id, 1)

    def _start(self, node: str, share: int) -> None:
        number = self._started
        self._started += 1
        self.slots[number] = WorkerSlot(
            number=number, node=node, share=share, state=SlotState.STARTING, since_s=self._now_s
        )
        self._out.append(StartWorker(slot=number, node=node, share=share))

    def _check_shortage(self) -> None:
        """Say why no slot is of use while tasks wait, once for each reason."""
        unneeded = self.elastic and not self.demand
        if self.usable() or self._usable_s is None or unneeded:
            self._usable_s, self._shortage = self._now_s, ""
            return
        healthy = self.healthy()
        if not healthy and self.start_failure and self._nodes and not self.elastic:
            self._out.append(Abort(message=self.start_failure))
            return
        if self._now_s - self._usable_s < CROWDED_S:
            return
        if self._nodes and not healthy:
            text = "every node is excluded or draining: waiting for one"
        elif not any(capacity(node, self._need) for node in healthy):
            text = describe_shortage(self._nodes.values(), self._need)
            text += "; the autoscaler was asked for more" if self.elastic else "; waiting for one"
        else:
            text = (
                f"no worker has started for {CROWDED_S:.0f} s: nodes are busy, or others use them"
            )
        if text != self._shortage:
            self._shortage = text
            self._notify(Notice(kind="no-room", node="", text=text))

    # ------------------------------------------------------------------ who runs what

    def _dispatch(self) -> None:
        """Give queued attempts, in order, to idle slots."""
        idle = self.idle() if self._queue else []
        waiting: deque[tuple[float, Attempt]] = deque()
        while self._queue and idle:
            came_s, attempt = self._queue.popleft()
            avoid = self._failed_on.get(attempt.task.key, set()) if attempt.share == 1 else set()
            slot = choose(idle, attempt.task, share=self._share(attempt), avoid=avoid)
            if slot is None or (slot.node in avoid and self._may_wait(came_s, avoid)):
                waiting.append((came_s, attempt))
                continue
            idle.remove(slot)
            self._apply(AssignEvent(slot=slot.number, attempt=attempt, at_s=self._now_s))
        self._queue.extendleft(reversed(waiting))

    def _share(self, attempt: Attempt) -> int:
        return self._resizer.share_for(attempt.share, self.healthy()) if attempt.share > 1 else 1

    def _may_wait(self, came_s: float, avoid: Collection[str]) -> bool:
        others = any(slot.node not in avoid for slot in self.usable())
        return others and self._now_s - came_s < AVOID_S
