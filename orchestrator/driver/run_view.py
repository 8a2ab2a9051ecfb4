"""A run as others see it: at one moment (RunView), and at its end (RunResult)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prunegrid.orchestrator.engines.engine import RunningTask
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, estimate
from prunegrid.orchestrator.scheduling.policies import cause
from prunegrid.orchestrator.scheduling.scheduler import State

_LEFT = (State.WAITING, State.READY, State.DELAYED, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """A task that gets no result this time, and why."""

    key: str
    name: str  #: in words
    kind: str
    message: str

    @property
    def cause(self) -> str:
        return cause(self.kind, self.message)


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
class RunView:
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
    def show(self, view: RunView) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    missing: tuple[PlannedCell, ...]  #: cells without a result
    given_up: tuple[GivenUp, ...]  #: tasks that failed: each with `name`, `kind`, `message`
    blocked: dict[str, str]  #: task -> the ancestor that failed
    interrupted: bool  #: stopped in order, before all was done
    ran: int  #: tasks finished by this run
    reused: int  #: tasks whose result was there already
    elapsed_s: float  #: seconds


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a driver knows of its run at one moment, beside its plan and what it has seen so far."""

    states: Mapping[str, State]  #: of the tasks that this run is to make; others are done
    elapsed: Mapping[str, float]  #: seconds that each running task has run
    elapsed_s: float  #: of the run
    slots: int
    doing: tuple[RunningTask, ...]
    cells_missing: int
    stopping: bool
    paused: bool


def make_view(plan: Plan, moment: Moment, tally: Tally, durations: Durations) -> RunView:
    counts: dict[str, Counter[str]] = {kind.value: Counter() for kind in plan.kinds}
    left = {}
    for key, task in plan.tasks.items():
        state = moment.states.get(key, State.DONE)
        counts[task.kind.value][state.value] += 1
        if state in _LEFT:
            left[key] = task
    return RunView(
        counts=counts,
        cells_total=len(plan.cells),
        cells_missing=moment.cells_missing,
        slots=moment.slots,
        doing=moment.doing,
        names={d.key: short(plan.tasks[d.key]) for d in moment.doing},
        failures=tally.failures.total(),
        given_up=tuple(tally.given_up),
        elapsed_s=moment.elapsed_s,
        eta=estimate(left, durations, slots=max(moment.slots, 1), elapsed=moment.elapsed),
        stopping=moment.stopping,
        paused=moment.paused,
    )
