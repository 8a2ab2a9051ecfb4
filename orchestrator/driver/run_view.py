"""A run at one moment, counted for a display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from prunegrid.orchestrator.driver.run_state import Tally, View
from prunegrid.orchestrator.engines.engine import RunningTask
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.plan.estimates import Durations, estimate
from prunegrid.orchestrator.scheduling.scheduler import State
from prunegrid.workers.contract import TaskKind

_LEFT = (State.WAITING, State.READY, State.DELAYED, State.RUNNING)


def make_view(
    plan: Plan,
    *,
    states: Mapping[str, State],
    durations: Durations,
    elapsed: Mapping[str, float],
    slots: int,
    doing: tuple[RunningTask, ...],
    tally: Tally,
    cells_missing: int,
    elapsed_s: float,
    stopping: bool,
    paused: bool,
) -> View:
    """`states`: of the tasks that this run is to make, others being done; `elapsed`: seconds
    that the running ones have run."""
    counts: dict[str, Counter[str]] = {kind.value: Counter() for kind in TaskKind}
    left = {}
    for key, task in plan.tasks.items():
        state = states.get(key, State.DONE)
        counts[task.kind.value][state.value] += 1
        if state in _LEFT:
            left[key] = task
    return View(
        counts=counts,
        cells_total=len(plan.cells),
        cells_missing=cells_missing,
        slots=slots,
        doing=doing,
        names={d.key: short(plan.tasks[d.key]) for d in doing},
        failures=tally.failures.total(),
        given_up=tuple(tally.given_up),
        elapsed_s=elapsed_s,
        eta=estimate(left, durations, slots=max(slots, 1), elapsed=elapsed),
        stopping=stopping,
        paused=paused,
    )
