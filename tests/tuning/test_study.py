"""Rungs, the tasks of a trial, and the grid's refusals, before anything runs."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.tuning.search_plan import (
    SearchOptions,
    attack_studies,
    training_studies,
)
from prunegrid.orchestrator.tuning.study import FIRST_IMAGES, image_rungs
from prunegrid.workers.contract import PruneTask, TrainTask
from tests.grids import SMALL

GRID = parse_grid(SMALL, source="grid.yaml")


def study(grid=GRID, **changes):
    wish = SearchOptions(**({"attack": "cw_l2", "trials": 4} | changes))
    (found,), plan = attack_studies(grid, wish)
    return found, plan


@given(st.integers(1, 5000))
def test_rungs_double_and_the_last_step_is_no_sliver(images):
    rungs = image_rungs(images)
    assert rungs[-1] == images
    assert rungs[0] == min(FIRST_IMAGES, images) or len(rungs) == 1
    *doubling, last = rungs
    assert all(after == 2 * before for before, after in itertools.pairwise(doubling))
    assert not doubling or 2 * doubling[-1] <= last
    asha = {FIRST_IMAGES * 2**k for k in range(20)}
    assert set(doubling) <= asha, "where ASHA decides"


def test_no_image_is_attacked_twice_and_none_is_both_searched_and_held_out():
    large = parse_grid(SMALL.replace("attack_images: 24", "attack_images: 96"), source="g")
    found, _ = study(large)
    assert found.edges == (16, 48)
    options = found.options(1)
    seen = [
        (task.parent_key, image)
        for rung in range(len(found.edges))
        for task in found.tasks(options, rung)
        for image in range(task.start, task.stop)
    ]
    held = [
        (task.parent_key, image)
        for task in found.held_out(options)
        for image in range(task.start, task.stop)
    ]
    assert len(set(seen)) == len(seen) == 2 * 48
    assert len(set(held)) == len(held) == 2 * 48
    assert not set(seen) & set(held)


def test_every_trial_is_on_the_same_images_of_the_dense_models():
    found, plan = study()
    places = {
        tuple((t.parent_key, t.start, t.stop) for t in found.tasks(found.options(k), 0))
        for k in range(len(found.proposals))
    }
    assert len(places) == 1
    assert {model.task_key for model in found.models} == set(plan.tasks)
    assert all(isinstance(task, TrainTask) for task in plan.tasks.values())


def test_equal_searches_have_one_name_and_others_another():
    found, _ = study()
    assert study()[0].name == found.name
    for change in ({"trials": 5}, {"seed": 1}, {"budget": "80"}, {"images": 20}):
        assert study(**change)[0].name != found.name


def test_a_study_per_protocol():
    text = SMALL + (
        "protocols:\n"
        "  a: {engine: strict, outputs: logits, attack_split: test}\n"
        "  b: {engine: foolbox, outputs: softmax, attack_split: test}\n"
    )
    studies, _ = attack_studies(
        parse_grid(text, source="g"), SearchOptions(attack="cw_l2", trials=3)
    )
    assert [(s.protocol, s.base.engine, s.base.outputs) for s in studies] == [
        ("a", "strict", "logits"),
        ("b", "foolbox", "softmax"),
    ]


REFUSED = [
    ({"attack": "cw_l3"}, ["--attack", "'cw_l3'", "did you mean 'cw_l2'?"]),
    ({"attack": "bb_l0"}, ["--attack", "'bb_l0'", "pgd_linf, cw_l2"]),
    ({"trials": 1}, ["--trials", "at least 2"]),
    ({"images": 4}, ["--images", "16 to 24", "got 4"]),
    ({"images": 25}, ["--images", "16 to 24"]),
    ({"budget": "x"}, ["--budget x", "1/20"]),
    ({"budget": "1/0"}, ["--budget 1/0"]),
    ({"budget": "-4"}, ["--budget -4"]),
    ({"budget": "2.5"}, ["--budget 2.5"]),
    ({"budget": "1/20"}, ["too small", "at least"]),
    ({"objective": "mean"}, ["--objective", "'mean'", "median, robust"]),
    ({"objective": "robust"}, ["expected --eps E", "1, 2"]),
    ({"eps": 1.0}, ["--eps", "only --objective robust"]),
    ({"objective": "robust", "eps": 0.0}, ["--eps", "above 0"]),
    ({"attack": "pgd_linf", "budget": "40"}, ["expected --eps E"]),
    ({"attack": "pgd_linf", "objective": "median"}, ["pgd_linf", "finds no distances"]),
    ({"vary": ("stepsise",)}, ["did you mean 'stepsize'?"]),
    ({"vary": ("stepsize=5..1",)}, ["LOW at most HIGH"]),
    ({"select": {"rate": ("2",)}}, ["no rate but 1"]),
    ({"select": {"eps": ("1",)}}, ["--select eps"]),
    ({"select": {"attack": ("cw_l2",)}}, ["--attack names the attack"]),
]


@pytest.mark.parametrize(("wish", "words"), REFUSED)
def test_bad_wishes_are_refused_with_the_choices(wish, words):
    with pytest.raises(UsageError) as caught:
        study(**wish)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_without_dense_models_is_refused():
    grid = parse_grid(SMALL.replace("rates: [1, 2, 4]", "rates: [2, 4]"), source="grid.yaml")
    with pytest.raises(UsageError, match=r"grid.yaml: rates: expected 1, the dense model"):
        study(grid)


def test_training_is_searched_over_whole_chains():
    (found,) = training_studies(GRID, SearchOptions(trials=5))
    assert found.edges == (1, 2, 3), "train, then two rates"
    assert {axis for p in found.proposals for axis, _ in p} == {
        "learning_rate",
        "early_stopping_patience",
    }
    for trial in range(5):
        options = found.options(trial)
        links = [found.tasks(options, rung) for rung in range(3)]
        for chain in zip(*links, strict=True):
            first, *rest = chain
            assert isinstance(first, TrainTask)
            for parent, task in zip(chain, rest, strict=False):
                assert isinstance(task, PruneTask)
                assert task.parent_key == parent.key
            for task in chain:
                assert task.training == dataclasses.replace(found.base, **options)
    assert found.tasks(found.options(0), 0)[0] == found.chains[0].tasks[0], "the grid's own first"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"budget": "1/2"}, ["--budget: not with --training"]),
        ({"eps": 1.0}, ["--eps: not with --training"]),
        ({"objective": "median"}, ["--objective", "loss"]),
        ({"vary": ("lr_factor", "dropout")}, ["'dropout'"]),
        ({"select": {"protocol": ("strict",)}}, ["--select protocol=...: not with --training"]),
    ],
)
def test_bad_wishes_for_training(wish, words):
    with pytest.raises(UsageError) as caught:
        training_studies(GRID, SearchOptions(**wish))
    for word in words:
        assert word in str(caught.value)
