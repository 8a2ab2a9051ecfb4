"""Tasks outside the grid, by the driver into the scratch store."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store, store_files
from prunegrid.orchestrator.tuning.task_runs import ScratchRuns, TaskFailedError, give_grid
from prunegrid.workers.contract import AttackTask, FailureKind
from prunegrid.workers.scratch import find_images
from tests.fakes import failed
from tests.grids import SMALL
from tests.tuning import landscape

GRID = parse_grid(SMALL, source="grid.yaml")
TASKS = [task for task in expand(GRID).tasks.values() if isinstance(task, AttackTask)][:3]


class Flaky(landscape.LandscapeRunner):
    """The first attempts of a task fail."""

    def __init__(self, kind: FailureKind, times: int) -> None:
        self.kind, self.left = kind, times

    def run_attempt(self, attempt, settings, beat, stop):
        if self.left:
            self.left -= 1
            return failed(attempt, self.kind, "planted")
        return landscape.run_attempt(attempt, settings, beat, stop)


@pytest.fixture
def store(tmp_path) -> Store:
    found = Store.open_or_create(str(tmp_path / "store"))
    give_grid(found, GRID)
    return found


def runs(store: Store, runner=landscape.RUNNER) -> ScratchRuns:
    options = RunOptions(
        grid=Path("grid.yaml"), store=store.address, engine="inline", runner=runner
    )
    return ScratchRuns(GRID, store, options, Console(quiet=True), name="mine")


def test_results_are_in_the_scratch_store_and_are_made_once(store):
    """The models that the tasks rest on are in the grid's own store, and are no tasks here."""
    with runs(store) as mine:
        mine.run(TASKS[:2], "some")
        mine.run(TASKS, "more")
    assert store.finished() == set()
    assert [find_images(task, store.address).task for task in TASKS] == TASKS
    log = [path.name.rsplit("-", 2)[0] for path in Path(store.address, "log-aside").iterdir()]
    assert sorted(log) == sorted(task.key for task in TASKS)
    assert not store.files.exists("tuning/leases/mine.json")


def test_the_grids_own_results_count(store):
    store.write(f"results/images/{TASKS[0].key}.parquet", landscape.images(TASKS[0]))
    with runs(store) as mine:
        mine.run(TASKS[:1], "some")
    assert not Path(store.address, "log-aside").exists()
    assert not Path(store.address, "tuning/journal").exists()


def test_the_driver_tries_again_and_keeps_a_journal(store):
    with runs(store, Flaky(FailureKind.LOST, 2)) as mine:
        mine.run(TASKS[:1], "some")
    scratch = Store(store_files(f"{store.address}/tuning"))
    events = [entry["event"] for entry in read_journal(scratch)]
    assert events.count("failed") == 2
    assert events.count("done") == 1


def test_what_fails_for_good_is_an_error(store):
    with runs(store, Flaky(FailureKind.BUG, 99)) as mine, pytest.raises(TaskFailedError) as caught:
        mine.run(TASKS[:1], "some")
    assert str(caught.value) == f"{TASKS[0].key}: bug: planted"


def test_one_process_at_a_time_does_the_same_work(store, monkeypatch):
    lease = Lease.take(store, "tuning/leases/mine.json")
    monkeypatch.setattr("prunegrid.orchestrator.store.lease._is_me", lambda holder: False)
    with runs(store) as mine, pytest.raises(StoreError, match="held by the driver"):
        mine.run(TASKS[:1], "some")
    lease.release()
