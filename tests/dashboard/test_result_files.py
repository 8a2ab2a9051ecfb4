"""Rows and result files: found, read once, and noticed when they tear or go."""

from __future__ import annotations

import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.orchestrator.dashboard import result_files as module
from prunegrid.orchestrator.dashboard.result_files import ResultFiles
from prunegrid.workers import layout
from prunegrid.workers.files import LocalFiles


def values(results: ResultFiles) -> dict[str, float | None]:
    return dict(results.values(layout.CELL_ROWS))


def aged(folder) -> None:
    """Its last change is long enough ago to be trusted."""
    os.utime(folder, (1e9, 1e9))


def test_a_folder_that_did_not_change_is_not_listed_again(done, tmp_path, monkeypatch):
    folder = tmp_path / "s/results/cells"
    aged(folder)
    files = LocalFiles(tmp_path / "s")
    listed = []
    monkeypatch.setattr(files, "list", lambda p: listed.append(p) or LocalFiles.list(files, p))
    results = ResultFiles(files)
    assert results.look()
    listed.clear()
    assert not results.look()
    assert layout.CELL_ROWS not in listed
    (folder / "new.parquet").write_bytes(next(folder.iterdir()).read_bytes())
    assert results.look(), "its time has changed"


def test_damage_in_place_is_noticed_in_the_end(done, tmp_path, monkeypatch):
    folder = tmp_path / "s/results/cells"
    results = ResultFiles(LocalFiles(tmp_path / "s"))
    aged(folder)
    results.look()
    results.read(60)
    victim = sorted(folder.iterdir())[0]
    with victim.open("r+b") as file:
        file.truncate(50)
    aged(folder)
    assert not results.look(), "a folder's time does not tell"
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    assert results.look()
    results.read(60)
    assert list(results.torn) == [f"results/cells/{victim.name}"]
    assert values(results)[victim.stem] is None
    victim.unlink()
    results.look()
    assert results.torn == {}
    assert victim.stem not in values(results)


def test_merged_rows_count_like_single_ones(done, tmp_path):
    folder = tmp_path / "s/results/cells"
    frame = pd.read_parquet(folder)
    tables = [pq.read_table(path) for path in sorted(folder.iterdir())]
    schema = tables[0].schema
    for path in list(folder.iterdir()):
        path.unlink()
    pq.write_table(pa.concat_tables(tables).cast(schema), folder / "part-0.parquet")
    results = ResultFiles(LocalFiles(tmp_path / "s"))
    results.look()
    results.read(60)
    assert values(results) == dict(zip(frame.cell_id, frame.robust_accuracy, strict=True))


def test_a_foreign_file_is_named_and_left_out(done, tmp_path):
    folder = tmp_path / "s/results/cells"
    pq.write_table(pa.table({"cell_id": ["x"], "robust_accuracy": [1.0]}), folder / "a.parquet")
    (folder / "b.parquet").write_bytes(b"not Parquet at all")
    (folder / "empty.parquet").write_bytes(b"")
    (folder / ".c.parquet.tmp").write_bytes(b"being written")
    results = ResultFiles(LocalFiles(tmp_path / "s"))
    results.look()
    results.read(60)
    assert sorted(results.torn) == ["results/cells/a.parquet", "results/cells/b.parquet"]
    assert len([value for value in values(results).values() if value is not None]) == 48


def test_values_are_read_before_the_rest_is_checked(done, tmp_path):
    results = ResultFiles(LocalFiles(tmp_path / "s"))
    results.look()
    while None in values(results).values():
        results._read_one(results._unread.popleft())
    assert results.unread >= len(results.finished())
