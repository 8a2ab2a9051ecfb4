"""Which nodes are fenced off: by their own failures in a row, while others succeed."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.scheduling.fences import LIMIT, MAX_TERM_S, TERM_S, Fences
from prunegrid.workers.contract import FailureKind

BUG, LOST = FailureKind.BUG, FailureKind.LOST


def fail(fences: Fences, count: int, *, start: int = 0, at_s: float = 10.0) -> list[str | None]:
    return [fences.failed("bad", f"t{start + n}", BUG, at_s + n) for n in range(count)]


def test_failures_in_a_row_fence_a_node_off_where_others_succeed():
    fences = Fences()
    fences.succeeded("good", 100)
    *before, last = fail(fences, LIMIT)
    assert before == [None] * (LIMIT - 1)
    assert last == f"{LIMIT} failures in a row"
    assert fences.is_fenced("bad", 14)
    assert not fences.is_fenced("good", 14)


def test_where_nothing_succeeds_anywhere_it_is_not_the_node():
    fences = Fences()
    fences.succeeded("good", 5)  # before the trouble began
    assert fail(fences, 20) == [None] * 20


def test_one_task_alone_accuses_no_node():
    fences = Fences()
    fences.succeeded("good", 100)
    assert [fences.failed("bad", "same", BUG, 10 + n) for n in range(20)] == [None] * 20


def test_lost_attempts_tell_nothing():
    fences = Fences()
    fences.succeeded("good", 100)
    assert [fences.failed("bad", f"t{n}", LOST, 10) for n in range(20)] == [None] * 20


def test_a_success_between_clears_the_node():
    fences = Fences()
    fences.succeeded("good", 100)
    fail(fences, LIMIT - 1)
    fences.succeeded("bad", 20)
    assert fail(fences, LIMIT - 1, at_s=30) == [None] * (LIMIT - 1)


def test_its_term_over_one_more_failure_fences_it_for_twice_as_long():
    fences = Fences()
    fences.succeeded("good", 1e9)
    fail(fences, LIMIT, at_s=0)
    began_s = LIMIT - 1
    assert fences.term_s("bad", began_s) == TERM_S
    later_s = began_s + TERM_S
    assert not fences.is_fenced("bad", later_s)
    assert fences.failed("bad", "next", BUG, later_s) == "1 failures in a row"
    assert fences.term_s("bad", later_s) == 2 * TERM_S
    fences.succeeded("bad", later_s + 2 * TERM_S)
    assert fail(fences, LIMIT - 1, at_s=later_s + 3 * TERM_S) == [None] * (LIMIT - 1)


def test_terms_do_not_grow_without_end():
    fences = Fences()
    now_s = 0.0
    for _ in range(30):
        fences.exclude("bad", now_s)
        assert 0 < fences.term_s("bad", now_s) <= MAX_TERM_S
        now_s += fences.term_s("bad", now_s)


@pytest.mark.parametrize("late", [1, 2, 3])
def test_what_still_runs_on_a_fenced_node_does_not_fence_it_again(late):
    fences = Fences()
    fences.succeeded("good", 1e9)
    fail(fences, LIMIT, at_s=0)
    assert fail(fences, late, start=50, at_s=5) == [None] * late
