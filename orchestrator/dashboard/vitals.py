"""How fast, how busy, how dear: from the run's log. Pure."""

from __future__ import annotations

import bisect

from prunegrid.orchestrator.dashboard.run_log import RunLog
from prunegrid.orchestrator.dashboard.snapshot import Rate, Workers
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.estimates import Eta

SPARK_MIN = 60
#: "Now" is the last five minutes, or what there is of the run.
_NOW_S = 300.0


def rate_of(log: RunLog, now_s: float, *, eta: Eta, left: int, slots: int, alive: bool) -> Rate:
    """A stopped run's spark line ends with its last line, not with empty minutes."""
    end_s = now_s if alive else log.last_s
    spark = [0] * SPARK_MIN
    first = bisect.bisect_left(log.done, end_s - 60 * SPARK_MIN, key=lambda one: one[1])
    for _, at_s, _ in log.done[first:]:
        age = int((end_s - at_s) // 60)
        if 0 <= age < SPARK_MIN:
            spark[SPARK_MIN - 1 - age] += 1
    now_per_min = 0.0
    if alive and log.began_s is not None:
        window_s = min(_NOW_S, max(end_s - log.began_s, 1.0))
        recent = bisect.bisect_left(log.done, end_s - window_s, key=lambda one: one[1])
        now_per_min = 60 * (len(log.done) - recent) / max(window_s, 60.0)
    expected = 60 * slots * left / eta.work_s if left and eta.work_s and log.done else None
    return Rate(now_per_min=now_per_min, expected_per_min=expected, spark=tuple(spark))


def slots_of(log: RunLog) -> int:
    """As the driver said; else the most that ran at once."""
    return max(log.slots or 0, log.most)


def workers_of(log: RunLog, plan: Plan, busy: int, *, alive: bool) -> Workers:
    gpus = plan.grid.resources.gpus_per_task
    slots = slots_of(log) if alive else 0
    return Workers(busy=busy, slots=slots, gpus_busy=busy * gpus, gpus=slots * gpus)
