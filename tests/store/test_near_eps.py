"""Two eps that nearly agree stay two: in rows, in `verify`, in the report and on the dashboard."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.dashboard.heatmap import grid_payload
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.report.missing import missing_cells
from prunegrid.orchestrator.report.results import load_results, threats
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.image_rows import parquet_bytes, read_table
from tests.fakes import RUNNER
from tests.grids import SMALL

TEXT = SMALL.replace("[4/255, 8/255]", "[8/255, 0.0313725490]").replace("[0, 1]", "[0]")
NEAR = (0.0313725490, 8 / 255)
IMAGES = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("near")
    (folder / "grid.yaml").write_text(TEXT)
    address = str(folder / "store")
    options = RunOptions(grid=folder / "grid.yaml", store=address, engine="inline", runner=RUNNER)
    assert run_grid(options, Console(file=io.StringIO())) == 0
    return Store.open(address)


def test_a_cell_counts_its_own_images_alone(store):
    cells = load_results(store.files).cells
    for eps in NEAR:
        mine = cells[cells["eps"] == eps]
        assert len(mine) == 6
        assert set(mine["n_images"]) == {IMAGES}
    assert list(Verifier(store).findings()) == []


def test_nothing_merges_them_later(store):
    results = load_results(store.files)
    found = threats(results.cells)
    assert [threat.eps for threat in found if threat.norm == "linf"] == [*NEAR]
    titles = {threat.title for threat in found}
    assert len(titles) == len(found), "a table with two columns of one title says nothing"
    half = results.cells[results.cells["eps"] != NEAR[0]]
    gone = missing_cells(
        type(results)(address="", models=results.models, cells=half),
        [cell.place for cell in load_plan(store).cells],
    )
    assert set(gone["eps"]) == {NEAR[0]}
    assert len(gone) == 6


def test_the_dashboard_shows_each_by_itself(store):
    snapshot = StoreReader(store).refresh(budget_s=60)
    cells = pd.DataFrame(load_results(store.files).cells)
    for eps in NEAR:
        (facet,) = grid_payload(snapshot, {}, f"robust:pgd_linf:{eps!r}")["facets"]
        for square in facet["squares"]:
            mine = cells[
                (cells["eps"] == eps)
                & (cells["method"] == square["method"])
                & (cells["rate"] == square["rate"])
            ]
            assert square["n"] == len(mine) == 1
            assert square["value"] == pytest.approx(mine["robust_accuracy"].mean(), abs=1e-5)


def test_verify_names_a_cell_that_counts_the_images_of_another_eps(store):
    path = next(
        info.path
        for info in store.files.list("results/cells")
        if read_table(store.files.read(info.path)).column("eps")[0].as_py() in NEAR
    )
    whole = store.files.read(path)
    table = read_table(whole)
    place = table.schema.get_field_index("n_images")
    doubled = pa.array([2 * IMAGES], pa.int32())
    torn = table.set_column(place, table.schema.field(place), doubled)
    try:
        store.files.write(path, parquet_bytes(torn))
        found = [f for f in Verifier(store).findings() if "n_images" in f.message]
    finally:
        store.files.write(path, whole)
    assert [f.name for f in found] == ["row-mismatch"]
