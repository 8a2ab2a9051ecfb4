"""What `status` tells of a run that went wrong, from its journal."""

from __future__ import annotations

from prunegrid.orchestrator.scheduling.trouble import advice, find_trouble, lines

RUN = {"event": "run", "number": 1}
FENCED = {
    "event": "notice",
    "kind": "node-fenced",
    "node": "b/12",
    "text": "node b/12 gets no more tasks for 10 min: 4 failures in a row",
    "at": 1000.0,
    "for_s": 600.0,
}


def failed(key: str, kind: str, message: str = "m") -> dict[str, object]:
    return {"event": "failed", "key": key, "kind": kind, "message": message}


def test_where_all_is_well_nothing_is_said():
    trouble = find_trouble([RUN, {"event": "done", "key": "a"}], 0)
    assert lines(trouble) == []
    assert (trouble.failures, trouble.quarantined, trouble.blocked) == ({}, (), 0)


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
    trouble = find_trouble(entries, 0)
    assert trouble.failures == {"lost": 2, "bug": 1}
    (given_up,) = trouble.quarantined
    assert (given_up.key, given_up.kind, given_up.message) == ("a", "bug", "ValueError: x")
    assert "traceback" in given_up.advice
    assert lines(trouble) == [
        "failed attempts, all classes: 1 bug, 2 lost",
        "1 tasks quarantined; 2 tasks that rest on them are blocked",
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
    trouble = find_trouble(entries, 0)
    assert trouble.failures == {"lost": 1, "input": 1}
    assert trouble.quarantined == (), "the second pass tries it again"


def test_a_node_is_fenced_off_until_its_term_is_over():
    assert find_trouble([RUN, FENCED], 1500).fenced == {"b/12": FENCED["text"]}
    assert find_trouble([RUN, FENCED], 1601).fenced == {}
    assert lines(find_trouble([RUN, FENCED], 1500)) == [FENCED["text"]]


def test_waiting_for_room_is_said_until_something_starts():
    lacking = {"event": "notice", "kind": "no-room", "node": "", "text": "no node can hold it"}
    assert lines(find_trouble([RUN, lacking], 0)) == ["no node can hold it"]
    assert lines(find_trouble([RUN, lacking, {"event": "start", "key": "a"}], 0)) == []


def test_a_class_of_another_version_has_no_advice():
    assert advice("struck-by-lightning") == ""
    assert advice("storage")
