"""--slices: what is publishable is finished early, in the grid file's order, and costs little."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import Plan, expand, parent_of
from prunegrid.orchestrator.plan.slices import slice_ranks
from tests.grids import SMALL
from tests.simulation import corner, drawn_durations, jobs_of, lower_bound_s, simulate


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


def rows(plan: Plan) -> dict[tuple, list[str]]:
    """Every row of a published table: a model over all seeds, under all attacks."""
    out: dict[tuple, list[str]] = {}
    for point, keys in slices(plan).items():
        out.setdefault(point[:4], []).extend(keys)
    return out


@pytest.mark.parametrize("slots", [1, 4, 8])
def test_half_of_all_rows_are_there_in_two_thirds_of_the_time_for_little_more_in_all(slots):
    plan = corner()
    for draw in range(3):
        durations_s = drawn_durations(plan, draw)
        usual = simulate(jobs_of(plan), durations_s, slots=slots)
        sliced = simulate(jobs_of(plan, ranks=slice_ranks(plan)), durations_s, slots=slots)
        assert set(sliced.ended_s) == set(plan.tasks)
        early, late = (run.slices_done_s(rows(plan)) for run in (sliced, usual))
        half = len(early) // 2
        assert early[0] < 0.2 * late[0], "the first row"
        assert early[half] < 0.67 * late[half]
        assert sliced.makespan_s < 1.05 * lower_bound_s(plan, durations_s, slots=slots)
