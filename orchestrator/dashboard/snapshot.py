"""What is known of a store at one moment: made by the reader, read by every viewer. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.plan.plan_index import Floats, States
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.plan_progress import PlanProgress

DashboardState = Literal["live", "stale", "stopped", "done", "unreadable"]

#: A driver renews its lease every 5 s; one that is silent for longer may be in trouble.
STALE_S = 15.0
#: The current rate is that of the last five minutes, or of what there is of the run.
_RATE_S = 300.0
_SPARK_MIN = 60


@dataclass(frozen=True, kw_only=True)
class Problem:
    level: Literal["warning", "error"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Tasks a minute."""

    now_per_min: float = 0.0
    expected_per_min: float | None = None  #: by the durations of what is left; None: unknown
    spark: tuple[int, ...] = ()  #: tasks done in each of the last 60 minutes, oldest first


@dataclass(frozen=True, kw_only=True)
class Workers:
    busy: int = 0
    slots: int = 0
    gpus_busy: float = 0.0
    gpus: float = 0.0


def _no_values() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot(PlanProgress):
    """A store's progress, and what the page shows beside it."""

    generation: int  #: grows with every change: what was computed from an older one is stale
    problem: str | None  #: why the store can't be read; the rest is then the last that was known
    stale: bool = False  #: the driver is silent for longer than STALE_S
    #: Robust accuracy; NaN: none yet. [cells]
    cell_value: Floats = field(default_factory=_no_values)
    #: Accuracy; NaN: none yet. [models]
    model_value: Floats = field(default_factory=_no_values)
    rate: Rate = Rate()
    workers: Workers = Workers()
    problems: tuple[Problem, ...] = ()
    unread_files: int = 0  #: result files still to be read

    @property
    def state(self) -> DashboardState:
        if self.problem is not None:
            return "unreadable"
        if self.index is not None and self.remaining == 0:
            return "done"
        if not self.alive or self.holder is None:
            return "stopped"
        return "stale" if self.stale else "live"

    def model_state(self) -> States:
        """[models]"""
        if self.index is None:
            return self.task_state
        return self.task_state[self.index.model_task]


# --------------------------------------------------------------------------- the page's head


def slots_of(history: RunHistory) -> int:
    """The larger of what the driver said and what ran at once."""
    return max(history.said_slots or 0, history.most_running)


def workers_of(progress: PlanProgress, history: RunHistory) -> Workers:
    assert progress.index is not None
    busy = len(progress.running)
    gpus = progress.index.plan.grid.resources.gpus_per_task
    slots = slots_of(history) if progress.alive else 0
    return Workers(busy=busy, slots=slots, gpus_busy=busy * gpus, gpus=slots * gpus)


def rate_of(progress: PlanProgress, history: RunHistory) -> Rate:
    """A stopped run's spark line ends with its last line, not with empty minutes."""
    done, alive, eta, left = history.done, progress.alive, progress.eta, progress.remaining
    end_s = progress.at_s if alive else history.last_s
    spark = [0] * _SPARK_MIN
    first = bisect.bisect_left(done, end_s - 60 * _SPARK_MIN, key=lambda one: one.at_s)
    for one in done[first:]:
        age = int((end_s - one.at_s) // 60)
        if 0 <= age < _SPARK_MIN:
            spark[_SPARK_MIN - 1 - age] += 1
    now_per_min = 0.0
    if alive and history.began_s is not None:
        window_s = min(_RATE_S, max(end_s - history.began_s, 1.0))
        recent = bisect.bisect_left(done, end_s - window_s, key=lambda one: one.at_s)
        now_per_min = 60 * (len(done) - recent) / max(window_s, 60.0)
    expected = 60 * slots_of(history) * left / eta.work_s if left and eta.work_s and done else None
    return Rate(now_per_min=now_per_min, expected_per_min=expected, spark=tuple(spark))


def problems_of(
    progress: PlanProgress, history: RunHistory, torn: Mapping[str, str]
) -> tuple[Problem, ...]:
    """What is wrong with a store or its run. `torn`: result files and what is wrong with each."""
    out = []
    if not progress.alive and progress.remaining and not history.ended:
        silent = duration_text(max(0.0, progress.at_s - history.last_s))
        text = f"the driver ended without a word {silent} ago; 'prunegrid run' resumes"
        out.append(Problem(level="error", text=text))
    if torn:
        path, why = next(iter(torn.items()))
        more = f", and {len(torn) - 1} more" if len(torn) > 1 else ""
        text = f"torn result: {path}: {why}{more}; 'prunegrid verify' names them all"
        out.append(Problem(level="error", text=text))
    if progress.alive:
        texts = [progress.health.waiting, *progress.health.excluded.values()]
        out += [Problem(level="warning", text=text) for text in texts if text]
    if history.bad_lines:
        text = f"{history.bad_lines} damaged lines of the journal were left out"
        out.append(Problem(level="warning", text=text))
    if history.paused:
        out.append(Problem(level="warning", text="paused: 'prunegrid resume' lets it go on"))
    return tuple(out)
