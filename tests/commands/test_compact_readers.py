"""Readers of a folder that is being compacted: a whole answer is right, every row once; the only
other answer is that a file has gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunegrid.orchestrator.store import compaction as module
from prunegrid.orchestrator.store.compaction import compact_store
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.tables import parquet_bytes
from tests.commands.looks import READERS
from tests.dashboard.stores import Run
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent
FEW = 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished store, made once; tests copy it."""
    run = Run(tmp_path_factory.mktemp("finished") / "s", SMALL)
    run.finish_all()
    return Path(run.address)


@pytest.fixture
def store(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "s")


@pytest.fixture(scope="module")
def looks(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    out = tmp_path_factory.mktemp("looks") / "looks.so"
    source = Path(__file__).with_name("looks.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", out, source, "-ldl"], check=True)
    return out


def exchanged(store: Path, kept: Path, monkeypatch) -> tuple[Path, Path]:
    """Compact; copies of the folder of cells just before and after the exchange."""
    pair = kept / "old", kept / "new"

    def exchange(aside: Path, folder: Path) -> None:
        if folder == store / layout.CELL_ROWS:
            shutil.copytree(folder, pair[0])
            shutil.copytree(aside, pair[1])
        real(aside, folder)

    real = module.exchange_folders
    with monkeypatch.context() as patch:
        patch.setattr(module, "exchange_folders", exchange)
        patch.setattr(module, "PAUSE_S", 0.0)
        assert list(compact_store(Store.open(str(store))))
    return pair


@pytest.mark.parametrize("times", [1, 2], ids=["small files", "a merged file and small ones"])
def test_whenever_the_folders_change_places_no_row_is_missing_or_twice(
    times, store, looks, tmp_path, monkeypatch
):
    """Each reader, the exchange just before its first look at a file, its second, ... its last."""
    cells = store / layout.CELL_ROWS
    small = sorted(cells.iterdir())
    for path in small[2 * FEW :]:
        path.unlink()
    for path in small[FEW : 2 * FEW]:
        path.rename(tmp_path / path.name)
    old, new = exchanged(store, tmp_path / "first", monkeypatch)
    if times == 2:
        for path in small[FEW : 2 * FEW]:
            (tmp_path / path.name).rename(path)
        old, new = exchanged(store, tmp_path / "second", monkeypatch)
    names = pq.read_table(new / os.listdir(new)[0])["cell_id"].to_pylist()
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands.looks", str(old), str(new)],
        env={**os.environ, "LD_PRELOAD": str(looks), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    answers = json.loads(done.stdout)
    assert set(answers) == set(READERS)
    for reader, found in answers.items():
        assert len(found) > FEW, f"{reader}: the exchange came before one look at each file"
        wrong = [a for a in found if isinstance(a, list) and a != sorted(names)]
        assert wrong == [], reader
        errors = {a for a in found if isinstance(a, str)}
        assert errors <= {"FileNotFoundError", "IOException"}, reader
        assert reader != "ours" or not errors, "the program lists anew by itself"


class Hammer(threading.Thread):
    """A reader without a pause: what it must see is what was written before it looked."""

    def __init__(self, read: Callable[[], list[str]], written: list[str]) -> None:
        super().__init__(daemon=True)
        self.read, self.written = read, written
        self.ended = threading.Event()
        self.answers, self.wrong = 0, list[str]()

    def run(self) -> None:
        while not self.ended.is_set():
            before = set(self.written)
            try:
                found = self.read()
            except (FileNotFoundError, duckdb.IOException):
                continue
            except Exception as error:
                self.wrong.append(repr(error))
                return
            self.answers += 1
            if len(found) != len(set(found)):
                self.wrong.append("a row twice")
            if not before <= set(found):
                self.wrong.append(f"{len(before - set(found))} rows missing")


def test_readers_beside_a_writer_and_a_compaction(store, tmp_path, monkeypatch):
    """Rows come in all the while, as by workers that outlive their driver; the folder is merged
    again and again."""
    monkeypatch.setattr(module, "PAUSE_S", 0.2)
    cells = store / layout.CELL_ROWS
    spare = tmp_path / "spare"
    spare.mkdir()
    for path in sorted(cells.iterdir())[8:]:
        path.rename(spare / path.name)
    written = list(pd.read_parquet(cells)["cell_id"])
    hammers = [Hammer(lambda read=read: read(cells), written) for read in READERS.values()]
    for hammer in hammers:
        hammer.start()
    opened = Store.open(str(store))
    new = iter(sorted(spare.iterdir()))

    def write(count: int) -> None:
        for path in (next(new) for _ in range(count)):
            table = pq.read_table(path)
            opened.write(f"{layout.CELL_ROWS}/{path.name}", parquet_bytes(table))
            written.append(table["cell_id"][0].as_py())

    for _ in range(4):
        writer = threading.Thread(target=write, args=(10,))
        writer.start()
        list(compact_store(opened))
        writer.join()
    limit_s = time.monotonic() + 60
    while min(hammer.answers for hammer in hammers) < 5 and time.monotonic() < limit_s:
        time.sleep(0.05)
    for hammer in hammers:
        hammer.ended.set()
    for hammer in hammers:
        hammer.join()
        assert hammer.wrong == []
        assert hammer.answers >= 5
    assert len(pd.read_parquet(cells)) == len(written) == 48
