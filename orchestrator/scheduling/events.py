"""What happens (events), and what the scheduler wants done (commands). Time is inside events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from prunegrid.workers.contract import FailureKind


@dataclass(frozen=True, kw_only=True)
class SlotsEvent:
    """How many tasks may run at once from now on."""

    slots: int
    at_s: float


@dataclass(frozen=True, kw_only=True)
class SucceededEvent:
    key: str
    attempt: int
    at_s: float


@dataclass(frozen=True, kw_only=True)
class FailedEvent:
    key: str
    attempt: int
    kind: FailureKind
    message: str
    at_s: float


@dataclass(frozen=True, kw_only=True)
class TickEvent:
    """Time has passed."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class StopEvent:
    """Start nothing more; running attempts may end."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class PauseEvent:
    """Whether new attempts may start from now on; running ones go on."""

    paused: bool
    at_s: float


@dataclass(frozen=True, kw_only=True)
class RetryEvent:
    """A person wants these tasks tried again: failed ones get new attempts, delayed ones run
    now. Tasks in another state, and unknown ones, are ignored."""

    keys: tuple[str, ...]
    at_s: float


Event: TypeAlias = (
    SlotsEvent | SucceededEvent | FailedEvent | TickEvent | StopEvent | PauseEvent | RetryEvent
)


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    key: str
    attempt: int  #: 1 for a task's first
    share: int = 1  #: it gets a slot as large as so many


@dataclass(frozen=True, kw_only=True)
class RetryCommand:
    """The task will run again, not before `not_before_s`. Only to be recorded: the scheduler
    starts it when it is due."""

    key: str
    kind: FailureKind
    not_before_s: float


@dataclass(frozen=True, kw_only=True)
class GiveUpCommand:
    """The task has used up its attempts; it and the tasks that depend on it get no result in this
    run."""

    key: str
    kind: FailureKind
    message: str


@dataclass(frozen=True, kw_only=True)
class BlockCommand:
    """The task can't run because an ancestor failed."""

    key: str
    ancestor: str


@dataclass(frozen=True, kw_only=True)
class ReopenCommand:
    """The task was failed, blocked or delayed, and is open again. Only to be recorded."""

    key: str
    was: str  #: the state that it was in


@dataclass(frozen=True, kw_only=True)
class StopEarlyCommand:
    """The first `tasks` tasks failed for one cause, and none has succeeded: nothing more
    starts."""

    tasks: int
    kind: FailureKind
    message: str


@dataclass(frozen=True, kw_only=True)
class EndCommand:
    """Nothing runs, and nothing more can."""


Command: TypeAlias = (
    RunCommand
    | RetryCommand
    | GiveUpCommand
    | BlockCommand
    | ReopenCommand
    | StopEarlyCommand
    | EndCommand
)
