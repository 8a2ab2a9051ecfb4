"""What happens (events) and what is to be done about it (commands). Time comes inside events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from prunegrid.workers.contract import FailureKind


@dataclass(frozen=True, kw_only=True)
class SlotsEvent:
    """How many tasks may run at once, from now on."""

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
    """Time has passed: tasks that wait out a delay may be due."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class StopEvent:
    """Start nothing more; what runs may end."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class PauseEvent:
    """From now on nothing new is started, or (not paused) it is again; what runs goes on."""

    paused: bool
    at_s: float


@dataclass(frozen=True, kw_only=True)
class RetryEvent:
    """Somebody asks for another try: given-up tasks get their budgets anew, delayed ones wait
    no more. Tasks that are in another state, or unknown, are passed over."""

    keys: tuple[str, ...]
    at_s: float


Event: TypeAlias = (
    SlotsEvent | SucceededEvent | FailedEvent | TickEvent | StopEvent | PauseEvent | RetryEvent
)


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    key: str
    attempt: int  #: 1 for a task's first
    share: int = 1  #: how many slots' room it is to have


@dataclass(frozen=True, kw_only=True)
class RetryCommand:
    """The task runs again, not before `not_before_s`. For the record: the scheduler keeps it."""

    key: str
    kind: FailureKind
    not_before_s: float


@dataclass(frozen=True, kw_only=True)
class GiveUpCommand:
    """The task has used up its attempts; it and what rests on it get no result this time."""

    key: str
    kind: FailureKind
    message: str


@dataclass(frozen=True, kw_only=True)
class BlockCommand:
    """The task can't run because an ancestor was given up."""

    key: str
    ancestor: str


@dataclass(frozen=True, kw_only=True)
class ReopenCommand:
    """The task was given up, blocked or delayed, and is open again. For the record."""

    key: str
    was: str  #: the state that it was in


@dataclass(frozen=True, kw_only=True)
class EndCommand:
    """Nothing runs and nothing more can."""


Command: TypeAlias = (
    RunCommand | RetryCommand | GiveUpCommand | BlockCommand | ReopenCommand | EndCommand
)
