"""The journal, replayed."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.dashboard.run_log import RunLog
from prunegrid.orchestrator.scheduling.trouble import find_trouble
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.journal_state import fold_journal
from prunegrid.orchestrator.store.store import Store
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


def test_a_result_that_outlived_its_worker_is_a_success():
    told = {"key": KEY, "attempt": 1, "worker": "a/0"}
    log = replayed(
        line(1, "run"),
        line(2, "start", key=KEY, attempt=1),
        line(9, "failed", **told, kind="crashed", message="gone"),
        line(9, "done", **told, seconds=5.0),
    )
    (one,) = log.tries[KEY]
    assert (one.outcome, one.start_s, one.kind) == ("done", 4, "")


def test_what_a_retry_opens_again_is_given_up_no_more():
    log = replayed(line(1, "run"), line(2, "given-up", key=KEY), line(3, "reopened", key=KEY))
    assert log.given_up == set()


def test_what_the_driver_says_of_nodes_and_pauses_is_kept_while_it_holds():
    fence = {"kind": "node-fenced", "node": "n1", "for_s": 60, "text": "n1 is fenced off"}
    log = replayed(
        line(1, "run"),
        line(2, "notice", **fence),
        line(3, "notice", kind="no-room", text="no node has a GPU"),
        line(4, "pause", by="cli"),
    )
    trouble = find_trouble(log.troubles, 10)
    assert (trouble.fenced, trouble.waiting) == ({"n1": "n1 is fenced off"}, "no node has a GPU")
    assert log.paused
    log.take(line(5, "start", key=KEY, attempt=1))
    log.take(line(6, "resume", by="cli"))
    assert (find_trouble(log.troubles, 10).waiting, log.paused) == ("", False)
    log.take(line(7, "run"))
    assert find_trouble(log.troubles, 10).fenced == {}


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["run", "start", "done", "failed", "given-up", "notice"])))
def test_trouble_is_found_in_what_is_kept_as_in_the_whole_journal(events):
    kinds = {"notice": "no-room", "failed": "bug", "given-up": "bug"}
    told: list[dict[str, object]] = []
    for n, event in enumerate(events, start=1):
        fields = {"key": f"attack-{n % 3}", "text": f"t{n}", "message": f"m{n}"}
        if event == "given-up":  # the last failure is told before
            told.append(line(n, "failed", kind="bug", **fields))
        told.append(line(n, event, kind=kinds.get(event, ""), number=1 + n % 2, **fields))
    assert find_trouble(replayed(*told).troubles, 99) == find_trouble(told, 99)


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
    state = fold_journal(read_journal(store))
    assert log.open.keys() == state.running.keys()
    assert log.given_up == state.given_up.keys()
    assert log.most == state.slots


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
    find_trouble(log.troubles, 1.0)
    json.dumps([(b.start_s, b.end_s, b.number) for b in log.bars], allow_nan=False)
