"""Stores that earlier versions of the program left stay readable, whole and extendable."""

from __future__ import annotations

import tarfile
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from prunegrid.orchestrator.report import load_results, write_report
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.data.make_store import GRID, run
from tests.fakes import attempts_of

ARCHIVES = sorted((Path(__file__).parent / "data").glob("store-v*.tar.gz"))

#: Of the grid in `make_store.py`: 2 methods, 2 rates, 2 seeds; 2 attacks of 2 eps; 6 images.
MODELS, CELLS, IMAGES = 8, 32, 8 * 6 * (2 + 1)


def test_there_is_an_old_store():
    assert "store-v1.tar.gz" in [path.name for path in ARCHIVES]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def old(request, tmp_path) -> Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store"


def doubts(store: Store) -> list[str]:
    """But for the one that is true: the fake runner of version 1 pruned weights where its grid
    asked for filters."""
    found = Verifier(store).findings()
    return [f"{f.name} {f.where} {f.message}" for f in found if f.name != "not-pruned-as-claimed"]


def test_an_old_store_is_read_in_one_line(old):
    for kind, rows in (("models", MODELS), ("cells", CELLS), ("images", IMAGES)):
        assert len(pd.read_parquet(old / "results" / kind)) == rows
        (counted,) = duckdb.sql(f"select count(*) from '{old}/results/{kind}/*.parquet'").fetchall()
        assert counted == (rows,)


def test_an_old_store_is_verified_and_reported(old, tmp_path):
    store = Store.open(str(old))
    assert doubts(store) == []
    results = load_results(store.files)
    assert (len(results.models), len(results.cells)) == (MODELS, CELLS)
    evidence = gather(store.files, results, None)
    analysis = write_report(results, tmp_path / "out", evidence=evidence, formats=("csv",)).analysis
    assert analysis.clean["n"].tolist() == [2, 2, 2, 2]
    assert set(analysis.cells["n"]) == {2}
    assert set(analysis.worst_images["n"]) == {2}


def test_an_old_store_goes_on(old):
    """No finished task runs again, and a third seed joins the rows."""
    assert run(old, GRID) == 0
    assert attempts_of(old) == {}
    assert run(old, GRID.replace("[0, 1]", "[0, 1, 2]")) == 0
    assert attempts_of(old)
    cells = pd.read_parquet(old / "results" / "cells")
    assert len(cells) == CELLS // 2 * 3
    assert doubts(Store.open(str(old))) == []
