"""The scheduler's decisions, and its invariants under random successes, failures and losses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.scheduling.events import (
    BlockCommand,
    EndCommand,
    FailedEvent,
    GiveUpCommand,
    PauseEvent,
    ReopenCommand,
    RetryCommand,
    RetryEvent,
    RunCommand,
    SlotsEvent,
    StopEarlyCommand,
    StopEvent,
    SucceededEvent,
    TickEvent,
)
from prunegrid.orchestrator.scheduling.scheduler import (
    ENDED,
    POLICIES,
    Job,
    Policy,
    Scheduler,
    State,
)
from prunegrid.workers.contract import FailureKind


def job(key: str, parent: str | None = None, cost_s: float = 1.0, rank: int = 0) -> Job:
    return Job(key=key, parents=() if parent is None else (parent,), cost_s=cost_s, rank=rank)


def runs(commands) -> list[str]:
    return [command.key for command in commands if isinstance(command, RunCommand)]


def test_longest_remaining_path_runs_first():
    scheduler = Scheduler(
        [job("shard"), job("dense"), job("pruned", "dense"), job("long", None, 9)]
    )
    assert runs(scheduler.handle(SlotsEvent(slots=3, at_s=0))) == ["long", "dense", "shard"]


def given_up(scheduler: Scheduler, *causes: str, kind: FailureKind = FailureKind.DATA) -> list:
    """Tasks that run are given up, in turn, for these causes; what the last one leads to."""
    commands: list = []
    for number, message in enumerate(causes):
        key = sorted(scheduler.running)[0]
        event = FailedEvent(key=key, attempt=1, kind=kind, message=message, at_s=number)
        commands = scheduler.handle(event)
    return commands


def six(alike: int | None = 3) -> Scheduler:
    scheduler = Scheduler([job(f"train-{n:020x}") for n in range(6)], alike=alike)
    scheduler.handle(SlotsEvent(slots=2, at_s=0))
    return scheduler


def test_first_tasks_that_all_fail_for_one_cause_stop_the_run():
    scheduler = six()
    last = given_up(scheduler, *(f"can't write models/train-{n:020x}/w" for n in range(3)))
    (stop,) = (each for each in last if isinstance(each, StopEarlyCommand))
    assert (stop.tasks, stop.kind) == (3, FailureKind.DATA)
    assert runs(last) == [], "what runs may end, nothing starts"
    assert EndCommand() in given_up(scheduler, "another")
    assert list(scheduler.states.values()).count(State.READY) == 2


def test_causes_that_differ_do_not_stop_the_run():
    assert runs(given_up(six(), "a", "a", "b")) == ["train-00000000000000000004"]
    assert runs(given_up(six(None), "a", "a", "a")) == ["train-00000000000000000004"]


def test_one_success_and_the_run_goes_on_whatever_fails():
    scheduler = six()
    scheduler.handle(SucceededEvent(key=sorted(scheduler.running)[0], attempt=1, at_s=0))
    last = given_up(scheduler, "a", "a", "a")
    assert runs(last) == ["train-00000000000000000005"]


def test_rank_comes_before_path():
    scheduler = Scheduler([job("long", None, 9, rank=1), job("short", None, 1, rank=0)])
    assert runs(scheduler.handle(SlotsEvent(slots=1, at_s=0))) == ["short"]


def test_children_run_after_their_parent_alone():
    scheduler = Scheduler([job("a"), job("b", "a"), job("c", "b")])
    assert runs(scheduler.handle(SlotsEvent(slots=9, at_s=0))) == ["a"]
    assert runs(scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=1))) == ["b"]
    assert runs(scheduler.handle(SucceededEvent(key="b", attempt=1, at_s=2))) == ["c"]
    assert scheduler.handle(SucceededEvent(key="c", attempt=1, at_s=3)) == [EndCommand()]


def test_a_bug_is_tried_twice_then_its_descendants_are_blocked_and_the_rest_goes_on():
    scheduler = Scheduler([job("a", None, 5), job("b", "a"), job("c", "b"), job("other")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))
    bug = FailedEvent(key="a", attempt=1, kind=FailureKind.BUG, message="boom", at_s=1)
    retry, again = scheduler.handle(bug)
    assert retry == RetryCommand(key="a", kind=FailureKind.BUG, not_before_s=1)
    assert again == RunCommand(key="a", attempt=2)
    bug = FailedEvent(key="a", attempt=2, kind=FailureKind.BUG, message="boom", at_s=2)
    commands = scheduler.handle(bug)
    assert commands[0] == GiveUpCommand(key="a", kind=FailureKind.BUG, message="boom")
    assert set(commands[1:3]) == {
        BlockCommand(key="b", ancestor="a"),
        BlockCommand(key="c", ancestor="a"),
    }
    assert runs(commands) == ["other"]
    assert scheduler.handle(SucceededEvent(key="other", attempt=1, at_s=3)) == [EndCommand()]
    assert scheduler.states["c"] is State.BLOCKED


def test_storage_failures_wait_longer_each_time():
    scheduler = Scheduler([job("a")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))
    waits = []
    for attempt in (1, 2, 3):
        failed = FailedEvent(
            key="a", attempt=attempt, kind=FailureKind.STORAGE, message="slow down", at_s=100.0
        )
        (retry,) = scheduler.handle(failed)
        assert isinstance(retry, RetryCommand)
        waits.append(retry.not_before_s - 100)
        assert scheduler.handle(TickEvent(at_s=retry.not_before_s - 0.1)) == []
        (again,) = scheduler.handle(TickEvent(at_s=retry.not_before_s))
        assert again == RunCommand(key="a", attempt=attempt + 1)
    assert waits == [2, 4, 8]


def test_a_late_end_of_a_lost_attempt_changes_nothing_unless_it_is_a_result():
    scheduler = Scheduler([job("a"), job("b", "a")])
    scheduler.handle(SlotsEvent(slots=2, at_s=0))
    lost = FailedEvent(key="a", attempt=1, kind=FailureKind.LOST, message="gone", at_s=1)
    assert RunCommand(key="a", attempt=2) in scheduler.handle(lost)
    assert scheduler.handle(lost) == []
    assert runs(scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=2))) == ["b"]
    assert scheduler.handle(SucceededEvent(key="a", attempt=2, at_s=3)) == []


def test_stop_starts_nothing_more_and_ends_when_what_runs_has_ended():
    scheduler = Scheduler([job("a"), job("b")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))
    assert scheduler.handle(StopEvent(at_s=1)) == []
    assert scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=2)) == [EndCommand()]
    assert scheduler.states["b"] is State.READY


def test_a_pause_starts_nothing_lets_what_runs_end_and_asks_for_no_room():
    scheduler = Scheduler([job("a"), job("b"), job("c")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))
    assert scheduler.demand == 3
    assert scheduler.handle(PauseEvent(paused=True, at_s=1)) == []
    assert scheduler.demand == 1
    assert scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=2)) == []
    assert scheduler.handle(TickEvent(at_s=99)) == [], "neither a start nor an end"
    assert runs(scheduler.handle(PauseEvent(paused=False, at_s=100))) == ["b"]


def test_a_pause_keeps_nobody_who_has_nothing_left():
    scheduler = Scheduler([job("a")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))
    scheduler.handle(PauseEvent(paused=True, at_s=1))
    assert scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=2)) == [EndCommand()]


def test_a_stop_ends_a_paused_run():
    scheduler = Scheduler([job("a")])
    scheduler.handle(PauseEvent(paused=True, at_s=0))
    assert scheduler.handle(SlotsEvent(slots=1, at_s=0)) == []
    assert scheduler.handle(StopEvent(at_s=1)) == [EndCommand()]


def bug(key: str, attempt: int) -> FailedEvent:
    return FailedEvent(key=key, attempt=attempt, kind=FailureKind.BUG, message="boom", at_s=1)


def test_a_retry_gives_a_given_up_task_its_whole_budget_and_frees_what_rests_on_it():
    scheduler = Scheduler([job("a", None, 5), job("b", "a"), job("c", "b"), job("slow")])
    scheduler.handle(SlotsEvent(slots=2, at_s=0))
    for attempt in (1, 2):
        scheduler.handle(bug("a", attempt))
    assert scheduler.states["c"] is State.BLOCKED
    commands = scheduler.handle(RetryEvent(keys=("a", "b", "slow", "nobody"), at_s=2))
    assert commands == [
        ReopenCommand(key="a", was="failed"),
        ReopenCommand(key="b", was="blocked"),
        ReopenCommand(key="c", was="blocked"),
        RunCommand(key="a", attempt=3),
    ]
    assert runs(scheduler.handle(bug("a", 3))) == ["a"], "its budget is whole again"
    assert GiveUpCommand(key="a", kind=FailureKind.BUG, message="boom") in scheduler.handle(
        bug("a", 4)
    )


def test_a_retried_run_ends_when_all_is_done_and_takes_no_retry_after_that():
    scheduler = Scheduler([job("a"), job("b", "a"), job("c", "b"), job("other")])
    scheduler.handle(SlotsEvent(slots=2, at_s=0))
    for attempt in (1, 2):
        scheduler.handle(bug("a", attempt))
    assert runs(scheduler.handle(RetryEvent(keys=("a",), at_s=2))) == ["a"]
    assert scheduler.handle(SucceededEvent(key="other", attempt=1, at_s=3)) == []
    for key, attempt in (("a", 3), ("b", 1)):
        commands = scheduler.handle(SucceededEvent(key=key, attempt=attempt, at_s=4))
        assert EndCommand() not in commands
    assert EndCommand() in scheduler.handle(SucceededEvent(key="c", attempt=1, at_s=4))
    over = Scheduler([job("a")], policies=dict.fromkeys(FailureKind, Policy(attempts=1)))
    over.handle(SlotsEvent(slots=1, at_s=0))
    assert EndCommand() in over.handle(bug("a", 1))
    assert over.handle(RetryEvent(keys=("a",), at_s=2)) == []


def test_a_retry_ends_a_delay_and_an_old_delay_does_not_end_a_new_one():
    scheduler = Scheduler([job("a")])
    scheduler.handle(SlotsEvent(slots=1, at_s=0))

    def refused(attempt: int, at_s: float) -> FailedEvent:
        return FailedEvent(
            key="a", attempt=attempt, kind=FailureKind.STORAGE, message="m", at_s=at_s
        )

    (first,) = scheduler.handle(refused(1, 0.0))
    assert runs(scheduler.handle(RetryEvent(keys=("a",), at_s=0.5))) == ["a"]
    (second,) = scheduler.handle(refused(2, first.not_before_s - 0.1))
    assert scheduler.handle(TickEvent(at_s=first.not_before_s)) == []
    assert runs(scheduler.handle(TickEvent(at_s=second.not_before_s))) == ["a"]


def test_nothing_to_do_ends_at_once():
    assert Scheduler([]).handle(SlotsEvent(slots=4, at_s=0)) == [EndCommand()]


def test_a_task_waits_for_all_its_parents_and_is_blocked_by_any():
    last = Job(key="last", parents=("a", "b"), cost_s=1.0)
    scheduler = Scheduler([job("a"), job("b"), last])
    assert set(runs(scheduler.handle(SlotsEvent(slots=3, at_s=0)))) == {"a", "b"}
    assert runs(scheduler.handle(SucceededEvent(key="a", attempt=1, at_s=1))) == []
    for number in range(1, POLICIES[FailureKind.BUG].attempts + 1):
        failed = FailedEvent(
            key="b", attempt=number, kind=FailureKind.BUG, message="m", at_s=1000.0 * number
        )
        commands = scheduler.handle(failed)
        scheduler.handle(TickEvent(at_s=1000.0 * number + 999))
    assert BlockCommand(key="last", ancestor="b") in commands
    assert scheduler.states["last"] is State.BLOCKED


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([job("a"), job("a")], "two jobs"),
        ([job("a", "nobody")], "no job"),
        ([job("a", "b"), job("b", "a")], "cycle"),
    ],
)
def test_impossible_jobs_are_refused(jobs, message):
    with pytest.raises(ValueError, match=message):
        Scheduler(jobs)


# --------------------------------------------------------------------------- invariants


@st.composite
def forests(draw) -> list[Job]:
    count = draw(st.integers(1, 25))
    jobs = []
    for number in range(count):
        most = st.sets(st.integers(0, number - 1), max_size=3) if number else st.just(set())
        parents = draw(most)
        jobs.append(
            Job(
                key=f"t{number}",
                parents=tuple(f"t{parent}" for parent in sorted(parents)),
                cost_s=draw(st.floats(0, 10)),
                rank=draw(st.integers(0, 2)),
            )
        )
    return draw(st.permutations(jobs))


class Checker:
    """Drives a scheduler and asserts, after every event, what must always hold."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = {j.key: j for j in jobs}
        self.scheduler = Scheduler(jobs)
        self.in_flight: dict[str, int] = {}
        self.done: set[str] = set()
        self.given_up: set[str] = set()
        self.slots = 0
        self.stopped = False
        self.paused = False
        self.ended = False
        self.now_s = 0.0

    def feed(self, event) -> None:
        self.now_s = event.at_s
        commands = self.scheduler.handle(event)
        for command in commands:
            match command:
                case RunCommand():
                    above = set(self.jobs[command.key].parents)
                    assert above <= self.done, "a task before its parents"
                    assert command.key not in self.in_flight, "a task twice at once"
                    assert command.key not in self.done, "a finished task again"
                    assert not self.stopped, "a start after the stop"
                    assert not self.paused, "a start in a pause"
                    self.in_flight[command.key] = command.attempt
                case GiveUpCommand():
                    self.given_up.add(command.key)
                case BlockCommand():
                    assert command.ancestor in self.given_up
                case ReopenCommand():
                    assert (command.key in self.given_up) == (command.was == "failed")
                    self.given_up.discard(command.key)
                case EndCommand():
                    assert not self.ended, "two ends"
                    self.ended = True
        assert len(self.in_flight) <= max(self.slots, len(self.in_flight) - len(runs(commands)))
        assert set(self.in_flight) == set(self.scheduler.running)
        states = self.scheduler.states
        assert set(states) == set(self.jobs), "a task forgotten"
        for key, state in states.items():
            above = self.jobs[key].parents
            stuck = [p for p in above if p in self.given_up or states[p] is State.BLOCKED]
            if state in (State.READY, State.RUNNING, State.DELAYED, State.DONE):
                assert set(above) <= self.done
            if state is State.BLOCKED:
                assert stuck
            if state is State.WAITING:
                assert set(above) - self.done
                assert not stuck
            if state is State.READY and not (self.stopped or self.paused or self.ended):
                assert len(self.in_flight) >= self.slots, "a free slot beside a ready task"
        if self.ended:
            assert not self.in_flight
            assert self.stopped or all(state in ENDED for state in states.values())

    def succeed(self, key: str, attempt: int) -> None:
        self.in_flight.pop(key, None)
        if self.scheduler.states[key] not in ENDED:
            self.done.add(key)
        self.feed(SucceededEvent(key=key, attempt=attempt, at_s=self.now_s))

    def fail(self, key: str, kind: FailureKind) -> None:
        attempt = self.in_flight.pop(key)
        self.feed(FailedEvent(key=key, attempt=attempt, kind=kind, message="m", at_s=self.now_s))


ACTIONS = ("succeed", "succeed", "fail", "bug", "lose", "late", "tick", "slots", "stop")


@settings(max_examples=150, deadline=None)
@given(forests(), st.data())
def test_random_runs_keep_the_invariants_and_always_end(jobs, data):
    checker = Checker(jobs)

    def set_slots(slots: int) -> None:
        checker.slots = slots
        checker.feed(SlotsEvent(slots=slots, at_s=checker.now_s))

    set_slots(data.draw(st.integers(0, 4), label="slots"))
    lost: list[tuple[str, int]] = []
    for _ in range(data.draw(st.integers(0, 60), label="steps")):
        if checker.ended:
            break
        action = data.draw(st.sampled_from([*ACTIONS, "pause", "resume", "retry"]))
        flying = sorted(checker.in_flight)
        if action in ("succeed", "fail", "bug", "lose") and flying:
            key = data.draw(st.sampled_from(flying))
            if action == "succeed":
                checker.succeed(key, checker.in_flight[key])
            elif action == "bug":
                checker.fail(key, FailureKind.BUG)
            elif action == "lose":
                lost.append((key, checker.in_flight[key]))
                checker.fail(key, FailureKind.LOST)
            else:
                checker.fail(key, data.draw(st.sampled_from(list(FailureKind))))
        elif action == "late" and lost:
            checker.succeed(*data.draw(st.sampled_from(lost)))
        elif action == "tick":
            checker.feed(TickEvent(at_s=checker.now_s + data.draw(st.floats(0, 30))))
        elif action == "slots":
            set_slots(data.draw(st.integers(0, 4)))
        elif action in ("pause", "resume"):
            checker.paused = action == "pause"
            checker.feed(PauseEvent(paused=checker.paused, at_s=checker.now_s))
        elif action == "retry":
            keys = data.draw(st.lists(st.sampled_from(sorted(checker.jobs)), max_size=5))
            checker.feed(RetryEvent(keys=tuple(keys), at_s=checker.now_s))
        elif action == "stop" and data.draw(st.integers(0, 9)) == 0:
            checker.stopped = True
            checker.feed(StopEvent(at_s=checker.now_s))
    # Whatever happened, it ends once tasks end and time passes.
    checker.paused = False
    checker.feed(PauseEvent(paused=False, at_s=checker.now_s))
    set_slots(2)
    limit = sum(p.attempts for p in POLICIES.values()) * len(jobs) * 4
    for _ in range(limit):
        if checker.ended:
            break
        if checker.in_flight:
            key = min(checker.in_flight)
            if data.draw(st.booleans()):
                checker.succeed(key, checker.in_flight[key])
            else:
                checker.fail(key, FailureKind.BUG)
        else:
            checker.feed(TickEvent(at_s=checker.now_s + 1000))
    assert checker.ended, "it never ends"


def test_the_papers_grid_size_is_scheduled_in_seconds():
    jobs = []
    for chain in range(180):
        parent = None
        for rate in range(7):
            key = f"m{chain}-{rate}"
            jobs.append(job(key, parent, 10))
            jobs += [job(f"{key}-a{shard}", key) for shard in range(12)]
            parent = key
    scheduler = Scheduler(jobs, policies=dict.fromkeys(FailureKind, Policy(attempts=1)))
    flying = runs(scheduler.handle(SlotsEvent(slots=64, at_s=0)))
    finished = 0
    while flying:
        key = flying.pop()
        flying += runs(scheduler.handle(SucceededEvent(key=key, attempt=1, at_s=0)))
        finished += 1
    assert finished == len(jobs) == 16_380
