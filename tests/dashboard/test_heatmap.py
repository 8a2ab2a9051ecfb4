"""The heat map counts what the rows say, under any filter."""

from __future__ import annotations

import pandas as pd
import pytest

from prunegrid.orchestrator.dashboard.answers import Query
from prunegrid.orchestrator.dashboard.filters import tasks_of, view_of
from prunegrid.orchestrator.dashboard.heatmap import grid_payload, square_payload
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.selection import parse_filter
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.stores import Run
from tests.grids import SMALL

TWO_PROTOCOLS = (
    SMALL
    + """\
protocols:
  strict: {}
  paper: {engine: foolbox, outputs: softmax}
"""
)


@pytest.fixture(scope="module")
def snapshot(mixed):
    return StoreReader(Store.open(mixed.address)).refresh(budget_s=60)


@pytest.fixture(scope="module")
def frames(mixed):
    cells = pd.read_parquet(f"{mixed.address}/results/cells")
    return cells, pd.read_parquet(f"{mixed.address}/results/models")


def squares(payload):
    return [(facet, square) for facet in payload["facets"] for square in facet["squares"]]


def test_squares_add_up_to_the_plan(snapshot):
    payload = grid_payload(snapshot, {}, None)
    assert len(squares(payload)) == 2 * 3
    assert sum(sum(s["models"].values()) for _, s in squares(payload)) == 12
    assert sum(sum(s["cells"].values()) for _, s in squares(payload)) == 48
    assert sum(s["cells"]["done"] for _, s in squares(payload)) == 12
    assert payload["rates"] == [1, 2, 4]


def test_blocked_is_not_failed(snapshot):
    found = squares(grid_payload(snapshot, {"method": ("magnitude-global-unstructured",)}, None))
    by_rate = {square["rate"]: square for _, square in found}
    assert by_rate[1]["models"] == {
        "done": 1,
        "running": 0,
        "waiting": 0,
        "blocked": 0,
        "failed": 1,
    }
    assert by_rate[2]["models"] == {
        "done": 1,
        "running": 0,
        "waiting": 0,
        "blocked": 1,
        "failed": 0,
    }
    assert by_rate[1]["cells"]["blocked"] == 4


def test_values_are_means_over_the_rows(snapshot, frames):
    cells, models = frames
    for _, square in squares(grid_payload(snapshot, {}, "robust:cw_l2:2")):
        at = (cells.method == square["method"]) & (cells.rate == square["rate"])
        mine = cells[at & (cells.attack == "cw_l2") & (cells.eps == 2)]
        assert square["n"] == len(mine)
        if len(mine):
            assert square["value"] == pytest.approx(mine.robust_accuracy.mean(), abs=1e-5)
        else:
            assert square["value"] is None
        own = models[(models.method == square["method"]) & (models.rate == square["rate"])]
        assert square["accuracy_n"] == len(own)


@pytest.mark.parametrize(
    ("query", "models", "cells"),
    [
        ("seed=0", 6, 24),
        ("rate=2,4&method=random-local-filter", 4, 16),
        ("attack=cw_l2", 12, 24),
        ("eps=4/255", 12, 12),
        ("eps=0.01568627", 12, 12),
        ("rate=2.0&eps=1,2", 4, 8),
    ],
)
def test_filters_are_those_of_select(snapshot, query, models, cells):
    items = [tuple(part.split("=")) for part in query.split("&")]
    view = view_of(snapshot.index, parse_filter(items))
    assert (view.models.sum(), view.cells.sum()) == (models, cells)
    wanted = {
        k
        for c, i in zip(snapshot.index.plan.cells, view.cells, strict=True)
        if i
        for k in c.task_keys
    }
    found = tasks_of(snapshot.index, view)
    assert wanted <= found
    parents = {snapshot.index.plan.parent(key) for key in found} - {None}
    assert parents <= found


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"rate": ("3",)}, "rate: expected one of 1, 2, 4, got '3'"),
        ({"rate": ("1/0",)}, "rate: expected a number"),
        ({"rate": ("nan",)}, "rate: expected one of"),
        ({"method": ("magnitude-global-unstructure",)}, "did you mean"),
        ({"architecture": ("<script>",)}, "architecture: expected one of cnn5"),
    ],
)
def test_a_filter_that_names_nothing_is_refused(snapshot, query, words):
    with pytest.raises(UsageError, match=words):
        view_of(snapshot.index, query)


@pytest.mark.parametrize("value", ["clean", "robust:", "robust:nope:1", "robust:cw_l2:7", "robust"])
def test_a_value_that_there_is_not_is_refused(snapshot, value):
    with pytest.raises(UsageError, match="expected"):
        grid_payload(snapshot, {}, value)


def test_a_facet_names_only_what_differs(tmp_path, snapshot):
    (facet,) = grid_payload(snapshot, {}, None)["facets"]
    assert (facet["architecture"], facet["protocol"], facet["variant"]) == ("cnn5", None, None)
    run = Run(tmp_path / "s", TWO_PROTOCOLS)
    both = StoreReader(Store.open(run.address)).refresh(budget_s=60)
    facets = grid_payload(both, {}, None)["facets"]
    assert [facet["protocol"] for facet in facets] == ["strict", "paper"]
    assert all(sum(s["cells"].values()) == 8 for _, s in squares({"facets": facets}))


def test_a_square_lists_its_models_and_cells_with_their_tasks(snapshot, frames):
    cells, _ = frames
    where = {"method": ("magnitude-global-unstructured",), "rate": ("2",)}
    payload = square_payload(snapshot, where)
    assert [model["state"] for model in payload["models"]] == ["done", "blocked"]
    assert len(payload["cells"]) == 8
    done = [cell for cell in payload["cells"] if cell["state"] == "done"]
    values = cells.set_index("cell_id").robust_accuracy
    assert {cell["id"]: cell["value"] for cell in done} == pytest.approx(
        {cell["id"]: values[cell["id"]] for cell in done}, abs=1e-5
    )
    assert all(key in snapshot.index.number for cell in payload["cells"] for key in cell["tasks"])
    assert payload["cut"] == 0


def test_the_last_of_a_name_counts_and_what_is_no_number_is_refused():
    query = Query((("page", "1"), ("page", "2")))
    assert query.number("page") == 2
    for text in ("x", "nan", "inf", "1e999"):
        with pytest.raises(UsageError, match="page: expected a number"):
            Query((("page", text),)).number("page")
