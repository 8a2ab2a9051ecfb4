"""The state machine of one worker slot: no attempt is lost, none is given to a slot that may not
have it, and an end that is not clear yet is settled in time."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.engines.ray.worker_slot import (
    LOG_WITHIN_S,
    NODE_FOLLOWS_S,
    STACKS_WITHIN_S,
    AssignEvent,
    CheckEvent,
    DrainEvent,
    EndWorker,
    HeartbeatEvent,
    Instruction,
    KillProcess,
    LastWordsEvent,
    NodeGoneEvent,
    PreparedEvent,
    PrepareEvent,
    ReadLastWords,
    ReportEnd,
    ReturnedEvent,
    RunAttempt,
    SlotEvent,
    SlotState,
    StartedEvent,
    StartFailedEvent,
    StopAttempt,
    StopAttemptEvent,
    UndrainEvent,
    WorkerDiedEvent,
    WorkerLostEvent,
    WorkerSlot,
    choose,
    transition,
)
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.contract import (
    Attempt,
    Failure,
    FailureKind,
    Outcome,
    PruneTask,
    Success,
    TrainTask,
)
from prunegrid.workers.process import LastWords
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL, source="test"))
TASK = next(task for task in PLAN.tasks.values() if isinstance(task, TrainTask))
ATTEMPT = Attempt(task=TASK, number=3)
DONE = Success(key=TASK.key, duration_s=1.0, host="h", device="cpu", summary=())
WITH_ATTEMPT = (SlotState.BUSY, SlotState.DRAINING, SlotState.DYING)


def slot(state: SlotState = SlotState.STARTING, **changes) -> WorkerSlot:
    made = WorkerSlot(number=0, node="n", share=1, state=state, since_s=0.0)
    if state in WITH_ATTEMPT:
        made = dataclasses.replace(made, attempt=ATTEMPT)
    return dataclasses.replace(made, host="h", **changes)


def at(second: float) -> dict:
    return {"slot": 0, "at_s": second}


def check(second: float) -> CheckEvent:
    return CheckEvent(silence_s=100, timeout_s=200, **at(second))


def run(start: WorkerSlot, *events: SlotEvent) -> tuple[WorkerSlot, list[Instruction]]:
    out: list[Instruction] = []
    for event in events:
        start, instructions = transition(start, event)
        out += instructions
    return start, out


def outcome_of(instructions: list[Instruction]) -> Outcome:
    (report,) = (each for each in instructions if isinstance(each, ReportEnd))
    assert report.ended.attempt == ATTEMPT.number
    return report.ended.outcome


def failure_of(instructions: list[Instruction]) -> Failure:
    outcome = outcome_of(instructions)
    assert isinstance(outcome, Failure)
    return outcome


def test_a_slot_starts_works_and_is_idle_again():
    after, out = run(
        slot(),
        StartedEvent(host="h", device="1", **at(1)),
        PrepareEvent(data=TASK.data, **at(2)),
        PreparedEvent(reason=None, **at(3)),
        AssignEvent(attempt=ATTEMPT, **at(4)),
        HeartbeatEvent(key=TASK.key, fraction=0.5, note="epoch 1", age_s=0.5, **at(5)),
        HeartbeatEvent(key="another", fraction=0.9, note="late", age_s=0.0, **at(6)),
        ReturnedEvent(outcome=DONE, **at(7)),
    )
    assert outcome_of(out) == DONE
    assert (after.state, after.since_s, after.models) == (SlotState.IDLE, 7, (TASK.key,))
    assert (after.heard_s, after.fraction) == (4.5, 0.5), "of another task it says nothing"
    assert not any(isinstance(each, EndWorker) for each in out)


@pytest.mark.parametrize("state", [s for s in SlotState if s is not SlotState.IDLE])
def test_only_an_idle_slot_takes_work(state):
    with pytest.raises(ValueError, match=f"slot 0 is {state}"):
        transition(slot(state), AssignEvent(attempt=ATTEMPT, **at(1)))
    with pytest.raises(ValueError, match="takes no work"):
        transition(slot(state), PrepareEvent(data=TASK.data, **at(1)))


def test_a_drained_slot_ends_after_its_attempt_unless_it_may_stay():
    draining, out = run(slot(SlotState.BUSY), DrainEvent(**at(1)))
    assert (draining.state, out) == (SlotState.DRAINING, [])
    ended, out = run(draining, ReturnedEvent(outcome=DONE, **at(2)))
    assert (ended.state, out[0]) == (SlotState.ENDED, EndWorker(slot=0))
    assert outcome_of(out) == DONE
    back, _ = run(draining, UndrainEvent(**at(2)), ReturnedEvent(outcome=DONE, **at(3)))
    assert back.state is SlotState.IDLE
    for state in (SlotState.STARTING, SlotState.IDLE, SlotState.PREPARING):
        assert run(slot(state), DrainEvent(**at(1)))[0].state is SlotState.ENDED


def test_a_slot_that_was_asked_to_stop_gets_no_more_work():
    stop = StopAttemptEvent(**at(1))
    after, out = run(slot(SlotState.BUSY), stop, stop, ReturnedEvent(outcome=DONE, **at(2)))
    assert [type(each) for each in out] == [StopAttempt, ReportEnd], "asked once"
    with pytest.raises(ValueError, match="takes no work"):
        transition(after, AssignEvent(attempt=ATTEMPT, **at(3)))
    draining, _ = run(slot(SlotState.BUSY), DrainEvent(**at(1)), stop, UndrainEvent(**at(2)))
    assert draining.state is SlotState.DRAINING


DIED = WorkerDiedEvent(message="it died", traceback="how", **at(10))
WORDS = LastWordsEvent(words=LastWords(log="segfault", stacks="none"), **at(10.5))


def test_a_worker_s_death_is_its_own_unless_its_node_follows():
    dying, out = run(slot(SlotState.BUSY), DIED, WORDS, check(10 + NODE_FOLLOWS_S - 0.1))
    assert (dying.state, out) == (SlotState.DYING, [ReadLastWords(slot=0)])
    _, out = run(dying, check(10 + NODE_FOLLOWS_S))
    crashed = failure_of(out)
    assert (crashed.kind, crashed.log) == (FailureKind.CRASHED, "segfault")
    assert (crashed.message, crashed.traceback) == ("it died", "how")
    lost = failure_of(run(dying, NodeGoneEvent(**at(11)))[1])
    assert (lost.kind, lost.message) == (FailureKind.LOST, "its node is gone")


def test_last_words_are_not_waited_for_without_end():
    silent, _ = run(slot(SlotState.BUSY), DIED, check(10 + LOG_WITHIN_S - 0.1))
    assert silent.state is SlotState.DYING
    assert failure_of(run(silent, check(10 + LOG_WITHIN_S))[1]).kind is FailureKind.CRASHED
    hangs, out = run(slot(SlotState.BUSY, heard_s=0.0), check(101))
    assert (hangs.state, out) == (SlotState.DYING, [KillProcess(slot=0)])
    told = failure_of(run(hangs, WORDS.__class__(words=WORDS.words, **at(102)))[1])
    assert (told.kind, told.traceback, told.log) == (FailureKind.TIMEOUT, "none", "segfault")
    assert told.message == "no heartbeat for 101 s: it hangs"
    mute = failure_of(run(hangs, DIED, check(101 + STACKS_WITHIN_S))[1])
    assert (mute.kind, "can't be had" in mute.traceback) == (FailureKind.TIMEOUT, True)


def test_an_attempt_over_its_limit_ends_although_it_is_heard_of():
    beats = HeartbeatEvent(key=TASK.key, fraction=0.1, note="", age_s=0.0, **at(150))
    lively, out = run(slot(SlotState.BUSY), beats, check(200))
    assert (lively.state, out) == (SlotState.BUSY, [])
    late, out = run(lively, check(201))
    assert out == [KillProcess(slot=0)]
    assert late.death is not None
    assert late.death.message == "not done after 201 s (timeout_s)"


def test_who_takes_a_task():
    small = slot(SlotState.IDLE, number=1, since_s=5.0)
    longer = slot(SlotState.IDLE, number=2, since_s=1.0)
    large = slot(SlotState.IDLE, number=3, share=4, node="m", since_s=0.0)
    prune = next(t for t in PLAN.tasks.values() if isinstance(t, PruneTask))
    warm = dataclasses.replace(small, number=4, models=(prune.parent_key,))
    assert choose([small, longer, large], TASK) == longer
    assert choose([longer, large, warm], prune) == warm
    assert choose([small, large], TASK, avoid={"n"}) == large
    assert choose([small], TASK, avoid={"n"}) == small
    assert choose([small, large], TASK, share=2) == large
    assert choose([small], TASK, share=2) is choose([], TASK) is None


# --------------------------------------------------------------------------- invariants

EVENTS = st.sampled_from(
    [
        lambda s: StartedEvent(host="h", device="", **at(s)),
        lambda s: StartFailedEvent(reason="no module", **at(s)),
        lambda s: PreparedEvent(reason=None, **at(s)),
        lambda s: PreparedEvent(reason="no room", **at(s)),
        lambda s: HeartbeatEvent(key=TASK.key, fraction=0.5, note="", age_s=1.0, **at(s)),
        lambda s: ReturnedEvent(outcome=DONE, **at(s)),
        lambda s: WorkerLostEvent(kind=FailureKind.LOST, message="m", traceback="", **at(s)),
        lambda s: WorkerDiedEvent(message="m", traceback="", **at(s)),
        lambda s: LastWordsEvent(words=LastWords(), **at(s)),
        lambda s: NodeGoneEvent(**at(s)),
        lambda s: DrainEvent(**at(s)),
        lambda s: UndrainEvent(**at(s)),
        lambda s: StopAttemptEvent(**at(s)),
        check,
        lambda s: AssignEvent(attempt=ATTEMPT, **at(s)),
        lambda s: AssignEvent(attempt=ATTEMPT, **at(s)),
        lambda s: PrepareEvent(data=TASK.data, **at(s)),
    ]
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 20)), max_size=40))
def test_whatever_happens_an_attempt_that_was_taken_ends_once(steps):
    now_s, current = 0.0, slot()
    taken = reported = ended = 0
    for make, passed_s in [*steps, (lambda s: NodeGoneEvent(**at(s)), 0.0)]:
        now_s += passed_s
        event = make(now_s)
        try:
            after, instructions = transition(current, event)
        except ValueError:
            assert isinstance(event, AssignEvent | PrepareEvent)
            assert current.state is not SlotState.IDLE or current.stop_requested
            continue
        taken += sum(isinstance(each, RunAttempt) for each in instructions)
        reported += sum(isinstance(each, ReportEnd) for each in instructions)
        ended += sum(isinstance(each, EndWorker) for each in instructions)
        assert (after.attempt is not None) == (after.state in WITH_ATTEMPT)
        assert (after.death is not None) == (after.state is SlotState.DYING)
        assert taken - reported == (after.attempt is not None)
        assert ended == (after.state is SlotState.ENDED)
        if current.state is SlotState.ENDED:
            assert (after, instructions) == (current, ())
        current = after
    assert current.state is SlotState.ENDED
    assert taken == reported
