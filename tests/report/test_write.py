"""The report's files: numbers as they are, missing cells shown, hostile names harmless, offline."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import struct
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.report import report
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.report import load_results, write_report
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.terminal import summary_tables
from prunegrid.orchestrator.report.write import MARKER
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.files import write_aside
from tests.fakes import RUNNER
from tests.grids import SMALL
from tests.report.synthetic import METHODS, synthetic, without


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "grid.yaml").write_text(SMALL)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return folder / "s"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(results, folder): two protocols, two architectures, gaps."""
    results = without(
        synthetic(architectures=("cnn5", "vgg11"), protocols=("paper", "strict"), seeds=3),
        method=METHODS[1],
        rate=8.0,
        attack="cw_l2",
    )
    out = tmp_path_factory.mktemp("out") / "report"
    write_report(results, out, title="both", formats=("html", "csv", "latex"))
    return results, out


class _Sources(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_needs_no_network_and_shares_nothing(written):
    text = (written[1] / "index.html").read_text()
    sources = _Sources(text).found
    assert sources
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert "showSendToCloud" in text
    assert not re.search(r'"showSendToCloud":\s*true', text)
    assert text.count("plotly.js v") == 1, "one copy for all figures"
    assert not re.search(r"url\(['\"]?http", text)
    assert not re.search(r"@import", text)


def test_csv_gives_the_numbers_back(written):
    results, out = written
    cells = pd.read_csv(out / "csv/cells.csv")
    for row in cells.sample(10, random_state=0).itertuples():
        mine = results.cells[
            (results.cells.architecture == row.architecture)
            & (results.cells.method == row.method)
            & (results.cells.rate == row.rate)
            & (results.cells.protocol == row.protocol)
            & (results.cells.attack == row.attack)
            & ((results.cells.eps - row.eps).abs() < 1e-9)
        ]
        assert row.n == len(mine) == 3
        assert row.mean == pytest.approx(mine.robust_accuracy.mean())
        models = results.models[results.models.task_key.isin(mine.model_key)]
        assert row.effective_rate == pytest.approx(models.effective_rate.mean())
    missing = pd.read_csv(out / "csv/missing.csv")
    assert len(missing) == 2 * 2 * 3 * 4
    for path in (out / "csv").iterdir():
        rows = list(csv.reader(io.StringIO(path.read_text())))
        assert len({len(row) for row in rows}) == 1, path


def test_names_that_differ_have_files_of_their_own(tmp_path):
    """Also where the file system ignores case."""
    names = ("a,b", "a/b", "a_b", "A_b", "a__b", "x" * 41, "x" * 42)
    written = write_report(synthetic(protocols=names), tmp_path / "out", formats=["latex"])
    tables = [path.name.lower() for path in written.files if path.name.startswith("table2")]
    assert len(set(tables)) == len(names)
    assert "table2-cnn5-mnist-standard-a_b.tex" in tables


def test_captions_say_what_bold_means(written):
    _, out = written
    bold = 0
    for path in (out / "latex").iterdir():
        for table in path.read_text().split("\\begin{table}")[1:]:
            assert ("\\textbf" not in table) or "Bold: " in table.partition("tabular")[0], path
            bold += table.count("\\textbf")
    assert bold


def test_a_missing_cell_is_a_dash_in_every_table(written):
    _, out = written
    text = (out / "latex/table2-cnn5-mnist-standard-strict.tex").read_text()
    line = next(
        line
        for part in text.split("\\begin{table}")
        if METHODS[1] in part
        for line in part.splitlines()
        if line.startswith("C\\&W L2, ε = 1 ") or line.startswith("C\\&W L2, $\\varepsilon$ = 1 ")
    )
    assert line.rstrip(" \\").endswith("--")
    page = (out / "index.html").read_text()
    assert "48 of 1728 cells have no result" in page


def test_a_run_of_one_attack_so_far_is_reported(tmp_path):
    """Every pruned model still lacks an attack: no mean over attacks, and a page all the same."""
    results = synthetic()
    for rate in (2.0, 4.0, 8.0):
        for attack in ("cw_l2", "bb_l0"):
            results = without(results, rate=rate, attack=attack)
    write_report(results, out=tmp_path / "r", formats=["html"])
    page = (tmp_path / "r/index.html").read_text()
    assert "mean robust" in page
    assert "NaN" not in page.split("mean robust", 1)[1].split("</table>", 1)[0]


def test_latex_is_whole(written):
    for path in (written[1] / "latex").iterdir():
        text = path.read_text()
        for name in ("table", "tabular"):
            begun = len(re.findall(rf"\\begin{{{name}}}", text))
            assert begun == len(re.findall(rf"\\end{{{name}}}", text)) > 0
        columns = 0
        for line in text.splitlines():
            if match := re.search(r"\\begin\{tabular\}\{(\w+)\}", line):
                columns = len(match[1])
            elif line.endswith("\\\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", text):
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        assert depth == 0


def test_figures_are_pictures(tmp_path):
    results = synthetic(protocols=("paper", "strict"), rates=(1.0, 4.0), methods=METHODS[:2])
    write_report(results, tmp_path / "out", formats=("figures",))
    figures = sorted((tmp_path / "out/figures").iterdir())
    assert len(figures) == (2 * 3 + 1) * 3
    for path in figures:
        if path.suffix == ".png":
            content = path.read_bytes()
            assert content.startswith(b"\x89PNG")
            width, height = struct.unpack(">II", content[16:24])
            assert min(width, height) > 300
        elif path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")
            assert b"CreationDate" not in path.read_bytes(), "the same figure, the same bytes"
        else:
            root = ET.fromstring(path.read_text())
            assert root.tag.endswith("svg")
            words = " ".join(root.itertext())
            assert "compression rate" in words
            assert "http" not in words


def test_hostile_names_stay_text(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    results = synthetic(
        architectures=(evil,),
        dataset=evil,
        variant=evil,
        protocols=(evil,),
        methods=(METHODS[0], evil),
        flags=(evil,),
        address=evil,
    )
    results.models["host"] = results.cells["engine"] = results.cells["outputs"] = evil
    results.cells.loc[results.cells["attack"] == "cw_l2", "attack"] = evil
    part = without(results, rate=4.0, attack=evil)
    other = dataclasses.replace(part, address=f"{evil}2")
    write_report(
        part, tmp_path / "out", against=other, title=evil, formats=("html", "csv", "latex")
    )
    text = (tmp_path / "out/index.html").read_text()
    parser = _Sources(re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.S))
    assert "img" not in parser.tags
    assert not any("onerror" in name for name in parser.attributes)
    assert "&lt;script&gt;alert(1)" in text
    for block in re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.S):
        assert "<script>alert" not in block
    assert all(path.resolve().is_relative_to(tmp_path) for path in (tmp_path / "out").rglob("*"))


def test_a_folder_of_somebody_else_is_left_alone(store, tmp_path):
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(StoreError, match="not a report of ours"):
        write_report(load_results(Store.open(str(store)).files), tmp_path)
    assert (tmp_path / "index.html").read_text() == "<html>mine</html>"


def test_writing_again_replaces_ours_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    formats = ("csv", "latex")
    write_report(synthetic(architectures=("cnn5", "vgg11")), out, formats=formats)
    (out / "latex/notes.txt").write_text("mine")
    before = {path for path in out.rglob("*") if path.is_file()}
    write_report(synthetic(architectures=("cnn5",)), out, formats=formats)
    after = {path for path in out.rglob("*") if path.is_file()}
    assert (out / "latex/notes.txt").read_text() == "mine"
    assert any("vgg11" in path.name for path in before)
    assert not any("vgg11" in path.name for path in after)


def test_a_marker_that_names_files_elsewhere_deletes_nothing(tmp_path):
    out, precious = tmp_path / "out", tmp_path / "precious.txt"
    precious.write_text("mine")
    write_report(synthetic(), out, formats=("csv",))
    (out / MARKER).write_text(json.dumps({"files": ["../precious.txt", str(precious)]}))
    write_report(synthetic(), out, formats=("csv",))
    assert precious.read_text() == "mine"


def test_a_misspelt_format_is_named():
    with pytest.raises(UsageError, match="did you mean 'html'"):
        write_report(synthetic(), Path("never"), formats=("htlm",))


def test_the_command_on_a_run_s_store(store, tmp_path):
    text = io.StringIO()
    report(str(store), tmp_path / "out", against=None, console=Console(file=text, width=80))
    assert (tmp_path / "out/index.html").is_file()
    lines = text.getvalue().splitlines()
    assert max(map(len, lines[:10])) <= 80
    assert "…" not in text.getvalue()
    empty = Store.open_or_create(str(tmp_path / "empty"))
    with pytest.raises(StoreError, match="no finished model"):
        report(empty.address, tmp_path / "o2", against=None, console=Console(quiet=True))


def test_a_store_beside_another_by_command(store, tmp_path):
    shutil.copytree(store, tmp_path / "copy")
    text = io.StringIO()
    console = Console(file=text, width=100)
    report(str(store), tmp_path / "out", against=str(tmp_path / "copy"), console=console)
    assert "48 of 48 cells have a result on both sides" not in text.getvalue()
    assert "24 of 24 cells have a result on both sides (the same networks" in text.getvalue()
    assert "24 cells: no difference shown" in text.getvalue()


def test_terminal_tables_have_a_line_per_model(written):
    experiments = analyse(written[0]).experiments()
    tables = [
        table for experiment in experiments for table in summary_tables(experiment, wide=True)
    ]
    assert len(tables) == 2 * 2
    assert all(table.row_count == 12 for table in tables)
    assert all(len(table.columns) == 4 + 3 for table in tables)


def test_the_readme_reads_a_store_in_one_line_each(store):
    cells = pd.read_parquet(f"{store}/results/cells")
    query = (
        "select method, rate, avg(robust_accuracy) from '{}/results/cells/*.parquet' group by all"
    )
    assert len(duckdb.sql(query.format(store)).fetchall()) == 6
    assert len(cells) == 48


def test_a_missing_cell_is_a_gap_in_its_line(written):
    """In the figures' data, between the rates that have a result."""
    from prunegrid.orchestrator.report.curves import security_grid
    from prunegrid.orchestrator.report.plotly_figures import draw

    results, _ = written
    grid = security_grid(analyse(results).parts()[0])
    figure = draw(grid)
    for panel in (panel for row in grid.panels for panel in row):
        rows = panel.rows[panel.rows["method"] == METHODS[1]].set_index("rate")
        assert rows["mean"].isna()[8.0] == panel.title.startswith("C&W")
        assert rows["mean"].notna().sum() >= 3
    gaps = [t.y for t in figure.data if t.name == METHODS[1] and None in t.y]
    assert len(gaps) == 4
    assert all(y[:3] and None not in y[:3] and y[3] is None for y in gaps)


def test_two_writers_of_one_report_do_not_meet(tmp_path):
    """Two drivers that both believe to hold a store end with its report at the same moment."""

    def write(number: int) -> None:
        for _ in range(50):
            write_aside(tmp_path / "index.html", b"x" * number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
