"""Estimates: bounds that hold, learning from what was measured, and saying how sure they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.cost_model import CPU, CostModel
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.estimates import Durations, Eta, duration_text, estimate
from prunegrid.orchestrator.plan.slices import sample_ranks
from tests.grids import SMALL
from tests.simulation import corner, drawn_durations, jobs_of, simulate

TASKS = expand(parse_grid(SMALL, source="test")).tasks


def learned(seconds: dict[str, float]) -> Durations:
    durations = Durations()
    for task in TASKS.values():
        if task.kind.value in seconds:
            durations.add(task, seconds[task.kind.value])
    return durations


@given(st.integers(1, 64), st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_range_holds_both_bounds_of_any_schedule(slots, prune_s, attack_s):
    durations = learned({"train": 5.0, "prune": prune_s, "attack": attack_s})
    eta = estimate(TASKS, durations, slots=slots, elapsed={})
    # Shards of 16 and of 8 images: the mean over both is what was measured.
    assert eta.work_s == pytest.approx(4 * 5 + 8 * prune_s + 48 * attack_s, rel=0.02)
    assert eta.critical_s == pytest.approx(5 + 2 * prune_s + attack_s, rel=0.02)
    assert eta.low_s <= eta.high_s
    assert eta.high_s >= max(eta.work_s / slots, eta.critical_s) * 0.999
    assert eta.work_low_s <= eta.work_s <= eta.work_high_s
    assert eta.measured_frac == pytest.approx(1.0)


def test_guesses_say_so_and_scale_with_what_was_measured():
    eta = estimate(TASKS, Durations(), slots=2, elapsed={})
    assert eta.measured_frac == 0
    assert eta.high_s / eta.low_s > 10, "a guess is wide"
    fast = estimate(TASKS, learned({"train": 0.006}), slots=2, elapsed={})
    assert fast.work_s < eta.work_s / 10
    assert 0 < fast.measured_frac < 0.2
    assert fast.high_s / fast.low_s > 2, "most of it is guessed yet"


def test_more_measurements_make_it_surer():
    few, many = Durations(), Durations()
    for number, task in enumerate(TASKS.values()):
        many.add(task, 10.0 + number % 3)
        if number % 12 == 0 or task.kind == "prune":
            few.add(task, 10.0 + number % 3)

    def width(durations: Durations) -> float:
        eta = estimate(TASKS, durations, slots=1, elapsed={})
        return eta.high_s / eta.low_s

    assert 1 < width(many) < 1.3 < width(few)


def test_nothing_left_takes_no_time():
    eta = estimate({}, Durations(), slots=2, elapsed={})
    assert (eta.low_s, eta.high_s, eta.work_s) == (0, 0, 0)


def test_time_spent_counts_for_the_task_that_spent_it():
    durations = learned({"train": 10.0, "prune": 10.0, "attack": 10.0})
    first, second = list(TASKS)[:2]
    fresh = estimate(TASKS, durations, slots=1, elapsed={})
    later = estimate(TASKS, durations, slots=1, elapsed={first: 8.0})
    assert later.work_s == pytest.approx(fresh.work_s - 8.0)
    late = estimate(TASKS, durations, slots=1, elapsed={second: 1e6, "a task of another plan": 9.0})
    assert fresh.work_s - 10 <= late.work_s < fresh.work_s - 5, "overdue, and not over"


@pytest.mark.parametrize(("slots", "hits"), [(1, 0.9), (4, 0.9), (16, 0.85)])
def test_what_then_comes_lies_in_the_range(slots, hits):
    """Simulated runs, looked at five times each; what no guess knows is drawn anew for each."""
    plan = corner()
    found = []
    for seed in range(8):
        durations_s = drawn_durations(plan, seed)
        run = simulate(jobs_of(plan), durations_s, slots=slots)
        for share in (0.05, 0.2, 0.5, 0.8, 0.95):
            now_s = share * run.makespan_s
            known, left, elapsed = Durations(), {}, {}
            for key, task in plan.tasks.items():
                if run.ended_s[key] <= now_s:
                    known.add(task, durations_s[key])
                    continue
                left[key] = task
                if (started_s := run.ended_s[key] - durations_s[key]) < now_s:
                    elapsed[key] = now_s - started_s
            eta = estimate(left, known, slots=slots, elapsed=elapsed)
            found.append(eta.low_s <= run.makespan_s - now_s <= eta.high_s)
    assert len(found) == 40
    assert sum(found) >= hits * len(found)


def after(plan: Plan, seed: int, share: float, slots: int) -> tuple[Eta, float]:
    """What is estimated once a share of a simulated run's tasks is done, and what it then took."""
    durations_s = drawn_durations(plan, seed)
    run = simulate(jobs_of(plan, ranks=sample_ranks(plan)), durations_s, slots=slots)
    now_s = sorted(run.ended_s.values())[int(share * len(plan.tasks))]
    known, left, elapsed = Durations(), {}, {}
    for key, task in sorted(plan.tasks.items(), key=lambda pair: run.ended_s[pair[0]]):
        if run.ended_s[key] <= now_s:
            known.add(task, durations_s[key])
        elif (started_s := run.ended_s[key] - durations_s[key]) < now_s:
            elapsed[key] = now_s - started_s
    left = {key: task for key, task in plan.tasks.items() if run.ended_s[key] > now_s}
    eta = estimate(left, known, slots=slots, elapsed=elapsed)
    return eta, run.makespan_s - now_s


@pytest.mark.parametrize("slots", [2, 4, 8])
def test_after_a_twentieth_of_the_tasks_it_is_known_within_half(slots):
    """Tasks of kinds and attacks that are up to several times as long as the model has them."""
    plan = corner()
    ratios = []
    for seed in range(10):
        eta, truth_s = after(plan, seed, 0.05, slots)
        assert eta.low_s <= eta.likely_s <= eta.high_s
        ratios.append(eta.likely_s / truth_s)
    assert all(1 / 1.5 < ratio < 1.5 for ratio in ratios), ratios


def test_a_workers_first_task_does_not_pass_for_the_usual():
    """It also starts the worker and compiles."""
    durations = Durations(CostModel(CPU))
    attacks = [task for task in TASKS.values() if task.kind == "attack"]
    task = attacks[0]
    first_s = durations.first_s(task, "a")
    guess_s = durations.model.seconds(task)
    assert first_s > guess_s
    durations.add(task, 2 * (guess_s + first_s), "a")
    assert durations.expect(task) == (pytest.approx(2 * guess_s), True)
    assert durations.first_s(task, "a") < first_s, "its libraries are there"
    for _ in range(3):
        durations.add(task, 3 * guess_s, "a")
    assert durations.expect(task) == (pytest.approx(3 * guess_s), True), "the later ones alone"
    both = {task.key: task, attacks[1].key: attacks[1]}
    alone, two = (estimate(both, durations, slots=n, elapsed={}).work_s for n in (1, 2))
    more_s = durations.scale * first_s
    assert 2 < durations.scale < 3
    assert two == pytest.approx(alone + more_s), "a second worker is to start and compile"


def test_an_attack_that_was_measured_on_another_network_scales_by_it():
    text = SMALL.replace(
        "attacks:\n",
        "  resnet8:\n    dataset: synthetic32\n    attack_images: 16\n"
        "    training: {max_epochs: 2}\n"
        "    eps: {pgd_linf: [4/255, 8/255], cw_l2: [1, 2]}\nattacks:\n",
        1,
    )
    tasks = expand(parse_grid(text, source="test")).tasks.values()
    pgd = {
        network: next(
            t for t in tasks
            if t.kind == "attack" and t.architecture == network and t.attack.attack == "pgd_linf"
        )
        for network in ("cnn5", "resnet8")
    }  # fmt: skip
    durations = Durations()
    guess_s = durations.model.seconds
    durations.add(pgd["cnn5"], 5 * guess_s(pgd["cnn5"]))
    other = durations.outlook(pgd["resnet8"])
    assert other.mean_s == pytest.approx(5 * guess_s(pgd["resnet8"]))
    assert not other.measured
    assert other.doubt.factor * other.doubt.common < 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (150, "2.5 min"), (2040, "34 min"), (12_240, "3.4 h"), (200_000, "2.3 d")],
)
def test_durations_read_well(seconds, text):
    assert duration_text(seconds) == text
