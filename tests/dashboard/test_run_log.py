"""The journal, replayed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dashboard.run_log import RunLog
from orchestrator.store import Store
from orchestrator.views import _from_journal
from tests.dashboard.stores import Run

KEY = "attack-0123"


def replayed(*entries: dict[str, object]) -> RunLog:
    log = RunLog()
    for entry in entries:
        log.take(entry)
    return log


def line(at: float, event: str, **fields: object) -> dict[str, object]:
    return {"at": at, "event": event, **fields}


def test_an_attempt_begins_when_a_worker_had_it_not_when_it_was_handed_over():
    log = replayed(
        line(100, "run"),
        line(101, "start", key=KEY, attempt=1),
        line(130, "done", key=KEY, attempt=1, worker="a/0", seconds=9.5),
    )
    (one,) = log.tries[KEY]
    assert (one.start_s, one.end_s, one.worker, one.outcome) == (120.5, 130, "a/0", "done")
    assert log.done == [(KEY, 130, 9.5)]
    assert not log.open


def test_what_a_dead_driver_ran_is_lost_with_its_last_sign_of_life():
    log = replayed(
        line(100, "run"),
        line(101, "start", key=KEY, attempt=1),
        line(140, "start", key="attack-4567", attempt=1),
        line(900, "run"),
    )
    (one,) = log.tries[KEY]
    assert (one.outcome, one.end_s) == ("lost", 140)
    assert (log.open, log.most, log.began_s) == ({}, 0, 900)


def test_a_task_that_runs_again_is_no_longer_given_up():
    log = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(3, "failed", key=KEY, attempt=1, worker="a/0", kind="bug", message="no"),
        line(4, "given-up", key=KEY, kind="bug"),
    )
    assert log.given_up == {KEY}
    log.take(line(5, "start", key=KEY, attempt=2))
    assert log.given_up == set()
    assert [one.outcome for one in log.tries[KEY]] == ["failed", "running"]


def test_a_worker_may_be_told_before_the_end():
    log = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(3, "placed", key=KEY, worker="b/3"),
    )
    assert log.open[KEY].worker == "b/3"


def test_running_and_given_up_are_as_status_counts_them(tmp_path):
    run = Run(tmp_path / "s")
    keys = run.keys
    run.give_up(keys[0])
    run.finish_all(but={keys[0], keys[-1]})
    run.start(keys[-1])
    store = Store.open(run.address)
    log = RunLog()
    for path in sorted((tmp_path / "s/journal").iterdir()):
        for text in path.read_text().splitlines():
            log.take(json.loads(text))
    running, failed, most = _from_journal(store, store.finished())
    assert (log.open.keys() - store.finished(), log.given_up - store.finished()) == (
        running,
        failed,
    )
    assert log.most == most


ANY = st.sampled_from(
    [None, True, 0, -1, 1, 1.5, 1e308, float("nan"), float("inf"), 10**400, "", "x", [], {"a": [1]}]
)
EVENTS = st.sampled_from(["run", "start", "done", "failed", "given-up", "slots", "placed", "end"])
FIELDS = ["attempt", "worker", "seconds", "kind", "message", "slots"]


LINES = st.fixed_dictionaries(
    {"event": EVENTS | ANY, "at": st.just(7.5) | ANY, "key": st.just(KEY) | ANY},
    optional=dict.fromkeys(FIELDS, ANY),
)


@given(st.lists(LINES, max_size=6))
def test_no_line_breaks_it_and_its_times_are_times(entries):
    log = replayed(*entries)
    assert 0 <= log.last_s < 1e11
    assert all(isinstance(b.worker, str) and isinstance(b.message, str) for b in log.bars)
    assert all(0 < (b.end_s or 1) < 1e11 for b in log.bars)
    json.dumps([(b.start_s, b.end_s, b.number) for b in log.bars], allow_nan=False)
