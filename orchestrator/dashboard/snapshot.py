"""What is known of a store at one moment. Pure: made by the reader, read by every viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.dashboard.plan_index import STATES, Bools, Floats, PlanIndex
from prunegrid.orchestrator.driver.lease import Holder
from prunegrid.orchestrator.plan.estimates import Eta
from prunegrid.orchestrator.scheduling.trouble import Trouble, find_trouble
from prunegrid.orchestrator.store.requests import Pause

State = Literal["live", "stale", "stopped", "done", "unreadable"]

#: A driver renews its lease every 5 s; silent for longer than this it may be in trouble.
STALE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Problem:
    level: Literal["warning", "error"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Tasks a minute."""

    now_per_min: float
    expected_per_min: float | None  #: from the measured durations of what is left; None: unknown
    spark: tuple[int, ...]  #: tasks done in each of the last 60 minutes, oldest first


@dataclass(frozen=True, kw_only=True)
class Workers:
    busy: int
    slots: int
    gpus_busy: float
    gpus: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """`index` is None where no plan could be read yet; all arrays are then empty."""

    generation: int  #: grows with every change: what was computed from an older one is stale
    at_s: float
    index: PlanIndex | None
    problem: str | None  #: why the store can't be read; the rest is then the last that was known
    task_state: NDArray[np.int8]
    cell_state: NDArray[np.int8]
    cell_value: Floats  #: robust accuracy; NaN: none yet. [cells]
    model_value: Floats  #: accuracy; NaN: none yet. [models]
    needed: Bools  #: what must run yet. [tasks]
    running: frozenset[str]
    failed: frozenset[str]
    holder: Holder | None
    alive: bool  #: as `status --json` says of the driver
    newest_s: float  #: the newest sign of life: a line of the journal, or a heartbeat
    eta: Eta | None
    rate: Rate
    workers: Workers
    bill: Mapping[str, Any]  #: `hours` and `cost` as `status --json` has them
    slots: int  #: as the driver said, or the most tasks that ran at once
    pause: Pause | None
    trouble: Trouble  #: what went wrong in the last run
    problems: tuple[Problem, ...]
    unread_files: int  #: result files still to be read

    @property
    def remaining(self) -> int:
        return int(self.needed.sum())

    @property
    def state(self) -> State:
        if self.problem is not None:
            return "unreadable"
        if self.index is not None and self.remaining == 0:
            return "done"
        if not self.alive or self.holder is None:
            return "stopped"
        return "live" if self.at_s - self.holder.renewed_at_s <= STALE_S else "stale"

    @property
    def data_age_s(self) -> float:
        return max(0.0, self.at_s - self.newest_s) if self.newest_s else 0.0

    def model_state(self) -> NDArray[np.int8]:
        """[models]"""
        if self.index is None:
            return self.task_state
        return self.task_state[self.index.model_task]

    def state_of(self, key: str) -> str | None:
        """A task's state in words; None: not in the plan."""
        number = None if self.index is None else self.index.number.get(key)
        return None if number is None else STATES[self.task_state[number]]


def by_state(states: NDArray[np.int8]) -> Mapping[str, int]:
    """How many of each, in the order that the page shows."""
    count = np.bincount(states, minlength=len(STATES)).tolist()
    named = dict(zip(STATES, count, strict=True))
    return {name: named[name] for name in ("done", "running", "waiting", "blocked", "failed")}


def empty_snapshot(*, generation: int, at_s: float, problem: str) -> Snapshot:
    """Of a store that could never be read."""
    nothing = np.zeros(0)
    return Snapshot(
        generation=generation,
        at_s=at_s,
        index=None,
        problem=problem,
        task_state=nothing.astype(np.int8),
        cell_state=nothing.astype(np.int8),
        cell_value=nothing,
        model_value=nothing,
        needed=nothing.astype(bool),
        running=frozenset(),
        failed=frozenset(),
        holder=None,
        alive=False,
        newest_s=0.0,
        eta=None,
        rate=Rate(now_per_min=0.0, expected_per_min=None, spark=()),
        workers=Workers(busy=0, slots=0, gpus_busy=0.0, gpus=0.0),
        bill={},
        slots=0,
        pause=None,
        trouble=find_trouble((), at_s),
        problems=(),
        unread_files=0,
    )
