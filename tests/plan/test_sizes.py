"""Batch and shard sizes from measured speeds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.sizes import Sizes, settle
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.sizes import (
    LEAST_S,
    TARGET_S,
    choose,
    image_seconds,
    images_per_shard,
    sizes_json,
    sizes_text,
    unmeasured,
)
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.speeds import Speed
from tests.grids import AUTO, SMALL

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
    )


def test_dearer_attacks_get_smaller_shards_and_the_batch_is_the_measured_one():
    grid = parse_grid(AUTO, source="test")
    plan = expand(grid)
    (probe,) = unmeasured(plan, Sizes())
    assert (probe.architecture, probe.dataset) == ("cnn5", "synthetic28")
    sizes = choose(grid, {}, Sizes(), [speed(scale=0.0025)], slots=2)
    plan = expand(settle(grid, sizes))
    assert unmeasured(plan, sizes) == ()
    attacks = {a.label: a for a in plan.grid.architectures[0].attacks}
    assert {a.settings.batch_size for a in attacks.values()} == {32}
    # 3 steps at each of 2 eps, and 2 x 5 steps: half of them each, at 5 a second, and a half more.
    costs = {n: image_seconds(a.settings, speed(scale=0.0025)) for n, a in attacks.items()}
    assert costs == pytest.approx({"pgd_linf": 3 * 1.5 / 5, "cw_l2": 5 * 1.5 / 5})
    assert {n: a.images_per_shard for n, a in attacks.items()} == {"pgd_linf": 96, "cw_l2": 32}
    tasks = [t for t in plan.tasks.values() if isinstance(t, AttackTask)]
    spans = {(t.attack.attack, t.start, t.stop) for t in tasks}
    assert spans == {("pgd_linf", 0, 90), *(("cw_l2", k, min(k + 32, 90)) for k in (0, 32, 64))}
    assert {t.attack.batch_size for t in tasks} == {32}


def test_what_was_chosen_stays_and_what_is_new_is_chosen_by_the_old_speed():
    grid = parse_grid(AUTO, source="test")
    first = choose(grid, {}, Sizes(), [speed()], slots=2)
    edited = parse_grid(AUTO.replace("{steps: 3}", "{steps: 30000}"), source="test")
    plan = expand(settle(edited, first))
    assumed = {cell.attack.label: cell.attack.assumed for cell in plan.cells}
    assert assumed == {"pgd_linf": ("images_per_shard",), "cw_l2": ()}
    assert unmeasured(plan, first) == (), "the network was measured"
    second = choose(edited, {}, first, [], slots=1000)
    assert second.batches == first.batches
    assert second.shards[:2] == first.shards
    (added,) = second.shards[2:]
    assert (added.attack.attack, added.images) == ("pgd_linf", 32)
    assert settle(grid, second) == settle(grid, first)


def test_the_first_grid_of_numbers_is_as_it_was():
    grid = parse_grid(SMALL, source="test")
    assert settle(grid, choose(grid, {}, Sizes(), [], slots=2)) == grid
    assert not any(a.auto or a.assumed for p in grid.architectures for a in p.attacks)
    assert sizes_text(expand(grid), Sizes()) == []


def told(text: str, scale: float) -> str:
    grid = parse_grid(text, source="test")
    sizes = choose(grid, {}, Sizes(), [speed(scale=scale)], slots=1)
    (line,) = sizes_text(expand(settle(grid, sizes)), sizes)
    return line.removeprefix("sizes measured on Fake 9000 (fake): cnn5 batch 32, ")


def test_it_is_told_in_a_line():
    assert told(AUTO, 1.0) == "90 images per shard (under a second a task)"
    assert told(AUTO, 0.01) == "90 images per shard (20 s to 34 s a task)"
    assert told(AUTO, 0.0025) == (
        "32 images per shard for cw_l2 (about 48 s a task), 90 for pgd_linf (about 81 s a task)"
    )
    more = AUTO
    for name in ("a", "b", "c"):
        more = more.replace("attacks:\n", f"attacks:\n  {name}: {{attack: pgd_linf, steps: 3}}\n")
        more = more.replace("    eps:\n", f"    eps:\n      {name}: [0.1, 0.2]\n")
    assert told(more, 0.0025) == (
        "32 images per shard for cw_l2 (about 48 s a task), 90 for the others (about 81 s a task)"
    )


def test_it_is_told_in_json():
    grid = parse_grid(AUTO, source="test")
    sizes = choose(grid, {}, Sizes(), [speed(scale=0.01)], slots=1)
    first = sizes_json(expand(settle(grid, sizes)), sizes)[0]
    assert first["attack"] == "pgd_linf"
    assert first["auto"] == ["batch_size", "images_per_shard"]
    assert (first["batch_size"], first["images_per_shard"]) == (32, 96)
    assert first["task_s"] == pytest.approx(20.2)
