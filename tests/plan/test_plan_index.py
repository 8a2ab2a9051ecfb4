"""Arrays say what the plan says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.plan_index import (
    BLOCKED,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    PlanIndex,
)
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL + "dense_model: shared\n", source="grid.yaml"))
INDEX = PlanIndex(PLAN)
KEYS = st.sets(st.sampled_from(INDEX.keys))
NONE = np.zeros(len(INDEX.keys), dtype=bool)


@given(done=KEYS)
def test_what_must_run_yet_is_as_the_plan_says(done):
    needed = INDEX.needed(INDEX.present(done))
    assert {INDEX.keys[i] for i in np.flatnonzero(needed)} == set(PLAN.unfinished(done))


def ancestors(key: str) -> list[str]:
    out = []
    while (parent := PLAN.parent(key)) is not None:
        out.append(parent)
        key = parent
    return out


@given(done=KEYS, running=KEYS, failed=KEYS)
def test_a_task_is_blocked_where_an_ancestor_it_needs_was_given_up(done, running, failed):
    running, failed = running - done - failed, failed - done
    states = INDEX.task_states(*(INDEX.present(keys) for keys in (done, running, failed)))
    for key, state in zip(INDEX.keys, states, strict=True):
        stuck = False
        for one in ancestors(key):
            if one in done:
                break
            stuck |= one in failed
        if key in done:
            assert state == DONE
        elif key in failed:
            assert state == FAILED
        elif stuck:
            assert state == BLOCKED
        else:
            assert state == (RUNNING if key in running else WAITING)


@given(done=KEYS, failed=KEYS)
def test_a_cell_is_done_by_its_row_else_as_its_worst_shard(done, failed):
    states = INDEX.task_states(INDEX.present(done), NONE, INDEX.present(failed - done))
    rows = np.zeros(len(PLAN.cells), dtype=bool)
    rows[::3] = True
    found = INDEX.cell_states(states, rows)
    for i, cell in enumerate(PLAN.cells):
        worst = max(states[INDEX.number[key]] for key in cell.task_keys)
        if rows[i]:
            assert found[i] == DONE
        else:
            assert found[i] == max(worst, WAITING), "without its row a cell is not done"


def test_names_are_those_of_the_rows():
    assert INDEX.cell_ids == tuple(cell_id(c.place, c.task_keys) for c in PLAN.cells)
    for i, model in enumerate(PLAN.models):
        assert INDEX.model_number[model_id(model.place, model.task_key)] == i


@pytest.mark.parametrize("axis", ["rate", "seed", "eps"])
def test_numbers_ascend(axis):
    names = INDEX.cell_axes.names[axis]
    assert list(names) == sorted(names)
    assert len(names) > 1
