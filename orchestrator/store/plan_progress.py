"""How far a plan is: states of tasks and cells, what is left and what it costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.costs import cost_of, hours_of
from prunegrid.orchestrator.plan.dag import parent_of, parents_of
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, estimate
from prunegrid.orchestrator.plan.plan_index import (
    DONE,
    STATES,
    Bools,
    PlanIndex,
    States,
    count_states,
)
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.lease import Holder
from prunegrid.orchestrator.store.requests import Pause, since_text
from prunegrid.orchestrator.store.run_health import RunHealth
from prunegrid.workers.contract import Task

_HEALTHY = RunHealth()
_NO_ETA = Eta(low_s=0.0, high_s=0.0, work_s=0.0, critical_s=0.0, measured_frac=0.0)


def _no_states() -> States:
    return np.zeros(0, dtype=np.int8)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanProgress:
    """At one moment. `index` is None where no plan could be read; the rest is then empty."""

    at_s: float  #: seconds since the epoch
    index: PlanIndex | None = None
    task_state: States = field(default_factory=_no_states)  #: [tasks]
    cell_state: States = field(default_factory=_no_states)  #: [cells]
    #: What must run yet. [tasks]
    needed: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    running: frozenset[str] = frozenset()  #: none where no driver is alive
    failed: frozenset[str] = frozenset()  #: all attempts used up in the last run
    delayed: frozenset[str] = frozenset()  #: failed, and to be tried again
    diverged: frozenset[str] = frozenset()  #: trainings that left no accuracy
    #: Trainings that diverged, and left an accuracy of weights kept from before.
    diverged_later: frozenset[str] = frozenset()
    holder: Holder | None = None  #: who last held the store
    alive: bool = False  #: that driver runs
    newest_s: float = 0.0  #: the newest sign of life, a line of the journal or a heartbeat
    eta: Eta = _NO_ETA
    bill: Mapping[str, Any] = field(default_factory=dict)  #: `hours` and `cost`, ready for JSON
    slots: int = 0  #: as the driver said, or the most tasks that ran at once
    pause: Pause | None = None
    health: RunHealth = _HEALTHY

    @property
    def remaining(self) -> int:
        return int(self.needed.sum())

    @property
    def data_age_s(self) -> float:
        return max(0.0, self.at_s - self.newest_s) if self.newest_s else 0.0

    def state_of(self, key: str) -> str | None:
        """A task's state in words; None: not in the plan."""
        number = None if self.index is None else self.index.number.get(key)
        return None if number is None else STATES[self.task_state[number]]

    def to_json(self) -> dict[str, Any]:
        """As `status --json` has it."""
        index, eta = self.index, self.eta
        return {
            "grid": index.plan.grid.name if index else "",
            "models": len(index.plan.models) if index else 0,
            "cells": len(index.plan.cells) if index else 0,
            "tasks": index.kinds if index else dict.fromkeys(("train", "prune", "attack"), 0),
            "done": int((self.task_state == DONE).sum()),
            "remaining": self.remaining,
            "cells_done": int((self.cell_state == DONE).sum()),
            "tasks_by_state": count_states(
                self.task_state[self.needed | (self.task_state == DONE)]
            ),
            "cells_by_state": count_states(self.cell_state),
            "running": sorted(self.running),
            "failed": sorted(self.failed),
            "diverged": sorted(self.diverged),
            "diverged_later": sorted(self.diverged_later),
            "trouble": self.health.to_json(),
            "paused": None if self.pause is None else asdict(self.pause),
            "driver": {"alive": self.alive, **(asdict(self.holder) if self.holder else {})},
            "slots": self.slots,
            "eta_s": [round(eta.low_s, 1), round(eta.high_s, 1)],
            "eta_likely_s": round(eta.likely_s, 1),
            "eta_measured_frac": round(eta.measured_frac, 3),
            "critical_s": round(eta.critical_s, 1),
            "work_s": round(eta.work_s, 1),
            "hours": self.bill.get("hours"),
            "cost": self.bill.get("cost"),
            "data_age_s": round(self.data_age_s, 1),
            "at_s": round(self.at_s, 3),
        }


@dataclass(frozen=True, kw_only=True)
class StoreReading:
    """What a store said at one moment."""

    at_s: float  #: seconds since the epoch
    history: RunHistory
    finished: Set[str]  #: tasks that have a result, planned or not
    holder: Holder | None
    alive: bool
    pause: Pause | None


def progress_of(
    index: PlanIndex, reading: StoreReading, *, done: Bools, rows: Bools, eta: Eta
) -> PlanProgress:
    """`done`: of the tasks, which are finished; `rows`: of the cells, which have their row;
    `eta`: of what is needed, see `estimate_left`."""
    history, holder = reading.history, reading.holder
    running = frozenset(history.running.keys() - reading.finished if reading.alive else ())
    failed = frozenset(history.given_up.keys() - reading.finished)
    diverged = {
        how: frozenset(
            key
            for key, when in history.diverged.items()
            if when == how and key in reading.finished and key in index.number
        )
        for how in ("diverged", "diverged_later")
    }
    task_state = index.task_states(done, index.present(running), index.present(failed))
    return PlanProgress(
        at_s=reading.at_s,
        index=index,
        task_state=task_state,
        cell_state=index.cell_states(task_state, rows),
        needed=index.needed(done),
        running=running,
        failed=failed,
        delayed=frozenset(history.delayed - reading.finished if reading.alive else ()),
        diverged=diverged["diverged"],
        diverged_later=diverged["diverged_later"],
        holder=holder,
        alive=reading.alive,
        newest_s=max(history.last_s, holder.renewed_at_s if holder is not None else 0.0),
        eta=eta,
        bill=bill_of(index.plan.grid, history, eta),
        slots=history.slots,
        pause=reading.pause,
        health=RunHealth.of(history, reading.at_s, alive=reading.alive),
    )


def estimate_left(index: PlanIndex, needed: Bools, durations: Durations, *, slots: int) -> Eta:
    tasks = index.plan.tasks
    keys = [index.keys[i] for i in np.flatnonzero(needed)]
    left: dict[str, Task] = {key: tasks[key] for key in keys}
    return estimate(left, durations, slots=max(slots, 1), elapsed={})


def why_not_done(progress: PlanProgress, key: str, *, address: str) -> str:
    """Why a task of the plan is as it is, in a sentence. `address`: the store's."""
    index, state = progress.index, progress.state_of(key)
    if index is not None and {key, parent_of(index.plan.tasks[key])} & progress.diverged:
        return f"{state}: the training diverged, so there is no accuracy"
    later = progress.diverged_later if state == "done" else frozenset()
    if index is not None and {key, parent_of(index.plan.tasks[key])} & later:
        return "done: the training diverged later; weights kept from before are judged"
    if index is None or state == "done":
        return "done: its result is there; it would not run again"
    if state == "failed":
        return "failed: its attempts are used up"
    if state == "running":
        return "running"
    if state == "blocked":
        return f"blocked: its ancestor {_failed_above(progress, index, key)} failed"
    pause = progress.pause
    for parent in parents_of(index.plan.tasks[key]):
        if progress.state_of(parent) != "done":
            held = "" if pause is None else f"; the grid is paused{since_text(pause)}"
            return f"waiting for its parent {parent}{held}"
    text = "ready: it runs as soon as a driver has a free slot"
    if key in progress.delayed:
        text = "failed before: it is tried again, maybe after a delay"
    if pause is None:
        return text
    return f"paused{since_text(pause)}: prunegrid resume --store {address}; then {text}"


def _failed_above(progress: PlanProgress, index: PlanIndex, key: str) -> str | None:
    """The nearest ancestor that failed."""
    above = list(parents_of(index.plan.tasks[key]))
    for parent in above:
        if progress.state_of(parent) == "failed":
            return parent
        above += parents_of(index.plan.tasks[parent]) if parent in index.plan.tasks else ()
    return None


def bill_of(grid: Grid, history: RunHistory, eta: Eta) -> dict[str, Any]:
    """`hours` and `cost`, ready for JSON."""
    spent_s = history.spent_so_far_s
    hours = asdict(hours_of(grid.resources, spent_s=spent_s, eta=eta))
    cost = cost_of(grid.price, spent_s=spent_s, eta=eta, slots=max(history.slots, 1))
    return {
        "hours": _rounded(hours),
        "cost": None if cost is None else _rounded(asdict(cost)),
    }


def _rounded(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _round(value) for name, value in raw.items()}


def _round(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_round(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
