"""The one line of each reader in docs/store.md, over and over, while a driver's writer works.

At any moment a reader sees whole rows only, each once, none that was there taken back."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pytest

from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from tests.dashboard.stores import Run
from tests.grids import SMALL

GRID = SMALL.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
DOCS = Path(__file__).resolve().parent.parent.parent / "docs/store.md"


def with_pandas(store: str) -> list[tuple[str, float]]:
    cells = pd.read_parquet(store + "/results/cells")
    return list(zip(cells["cell_id"], cells["robust_accuracy"], strict=True))


def with_duckdb(store: str) -> list[tuple[str, float]]:
    with duckdb.connect() as connection:
        cells = connection.sql(f"from '{store}/results/cells/*.parquet'")
        return cells.select("cell_id, robust_accuracy").fetchall()


def with_polars(store: str) -> list[tuple[str, float]]:
    cells = polars.read_parquet(store + "/results/cells/*.parquet")
    return cells.select("cell_id", "robust_accuracy").rows()


READERS = [with_pandas, with_duckdb, with_polars]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, float]:
    """What the readers must find in the end."""
    run = Run(tmp_path_factory.mktemp("finished") / "s", GRID)
    run.finish_all()
    return dict(with_pandas(run.address))


class Hammer(threading.Thread):
    """One reader, without a pause."""

    def __init__(self, read, store: str, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self.read, self.store, self.ended = read, store, ended
        self.seen: list[list[tuple[str, float]]] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self.seen.append(self.read(self.store))
        except Exception as error:
            self.error = error


@pytest.fixture
def hammered(tmp_path) -> list[Hammer]:
    """The readers' looks at a store that grows from one cell file to all."""
    run = Run(tmp_path / "s", GRID)
    keys = iter(run.keys)
    while not any((tmp_path / "s" / layout.CELL_ROWS).glob("*.parquet")):
        run.finish(next(keys))
    ended = threading.Event()
    hammers = [Hammer(read, run.address, ended) for read in READERS]
    for hammer in hammers:
        hammer.start()
    for key in keys:
        run.finish(key)
    # written anew, as by a task that two workers ran: the same names
    again = Recorder(run.plan, Store.open(run.address))
    for key in run.keys:
        again.task_done(key)
    limit_s = time.monotonic() + 60
    while min(len(h.seen) for h in hammers if h.error is None) < 5 and time.monotonic() < limit_s:
        time.sleep(0.05)
    ended.set()
    for hammer in hammers:
        hammer.join()
    return hammers


def test_readers_beside_a_writer_see_whole_rows_each_once(hammered, finished):
    for hammer in hammered:
        assert hammer.error is None, f"{hammer.read.__name__}: {hammer.error!r}"
        before: set[str] = set()
        for look in hammer.seen:
            names = [name for name, _ in look]
            assert len(names) == len(set(names)), f"{hammer.read.__name__}: a cell twice"
            assert before <= set(names), f"{hammer.read.__name__}: a cell was taken back"
            assert dict(look).items() <= finished.items(), "a value that no cell ever had"
            before = set(names)
        assert len({len(look) for look in hammer.seen}) > 1, "never looked while it grew"
        assert len(hammer.read(hammer.store)) == len(finished)


@pytest.mark.parametrize("read", READERS)
def test_a_file_being_written_aside_is_no_readers_business(tmp_path, read):
    run = Run(tmp_path / "s", SMALL)
    run.finish_all()
    whole = sorted(read(run.address))
    folder = tmp_path / "s" / layout.CELL_ROWS
    path = next(folder.glob("*.parquet"))
    (folder / f".{path.name}.0123.tmp").write_bytes(path.read_bytes()[:100])
    assert sorted(read(run.address)) == whole


def test_the_lines_in_the_docs_work(tmp_path):
    """Each, as a user would type it."""
    run = Run(tmp_path / "s", SMALL)
    run.finish_all()
    block = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    found: dict[str, object] = {}
    exec(block[1].replace("my-store", run.address), found)
    assert len(found["cells"]) == 48
    assert found["mean"].fetchall()[0][0] in (1.0, 2.0, 4.0)
    assert found["images"].height == 864
