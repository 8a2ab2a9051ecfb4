"""A run at one moment, counted for a display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from prunegrid.orchestrator.driver.run_state import Tally, View
from prunegrid.orchestrator.engines.engine import Doing
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.plan.estimates import Durations, estimate
from prunegrid.orchestrator.scheduling.scheduler import State
from prunegrid.workers.contract import TaskKind

_LEFT = (State.WAITING, State.READY, State.DELAYED, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a driver knows of its run at one moment, beside its plan and what it has seen so far."""

    states: Mapping[str, State]  #: of the tasks that this run is to make; others are done
    elapsed: Mapping[str, float]  #: seconds that each running task has run
    elapsed_s: float  #: of the run
    slots: int
    doing: tuple[Doing, ...]
    cells_missing: int
    stopping: bool
    paused: bool


def make_view(plan: Plan, moment: Moment, tally: Tally, durations: Durations) -> View:
    counts: dict[str, Counter[str]] = {kind.value: Counter() for kind in TaskKind}
    left = {}
    for key, task in plan.tasks.items():
        state = moment.states.get(key, State.DONE)
        counts[task.kind.value][state.value] += 1
        if state in _LEFT:
            left[key] = task
    return View(
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
