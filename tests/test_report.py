"""The report: numbers as they are, missing cells shown, hostile names harmless, no network."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from orchestrator.errors import StoreError
from orchestrator.report import summary_rows, write_report
from orchestrator.report.html import page
from orchestrator.report.statistics import estimate
from orchestrator.report.terminal import summary_table
from orchestrator.run import RunOptions, run_grid
from orchestrator.store import Store
from tests.grids import SMALL


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "grid.yaml").write_text(SMALL)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner="tests.fakes"
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return folder / "s"


def frames(store: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(store / "results/models"), pd.read_parquet(store / "results/cells")


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_estimates_agree_with_scipy(values):
    found = estimate(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    if found.sd > 1e-6:  # scipy warns of nearly equal values
        assert found.sd == pytest.approx(stats.tstd(values), abs=1e-9)
        low, high = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=stats.sem(values))
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_one_value_has_no_interval_and_none_is_a_dash():
    assert estimate([0.5]).text() == "50.0"
    assert math.isnan(estimate([0.5]).half)
    assert estimate([]).text() == "–"
    assert estimate([float("nan"), 0.25]).n == 1


def test_the_summary_is_the_mean_over_seeds(store):
    models, cells = frames(store)
    rows = summary_rows(models, cells)
    assert len(rows) == 6
    row = rows[0]
    mine = cells[(cells.method == row.method) & (cells.rate == row.rate)]
    for column, found in row.robust.items():
        values = mine[(mine.attack == column.attack) & (mine.eps == column.eps)].robust_accuracy
        assert found.n == len(values) == 2
        assert found.mean == pytest.approx(values.mean())


def test_a_missing_cell_is_shown_as_missing(store):
    models, cells = frames(store)
    gone = cells.method.eq("random-local-filter") & cells.attack.eq("cw_l2") & cells.rate.eq(4)
    rows = summary_rows(models, cells[~gone])
    text = page("t", rows, models, cells[~gone])
    assert text.count("<td>–</td>") == 2


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_needs_no_network_and_shares_nothing(store, tmp_path):
    path, _ = write_report(Store.open(str(store)), tmp_path / "out", title="small")
    text = path.read_text()
    parser = _Sources()
    parser.feed(text)
    assert all(source.startswith(("#", "data:")) for source in parser.found)
    assert text.count("showSendToCloud") > 1
    assert not re.search(r'"showSendToCloud":\s*true', text)
    assert text.count("/*! For license information") <= 1 or text.count("plotly.js v") == 1


def test_hostile_names_stay_text(store):
    models, cells = frames(store)
    evil = "<script>alert(1)</script>"
    models["variant"] = cells["variant"] = evil
    models["host"] = evil
    cells["protocol"] = evil
    text = page(evil, summary_rows(models, cells), models, cells)
    body = text[text.index("<body>") :]
    shown = re.sub(r"<script type=\"text/javascript\">.*?</script>", "", body, flags=re.S)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown


def test_a_page_of_somebody_else_is_left_alone(store, tmp_path):
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(StoreError, match="not a page of ours"):
        write_report(Store.open(str(store)), tmp_path, title="x")
    assert (tmp_path / "index.html").read_text() == "<html>mine</html>"


def test_the_report_can_be_written_again(store, tmp_path):
    for _ in range(2):
        write_report(Store.open(str(store)), tmp_path / "out", title="x")


def test_the_terminal_table_has_a_line_per_model(store):
    models, cells = frames(store)
    table = summary_table(summary_rows(models, cells))
    assert table.row_count == 6
    assert len(table.columns) == 4 + 2


def test_the_readme_reads_a_store_in_one_line_each(store):
    cells = pd.read_parquet(f"{store}/results/cells")
    query = (
        "select method, rate, avg(robust_accuracy) from '{}/results/cells/*.parquet' group by all"
    )
    assert len(duckdb.sql(query.format(store)).fetchall()) == 6
    assert len(cells) == 48
