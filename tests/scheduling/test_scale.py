"""The benchmark of the scheduler in small: `python -m tests.bench.scheduler` prints it all."""

from __future__ import annotations

import tracemalloc

import pytest

from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.scheduling.scheduler import Scheduler
from tests.bench.scheduler import driver_time, learned, makespans, paper_plan
from tests.simulation import drawn_durations, jobs_of, lower_bound_s, simulate


@pytest.fixture(scope="module")
def paper() -> Plan:
    return paper_plan()


def test_the_papers_grid_takes_a_driver_under_five_seconds(paper):
    took = driver_time()
    assert took["tasks"] == len(paper.tasks) == 16_380
    assert took["total_s"] < 5


def test_64_gpus_are_kept_busy_to_within_5_percent_of_any_schedule(paper):
    rows = makespans(paper, draws=1)
    assert {row["expectations"] for row in rows} == {
        "nothing measured yet",
        "one task in 50 measured",
    }
    for row in rows:
        assert row["slots"] == 64
        assert 1 <= row["makespan_over_bound"] < 1.05
        assert row["makespan_over_bound"] <= row["with_slices"] * 1.01
        assert row["with_slices"] < 1.1


def test_chains_come_before_what_can_wait():
    """As many slots as chains: whoever starts attacks first ends late."""
    plan = paper_plan(seeds=1)
    durations_s = drawn_durations(plan, 0)
    bound_s = lower_bound_s(plan, durations_s, slots=36)
    run = simulate(jobs_of(plan, learned(plan, draw=0, share=20)), durations_s, slots=36)
    assert run.makespan_s < 1.05 * bound_s


def test_a_million_tasks_fit_into_two_gigabytes():
    tracemalloc.start()
    try:
        plan = paper_plan(seeds=1)
        scheduler = Scheduler(jobs_of(plan))
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(scheduler.states) == 3276
    assert used_bytes / len(scheduler.states) * 1_000_000 < 2e9
