"""What `status` tells of a run that went wrong, from its journal."""

from __future__ import annotations

from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.run_health import RunHealth, advice

RUN = {"event": "run", "number": 1}
FENCED = {
    "event": "notice",
    "kind": "node-fenced",
    "node": "b/12",
    "text": "node b/12 gets no more tasks for 10 min: 4 failures in a row",
    "at": 1000.0,
    "for_s": 600.0,
}


def health(entries: list[dict[str, object]], now_s: float) -> RunHealth:
    """Lines without a moment are of one second."""
    return RunHealth.of(RunHistory.of({"at": 1.0, **entry} for entry in entries), now_s)


def failed(key: str, kind: str, message: str = "m") -> dict[str, object]:
    return {"event": "failed", "key": key, "kind": kind, "message": message}


def test_where_all_is_well_nothing_is_said():
    found = health([RUN, {"event": "done", "key": "a"}], 0)
    assert found.lines() == []
    assert (found.failures, found.failed, found.blocked) == ({}, (), 0)


def test_failures_are_counted_by_class_and_what_is_given_up_is_named_with_advice():
    entries = [
        RUN,
        failed("a", "lost"),
        failed("a", "bug", "ValueError: x"),
        failed("b", "lost"),
        {"event": "given-up", "key": "a", "kind": "bug"},
        {"event": "blocked", "key": "c", "ancestor": "a"},
        {"event": "blocked", "key": "d", "ancestor": "a"},
    ]
    found = health(entries, 0)
    assert found.failures == {"lost": 2, "bug": 1}
    (given_up,) = found.failed
    assert (given_up.key, given_up.kind, given_up.message) == ("a", "bug", "ValueError: x")
    assert "traceback" in given_up.advice
    assert found.lines() == [
        "failed attempts, all classes: 1 bug, 2 lost",
        "failed tasks: 1; blocked by them: 2",
    ]


def test_only_the_last_run_counts_but_all_its_passes():
    entries = [
        RUN,
        failed("a", "bug"),
        {"event": "given-up", "key": "a", "kind": "bug"},
        RUN,
        failed("b", "lost"),
        {"event": "given-up", "key": "b", "kind": "lost"},
        {"event": "run", "number": 2},
        failed("c", "input"),
    ]
    found = health(entries, 0)
    assert found.failures == {"lost": 1, "input": 1}
    assert found.failed == (), "the second pass tries it again"


def test_a_node_is_fenced_off_until_its_term_is_over():
    assert health([RUN, FENCED], 1500).excluded == {"b/12": FENCED["text"]}
    assert health([RUN, FENCED], 1601).excluded == {}
    assert health([RUN, FENCED], 1500).lines() == [FENCED["text"]]


def test_waiting_for_room_is_said_until_something_starts():
    lacking = {"event": "notice", "kind": "no-room", "node": "", "text": "no node can hold it"}
    assert health([RUN, lacking], 0).lines() == ["no node can hold it"]
    assert health([RUN, lacking, {"event": "start", "key": "a"}], 0).lines() == []


def test_a_class_of_another_version_has_no_advice():
    assert advice("struck-by-lightning") == ""
    assert advice("storage")
