"""Estimates: bounds that hold, learning from what was measured, and saying how sure they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dag import expand
from orchestrator.estimates import Durations, duration_text, estimate
from orchestrator.grid_file import parse_grid
from tests.grids import SMALL

TASKS = expand(parse_grid(SMALL, source="test")).tasks


def learned(seconds: dict[str, float]) -> Durations:
    durations = Durations()
    for task in TASKS.values():
        if task.kind.value in seconds:
            durations.add(task, seconds[task.kind.value])
    return durations


@given(st.integers(1, 64), st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_range_holds_both_bounds_of_any_schedule(slots, prune_s, attack_s):
    durations = learned({"train": 5.0, "prune": prune_s, "attack": attack_s})
    eta = estimate(TASKS, durations, slots=slots, elapsed=[])
    assert eta.work_s == pytest.approx(4 * 5 + 8 * prune_s + 48 * attack_s)
    assert eta.critical_s == pytest.approx(5 + 2 * prune_s + attack_s)
    assert eta.low_s <= eta.high_s
    assert eta.high_s >= max(eta.work_s / slots, eta.critical_s) * 0.999
    assert eta.measured_frac == pytest.approx(1.0)


def test_guesses_say_so_and_scale_with_what_was_measured():
    eta = estimate(TASKS, Durations(), slots=2, elapsed=[])
    assert eta.measured_frac == 0
    fast = estimate(TASKS, learned({"train": 0.6}), slots=2, elapsed=[])
    assert fast.work_s < eta.work_s / 50


def test_nothing_left_takes_no_time():
    eta = estimate({}, Durations(), slots=2, elapsed=[])
    assert (eta.low_s, eta.high_s, eta.work_s) == (0, 0, 0)


def test_time_spent_counts():
    durations = learned({"train": 10.0, "prune": 10.0, "attack": 10.0})
    fresh = estimate(TASKS, durations, slots=1, elapsed=[])
    later = estimate(TASKS, durations, slots=1, elapsed=[8.0])
    assert later.low_s == pytest.approx(fresh.low_s - 8.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (150, "2.5 min"), (2040, "34 min"), (12_240, "3.4 h"), (200_000, "2.3 d")],
)
def test_durations_read_well(seconds, text):
    assert duration_text(seconds) == text
