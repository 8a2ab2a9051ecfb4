"""Where the slots' time went: every second of every slot, in one part. Pure.

The slots are those that the driver said, and while more attempts ran than that, so many. Until
the first slot of a run is there, the slots that it then has count as starting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prunegrid.orchestrator.plan.plan_index import Floats
from prunegrid.orchestrator.store.history import AttemptRecord, RunHistory, RunSpan
from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import AttackTask, Task, TaskKind

TRAINING = "training"
PRUNING = "pruning and fine-tuning"
TRANSFERS = "transfers"
ATTACK = "attack"  #: the attack's name follows
RUN_START = "starting the run"
TASK_START = "starting tasks"
STORAGE = "storage"
RETRIES = "attempts without a result"
HANDING = "handing over"
IDLE = "idle"


@dataclass(slots=True, kw_only=True)
class AttackCost:
    """What the finished tasks of one attack took."""

    tasks: int = 0
    images: int = 0
    wall_s: float = 0.0
    processor_s: float = 0.0  #: of those of which it is known
    processor_images: int = 0  #: in these


@dataclass(frozen=True, kw_only=True)
class SlotTime:
    runs: int
    clock_s: float  #: of all runs, one after the other
    slots_s: float  #: of all their slots
    parts: Mapping[str, float]  #: seconds; they add up to `slots_s`
    attacks: Mapping[str, AttackCost] = field(default_factory=dict)
    #: Finished attempts whose start and storage are in the part of their work: their workers did
    #: not say, as in journals of before.
    undivided: int = 0
    processor_s: float = 0.0  #: of finished attempts, where their workers said it

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "clock_s": round(self.clock_s, 3),
            "slots_s": round(self.slots_s, 3),
            "parts_s": {name: round(seconds, 3) for name, seconds in self.parts.items()},
            "undivided": self.undivided,
            "processor_s": round(self.processor_s, 3),
            "attacks": {name: _rounded(asdict(cost)) for name, cost in self.attacks.items()},
        }


def slot_time(history: RunHistory, tasks: Mapping[str, Task]) -> SlotTime:
    """Of all runs. `tasks`: of the plan; attacks that are not in it have no name."""
    total: dict[str, float] = defaultdict(float)
    slots_s = 0.0
    for run in history.runs:
        free = _free(run)
        slots_s += free.slots_s
        for name, seconds in _parts_of(run, free, tasks):
            total[name] += seconds
    attacks = sorted(name for name in total if name.startswith(ATTACK))
    order = (
        TRAINING,
        PRUNING,
        *attacks,
        TRANSFERS,
        RUN_START,
        TASK_START,
        STORAGE,
        RETRIES,
        HANDING,
        IDLE,
    )
    return SlotTime(
        runs=len(history.runs),
        clock_s=sum(run.end_s - run.begin_s for run in history.runs),
        slots_s=slots_s,
        parts={name: total.get(name, 0.0) for name in order},
        attacks=_costs(history.by_start, tasks),
        processor_s=sum(
            one.processor_s or 0.0 for one in history.by_start if one.outcome == "done"
        ),
        undivided=sum(one.outcome == "done" and one.storage_s is None for one in history.by_start),
    )


def _parts_of(run: RunSpan, free: _Free, tasks: Mapping[str, Task]) -> Iterable[tuple[str, float]]:
    for one in run.attempts:
        yield from _shares(one, tasks, _within(run, one.end_s) - _within(run, one.start_s))
    yield RUN_START, free.starting_s
    yield HANDING, free.handing_s
    yield IDLE, free.idle_s


def _within(run: RunSpan, at_s: float | None) -> float:
    """`at_s`, or where the run was nearest to it; None: it goes on."""
    return run.end_s if at_s is None else min(max(at_s, run.begin_s), run.end_s)


def _shares(
    one: AttemptRecord, tasks: Mapping[str, Task], seconds: float
) -> Iterable[tuple[str, float]]:
    """An attempt's `seconds`, divided."""
    if seconds <= 0:
        return
    if one.outcome in ("failed", "lost"):
        yield RETRIES, seconds
        return
    start_up = min(one.start_up_s or 0.0, seconds)
    storage = min(one.storage_s or 0.0, seconds - start_up)
    yield TASK_START, start_up
    yield STORAGE, storage
    yield _name(one.key, tasks), seconds - start_up - storage


def _name(key: str, tasks: Mapping[str, Task]) -> str:
    task = tasks.get(key)
    if isinstance(task, AttackTask):
        return f"{ATTACK} {attack_label(task)}"
    if key.startswith("attack"):
        return f"{ATTACK} no longer in the grid"
    if key.startswith(TaskKind.TRANSFER):
        return TRANSFERS
    return TRAINING if key.startswith("train") else PRUNING


def attack_label(task: AttackTask) -> str:
    return f"{attack_name(task.attack)} ({task.attack.engine})"


@dataclass(frozen=True, kw_only=True)
class _Free:
    """Seconds of a run's slots: of all, and of those without an attempt."""

    slots_s: float
    starting_s: float  #: before there was any
    handing_s: float  #: an attempt was on its way
    idle_s: float


def _free(run: RunSpan) -> _Free:
    said = sorted(run.slots, key=lambda one: one[0])
    first_s, first = next(((at_s, n) for at_s, n in said if n), (run.end_s, 0))
    slots_s = np.array([run.begin_s, *(_within(run, at_s) for at_s, _ in said)])
    slots = np.array([first, *(first if at_s < first_s else n for at_s, n in said)])
    starts = _moments(run, [one.start_s for one in run.attempts])
    ends = _moments(run, [_end(one) for one in run.attempts])
    handed = _moments(run, [min(one.handed_s, one.start_s) for one in run.attempts])
    middle_s = _within(run, first_s)
    edges = np.unique(np.concatenate([slots_s, starts, ends, handed, [middle_s, run.end_s]]))
    at, width = edges[:-1], np.diff(edges)
    busy = np.searchsorted(starts, at, "right") - np.searchsorted(ends, at, "right")
    coming = np.searchsorted(handed, at, "right") - np.searchsorted(starts, at, "right")
    there = slots[np.searchsorted(slots_s, at, "right") - 1]
    free = np.maximum(there - busy, 0)
    early = at < middle_s
    on_its_way = np.where(early, 0, np.minimum(free, coming))
    return _Free(
        slots_s=float(np.maximum(there, busy) @ width),
        starting_s=float((free * early) @ width),
        handing_s=float(on_its_way @ width),
        idle_s=float((free * ~early - on_its_way) @ width),
    )


def _end(one: AttemptRecord) -> float | None:
    """No attempt ends before it starts, whatever the clock did."""
    return None if one.end_s is None else max(one.start_s, one.end_s)


def _moments(run: RunSpan, at_s: Sequence[float | None]) -> Floats:
    return np.sort(np.array([_within(run, one) for one in at_s], dtype=float))


def _costs(attempts: Iterable[AttemptRecord], tasks: Mapping[str, Task]) -> dict[str, AttackCost]:
    costs: dict[str, AttackCost] = defaultdict(AttackCost)
    for one in attempts:
        task = tasks.get(one.key)
        if one.outcome != "done" or one.end_s is None or not isinstance(task, AttackTask):
            continue
        cost, images = costs[attack_label(task)], task.stop - task.start
        cost.tasks += 1
        cost.images += images
        cost.wall_s += max(0.0, one.end_s - one.start_s)
        if one.processor_s is not None:
            cost.processor_s += one.processor_s
            cost.processor_images += images
    return dict(sorted(costs.items()))


def _rounded(raw: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in raw.items()}
