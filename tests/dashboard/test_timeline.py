"""Who ran what when."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.dashboard.timeline import (
    BARS,
    LISTED,
    NOT_PLACED,
    STEPS,
    timeline_payload,
)
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.history import AttemptRecord
from tests.grids import SMALL


def bar(
    start: float, end: float | None, worker: str = "a/0", key: str = "attack-1"
) -> AttemptRecord:
    return AttemptRecord(key=key, number=1, worker=worker, start_s=start, handed_s=start, end_s=end)


def test_idle_time_is_what_of_the_window_no_task_filled():
    bars = [bar(100, 120), bar(130, 140), bar(100, None, "b/1")]
    payload = timeline_payload(bars, None, now_s=200, since_s=100)
    assert payload["idle_frac"] == {"a/0": pytest.approx(0.7), "b/1": 0}
    half = timeline_payload(bars, None, now_s=200, since_s=110, until_s=150)
    assert half["idle_frac"]["a/0"] == pytest.approx(0.5)


def test_only_what_overlaps_the_window_newest_first():
    bars = [bar(1, 2), bar(10, 20), bar(15, 30), bar(90, 95), bar(12, None)]
    payload = timeline_payload(bars, None, now_s=200, since_s=18, until_s=40)
    assert [one["start_s"] for one in payload["bars"]] == [15, 12, 10]


def test_more_bars_than_a_browser_can_draw_become_shares_of_steps():
    """Three workers: always busy, busy in the first half, and busy for a quarter of each step."""
    bars = [bar(n, n + 1, "w2", key=f"attack-{n}") for n in range(1200)]
    bars += [bar(0, 600, "w10"), *(bar(n, n + 2.5, "w1") for n in range(0, 1200, 10))]
    bars[25].outcome = bars[1199].outcome = "failed"
    payload = timeline_payload(bars, None, now_s=1200, since_s=0)
    assert (len(payload["bars"]), payload["cut"]) == (LISTED, len(bars) - LISTED)
    assert payload["bars"][0]["start_s"] == 1199
    assert payload["workers"] == ["w1", "w2", "w10"]
    coarse = payload["coarse"]
    assert coarse["step_s"] == 1200 / STEPS == 10
    assert coarse["busy"] == [[25] * STEPS, [100] * STEPS, [100] * 60 + [0] * 60]
    assert coarse["failed"] == [[], [[2, 1], [STEPS - 1, 1]], []]


def test_a_shorter_window_has_its_bars_again():
    bars = [bar(n, n + 1) for n in range(BARS + 1)]
    assert timeline_payload(bars, None, now_s=BARS + 1, since_s=0)["coarse"] is not None
    payload = timeline_payload(bars, None, now_s=BARS + 1, since_s=100.5, until_s=200.5)
    assert (len(payload["bars"]), payload["cut"], payload["coarse"]) == (101, 0, None)


def test_what_runs_still_fills_its_worker_up_to_now():
    bars = [bar(n, n + 0.1) for n in range(BARS)] + [bar(BARS / 2, None, "b/0")]
    coarse = timeline_payload(bars, None, now_s=float(BARS), since_s=0)["coarse"]
    assert coarse["busy"][1] == [0] * (STEPS // 2) + [100] * (STEPS // 2)


def test_what_runs_somewhere_unknown_says_so():
    (one,) = timeline_payload([bar(1, None, "")], None, now_s=5)["bars"]
    assert (one["worker"], one["end_s"]) == (NOT_PLACED, None)


def test_a_filter_hides_bars_but_not_the_time_they_took():
    bars = [bar(0, 50, key="attack-1"), bar(50, 100, key="attack-2")]
    payload = timeline_payload(bars, None, now_s=100, since_s=0, only={"attack-2"})
    assert [one["key"] for one in payload["bars"]] == ["attack-2"]
    assert payload["idle_frac"] == {"a/0": 0}


def test_an_attack_is_named_with_the_network_it_is_on():
    plan = expand(parse_grid(SMALL, source="grid.yaml"))
    names = []
    for key, task in plan.tasks.items():
        if task.kind == "attack" and task.parent_key.startswith("prune-"):
            (one,) = timeline_payload([bar(1, 2, key=key)], plan, now_s=5)["bars"]
            names.append(one["name"])
    assert len(set(names)) == len(names) == 32
    assert "cw_l2 on cnn5 random-local-filter 4, seed 1, images 0..15" in names


def test_nothing_yet_is_an_empty_line():
    assert timeline_payload([], None, now_s=5) == {
        "workers": [],
        "bars": [],
        "coarse": None,
        "idle_frac": {},
        "cut": 0,
        "since_s": 5,
        "until_s": 5,
    }
