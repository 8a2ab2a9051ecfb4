"""A store is read by any installation: it shows names that it does not know."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunegrid.orchestrator.cli import app
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.store.plan import keep_grid, load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.artifacts import MASKS, WEIGHTS, pack_masks
from prunegrid.workers.catalog import ARCHITECTURES, ATTACKS, DATASETS, METHODS
from prunegrid.workers.checkpoints import pack
from prunegrid.workers.contract import AttackTask
from tests.dashboard.stores import Run
from tests.fakes import fake_weights
from tests.grids import SMALL

NEW = (
    SMALL.replace("cnn5:", "newnet:")
    .replace("synthetic28", "newdata")
    .replace("random-local-filter", "newscore-local-filter")
    .replace("cw_l2: {binary_search_steps: 2, steps: 5}", "new_l2: {steps: 5}")
    .replace("cw_l2:", "new_l2:")
    .replace("seeds: [0, 1]", "seeds: [0]")
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of an installation that has one more of everything in its catalog, all done."""
    with pytest.MonkeyPatch.context() as other:
        entry = dataclasses.replace(ARCHITECTURES["cnn5"], name="newnet")
        other.setitem(ARCHITECTURES, "newnet", entry)
        data = dataclasses.replace(DATASETS["synthetic28"], name="newdata", fingerprint="new:1")
        other.setitem(DATASETS, "newdata", data)
        method = dataclasses.replace(METHODS["random-local-filter"], criterion="newscore")
        other.setitem(METHODS, method.name, method)
        other.setitem(ATTACKS, "new_l2", dataclasses.replace(ATTACKS["cw_l2"], name="new_l2"))
        run = Run(tmp_path / "store", NEW)
        keep_grid(run.store, parse_grid(NEW, source="grid.yaml"))
        for key in run.keys:
            task = run.plan.tasks[key]
            if not isinstance(task, AttackTask):
                weights, masks = fake_weights(task)
                run.store.write(layout.model_file(key, WEIGHTS), pack(weights))
                run.store.write(layout.model_file(key, MASKS), pack_masks(masks))
            run.finish(key)
        run.say("end")
    return run.store


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_its_grid_is_one_that_could_not_be_run_here(store):
    with pytest.raises(GridError, match="expected one of"):
        parse_grid(NEW, source="grid.yaml")
    assert {task.architecture for task in load_plan(store).tasks.values()} == {"newnet"}


@pytest.mark.usefixtures("no_figure_files")
def test_status_report_and_explain_show_it(store, tmp_path):
    assert "100 % done" in call("status", "--store", store.address)
    page = tmp_path / "report"
    call("report", "--store", store.address, "--out", str(page))
    text = (page / "index.html").read_text()
    for name in ("newnet", "newdata", "newscore", "new_l2"):
        assert name in text, name
    assert "every claim checked" in call("verify", "--store", store.address)
    first = next(iter(load_plan(store).tasks))
    assert "newnet on newdata" in call("explain", "--store", store.address, first)


def test_a_grid_file_that_was_changed_by_hand_is_read_as_it_is(store):
    store.write("grid.yaml", SMALL.encode())
    assert {task.architecture for task in load_plan(store).tasks.values()} == {"cnn5"}
