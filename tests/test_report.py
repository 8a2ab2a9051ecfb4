"""The report of a store that a run filled: every file, for a reader and for a machine."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from rich.console import Console

from orchestrator.errors import StoreError, UsageError
from orchestrator.report import Results, load_results, summary_rows, write_report
from orchestrator.report.command import report
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


@pytest.fixture(scope="module")
def results(store) -> Results:
    return load_results(Store.open(str(store)).files)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("written") / "out").folder


def test_all_rows_of_the_store_are_read(store, results):
    cells = pd.read_parquet(store / "results/cells")
    assert set(results.cells["cell_id"]) == set(cells["cell_id"])
    assert len(results.cells) == 48
    assert len(results.models) == 12


def test_the_summary_is_the_mean_over_seeds(results):
    rows = summary_rows(results)
    assert len(rows) == 6
    for row in rows:
        at = (results.cells.method == row.method) & (results.cells.rate == row.rate)
        assert len(row.robust) == 4
        for column, found in row.robust.items():
            mine = results.cells[at & (results.cells.attack == column.attack)]
            values = mine[mine.eps == column.eps].robust_accuracy
            assert found.n == len(values) == 2
            assert found.mean == pytest.approx(values.mean())


def test_a_missing_cell_is_shown_as_missing(results, tmp_path):
    cells = results.cells
    gone = cells.method.eq("random-local-filter") & cells.attack.eq("cw_l2") & cells.rate.eq(4)
    assert gone.sum() == 4
    less = Results(address=results.address, models=results.models, cells=cells[~gone])
    pages = [
        write_report(found, tmp_path / name, formats=["html"]).page.read_text()
        for name, found in (("whole", results), ("less", less))
    ]
    assert [page.count('title="no result">–</td>') for page in pages][1] >= 2
    assert "all 48 cells have a result" in pages[0]
    assert "4 of 48 cells have no result: 4 of random-local-filter at rate 4" in pages[1]


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_needs_no_network_and_shares_nothing(written):
    text = (written / "index.html").read_text()
    parser = _Sources()
    parser.feed(text)
    assert len(parser.found) > 3
    assert all(source.startswith(("#", "data:")) for source in parser.found)
    assert re.search(r'"showSendToCloud":\s*false', text)
    assert not re.search(r'"showSendToCloud":\s*true', text)
    assert len(re.findall(r"plotly\.js v\d", text)) == 1  # its licence's heading: one copy


def test_a_report_can_be_written_again_and_drops_what_is_stale(results, tmp_path):
    out = tmp_path / "out"
    first = write_report(results, out, formats=["html", "csv"])
    again = write_report(results, out, formats=["csv"])
    assert (out / "csv/cells.csv") in again.files
    assert {f for f in out.rglob("*") if f.is_file()} == {*again.files, *out.glob(".prune*")}
    assert first.page == out / "index.html"
    assert again.page is None


def test_an_unknown_format_is_refused(results, tmp_path):
    with pytest.raises(UsageError, match=r"pdf"):
        write_report(results, tmp_path / "out", formats=["pdf"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_names_every_method_whole(store, tmp_path, width):
    console = Console(width=width, record=True, file=io.StringIO())
    report(str(store), tmp_path / "out", against=None, console=console)
    text = console.export_text()
    lines = [line for line in text.splitlines() if "/" not in line]
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "…" not in text
    assert str(tmp_path / "out") in text


def test_a_store_without_a_finished_model_has_nothing_to_report(tmp_path):
    Store.open_or_create(str(tmp_path / "s"))
    with pytest.raises(StoreError, match="no finished model"):
        report(str(tmp_path / "s"), tmp_path / "out", against=None, console=Console(quiet=True))


def test_the_readme_reads_a_store_in_one_line_each(store):
    cells = pd.read_parquet(f"{store}/results/cells")
    query = (
        "select method, rate, avg(robust_accuracy) from '{}/results/cells/*.parquet' group by all"
    )
    assert len(duckdb.sql(query.format(store)).fetchall()) == 6
    assert len(cells) == 48
