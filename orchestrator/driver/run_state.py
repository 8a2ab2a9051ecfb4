"""A run as others see it: at one moment (View), and at its end (RunResult)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from prunegrid.orchestrator.engines.engine import RunningTask
from prunegrid.orchestrator.plan.dag import PlannedCell
from prunegrid.orchestrator.plan.estimates import Eta


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """A task that gets no result this time, and why."""

    key: str
    kind: str
    message: str


@dataclass(kw_only=True)
class Tally:
    """What a run has seen so far; its driver's."""

    ran: int = 0
    failures: Counter[str] = field(default_factory=Counter)  #: attempts, by kind
    given_up: list[GivenUp] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)

    def reopen(self, key: str) -> None:
        self.given_up[:] = [item for item in self.given_up if item.key != key]
        self.blocked.pop(key, None)


@dataclass(frozen=True, kw_only=True)
class View:
    """The run at one moment, for a display."""

    counts: dict[str, Counter[str]]  #: task kind -> scheduler state -> tasks
    cells_total: int
    cells_missing: int
    slots: int
    doing: tuple[RunningTask, ...]
    names: dict[str, str]  #: what runs, in words, by task key
    failures: int  #: attempts that failed, retried ones included
    given_up: tuple[GivenUp, ...]
    elapsed_s: float
    eta: Eta
    stopping: bool
    paused: bool = False


class Observer(Protocol):
    def show(self, view: View) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunResult:
    missing: tuple[PlannedCell, ...]  #: cells without a result
    given_up: tuple[GivenUp, ...]
    blocked: dict[str, str]  #: task -> the ancestor that was given up
    interrupted: bool
    ran: int  #: tasks finished by this run
    reused: int  #: tasks whose result was there already
    elapsed_s: float
