"""Who ran what when."""

from __future__ import annotations

import pytest

from orchestrator.dashboard.run_log import Try
from orchestrator.dashboard.timeline import BARS, NOT_PLACED, timeline_payload


def bar(start: float, end: float | None, worker: str = "a/0", key: str = "attack-1") -> Try:
    return Try(key=key, number=1, worker=worker, start_s=start, end_s=end)


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


def test_a_browser_gets_no_more_bars_than_it_can_draw():
    bars = [bar(n, n + 1, f"w{n % 3}") for n in range(1, BARS + 101)]
    payload = timeline_payload(bars, None, now_s=10_000)
    assert (len(payload["bars"]), payload["cut"]) == (BARS, 100)
    assert payload["bars"][0]["start_s"] == BARS + 100


def test_what_runs_somewhere_unknown_says_so():
    (one,) = timeline_payload([bar(1, None, "")], None, now_s=5)["bars"]
    assert (one["worker"], one["end_s"]) == (NOT_PLACED, None)


def test_a_filter_hides_bars_but_not_the_time_they_took():
    bars = [bar(0, 50, key="attack-1"), bar(50, 100, key="attack-2")]
    payload = timeline_payload(bars, None, now_s=100, since_s=0, only={"attack-2"})
    assert [one["key"] for one in payload["bars"]] == ["attack-2"]
    assert payload["idle_frac"] == {"a/0": 0}


def test_nothing_yet_is_an_empty_line():
    assert timeline_payload([], None, now_s=5) == {
        "workers": [],
        "bars": [],
        "idle_frac": {},
        "cut": 0,
        "since_s": 5,
        "until_s": 5,
    }
