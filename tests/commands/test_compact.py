"""Merging result files: nothing lost, nothing doubled, readers undisturbed, runs go on."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store import compaction as module
from prunegrid.orchestrator.store import merged as merged_module
from prunegrid.orchestrator.store.compaction import compact_store
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.merged import Member, MergedFiles, is_merged, merge
from prunegrid.orchestrator.store.rows import CELL_SCHEMA
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.files import LocalFiles
from tests.fakes import RUNNER, attempts_of
from tests.grids import SMALL

KINDS = {"models": 12, "cells": 48, "images": 12 * 24 * 3}


def run(folder: Path, text: str = SMALL) -> int:
    (folder / "grid.yaml").write_text(text)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner=RUNNER
    )
    return run_grid(options, Console(quiet=True))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """No reader is there to wait for."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)


@pytest.fixture
def store(tmp_path) -> Path:
    assert run(tmp_path) == 0
    return tmp_path / "s"


def frames(store: Path) -> dict[str, pd.DataFrame]:
    out = {}
    for kind in KINDS:
        frame = pd.read_parquet(store / "results" / kind)
        keys = [k for k in ("cell_id", "model_id", "task_key", "image", "eps") if k in frame]
        out[kind] = frame.sort_values(keys).reset_index(drop=True)
    return out


def test_every_row_is_there_once_and_few_files_are(store):
    before = frames(store)
    compact(str(store), Console(quiet=True))
    for kind, frame in frames(store).items():
        pd.testing.assert_frame_equal(frame, before[kind])
        assert [is_merged(p.name) for p in (store / "results" / kind).iterdir()] == [True]
    assert list(Verifier(Store.open(str(store))).findings()) == []
    assert not (store / "lease.json").exists()


def test_plain_readers_in_one_line_each(store):
    compact(str(store), Console(quiet=True))
    cells = f"{store}/results/cells"
    assert len(pd.read_parquet(cells)) == 48
    assert duckdb.sql(f"select count(*) from '{cells}/*.parquet'").fetchall() == [(48,)]
    assert polars.read_parquet(f"{cells}/*.parquet").height == 48


def test_a_compacted_store_is_run_again_extended_and_compacted_again(store, tmp_path):
    compact(str(store), Console(quiet=True))
    tries = attempts_of(store)
    assert run(tmp_path) == 0
    assert attempts_of(store) == tries, "a finished task ran again"
    assert run(tmp_path, SMALL.replace("[0, 1]", "[0, 1, 2]")) == 0
    assert len(pd.read_parquet(store / "results/cells")) == 72
    compact(str(store), Console(quiet=True))
    assert len(list((store / "results/cells").iterdir())) == 1
    assert len(pd.read_parquet(store / "results/cells")) == 72
    assert list(Verifier(Store.open(str(store))).findings()) == []


def test_a_row_that_other_work_supersedes_leaves_the_merged_file(store, tmp_path):
    compact(str(store), Console(quiet=True))
    assert run(tmp_path, SMALL.replace("{steps: 3}", "{steps: 4}")) == 0
    cells = pd.read_parquet(store / "results/cells")
    place = ["method", "rate", "seed", "attack", "eps"]
    assert len(cells) == 48
    assert not cells.duplicated(place).any()
    assert len(list((store / "superseded/results/cells").iterdir())) == 24
    assert list(Verifier(Store.open(str(store))).findings()) == []


def test_a_task_set_aside_runs_again(store, tmp_path):
    compact(str(store), Console(quiet=True))
    opened = Store.open(str(store))
    key = next(k for k in sorted(opened.finished()) if k.startswith("attack-"))
    opened.set_aside(key)
    assert key not in opened.finished()
    assert len(list((store / "torn").iterdir())) == 1
    assert run(tmp_path) == 0
    assert key in Store.open(str(store)).finished()
    assert len(pd.read_parquet(store / "results/images")) == KINDS["images"]


def test_a_torn_merged_file_is_named_and_its_tasks_run_again(store, tmp_path):
    compact(str(store), Console(quiet=True))
    (merged,) = (store / "results/images").iterdir()
    merged.write_bytes(merged.read_bytes()[:-100])
    assert run(tmp_path) == 0
    assert len(pd.read_parquet(store / "results/images")) == KINDS["images"]
    assert any(is_merged(path.name) for path in (store / "torn").iterdir())


def test_what_is_not_ours_stays_as_it_is(store):
    (store / "results/cells/notes.txt").write_text("mine")
    (store / "results/cells/torn.parquet").write_bytes(b"PAR1 torn")
    pd.DataFrame({"x": [1]}).to_parquet(store / "results/cells/other.parquet")
    compact(str(store), Console(quiet=True))
    assert (store / "results/cells/notes.txt").read_text() == "mine"
    assert (store / "results/cells/torn.parquet").read_bytes() == b"PAR1 torn"
    assert pd.read_parquet(store / "results/cells/other.parquet").x.tolist() == [1]
    kept = list(store.glob("superseded/compacted/*/results/cells/cell-*.parquet"))
    assert len(kept) == 48


def test_a_store_that_a_driver_holds_is_refused(store, monkeypatch):
    monkeypatch.setattr("prunegrid.orchestrator.store.lease._is_me", lambda holder: False)
    with (
        Lease.take(Store.open(str(store))),
        pytest.raises(StoreError, match=f"held by the driver with pid {os.getpid()} on "),
    ):
        compact(str(store), Console(quiet=True))
    assert len(list((store / "results/cells").iterdir())) == 48


def test_many_tasks_make_several_row_groups(store, monkeypatch):
    """A member is read by reading its group alone."""
    monkeypatch.setattr(merged_module, "GROUP_MEMBERS", 10)
    before = frames(store)["images"]
    assert [c.after for c in compact_store(Store.open(str(store)))] == [1, 1, 1]
    pd.testing.assert_frame_equal(frames(store)["images"], before)
    (path,) = (store / "results/images").iterdir()
    groups = pq.ParquetFile(path)
    assert groups.num_row_groups > 1
    for number in range(groups.num_row_groups):
        assert len(groups.read_row_group(number)["task_key"].unique()) <= 10
    opened = Store.open(str(store))
    for key in opened.row_ids("results/images"):
        assert set(opened.image_rows(key).table["task_key"].to_pylist()) == {key}
    assert [c.before for c in compact_store(opened)] == [1, 1, 1]


@pytest.mark.parametrize("step", ["exchange_folders", "_keep"])
def test_what_a_killed_compaction_leaves_is_kept_by_the_next(step, store, monkeypatch):
    """Before the exchange and after it: every row is there once, and so are the small files."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = frames(store)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_check_exchange", lambda root: None)  # it exchanges folders, too
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            compact(str(store), Console(quiet=True))
    for kind, frame in frames(store).items():
        pd.testing.assert_frame_equal(frame, before[kind])
    assert list((store / "results").glob(".compact-*"))
    compact(str(store), Console(quiet=True))
    for kind, frame in frames(store).items():
        pd.testing.assert_frame_equal(frame, before[kind])
        assert len(list((store / "results" / kind).iterdir())) == 1
    assert not list((store / "results").glob(".compact-*"))
    kept = [p.name for p in (store / "superseded/compacted").rglob("*.parquet")]
    assert sum(name.startswith("model-") for name in kept) == KINDS["models"]
    assert list(Verifier(Store.open(str(store))).findings()) == []


def test_an_object_store_gets_snapshots(store, s3_bucket):
    """One whole object per kind of row; what was there stays."""
    local, address = LocalFiles(store), f"{s3_bucket}/{uuid.uuid4().hex}"
    files = Store.open_or_create(address).files
    for info in local.list("results"):
        files.write(info.path, local.read(info.path))
    before = {info.path for info in files.list("results")}
    compact(address, Console(quiet=True))
    names = {info.path for info in files.list("snapshots")}
    assert names == {f"snapshots/{kind}.parquet" for kind in KINDS}
    merged = MergedFiles(files)
    (cells,) = (info for info in files.list("snapshots") if "cells" in info.path)
    assert len(merged.members(cells)) == 48
    assert {info.path for info in files.list("results")} == before


def test_merging_a_name_twice_is_refused(store):
    path = next((store / "results/cells").iterdir())
    member = Member(name="a", table=pq.read_table(path))
    with pytest.raises(ValueError, match="a comes twice"):
        merge([member, member], CELL_SCHEMA)


def test_a_file_system_that_can_t_exchange_is_told_so(store, monkeypatch):
    class Libc:
        @staticmethod
        def renameat2(*arguments):
            return -1

    monkeypatch.setattr(module.ctypes, "CDLL", lambda *a, **k: Libc)
    monkeypatch.setattr(module.ctypes, "get_errno", lambda: errno.EINVAL)
    with pytest.raises(StoreError, match="can't exchange folders; copy the store"):
        compact(str(store), Console(quiet=True))
    assert len(list((store / "results/models").iterdir())) == 12
    assert Lease.take(Store.open(str(store)))
