"""Which nodes are excluded: by their own failures in a row, while others succeed."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.engines.ray.node_exclusion import (
    LIMIT,
    MAX_TERM_S,
    TERM_S,
    NodeExclusion,
)
from prunegrid.workers.contract import FailureKind

BUG, LOST = FailureKind.BUG, FailureKind.LOST


def fail(
    exclusion: NodeExclusion, count: int, *, start: int = 0, at_s: float = 10.0
) -> list[str | None]:
    return [exclusion.failed("bad", f"t{start + n}", BUG, at_s + n) for n in range(count)]


def test_failures_in_a_row_exclude_a_node_where_others_succeed():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 100)
    *before, last = fail(exclusion, LIMIT)
    assert before == [None] * (LIMIT - 1)
    assert last == f"{LIMIT} failures in a row"
    assert exclusion.is_excluded("bad", 14)
    assert not exclusion.is_excluded("good", 14)


def test_where_nothing_succeeds_anywhere_it_is_not_the_node():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 5)  # before the trouble began
    assert fail(exclusion, 20) == [None] * 20


def test_one_task_alone_accuses_no_node():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 100)
    assert [exclusion.failed("bad", "same", BUG, 10 + n) for n in range(20)] == [None] * 20


def test_lost_attempts_tell_nothing():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 100)
    assert [exclusion.failed("bad", f"t{n}", LOST, 10) for n in range(20)] == [None] * 20


def test_a_success_between_clears_the_node():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 100)
    fail(exclusion, LIMIT - 1)
    exclusion.succeeded("bad", 20)
    assert fail(exclusion, LIMIT - 1, at_s=30) == [None] * (LIMIT - 1)


def test_its_term_over_one_more_failure_exclusion_it_for_twice_as_long():
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 1e9)
    fail(exclusion, LIMIT, at_s=0)
    began_s = LIMIT - 1
    assert exclusion.term_s("bad", began_s) == TERM_S
    later_s = began_s + TERM_S
    assert not exclusion.is_excluded("bad", later_s)
    assert exclusion.failed("bad", "next", BUG, later_s) == "1 failures in a row"
    assert exclusion.term_s("bad", later_s) == 2 * TERM_S
    exclusion.succeeded("bad", later_s + 2 * TERM_S)
    assert fail(exclusion, LIMIT - 1, at_s=later_s + 3 * TERM_S) == [None] * (LIMIT - 1)


def test_terms_do_not_grow_without_end():
    exclusion = NodeExclusion()
    now_s = 0.0
    for _ in range(30):
        exclusion.exclude("bad", now_s)
        assert 0 < exclusion.term_s("bad", now_s) <= MAX_TERM_S
        now_s += exclusion.term_s("bad", now_s)


@pytest.mark.parametrize("late", [1, 2, 3])
def test_what_still_runs_on_an_excluded_node_does_not_exclude_it_again(late):
    exclusion = NodeExclusion()
    exclusion.succeeded("good", 1e9)
    fail(exclusion, LIMIT, at_s=0)
    assert fail(exclusion, late, start=50, at_s=5) == [None] * late
