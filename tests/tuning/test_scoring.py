"""How trials stand, from stored results; their rows, written and read back."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.scheduling.policies import FINAL_KINDS
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.objective import geometric_mean, median_distance
from prunegrid.orchestrator.tuning.search_plan import (
    SearchOptions,
    attack_studies,
    training_studies,
)
from prunegrid.orchestrator.tuning.study import AttackStudy
from prunegrid.orchestrator.tuning.trials import (
    TrialRow,
    best,
    distances_of,
    read_trials,
    score,
    state_of,
    write_trial,
)
from prunegrid.workers.contract import Attempt, WorkerSettings
from prunegrid.workers.scratch import TrialTaskBroken, ensure, find_images, scratch_address
from tests.grids import SMALL
from tests.tuning.landscape import BEST_RATE, QUERIES, RUNNER, factor

GRID = parse_grid(SMALL.replace("attack_images: 24", "attack_images: 128"), source="g")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open_or_create(str(tmp_path / "store"))


def settings(store: Store) -> WorkerSettings:
    return WorkerSettings(
        store=store.address,
        results=scratch_address(store.address),
        data_dir="",
        threads=1,
        gpu_memory_mib=None,
    )


def study(**wish) -> AttackStudy:
    values = {"attack": "cw_l2", "budget": "400", "trials": 4, "vary": ("stepsize",)}
    (found,), _ = attack_studies(GRID, SearchOptions(**(values | wish)))
    return found


def compute(found, options, rung: int, store: Store) -> None:
    for task in found.tasks(options, rung):
        ensure(task, settings(store), RUNNER, FINAL_KINDS)


def test_a_rung_is_scored_on_all_images_so_far_of_every_model(store):
    found = study()
    assert found.edges == (16, 32, 64)
    options = {**found.options(0), "stepsize": 0.5}
    for rung, size in enumerate(found.edges):
        compute(found, options, rung, store)
        result = score(found, options, rung, store.address)
        tasks = [t for r in range(rung + 1) for t in found.tasks(options, r)]
        assert result.size == size
        assert result.task_keys == tuple(task.key for task in tasks)
        distances = distances_of(found, [find_images(t, store.address) for t in tasks])
        assert distances.shape == (2, size)
        known = distances[~np.isnan(distances)]
        assert 0 < np.isnan(distances).mean() < 0.2, "some models are wrong on some images"
        assert ((known >= factor(0.5)) & (known <= 2 * factor(0.5))).all()
        assert result.value == median_distance(distances)
        assert result.tie == geometric_mean(distances)
        assert result.queries_mean == QUERIES, "images that are wrong to begin with cost nothing"


def test_the_order_of_parts_does_not_matter(store):
    found = study()
    options = found.options(1)
    for rung in range(3):
        compute(found, options, rung, store)
    tasks = [t for r in range(3) for t in found.tasks(options, r)]
    parts = [find_images(task, store.address) for task in tasks]
    np.testing.assert_array_equal(distances_of(found, parts), distances_of(found, parts[::-1]))


def test_a_fixed_eps_attack_is_scored_by_what_it_left(store):
    found = study(attack="pgd_linf", objective="robust", eps=0.04, budget="73", vary=())
    compute(found, found.options(0), 0, store)
    result = score(found, found.options(0), 0, store.address)
    parts = [find_images(t, store.address) for t in found.tasks(found.options(0), 0)]
    broken = np.concatenate([part.table.column("broken").to_numpy(False) for part in parts])
    assert 0.2 < broken.mean() < 0.9
    assert result.value == pytest.approx(1 - broken.mean())


def test_training_is_scored_by_the_mean_loss_of_all_links_so_far(store):
    (found,) = training_studies(GRID, SearchOptions(trials=4, vary=("learning_rate",)))
    options = {"learning_rate": BEST_RATE * 10}
    for rung in range(3):
        compute(found, options, rung, store)
    assert score(found, options, 0, store.address).value == pytest.approx(1.1)
    result = score(found, options, 2, store.address)
    assert result.value == pytest.approx(1.1 + 0.01 * 2 / 3)
    assert result.size == 3
    assert 0.9 < result.test_accuracy < 1


def test_a_task_with_a_bug_is_not_for_another_worker(store):
    found = study()
    with pytest.raises(TrialTaskBroken, match="planted"):
        compute(found, {**found.options(0), "stepsize": 3.0}, 0, store)


def test_rows_read_back_and_torn_ones_are_trials_to_come(store):
    found = study()
    written = {}
    for trial in range(3):
        compute(found, found.options(trial), 0, store)
        result = score(found, found.options(trial), 0, store.address)
        written[trial] = write_trial(store, found, trial, result, "stopped early")
    written[3] = write_trial(store, found, 3, None, "failed")
    rows = read_trials(store, found)
    assert rows == written
    assert {n: (r.state, r.size) for n, r in rows.items()} == {
        **dict.fromkeys(range(3), ("stopped early", 16)),
        3: ("failed", 0),
    }
    assert rows[1].options == found.options(1)
    assert rows[3].value == math.inf
    (path,) = [i.path for i in store.files.list("results/tuning") if "-t001" in i.path]
    store.files.write(path, store.files.read(path)[:-9])
    assert set(read_trials(store, found)) == {0, 2, 3}
    assert read_trials(store, dataclasses.replace(found, seed=9)) == {}


def row(trial: int, state: str, value: float, tie: float = 0.0) -> TrialRow:
    return TrialRow(
        trial=trial, options={}, state=state, size=64, value=value, tie=tie,  # type: ignore[arg-type]
        queries_mean=None, test_accuracy=None,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["complete", "stopped early", "over budget", "failed", "running"]),
            st.sampled_from([1.0, 2.0, math.inf]),
            st.sampled_from([0.0, 0.5]),
        ),
        max_size=8,
    )
)
def test_the_best_went_all_the_way_and_nothing_that_did_is_better(rows):
    trials = {n: row(n, *values) for n, values in enumerate(rows)}
    through = [t for t in trials.values() if t.state == "complete"]
    found = best(trials)
    assert (found is None) == (not through)
    if found is not None:
        assert found.state == "complete"
        assert all((found.value, found.tie) <= (t.value, t.tie) for t in through)
        assert all(t.trial >= found.trial for t in through if t.rank == found.rank)


def test_states():
    found = study()
    full = dataclasses.replace(_score(), size=64)
    assert state_of(found, full, over_budget=False, ended=False) == "complete"
    assert state_of(found, _score(), over_budget=False, ended=True) == "stopped early"
    assert state_of(found, _score(), over_budget=False, ended=False) == "running"
    assert state_of(found, full, over_budget=True, ended=True) == "over budget"
    assert state_of(found, None, over_budget=False, ended=True) == "failed"


def _score():
    from prunegrid.orchestrator.tuning.trials import TrialScore
    from tests.fakes import provenance

    task = study().tasks(study().options(0), 0)[0]
    return TrialScore(
        size=16, value=1.0, tie=1.0, queries_mean=1.0, test_accuracy=None, task_keys=(),
        provenance=provenance(task, 1),
    )  # fmt: skip


def test_attempts_are_not_made_where_the_grid_has_the_result(store):
    found = study()
    task = found.tasks(found.options(0), 0)[0]
    from prunegrid.workers import layout
    from tests.tuning.landscape import images

    store.write(layout.image_rows(task.key), images(task))

    def never(*_):
        raise AssertionError("computed")

    ensure(task, settings(store), never, FINAL_KINDS)
    assert Attempt(task=task, number=1).task.key == find_images(task, store.address).task.key
