"""How fast, how busy, how dear."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.dashboard.snapshot import rate_of
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.plan_index import PlanIndex
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.plan_progress import StoreReading, estimate_left, progress_of
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL, source="grid.yaml"))
INDEX = PlanIndex(PLAN)
NOTHING = INDEX.present(())
ETA = estimate_left(INDEX, ~NOTHING, Durations(), slots=2)


def log_of(*done_at: float, began_s: float = 1000.0) -> RunHistory:
    history = RunHistory()
    history.take({"at": began_s, "event": "run"})
    history.take({"at": began_s, "event": "slots", "slots": 2})
    for number, at_s in enumerate(done_at):
        history.take({"at": at_s, "event": "done", "key": f"attack-{number}", "seconds": 1.0})
    return history


def rate(history: RunHistory, now_s: float, *, alive: bool = True):
    reading = StoreReading(
        at_s=now_s, history=history, finished=set(), holder=None, alive=alive, pause=None
    )
    progress = progress_of(INDEX, reading, done=NOTHING, rows=INDEX.rows_present(()), eta=ETA)
    return rate_of(progress, history)


def test_now_is_the_last_five_minutes_or_what_there_is_of_the_run():
    history = log_of(*range(1010, 1130, 10))
    assert rate(history, 1120.0).now_per_min == pytest.approx(12 * 60 / 120)
    assert rate(history, 2000.0).now_per_min == 0
    assert rate(history, 1030.0 + 300).now_per_min == pytest.approx(10 / 5)
    assert rate(history, 1120.0, alive=False).now_per_min == 0


def test_each_minute_has_its_tasks_the_latest_last():
    history = log_of(1000.0 + 60, 1000.0 + 61, 1000.0 + 3599, 1000.0 + 3600)
    spark = rate(history, 1000.0 + 3601).spark
    assert (len(spark), sum(spark), spark[-1]) == (60, 4, 2)
    later = rate(history, 1000.0 + 3601 + 120).spark
    assert (sum(later), later[-3]) == (2, 2)
    assert rate(history, 1e6, alive=False).spark[-1] == 2, "a stopped run ends with its last line"


def test_the_rate_to_expect_is_that_of_what_is_left():
    expected = 60 * 2 * len(PLAN.tasks) / ETA.work_s
    assert rate(log_of(1001.0), 1002.0).expected_per_min == pytest.approx(expected)
    assert rate(log_of(), 1002.0).expected_per_min is None, "nothing is measured yet"
