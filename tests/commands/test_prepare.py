"""`prunegrid prepare`, and what a node says before it takes work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.prepare import prepare_data
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.entry import prepare
from tests.grids import SMALL


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(SMALL)
    return path


def said(grid, folder) -> tuple[int, str]:
    text = io.StringIO()
    code = prepare_data(grid, folder, console=Console(file=text, width=40))
    return code, text.getvalue()


def test_data_sets_are_fetched_once_into_the_folder(grid, tmp_path):
    code, text = said(grid, tmp_path / "data")
    assert (code, text) == (0, "synthetic28: ready\n")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    assert any(path.suffix == ".npy" for path in made)
    assert said(grid, tmp_path / "data") == (0, "synthetic28: ready\n")
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}


def test_data_that_cant_be_had_is_named_on_one_line(grid, tmp_path):
    blocked = tmp_path / "data"
    blocked.write_text("a file where a folder is needed")
    code, text = said(grid, blocked)
    assert code == 1
    assert text.startswith("synthetic28: ")
    assert len(text.splitlines()) == 1
    assert "ready" not in text


@pytest.mark.parametrize("shared", [True, False])
def test_a_node_that_does_not_see_the_store_says_so(grid, tmp_path, shared):
    store = tmp_path / "store"
    store.mkdir()
    if shared:
        (store / "grid.yaml").write_text(SMALL)
    settings = WorkerSettings(
        store=str(store), data_dir=str(tmp_path), threads=1, gpu_memory_mib=None
    )
    reason = prepare(read_grid(grid).architectures[0].data, settings)
    if shared:
        assert reason is None
    else:
        assert reason is not None
        assert f"sees no store at {store}: expected a folder that all nodes share" in reason
