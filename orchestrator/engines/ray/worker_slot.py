"""A worker slot as a state machine. Pure: events in, instructions out, time inside events.

A slot is one long-lived worker on a node that the pool chose; it never restarts. `transition` takes
a slot and an event, and returns the slot as it is afterwards with the instructions that follow.
Others perform them (`actors.py`), and report what became of them as further events:

    STARTING ──> IDLE <──> BUSY ──> DYING ──> ENDED
                  ^          │                  ^
                  v          v                  │
              PREPARING   DRAINING ─────────────┘

Every state but ENDED may also end at once: when its node is gone, or when a slot without an attempt
is drained. An attempt that a slot was assigned is reported exactly once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from prunegrid.orchestrator.engines.engine import Ended
from prunegrid.workers.contract import Attempt, DataSettings, Failure, FailureKind, Outcome, Task
from prunegrid.workers.process import LastWords

NODE_FOLLOWS_S = 1.5  #: a worker dies shortly before its node does: wait for news of the node
LOG_WITHIN_S = 5.0  #: for what a dead worker printed last
STACKS_WITHIN_S = 15.0  #: for the stacks of a worker that is killed
_NO_STACKS = f"its stacks can't be had: no answer from its node within {STACKS_WITHIN_S:.0f} s"
_MODELS = 3  #: whose weights a worker keeps in memory (`prunegrid.workers.model_cache`)


class SlotState(StrEnum):
    STARTING = "starting"  #: its worker has not answered yet
    IDLE = "idle"
    PREPARING = "preparing"  #: it prepares a data set for its node
    BUSY = "busy"  #: it runs an attempt
    DRAINING = "draining"  #: it runs its last attempt
    DYING = "dying"  #: its worker died or is being killed under an attempt: why is not known yet
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Death:
    """How the attempt of a DYING slot will end, unless its node is gone too."""

    kind: FailureKind
    message: str
    traceback: str
    earliest_s: float  #: not before: news of the node may come
    latest_s: float  #: then, even without the worker's last words
    log: str = ""
    answered: bool = False  #: its last words have come


@dataclass(frozen=True, kw_only=True)
class WorkerSlot:
    number: int  #: never used twice
    node: str
    share: int  #: as large as so many ordinary slots
    state: SlotState
    since_s: float  #: when it began to start, became idle, or got its attempt
    host: str = ""  #: "" in STARTING, where `device` is not known either
    device: str = ""  #: the GPUs that its worker sees; "" for none
    attempt: Attempt | None = None  #: in BUSY, DRAINING and DYING
    heard_s: float = 0.0  #: its attempt's last heartbeat, or its start
    fraction: float = 0.0  #: of its attempt, as last heard
    note: str = "starting"
    models: tuple[str, ...] = ()  #: keys of models whose weights its worker keeps, latest last
    stop_requested: bool = False  #: its worker was asked to save its state and end
    death: Death | None = None  #: in DYING

    @property
    def name(self) -> str:
        return f"{self.host or 'worker'}/{self.number}"


# --------------------------------------------------------------------------- events


@dataclass(frozen=True, kw_only=True)
class SlotEvent:
    """Something that happened to one slot, or that the pool decided about it."""

    slot: int
    at_s: float


@dataclass(frozen=True, kw_only=True)
class StartedEvent(SlotEvent):
    host: str
    device: str


@dataclass(frozen=True, kw_only=True)
class StartFailedEvent(SlotEvent):
    reason: str  #: an error of the worker's own code; "" if Ray could not place it
    other_code: bool = False  #: it has other code than the driver


@dataclass(frozen=True, kw_only=True)
class PreparedEvent(SlotEvent):
    reason: str | None  #: why the data can't be had; None: it is there


@dataclass(frozen=True, kw_only=True)
class HeartbeatEvent(SlotEvent):
    key: str  #: of the task that it is about
    fraction: float
    note: str
    age_s: float  #: how long ago the task said so


@dataclass(frozen=True, kw_only=True)
class ReturnedEvent(SlotEvent):
    """The attempt ended by itself."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class WorkerLostEvent(SlotEvent):
    """The worker is of no more use, and why is known."""

    kind: FailureKind
    message: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class WorkerDiedEvent(SlotEvent):
    """The worker's process died under its attempt; perhaps its node did, too."""

    message: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class LastWordsEvent(SlotEvent):
    words: LastWords


@dataclass(frozen=True, kw_only=True)
class NodeGoneEvent(SlotEvent):
    pass


@dataclass(frozen=True, kw_only=True)
class AssignEvent(SlotEvent):
    """Only for an IDLE slot."""

    attempt: Attempt


@dataclass(frozen=True, kw_only=True)
class PrepareEvent(SlotEvent):
    """Only for an IDLE slot."""

    data: DataSettings


@dataclass(frozen=True, kw_only=True)
class DrainEvent(SlotEvent):
    """No more work: it ends now, or after its attempt."""


@dataclass(frozen=True, kw_only=True)
class UndrainEvent(SlotEvent):
    """It may have more work after all."""


@dataclass(frozen=True, kw_only=True)
class StopAttemptEvent(SlotEvent):
    """Its attempt is to save its state and end."""


@dataclass(frozen=True, kw_only=True)
class CheckEvent(SlotEvent):
    """Time has passed."""

    silence_s: float  #: an attempt without a heartbeat for that long hangs
    timeout_s: float | None  #: the most that one attempt may take; None: no limit


# --------------------------------------------------------------------------- instructions


@dataclass(frozen=True, kw_only=True)
class SlotInstruction:
    """Something to be done about one slot."""

    slot: int


@dataclass(frozen=True, kw_only=True)
class StartWorker(SlotInstruction):
    node: str
    share: int


@dataclass(frozen=True, kw_only=True)
class PrepareData(SlotInstruction):
    data: DataSettings


@dataclass(frozen=True, kw_only=True)
class RunAttempt(SlotInstruction):
    attempt: Attempt


@dataclass(frozen=True, kw_only=True)
class StopAttempt(SlotInstruction):
    """Ask it to save its state and end."""


@dataclass(frozen=True, kw_only=True)
class ReadLastWords(SlotInstruction):
    """Read what the dead worker printed in its last attempt."""


@dataclass(frozen=True, kw_only=True)
class KillProcess(SlotInstruction):
    """Get the stacks of a worker that hangs, then kill it, from another process on its node."""


@dataclass(frozen=True, kw_only=True)
class EndWorker(SlotInstruction):
    """End the actor, whatever it does."""


@dataclass(frozen=True, kw_only=True)
class ReportEnd:
    """An attempt has ended."""

    ended: Ended


Instruction: TypeAlias = SlotInstruction | ReportEnd
Step: TypeAlias = tuple[WorkerSlot, tuple[Instruction, ...]]


# --------------------------------------------------------------------------- transitions


def transition(slot: WorkerSlot, event: SlotEvent) -> Step:
    """The slot after an event, and the instructions that follow. Events that come too late change
    nothing. Raises ValueError for work that is given to a slot which may not have any."""
    match event:
        case AssignEvent() | PrepareEvent():
            return _take(slot, event)
        case _ if slot.state is SlotState.ENDED:
            return slot, ()
        case StartedEvent() if slot.state is SlotState.STARTING:
            return _idle(dataclasses.replace(slot, host=event.host, device=event.device), event), ()
        case StartFailedEvent() if slot.state is SlotState.STARTING:
            return _end(slot)
        case PreparedEvent() if slot.state is SlotState.PREPARING:
            return _idle(slot, event), ()
        case NodeGoneEvent():
            return _fail(slot, event, FailureKind.LOST, "its node is gone")
        case DrainEvent() if slot.attempt is None:
            return _end(slot)
        case DrainEvent() if slot.state is SlotState.BUSY:
            return dataclasses.replace(slot, state=SlotState.DRAINING), ()
        case UndrainEvent() if slot.state is SlotState.DRAINING and not slot.stop_requested:
            return dataclasses.replace(slot, state=SlotState.BUSY), ()
        case _ if slot.attempt is not None:
            return _attend(slot, slot.attempt, event)
    return slot, ()


def _take(slot: WorkerSlot, event: AssignEvent | PrepareEvent) -> Step:
    if slot.state is not SlotState.IDLE or slot.stop_requested:
        raise ValueError(f"slot {slot.number} is {slot.state}: it takes no work")
    if isinstance(event, PrepareEvent):
        taken = dataclasses.replace(slot, state=SlotState.PREPARING)
        return taken, (PrepareData(slot=slot.number, data=event.data),)
    attempt = event.attempt
    parent: str | None = getattr(attempt.task, "parent_key", None)
    busy = dataclasses.replace(
        slot,
        state=SlotState.BUSY,
        since_s=event.at_s,
        heard_s=event.at_s,
        attempt=attempt,
        fraction=0.0,
        note="starting",
        models=(*slot.models, *filter(None, (parent, attempt.task.key)))[-_MODELS:],
    )
    return busy, (RunAttempt(slot=slot.number, attempt=attempt),)


def _attend(slot: WorkerSlot, attempt: Attempt, event: SlotEvent) -> Step:
    """What happens to a slot with an attempt."""
    alive = slot.state is not SlotState.DYING
    match event:
        case ReturnedEvent():
            report = _report(slot, attempt, event.outcome)
            if slot.state is SlotState.BUSY:
                return _idle(slot, event), (report,)
            ended, end = _end(slot)
            return ended, (*end, report)
        case WorkerLostEvent() if alive:
            return _fail(slot, event, event.kind, event.message, event.traceback)
        case WorkerDiedEvent() if alive:
            death = Death(
                kind=FailureKind.CRASHED,
                message=event.message,
                traceback=event.traceback,
                earliest_s=event.at_s + NODE_FOLLOWS_S,
                latest_s=event.at_s + LOG_WITHIN_S,
            )
            return _die(slot, death), (ReadLastWords(slot=slot.number),)
        case HeartbeatEvent() if alive and event.key == attempt.task.key:
            heard_s = max(slot.heard_s, event.at_s - event.age_s)
            return dataclasses.replace(
                slot, heard_s=heard_s, fraction=event.fraction, note=event.note
            ), ()
        case StopAttemptEvent() if alive and not slot.stop_requested:
            stopping = dataclasses.replace(slot, stop_requested=True)
            return stopping, (StopAttempt(slot=slot.number),)
        case CheckEvent() if alive:
            if reason := _overdue(slot, event):
                death = Death(
                    kind=FailureKind.TIMEOUT,
                    message=reason,
                    traceback=_NO_STACKS,
                    earliest_s=event.at_s,
                    latest_s=event.at_s + STACKS_WITHIN_S,
                )
                return _die(slot, death), (KillProcess(slot=slot.number),)
        case LastWordsEvent() if slot.death is not None:
            return _settle(_heard(slot, slot.death, event.words), event)
        case CheckEvent():
            return _settle(slot, event)
    return slot, ()


def _overdue(slot: WorkerSlot, event: CheckEvent) -> str:
    silent_s, ran_s = event.at_s - slot.heard_s, event.at_s - slot.since_s
    if silent_s > event.silence_s:
        return f"no heartbeat for {silent_s:.0f} s: it hangs"
    if event.timeout_s is not None and ran_s > event.timeout_s:
        return f"not done after {ran_s:.0f} s (timeout_s)"
    return ""


def _die(slot: WorkerSlot, death: Death) -> WorkerSlot:
    return dataclasses.replace(slot, state=SlotState.DYING, death=death)


def _heard(slot: WorkerSlot, death: Death, words: LastWords) -> WorkerSlot:
    stacks = words.stacks if death.kind is FailureKind.TIMEOUT else death.traceback
    death = dataclasses.replace(death, answered=True, log=words.log, traceback=stacks)
    return dataclasses.replace(slot, death=death)


def _settle(slot: WorkerSlot, event: SlotEvent) -> Step:
    """A DYING slot ends once everything about its death is known, or time is up."""
    death = slot.death
    assert death is not None
    if event.at_s >= (death.earliest_s if death.answered else death.latest_s):
        return _fail(slot, event, death.kind, death.message, death.traceback)
    return slot, ()


def _idle(slot: WorkerSlot, event: SlotEvent) -> WorkerSlot:
    return dataclasses.replace(slot, state=SlotState.IDLE, since_s=event.at_s, attempt=None)


def _end(slot: WorkerSlot) -> Step:
    ended = dataclasses.replace(slot, state=SlotState.ENDED, attempt=None, death=None)
    return ended, (EndWorker(slot=slot.number),)


def _fail(
    slot: WorkerSlot, event: SlotEvent, kind: FailureKind, message: str, traceback: str = ""
) -> Step:
    """The slot ends, and with it the attempt that it may have."""
    ended, instructions = _end(slot)
    if slot.attempt is None:
        return ended, instructions
    failure = Failure(
        key=slot.attempt.task.key,
        kind=kind,
        message=message,
        traceback=traceback,
        host=slot.host,
        duration_s=event.at_s - slot.since_s,
        log=slot.death.log if slot.death else "",
    )
    return ended, (*instructions, _report(slot, slot.attempt, failure))


def _report(slot: WorkerSlot, attempt: Attempt, outcome: Outcome) -> ReportEnd:
    return ReportEnd(ended=Ended(outcome=outcome, attempt=attempt.number, worker=slot.name))


def choose(
    idle: Iterable[WorkerSlot], task: Task, *, share: int = 1, avoid: Collection[str] = ()
) -> WorkerSlot | None:
    """The slot for a task: one that is large enough, else None; the smallest such; on no node of
    `avoid` if possible; one that keeps its parent's weights; else the one idle for the longest."""
    parent = getattr(task, "parent_key", None)

    def badness(slot: WorkerSlot) -> tuple[bool, int, bool, float]:
        cold = parent is None or parent not in slot.models
        return slot.node in avoid, slot.share, cold, slot.since_s

    return min((slot for slot in idle if slot.share >= share), key=badness, default=None)
