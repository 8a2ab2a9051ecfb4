"""The journal, folded."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.run_health import RunHealth

KEY = "attack-0123"


def replayed(*entries: dict[str, object]) -> RunHistory:
    return RunHistory.of(entries)


def line(at: float, event: str, **fields: object) -> dict[str, object]:
    return {"at": at, "event": event, **fields}


def test_an_attempt_begins_when_a_worker_had_it_not_when_it_was_handed_over():
    history = replayed(
        line(100, "run"),
        line(101, "start", key=KEY, attempt=1),
        line(130, "done", key=KEY, attempt=1, worker="a/0", seconds=9.5),
    )
    (one,) = history.attempts[KEY]
    assert (one.start_s, one.end_s, one.worker, one.outcome) == (120.5, 130, "a/0", "done")
    assert history.done == [(KEY, 130, 9.5, "1 a/0")]
    assert not history.running


def test_what_a_dead_driver_ran_is_lost_with_its_last_sign_of_life():
    history = replayed(
        line(100, "run"),
        line(101, "start", key=KEY, attempt=1),
        line(140, "start", key="attack-4567", attempt=1),
        line(900, "run"),
    )
    (one,) = history.attempts[KEY]
    assert (one.outcome, one.end_s) == ("lost", 140)
    assert (history.running, history.most_running, history.began_s) == ({}, 0, 900)


def test_a_task_that_runs_again_is_no_longer_given_up():
    history = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(3, "failed", key=KEY, attempt=1, worker="a/0", kind="bug", message="no"),
        line(4, "given-up", key=KEY, kind="bug"),
    )
    assert history.given_up == {KEY: "bug"}
    history.take(line(5, "start", key=KEY, attempt=2))
    assert history.given_up == {}
    assert [one.outcome for one in history.attempts[KEY]] == ["failed", "running"]


def test_a_worker_may_be_told_before_the_end():
    history = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(3, "placed", key=KEY, worker="b/3"),
    )
    assert history.running[KEY].worker == "b/3"


def test_a_result_that_outlived_its_worker_is_a_success():
    told = {"key": KEY, "attempt": 1, "worker": "a/0"}
    history = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(9, "failed", **told, kind="crashed", message="gone"),
        line(9, "done", **told, seconds=5.0),
    )
    (one,) = history.attempts[KEY]
    assert (one.outcome, one.start_s, one.kind) == ("done", 4, "")


def test_what_a_retry_opens_again_is_given_up_no_more():
    history = replayed(line(1, "run"), line(2, "given-up", key=KEY), line(3, "reopened", key=KEY))
    assert history.given_up == {}


def test_what_the_driver_says_of_nodes_and_pauses_is_kept_while_it_holds():
    fence = {"kind": "node-fenced", "node": "n1", "for_s": 60, "text": "n1 is fenced off"}
    history = replayed(
        line(1, "run"),
        line(2, "notice", **fence),
        line(3, "notice", kind="no-room", text="no node has a GPU"),
        line(4, "pause", by="cli"),
    )
    health = RunHealth.of(history, 10)
    assert (health.excluded, health.waiting) == ({"n1": "n1 is fenced off"}, "no node has a GPU")
    assert history.paused
    history.take(line(5, "start", key=KEY, attempt=1))
    history.take(line(6, "resume", by="cli"))
    assert (RunHealth.of(history, 10).waiting, history.paused) == ("", False)
    history.take(line(7, "run"))
    assert RunHealth.of(history, 10).excluded == {}


def test_an_attempt_that_outlived_its_worker_is_paid_once():
    told = {"key": KEY, "attempt": 1}
    history = replayed(
        line(1, "run"),
        line(2, "start", **told),
        line(9, "failed", **told, kind="crashed"),
        line(9, "done", **told, seconds=5.0),
    )
    assert history.spent_s == 5
    assert history.failures == {"crashed": 1}


def test_the_slots_are_those_the_driver_says_else_the_most_that_ran_at_once():
    history = replayed(
        line(1, "run"),
        line(2, "start", key="a"),
        line(3, "start", key="b"),
        line(4, "done", key="a"),
    )
    assert history.slots == 2
    history.take(line(5, "slots", slots=7))
    assert history.slots == 7
    history.take(line(6, "run", number=2))
    assert history.slots == 7, "another pass of the same run"
    history.take(line(7, "run", number=1))
    assert history.slots == 0


EVENTS_OF_A_TASK = st.tuples(
    st.sampled_from(["run", "start", "done", "failed", "retry", "given-up", "blocked", "reopened"]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(1, 2),
)


@given(st.lists(EVENTS_OF_A_TASK, max_size=30))
def test_whatever_the_order_the_parts_agree(events):
    history = RunHistory()
    for at, (event, key, number) in enumerate(events, start=1):
        history.take(line(at, event, key=key, number=number, attempt=1, kind="bug"))
        running = [one for one in history.by_start if one is history.running.get(one.key)]
        assert all(one.outcome == "running" and one.end_s is None for one in running)
        assert history.most_running >= len(history.running)
        assert history.spent_so_far_s >= history.spent_s >= 0
        assert sum(map(len, history.attempts.values())) == len(history.by_start)
        assert set(history.given_up) >= {q.key for q in RunHealth.of(history, at).failed}
    assert history.bad_lines == 0
    assert len(history.done) == sum(event == "done" for event, _, _ in events)


ANY = st.sampled_from(
    [None, True, 0, -1, 1, 1.5, 1e308, float("nan"), float("inf"), 10**400, "", "x", [], {"a": [1]}]
)
EVENTS = st.sampled_from(
    ["run", "start", "done", "failed", "given-up", "slots", "placed", "end", "notice"]
)
FIELDS = ["attempt", "worker", "seconds", "kind", "message", "slots", "for_s", "node"]


LINES = st.fixed_dictionaries(
    {"event": EVENTS | ANY, "at": st.just(7.5) | ANY, "key": st.just(KEY) | ANY},
    optional=dict.fromkeys(FIELDS, ANY),
)


@given(st.lists(LINES, max_size=6))
def test_no_line_breaks_it_and_its_times_are_times(entries):
    history = replayed(*entries)
    assert 0 <= history.last_s < 1e11
    assert all(isinstance(b.worker, str) and isinstance(b.message, str) for b in history.by_start)
    assert all(0 < (b.end_s or 1) < 1e11 for b in history.by_start)
    RunHealth.of(history, 1.0)
    assert history.spent_so_far_s >= 0
    json.dumps([(b.start_s, b.end_s, b.number) for b in history.by_start], allow_nan=False)
