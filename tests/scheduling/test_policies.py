"""Every class of failure has its policy, and the page that explains them says the same."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from prunegrid.orchestrator.scheduling.events import (
    FailedEvent,
    GiveUpCommand,
    RunCommand,
    SlotsEvent,
    TickEvent,
)
from prunegrid.orchestrator.scheduling.policies import FINAL_KINDS, MAX_SHARE, POLICIES, Policy
from prunegrid.orchestrator.scheduling.scheduler import Job, Scheduler
from prunegrid.workers.context import Interrupted, TornInput
from prunegrid.workers.contract import FailureKind, classify
from prunegrid.workers.data.base import DataUnavailable
from prunegrid.workers.files import StorageError

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/failures.md"


def test_every_class_has_a_policy_with_advice():
    assert set(POLICIES) == set(FailureKind)
    assert all(policy.attempts >= 1 and policy.advice for policy in POLICIES.values())


@pytest.mark.parametrize("kind", FailureKind)
def test_the_page_says_how_many_failures_each_class_may_have(kind):
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{kind}` |")]
    assert len(rows) == 1
    assert rows[0].split("|")[3].strip() == str(POLICIES[kind].attempts)


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's, which is not imported for it."""


class NoSpaceError(StorageError):
    """A library's own kind of a known one."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Interrupted("saved"), FailureKind.LOST),
        (TornInput("no weights"), FailureKind.INPUT),
        (StorageError("slow down"), FailureKind.STORAGE),
        (NoSpaceError("full"), FailureKind.STORAGE),
        (DataUnavailable("no such set"), FailureKind.DATA),
        (ResourceExhaustedError("OOM"), FailureKind.DEVICE_MEMORY),
        (MemoryError(), FailureKind.HOST_MEMORY),
        (OSError(errno.ENOSPC, "full"), FailureKind.STORAGE),
        (FileNotFoundError(errno.ENOENT, "no file"), FailureKind.BUG),
        (ValueError("TornInput"), FailureKind.BUG),
    ],
    ids=repr,
)
def test_an_exception_tells_its_class(error, kind):
    assert classify(error) is kind


def test_waits_double_after_the_free_retries_up_to_a_limit():
    policy = Policy(attempts=9, delay_s=2, max_delay_s=10, free=2)
    assert [policy.delay_s_after(n) for n in range(1, 8)] == [0, 0, 2, 4, 8, 10, 10]
    assert Policy(attempts=9, delay_s=1).delay_s_after(10**6) == 300


def run_until_given_up(kind: FailureKind) -> tuple[list[int], list[int]]:
    """Attempts' numbers and shares of a task that always fails so."""
    scheduler = Scheduler([Job(key="a", cost_s=1, attempts=7)])
    commands = scheduler.handle(SlotsEvent(slots=1, at_s=0))
    numbers, shares, now_s = [], [], 0.0
    while True:
        runs = [c for c in commands if isinstance(c, RunCommand)]
        if not runs:
            if any(isinstance(c, GiveUpCommand) for c in commands):
                return numbers, shares
            now_s += 1000
            commands = scheduler.handle(TickEvent(at_s=now_s))
            continue
        numbers.append(runs[0].attempt)
        shares.append(runs[0].share)
        failed = FailedEvent(key="a", attempt=numbers[-1], kind=kind, message="m", at_s=now_s)
        commands = scheduler.handle(failed)


@pytest.mark.parametrize("kind", FailureKind)
def test_a_task_is_tried_as_often_as_its_class_allows_and_numbers_go_on(kind):
    numbers, shares = run_until_given_up(kind)
    assert numbers == list(range(8, 8 + POLICIES[kind].attempts))
    if POLICIES[kind].larger:
        assert shares == [1, 2, 4, 8][: len(shares)]
        assert max(shares) <= MAX_SHARE
    else:
        assert set(shares) == {1}


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ("blameless", {"lost"}),
        ("result_may_exist", {"lost", "crashed", "timeout"}),
        ("input_suspect", {"input"}),
        ("final", {"data", "bug"}),
    ],
)
def test_what_else_is_decided_by_the_class(field, kinds):
    """Of the classes that it was written for; a new one brings its own policy."""
    known = [
        "lost",
        "crashed",
        "host-memory",
        "device-memory",
        "storage",
        "timeout",
        "input",
        "data",
        "bug",
    ]
    assert {kind for kind in known if getattr(POLICIES[FailureKind(kind)], field)} == kinds
    assert {kind for kind in FailureKind if POLICIES[kind].final} == FINAL_KINDS


def test_only_memory_asks_for_more_room():
    larger = {kind for kind, policy in POLICIES.items() if policy.larger}
    assert larger == {FailureKind.HOST_MEMORY, FailureKind.DEVICE_MEMORY}
