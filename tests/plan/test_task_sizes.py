"""Batch and shard sizes from measured speeds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.cost_model import TYPICAL
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.task_sizes import (
    LEAST_S,
    TARGET_S,
    TaskSizes,
    choose_sizes,
    images_per_shard,
    probes_of,
)
from prunegrid.workers.speeds import Speed
from tests.grids import SMALL

CASES = st.fixed_dictionaries(
    {
        "image_s": st.floats(-5, 5).map(lambda power: 10**power),
        "batch": st.integers(1, 8).map(lambda n: 16 * n),
        "images": st.integers(1, 2000),
        "models": st.integers(1, 20),
        "slots": st.integers(1, 200),
    }
)


@given(CASES)
def test_whole_batches_of_no_more_than_the_images_in_about_the_time(case):
    size = images_per_shard(**case)
    assert size % case["batch"] == 0
    assert case["batch"] <= size < case["images"] + case["batch"]
    assert size * case["image_s"] <= TARGET_S * (1 + 1e-9) or size == case["batch"]


@given(CASES)
def test_slots_go_without_a_task_only_where_tasks_would_be_short(case):
    size = images_per_shard(**case)
    tasks = case["models"] * math.ceil(case["images"] / size)
    a_batch_less_s = (size - case["batch"]) * case["image_s"]
    assert tasks >= case["slots"] or a_batch_less_s < LEAST_S


@given(CASES)
def test_no_more_shards_than_the_time_asks_for(case):
    size = images_per_shard(**case | {"slots": 1})
    batches = math.ceil(case["images"] / case["batch"])
    shards = math.ceil(case["images"] / size)
    if shards > 1:
        one_less = math.ceil(batches / (shards - 1)) * case["batch"]
        assert one_less * case["image_s"] > TARGET_S * (1 - 1e-9)


@given(CASES)
def test_slots_only_make_shards_smaller(case):
    few = images_per_shard(**case | {"slots": 1})
    assert images_per_shard(**case) <= few


@pytest.mark.parametrize(
    ("image_s", "slots", "size"),
    [
        (0.01, 1, 1024),
        (0.08, 1, 1024),
        (0.1, 1, 512),
        (1.0, 1, 64),
        (100.0, 1, 64),
        (0.1, 8, 128),
        (0.1, 999, 128),
    ],
)
def test_examples(image_s, slots, size):
    assert size == images_per_shard(image_s=image_s, batch=64, images=1000, models=1, slots=slots)


def speed(architecture: str = "cnn5", scale: float = 1.0) -> Speed:
    return Speed(
        architecture=architecture,
        dataset="synthetic28",
        device="Fake 9000",
        host="fake",
        threads=1,
        measured_at="2026-01-01T00:00:00+00:00",
        sizes=(16, 32, 64),
        passes_per_s=(1000.0 * scale, 2000.0 * scale, 2000.0 * scale),
        forward_per_s=(3000.0 * scale, 6000.0 * scale, 6000.0 * scale),
        trained_per_s=700.0 * scale,
    )


def sizes_of(text: str, *, scale: float = 0.0025, slots: int = 1) -> TaskSizes:
    return choose_sizes(expand(parse_grid(text, source="test")), [speed(scale=scale)], slots=slots)


GRID = SMALL.replace("attack_images: 24", "attack_images: 90")


def test_the_batch_is_the_measured_one_and_the_shard_is_the_slowest_attacks():
    plan = expand(parse_grid(GRID, source="test"))
    (probe,) = probes_of(plan)
    assert (probe.architecture, probe.dataset) == ("cnn5", "synthetic28")
    sizes = sizes_of(GRID)
    assert sizes.batch_sizes == {"strict": 32}
    assert sizes.shard_sizes == {"cnn5": 64}, "of 90 images, in less than 90 s by the slowest"
    # 3 steps at each of 2 eps, and 2 x 5 steps, at 5 a second and back, 15 forward.
    pgd, cw = TYPICAL["pgd_linf", "strict"], TYPICAL["cw_l2", "strict"]
    pgd_s = 6 * (
        pgd.forward / 15 + pgd.backward / 5 + (pgd.forward + pgd.backward) * pgd.step_s / 32
    )
    cw_s = 10 * (cw.forward / 15 + cw.backward / 5 + (cw.forward + cw.backward) * cw.step_s / 32)
    found = {
        row.attack: (row.image_s, row.batch_size, row.images_per_shard) for row in sizes.attacks
    }
    assert found == {
        "pgd_linf": (pytest.approx(pgd_s), 32, 64),
        "cw_l2": (pytest.approx(cw_s), 32, 64),
    }
    assert {row.attack: row.task_s for row in sizes.attacks} == {
        "pgd_linf": pytest.approx(64 * pgd_s),
        "cw_l2": pytest.approx(64 * cw_s),
    }


def test_a_fast_machine_takes_all_images_at_once():
    sizes = sizes_of(GRID, scale=1.0)
    assert sizes.shard_sizes == {"cnn5": 96}
    assert max(row.task_s for row in sizes.attacks) < 1


def test_each_protocol_has_a_batch_size_and_each_architecture_a_shard_size():
    text = GRID.replace(
        "attacks:\n",
        "  resnet8:\n    dataset: synthetic32\n    attack_images: 20\n"
        "    training: {max_epochs: 2}\n    eps: {pgd_linf: [4/255], cw_l2: [1]}\nattacks:\n",
    )
    text += "protocols: {strict: {}, paper: {engine: foolbox, batch_size: 50}}\n"
    both = [speed(), replace(speed("resnet8", scale=0.001), dataset="synthetic32")]
    sizes = choose_sizes(expand(parse_grid(text, source="test")), both, slots=1)
    assert sizes.batch_sizes == {"strict": 16}, "the smaller one, of 20 images"
    assert sizes.shard_sizes == {"cnn5": 96, "resnet8": 50}, "whole batches of the slowest attack"
    assert {row.batch_size for row in sizes.attacks if row.protocol == "paper"} == {50}


@given(scale=st.floats(-4, 2).map(lambda power: 10**power), slots=st.integers(1, 100))
def test_the_slowest_attack_sets_the_length_of_tasks(scale, slots):
    sizes = sizes_of(GRID, scale=scale, slots=slots)
    (shard,) = sizes.shard_sizes.values()
    slowest = max(sizes.attacks, key=lambda row: row.image_s)
    assert all(row.task_s <= slowest.task_s for row in sizes.attacks)
    assert slowest.task_s <= TARGET_S * (1 + 1e-9) or shard == slowest.batch_size
