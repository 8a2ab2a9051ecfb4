"""How fast, how busy, how dear."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.dashboard.run_log import RunLog
from prunegrid.orchestrator.dashboard.vitals import rate_of
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import estimate
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL, source="grid.yaml"))


def log_of(*done_at: float, began_s: float = 1000.0) -> RunLog:
    log = RunLog()
    log.take({"at": began_s, "event": "run"})
    for number, at_s in enumerate(done_at):
        log.take({"at": at_s, "event": "done", "key": f"attack-{number}", "seconds": 1.0})
    return log


def rate(log: RunLog, now_s: float, *, alive: bool = True):
    eta = estimate(PLAN.tasks, Durations(), slots=2, elapsed=[])
    return rate_of(log, now_s, eta=eta, left=len(PLAN.tasks), slots=2, alive=alive)


def test_now_is_the_last_five_minutes_or_what_there_is_of_the_run():
    log = log_of(*range(1010, 1130, 10))
    assert rate(log, 1120.0).now_per_min == pytest.approx(12 * 60 / 120)
    assert rate(log, 2000.0).now_per_min == 0
    assert rate(log, 1030.0 + 300).now_per_min == pytest.approx(10 / 5)
    assert rate(log, 1120.0, alive=False).now_per_min == 0


def test_each_minute_has_its_tasks_the_latest_last():
    log = log_of(1000.0 + 60, 1000.0 + 61, 1000.0 + 3599, 1000.0 + 3600)
    spark = rate(log, 1000.0 + 3601).spark
    assert (len(spark), sum(spark), spark[-1]) == (60, 4, 2)
    later = rate(log, 1000.0 + 3601 + 120).spark
    assert (sum(later), later[-3]) == (2, 2)
    assert rate(log, 1e6, alive=False).spark[-1] == 2, "a stopped run ends with its last line"


def test_the_rate_to_expect_is_that_of_what_is_left():
    eta = estimate(PLAN.tasks, Durations(), slots=2, elapsed=[])
    expected = 60 * 2 * len(PLAN.tasks) / eta.work_s
    assert rate(log_of(1001.0), 1002.0).expected_per_min == pytest.approx(expected)
    assert rate(log_of(), 1002.0).expected_per_min is None, "nothing is measured yet"
