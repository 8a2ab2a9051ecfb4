"""What was torn is made anew, and its rows with it: they tell of the result that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands import compact as compaction
from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.driver.store_scan import scan_store
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers import layout
from prunegrid.workers.contract import Attempt
from tests import fakes
from tests.commands.test_run import cells, run
from tests.engines.test_engines import settings
from tests.grids import SMALL


def doubts(folder: Path) -> list[str]:
    return [str(finding) for finding in Verifier(Store.open(str(folder / "store"))).findings()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run(tmp_path) == 0
    return tmp_path


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_are_made_anew_with_what_they_rest_on(compacted, folder, monkeypatch):
    before = cells(folder)
    store = folder / "store"
    models = sorted(store.glob("models/*/result.json"))
    torn = [models[0], models[-1], min(store.glob("results/images/*.parquet"))]
    for path in torn:
        os.truncate(path, path.stat().st_size - 9)
    if compacted:
        monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
        compact(str(store), Console(quiet=True))
    assert run(folder) == 0
    tries = fakes.attempts_of(store)
    assert sorted(tries.values())[-4:] == [1, 2, 2, 2]
    pd.testing.assert_frame_equal(cells(folder), before)
    assert doubts(folder) == []


def test_no_row_outlives_what_it_rests_on(folder):
    """A driver may be killed between the new result and its rows."""
    store, plan = Store.open(str(folder / "store")), expand(parse_grid(SMALL, source="test"))
    model = plan.models[0].task_key
    attack = plan.cells[0].task_keys[0]
    for path in (layout.model_record(model), layout.image_rows(attack)):
        file = folder / "store" / path
        os.truncate(file, file.stat().st_size - 9)
    scan = scan_store(plan, store, lambda line: None)
    assert set(plan.tasks) - scan.done == {model, attack}
    gone = 12 - len(store.row_ids(layout.MODEL_ROWS)), 48 - len(store.row_ids(layout.CELL_ROWS))
    assert gone == (1, 2), "one model; both eps of one attack"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_late_end_of_a_lost_attempt_leaves_rows_of_the_result(replaced, folder):
    """Its worker was out of reach, not gone: its result comes after the other's, which stands; on
    an object store, of two within a moment the later one does (`replaced`)."""
    store, plan = Store.open(str(folder / "store")), expand(parse_grid(SMALL, source="test"))
    recorder = Recorder(plan, store)
    assert recorder.catch_up(plan.tasks) == 0
    model, attack = plan.models[0].task_key, plan.cells[0].task_keys[0]
    for key, path in ((model, layout.model_record(model)), (attack, layout.image_rows(attack))):
        result = folder / "store" / path
        before = result.read_bytes()
        if replaced:
            result.unlink()
        attempt = Attempt(task=plan.tasks[key], number=2)
        fakes.run_attempt(attempt, settings(folder), lambda *_: None, lambda: False)
        assert (result.read_bytes() != before) == replaced
        assert bool(doubts(folder)) == replaced
        assert recorder.task_done(key) > 0
        assert doubts(folder) == []
    assert recorder.missing_count == 0


def test_a_row_that_is_refused_once_counts_once(tmp_path, monkeypatch):
    """The driver asks again; `status` and the display must not run ahead of the rows."""
    assert run(tmp_path) == 0
    store, plan = Store.open(str(tmp_path / "store")), expand(parse_grid(SMALL, source="test"))
    for path in (tmp_path / "store" / layout.CELL_ROWS).glob("*.parquet"):
        path.unlink()
    recorder, write = Recorder(plan, store), store.write
    refusals = [StoreError("planted: slow down")]

    def refuses_once(path: str, content: bytes) -> None:
        if refusals:
            raise refusals.pop()
        write(path, content)

    monkeypatch.setattr(store, "write", refuses_once)
    with pytest.raises(StoreError, match="slow down"):
        recorder.catch_up(plan.tasks)
    assert recorder.missing_count == len(recorder.missing_cells()) == 48
    recorder.catch_up(())
    for key in plan.tasks:
        recorder.task_done(key, anew=False)
    assert recorder.missing_count == len(recorder.missing_cells()) == 0
