"""Every second of every slot is in one part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.slot_time import slot_time
from tests.grids import SMALL
from tests.store.test_history import line, replayed

PLAN = expand(parse_grid(SMALL, source="test"))
TRAIN = next(key for key in PLAN.tasks if key.startswith("train"))
PRUNE = next(key for key in PLAN.tasks if key.startswith("prune"))
ATTACK = next(key for key in PLAN.tasks if key.startswith("attack"))


def parts(history: RunHistory) -> dict[str, float]:
    """Those that are not 0."""
    spent = slot_time(history, PLAN.tasks)
    assert sum(spent.parts.values()) == pytest.approx(spent.slots_s)
    return {name: seconds for name, seconds in spent.parts.items() if seconds}


def test_each_kind_of_time_has_its_part():
    history = replayed(
        line(100, "run", starting_s=10),
        line(104, "slots", slots=2),  # 14 s until then
        line(104, "start", key=TRAIN, attempt=1),
        line(105, "start", key=PRUNE, attempt=1),  # the second slot has nothing until then
        line(115, "failed", key=PRUNE, attempt=1, kind="bug"),
        line(124, "done", key=TRAIN, seconds=18, start_up_s=4, storage_s=1),
        line(124, "start", key=ATTACK, attempt=1),
        line(134, "done", key=ATTACK, seconds=10, processor_s=15),
        line(134, "slots", slots=0),
        line(144, "end"),
    )
    assert parts(history) == pytest.approx(
        {
            "starting the run": 28,
            "training": 13,
            "starting tasks": 4,
            "storage": 1,
            "attack pgd_linf (strict)": 10,
            "attempts without a result": 10,
            "handing over": 2,
            "idle": 20,
        }
    )
    spent = slot_time(history, PLAN.tasks)
    assert (spent.runs, spent.clock_s, spent.slots_s) == (1, 54, 88)
    assert spent.processor_s == 15
    (cost,) = spent.attacks.values()
    assert (cost.tasks, cost.images, cost.wall_s, cost.processor_s) == (1, 16, 10, 15)


def test_a_journal_of_before_has_whole_tasks_and_an_attack_of_no_plan_a_part():
    history = replayed(
        line(100, "run"),
        line(100, "slots", slots=1),
        line(100, "start", key="attack-gone", attempt=1),
        line(107, "done", key="attack-gone", seconds=7),
    )
    assert parts(history) == {"attack no longer in the grid": 7}
    assert slot_time(history, PLAN.tasks).undivided == 1


def test_what_a_lost_driver_ran_had_no_result_and_the_time_between_runs_is_nobodys():
    history = replayed(
        line(100, "run"),
        line(100, "slots", slots=1),
        line(100, "start", key=TRAIN, attempt=1),
        line(130, "notice", kind="node-left"),
        line(900, "run"),
        line(900, "slots", slots=1),
        line(905, "start", key=TRAIN, attempt=2),
        line(910, "notice", kind="node-left"),
    )
    expected = {"attempts without a result": 30, "idle": 5, "training": 5}
    assert parts(history) == expected, "what runs still counts as its kind"
    assert slot_time(history, PLAN.tasks).runs == 2


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),  # seconds since the one before
        st.sampled_from(["run", "slots", "start", "done", "failed", "end"]),
        st.sampled_from([TRAIN, PRUNE, ATTACK]),
        st.integers(0, 5),
        st.integers(0, 9),
    ),
    max_size=40,
)


@given(EVENTS)
def test_the_parts_are_the_slots_wall_clock_second_by_second(events):
    """Moments are whole seconds, so that each slot can be looked at in each of them."""
    history, at = RunHistory(), 100
    for wait, event, key, slots, seconds in events:
        at += wait
        fields = {"slots": slots} if event == "slots" else {"key": key, "attempt": 1}
        if event == "done":
            fields |= {"seconds": seconds, "start_up_s": 1, "storage_s": slots}
        history.take(line(at, event, starting_s=seconds, **fields))
    whole, idle = 0, 0
    for run in history.runs:
        first = next(((moment, n) for moment, n in run.slots if n), None)
        for second in range(int(run.begin_s), int(run.end_s)):
            said = [n for moment, n in run.slots if moment <= second]
            there = said[-1] if said else 0
            if first is not None and second < first[0]:
                there = first[1]
            busy = sum(
                one.start_s <= second < (run.end_s if one.end_s is None else one.end_s)
                for one in run.attempts
            )
            whole += max(there, busy)
            idle += max(there - busy, 0)
    spent = slot_time(history, PLAN.tasks)
    assert spent.slots_s == pytest.approx(whole)
    assert sum(spent.parts.values()) == pytest.approx(whole)
    free = sum(spent.parts[name] for name in ("starting the run", "handing over", "idle"))
    assert free == pytest.approx(idle)
    assert min(spent.parts.values()) >= 0
