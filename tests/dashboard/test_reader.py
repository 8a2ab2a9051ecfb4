"""The reader follows a store through all that may happen to it, and never raises."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.status_payload import status_payload
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.plan.plan_index import BLOCKED, DONE, FAILED, RUNNING
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask
from tests.dashboard.stores import AsRemote, Run
from tests.fakes import BUG, RUNNER
from tests.grids import SMALL, with_seeds


def reader_of(run: Run) -> StoreReader:
    return StoreReader(Store.open(run.address))


def same_as_status(snapshot, store: Store) -> None:
    """Every number of `status --json` at the same moment."""
    told = status_payload(snapshot, can_retry=False)
    expected = status_json(store, now_s=snapshot.at_s)
    assert {name: told[name] for name in expected} == expected


def test_numbers_are_those_of_status_at_every_step(tmp_path):
    run = Run(tmp_path / "s")
    store, reader = Store.open(run.address), reader_of(run)
    run.beat()
    keys = run.keys
    for number, key in enumerate(keys):
        if number % 7 == 3:
            run.give_up(key)
        else:
            run.start(key)
            if number % 5:
                run.finish(key, seconds=0.1 + number / 10)
        if number % 20 == 0:
            same_as_status(reader.refresh(budget_s=60), store)
    same_as_status(reader.refresh(budget_s=60), store)


def test_numbers_are_those_of_status_after_a_real_run(tmp_path):
    (tmp_path / "grid.yaml").write_text(with_seeds(0, BUG))
    options = RunOptions(
        grid=tmp_path / "grid.yaml",
        store=str(tmp_path / "s"),
        engine="inline",
        runner=RUNNER,
        select=("method=random-local-filter",),
    )
    assert run_grid(options, Console(quiet=True)) == 1
    store = Store.open(options.store)
    snapshot = StoreReader(store).refresh(budget_s=60)
    same_as_status(snapshot, store)
    assert snapshot.state == "stopped"
    assert snapshot.problems == (), "it said goodbye"


def test_it_follows_a_run_without_reading_anything_twice(tmp_path):
    run = Run(tmp_path / "s")
    files = AsRemote(tmp_path / "s")
    reader = StoreReader(Store(files))
    run.finish_all(but={run.keys[0]})
    first = reader.refresh(budget_s=60)
    assert (first.task_state == DONE).sum() > 0
    files.reads.clear()
    run.start(run.keys[0])
    run.finish(run.keys[0])
    reader._look_due_s = 0.0  # listings are rare where they are slow
    second = reader.refresh(budget_s=60)
    assert (second.task_state == DONE).sum() == (first.task_state == DONE).sum() + 1
    rows = [path for path in files.reads if path.startswith("results/")]
    assert len(rows) == 1, "the new model's row"


def test_it_follows_a_run_in_a_bucket(s3_bucket):
    run = Run(f"{s3_bucket}/{uuid.uuid4().hex}")
    reader = reader_of(run)
    dense = run.keys[0]
    attacks = [key for cell in run.plan.cells[:4] for key in cell.task_keys]
    for key in [dense, *attacks[:2]]:
        run.start(key)
        same_as_status(reader.refresh(budget_s=60), run.store)
        run.finish(key)
    run.beat()
    run.give_up(attacks[-1])
    reader._look_due_s = 0.0
    snapshot = reader.refresh(budget_s=60)
    same_as_status(snapshot, run.store)
    assert (snapshot.state, (snapshot.cell_state == DONE).sum()) == ("live", 2)
    assert np.isfinite(snapshot.cell_value).sum() == 2


def test_nothing_new_is_the_same_generation(done):
    reader = reader_of(done)
    generation = reader.refresh(budget_s=60).generation
    assert [reader.refresh(budget_s=60).generation for _ in range(3)] == [generation] * 3
    done.say("notice", text="anything")
    assert reader.refresh(budget_s=60).generation > generation


def test_values_are_those_of_the_rows(tmp_path, done):
    snapshot = reader_of(done).refresh(budget_s=60)
    import pandas as pd

    cells = pd.read_parquet(tmp_path / "s/results/cells").set_index("cell_id")
    models = pd.read_parquet(tmp_path / "s/results/models").set_index("model_id")
    index = snapshot.index
    for name, i in index.cell_number.items():
        assert snapshot.cell_value[i] == cells.robust_accuracy[name]
    for name, i in index.model_number.items():
        assert snapshot.model_value[i] == models.accuracy[name]
    assert (snapshot.cell_state == DONE).all()


def test_rows_are_read_a_few_at_a_time_where_time_is_short(done):
    reader = reader_of(done)
    snapshot = reader.refresh(budget_s=0.0)
    assert snapshot.unread_files > 0
    assert (snapshot.cell_state == DONE).all(), "that a row is there is known at once"
    assert np.isnan(snapshot.cell_value).all()
    assert reader.refresh(budget_s=60).unread_files == 0


@pytest.mark.parametrize(("age_s", "state"), [(0.0, "live"), (20.0, "stale"), (40.0, "stopped")])
def test_the_heartbeat_tells_live_from_stale_and_stopped(tmp_path, age_s, state):
    run = Run(tmp_path / "s")
    run.start(run.keys[0])
    run.beat(age_s=age_s)
    snapshot = reader_of(run).refresh(budget_s=60)
    assert snapshot.state == state
    assert (snapshot.task_state == RUNNING).sum() == (state != "stopped")
    silent = [p for p in snapshot.problems if "without a word" in p.text]
    assert len(silent) == (state == "stopped")


def test_all_done_is_done_whether_or_not_the_driver_lives(done):
    assert reader_of(done).refresh(budget_s=60).state == "done"
    done.beat()
    assert reader_of(done).refresh(budget_s=60).state == "done"


def test_what_rests_on_a_given_up_task_is_blocked_not_failed(tmp_path):
    run = Run(tmp_path / "s")
    run.give_up(run.keys[0])
    snapshot = reader_of(run).refresh(budget_s=60)
    assert (snapshot.task_state == FAILED).sum() == 1
    assert (snapshot.task_state == BLOCKED).sum() == 2 + 3 * 4
    assert (snapshot.cell_state == FAILED).sum() == 0


def test_a_cell_counts_as_soon_as_the_journal_says_so(tmp_path):
    run = Run(tmp_path / "s")
    reader = reader_of(run)
    attacks = [k for k, task in run.plan.tasks.items() if isinstance(task, AttackTask)]
    reader.refresh(budget_s=60)
    reader._look_due_s = time.monotonic() + 1000
    for key in attacks[:2]:
        run.start(key)
        run.finish(key)
    snapshot = reader.refresh(budget_s=60)
    assert (snapshot.task_state == DONE).sum() == 2
    assert (snapshot.cell_state == DONE).sum() == 2, "two shards: one attack at two eps"


def test_a_compacted_store_says_the_same(done, tmp_path):
    reader = reader_of(done)
    before = reader.refresh(budget_s=60)
    compact(done.address, Console(quiet=True))
    for again in (reader, reader_of(done)):
        again._look_due_s = 0.0
        after = again.refresh(budget_s=60)
        assert after.problems == ()
        assert (after.task_state == before.task_state).all()
        assert (after.cell_state == before.cell_state).all()
        assert (after.cell_value == before.cell_value).all()
        assert (after.model_value == before.model_value).all()
        same_as_status(after, done.store)


# --------------------------------------------------------------------------- damage


def damaged(folder: Path, what: str) -> None:
    match what:
        case "vanished":
            shutil.rmtree(folder)
        case "marker":
            (folder / "store.json").write_text('{"form')
        case "grid":
            (folder / "grid.yaml").write_bytes(b"name: [torn")
        case "grid bytes":
            (folder / "grid.yaml").write_bytes(b"\xff\xfe\x00name")
        case "no grid":
            (folder / "grid.yaml").unlink()
        case "selection":
            (folder / "selection.json").write_text("{")


DAMAGES = {
    "vanished": "the store is gone",
    "marker": "store.json is torn",
    "grid": "grid.yaml",
    "grid bytes": "decode",
    "no grid": "no grid was run here",
    "selection": "selection.json is torn",
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_store_says_so_and_keeps_the_last_numbers(tmp_path, done, what):
    reader = reader_of(done)
    before = reader.refresh(budget_s=60)
    damaged(tmp_path / "s", what)
    after = reader.refresh(budget_s=60)
    assert after.state == "unreadable"
    assert DAMAGES[what] in after.problem
    assert after.generation > before.generation
    assert (after.task_state == before.task_state).all()
    assert reader.refresh(budget_s=60).generation == after.generation
    empty = StoreReader(Store(reader.store.files)).refresh(budget_s=60)
    assert (empty.state, empty.index) == ("unreadable", None)


def test_a_mended_store_is_read_again(tmp_path, done):
    reader = reader_of(done)
    before = reader.refresh(budget_s=60)
    (tmp_path / "s").rename(tmp_path / "away")
    assert reader.refresh(budget_s=60).state == "unreadable"
    (tmp_path / "away").rename(tmp_path / "s")
    after = reader.refresh(budget_s=60)
    assert after.state == "done"
    assert (after.cell_value == before.cell_value).all()


def test_another_grid_in_the_store_is_taken_up(done):
    reader = reader_of(done)
    assert len(reader.refresh(budget_s=60).cell_state) == 48
    done.store.set_grid(SMALL.replace("cw_l2: [1, 2]", "cw_l2: [1, 2, 3]"))
    snapshot = reader.refresh(budget_s=60)
    assert len(snapshot.cell_state) == 60
    same_as_status(snapshot, done.store)


@pytest.mark.parametrize(
    "lease",
    [
        "{",
        "[]",
        '{"host": 1, "pid": "x", "process_start": 2, "renewed_at_s": "now"}',
        '{"host": "h", "pid": -1, "process_start": "", "renewed_at_s": 1e400}',
        json.dumps({"host": "h", "pid": 10**400, "process_start": "", "renewed_at_s": 1}),
    ],
)
def test_a_lease_that_no_driver_wrote_is_none(tmp_path, lease):
    run = Run(tmp_path / "s")
    (tmp_path / "s/lease.json").write_text(lease)
    snapshot = reader_of(run).refresh(budget_s=60)
    assert (snapshot.state, snapshot.holder) == ("stopped", None)


@pytest.mark.parametrize("folder", [layout.CELL_ROWS, layout.IMAGE_ROWS, layout.MODELS])
def test_a_torn_result_is_named(tmp_path, done, folder):
    name = "*/result.json" if folder == layout.MODELS else "*.parquet"
    victim = sorted((tmp_path / "s" / folder).glob(name))[0]
    victim.write_bytes(victim.read_bytes()[:-20])
    snapshot = reader_of(done).refresh(budget_s=60)
    assert snapshot.state == "done", "the rest is as good as before"
    (problem,) = snapshot.problems
    assert problem.level == "error"
    assert str(victim.relative_to(tmp_path / "s")) in problem.text


def test_damaged_journal_lines_are_counted(tmp_path, done):
    path = next((tmp_path / "s/journal").iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b'{"at": 17, "ev\n'
    path.write_bytes(b"".join(lines) + b'{"at": 1')
    (problem,) = reader_of(done).refresh(budget_s=60).problems
    assert problem.text.startswith("1 damaged line")
