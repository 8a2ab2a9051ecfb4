"""--slices: what is publishable is finished early, in the grid file's order, and costs little."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.dag import Plan, expand, parent_of
from orchestrator.grid_file import parse_grid
from orchestrator.slices import slice_ranks
from tests.grids import SMALL
from tests.simulation import drawn_durations, jobs_of, lower_bound_s, simulate


def slices(plan: Plan) -> dict[tuple, list[str]]:
    """Every point of a published curve and the attack tasks it rests on, in the file's order."""
    out: dict[tuple, list[str]] = {}
    for cell in plan.cells:
        model = cell.place.model
        point = (model.architecture, model.variant, model.method, model.rate)
        out.setdefault((*point, cell.place.protocol, cell.place.attack), []).extend(cell.task_keys)
    return out


@st.composite
def plans(draw) -> Plan:
    """Small grids of many shapes, one-shot and shared dense models included."""
    rates = draw(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, unique=True))
    seeds = draw(st.integers(1, 3))
    text = SMALL.replace("rates: [1, 2, 4]", f"rates: {rates}")
    text = text.replace("seeds: [0, 1]", f"seeds: {list(range(seeds))}")
    if draw(st.booleans()):
        text += "dense_model: shared\n"
    if draw(st.booleans()):
        text += "pruning: {schedule: one-shot}\n"
    if draw(st.booleans()):
        text += "variants: {standard: {}, slow: {training: {max_epochs: 9}}}\n"
    return expand(parse_grid(text, source="test"))


@settings(max_examples=40, deadline=None)
@given(plans())
def test_one_slot_finishes_slice_after_slice_in_the_files_order(plan):
    ranks = slice_ranks(plan)
    assert set(ranks) == set(plan.tasks)
    for key, task in plan.tasks.items():
        parent = parent_of(task)
        assert parent is None or ranks[parent] <= ranks[key], "nothing waits for a later slice"
    done = simulate(jobs_of(plan, ranks=ranks), dict.fromkeys(plan.tasks, 1.0), slots=1)
    position = {key: number for number, key in enumerate(done.order)}
    ends = [max(position[key] for key in keys) for keys in slices(plan).values()]
    in_order = [sorted(keys) for keys in slices(plan).values()]
    if len(set(map(tuple, in_order))) == len(in_order):  # else two slices are one work
        assert ends == sorted(ends)
    needed: set[str] = set()
    for number, keys in enumerate(slices(plan).values()):
        for leaf in keys:
            key: str | None = leaf
            while key is not None:
                needed.add(key)
                key = parent_of(plan.tasks[key])
        assert ends[number] < len(needed), "only what this slice and those before it need ran"


@pytest.fixture(scope="module")
def corner() -> Plan:
    """A corner of the paper's grid: 2 methods, 7 rates, 5 seeds, 840 tasks and more."""
    text = SMALL.replace("rates: [1, 2, 4]", "rates: [1, 2, 4, 8, 16, 32, 64]")
    text = text.replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4]")
    return expand(parse_grid(text.replace("attack_images: 24", "attack_images: 96"), source="t"))


@pytest.mark.parametrize("slots", [2, 4, 8])
def test_half_of_all_slices_are_there_in_much_less_time_for_little_more_in_all(corner, slots):
    durations_s = drawn_durations(corner, 0)
    usual = simulate(jobs_of(corner), durations_s, slots=slots)
    sliced = simulate(jobs_of(corner, ranks=slice_ranks(corner)), durations_s, slots=slots)
    assert set(sliced.ended_s) == set(corner.tasks)
    first = [run.slices_done_s(slices(corner)) for run in (sliced, usual)]
    half = len(first[0]) // 2
    assert first[0][0] < 0.25 * first[1][0], "the first slice"
    assert first[0][half] < 0.75 * first[1][half]
    assert sliced.makespan_s < 1.15 * lower_bound_s(corner, durations_s, slots=slots)
