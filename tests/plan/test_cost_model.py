"""The cost model: passes over speed, and what is known of either."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.cost_model import (
    CPU,
    DEVICES,
    TASK_S,
    TYPICAL,
    CostModel,
    Habits,
    attack_steps,
)
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.catalog import ATTACKS
from prunegrid.workers.contract import AttackSettings, TrainTask
from tests.grids import SMALL
from tests.plan.test_task_sizes import speed

TASKS = list(expand(parse_grid(SMALL, source="test")).tasks.values())
TRAIN = next(task for task in TASKS if task.kind == "train")
PRUNE = next(task for task in TASKS if task.kind == "prune")
ATTACK = next(task for task in TASKS if task.kind == "attack")
SPEEDS = st.floats(-3, 4).map(lambda power: 10**power)


@given(SPEEDS, st.integers(1, 2000))
def test_an_attack_takes_as_long_as_its_images_do(scale, images):
    model = CostModel(speeds=[speed(scale=scale)])
    one_s, all_s = (model.seconds(replace(ATTACK, start=0, stop=n)) - TASK_S for n in (1, images))
    assert all_s == pytest.approx(images * one_s, rel=1e-6)


@given(SPEEDS)
def test_a_faster_device_takes_less_in_proportion(scale):
    slow, fast = CostModel(speeds=[speed()]), CostModel(speeds=[speed(scale=scale)])
    for task in (TRAIN, PRUNE):
        took_s = fast.seconds(task) - TASK_S
        assert took_s == pytest.approx((slow.seconds(task) - TASK_S) / scale, rel=1e-6)


@given(SPEEDS)
def test_what_an_attack_does_between_passes_stays(scale):
    model, habit = CostModel(speeds=[speed(scale=scale)]), TYPICAL["pgd_linf", "strict"]
    steps = 6 * (ATTACK.stop - ATTACK.start)
    between_s = steps * (habit.forward + habit.backward) * habit.step_s / ATTACK.attack.batch_size
    passes_s = steps * (habit.forward / 6000 + habit.backward / 2000) / scale
    assert model.seconds(ATTACK) == pytest.approx(TASK_S + passes_s + between_s)


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_what_earlier_images_took_counts_and_not_the_table(forward, backward):
    habits = Habits()
    habits.add_attack(ATTACK.attack, forward, backward)
    model = CostModel(speeds=[speed()], habits=habits)
    # 6000 images a second forward and 2000 forward and back.
    each_s = TYPICAL["pgd_linf", "strict"].step_s / ATTACK.attack.batch_size
    passes_s = forward / 6000 + backward / 2000 + (forward + backward) * each_s
    images = ATTACK.stop - ATTACK.start
    assert model.seconds(ATTACK) == pytest.approx(TASK_S + images * passes_s)


def test_passes_scale_with_the_steps_that_the_options_allow():
    habits = Habits()
    habits.add_attack(ATTACK.attack, 0.0, 3.0)
    assert attack_steps(ATTACK.attack) == 6, "3 at each of 2 eps"
    doubled = replace(ATTACK.attack, options=(("steps", 6),))
    assert habits.of(doubled).backward * attack_steps(doubled) == pytest.approx(6.0)


@given(st.lists(st.integers(1, 150), min_size=1, max_size=9), st.booleans())
def test_trainings_take_what_earlier_ones_took_within_their_limit(took, dense):
    task = TRAIN if dense else PRUNE
    training = replace(task.training, max_epochs=150, early_stopping_patience=15)
    task, habits = replace(task, training=training), Habits()
    for epochs in took:
        habits.add_training(task, epochs)
    assert isinstance(task, TrainTask) is dense
    expected = habits.epochs(training, dense=dense)
    assert expected == pytest.approx(sum(took) / len(took))
    assert habits.epochs(replace(training, max_epochs=20), dense=dense) <= 20


def test_adversarial_training_costs_its_steps():
    grid = SMALL.replace(
        "training: {max_epochs: 2, batch_size: 32}",
        "training: {max_epochs: 2, batch_size: 32, adversarial: {mix: .5, eps: .1, steps: 7}}",
    )
    harder = next(iter(expand(parse_grid(grid, source="test")).tasks.values()))
    model = CostModel(speeds=[speed()])
    # Two epochs of 360 images: seven passes each at 2000 a second, and a second training at 700.
    more_s = model.seconds(harder) - model.seconds(TRAIN)
    assert more_s == pytest.approx(2 * 360 * (7 / 2000 + 1 / 700))


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_is_expected_to_take_something(name):
    entry = ATTACKS[name]
    for engine in entry.engines:
        settings = AttackSettings(
            attack=name,
            engine=engine,
            outputs="logits",
            options=tuple(sorted(entry.complete({}).items())),
            eps=(0.1,) if entry.finds == "fixed-eps" else (),
            batch_size=64,
            skip_at_or_below_accuracy=None,
            edition=entry.edition,
        )
        assert CostModel().seconds(replace(ATTACK, attack=settings)) > TASK_S


def test_what_it_rests_on_is_said():
    assert "within 4 times" in CostModel(CPU).rests_on(TASKS)
    assert CostModel(speeds=[speed()]).rests_on(TASKS) == "speeds measured on Fake 9000 (fake)"
    assert CostModel(DEVICES["t4"]).rests_on(TASKS).startswith("a T4 as the tables have it")


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_has_a_source_and_stays_below_its_peak(name):
    device = DEVICES[name]
    assert device.source.startswith("https://")
    assert 0.05 < 2 * device.flops_per_s / (device.peak_tflops * 1e12) <= 0.65
    found = device.speed("vgg11", "cifar10", 607_856_640, 1.0)
    assert found.sizes[0] / found.at(1) >= device.call_s, "no pass is faster than its launches"
    assert list(found.passes_per_s) == sorted(found.passes_per_s)
