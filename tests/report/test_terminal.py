"""What a terminal shows: nothing cut, nothing wider than it, every method by its whole name."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.terminal import (
    _in_lines,
    matrices,
    print_report,
    say,
    summary_tables,
)
from tests.report.synthetic import METHODS, RATES, THREATS, synthetic, without


def shown(analysis, width: int) -> str:
    text = io.StringIO()
    print_report(Console(file=text, width=width), analysis)
    return text.getvalue()


@pytest.fixture(scope="module")
def full():
    results = synthetic(methods=METHODS, rates=RATES, seeds=3, architectures=("cnn5", "vgg11"))
    return analyse(without(results, method=METHODS[0], rate=64.0))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_full_grid_fits_and_names_every_method(full, width):
    text = shown(full, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for method in METHODS:
        assert text.count(f" {method} ") >= 4
    intervals = re.search(r"\d–\d", text.split("What to deploy")[0])
    assert (intervals is not None) == (width == 120)
    assert "What to deploy. Adversary unknown, average case: " in text
    assert "How far to prune. Adversary unknown, average case: " in text
    assert "attack the same 128 images: no interval covers" in " ".join(text.split())


def test_a_matrix_shows_what_is_missing(full):
    text = io.StringIO()
    console = Console(file=text, width=100)
    for table in matrices(full.experiments()[0], wide=False):
        console.print(table)
    clean, robust = text.getvalue().split("average robust accuracy")
    line = next(line for line in robust.splitlines() if METHODS[0] in line)
    assert line.rstrip().endswith("–")
    mean = full.clean[
        (full.clean.method == METHODS[1])
        & (full.clean.rate == 8)
        & (full.clean.architecture == "cnn5")
    ]["mean"].item()
    row = next(line for line in clean.splitlines() if METHODS[1] in line)
    assert row.split()[4] == f"{100 * mean:.1f}"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("width", [60, 80, 81, 100, 120])
def test_a_small_grid_has_a_line_per_model_and_no_number_is_cut(width, seeds):
    """Attacks that do not fit beside the others are in a table below. One seed has no intervals,
    so that its numbers are shorter than their column."""
    more = {("carlini_wagner_l2", "l2"): (1.0, 2.0), ("projected_gradient", "linf"): (8 / 255,)}
    threats = {**THREATS, **more}
    analysis = analyse(synthetic(methods=METHODS[:2], threats=threats, seeds=seeds))
    text = shown(analysis, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    (table,) = summary_tables(analysis.experiments()[0], wide=True)
    assert len(table.columns) == 4 + 5
    for column in table.columns[3:]:
        for number in [word for cell in (column.header, *column.cells) for word in cell.split()]:
            assert re.search(rf"(^|\s){re.escape(number)}(\s|$)", text), number


def test_a_small_grid_has_a_line_per_model():
    analysis = analyse(synthetic(methods=METHODS[:2]))
    text = shown(analysis, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "cw_l2" in text
    interval = r"\(\d+\.\d–\d+\.\d\)"
    numbers = [line for line in text.splitlines() if len(re.findall(interval, line)) == 4]
    assert len(numbers) == 8


def test_the_summary_has_a_row_per_model_and_a_value_per_attack():
    """At the upper middle eps of each attack."""
    results = synthetic(seeds=3, protocols=("paper", "strict"))
    tables = list(summary_tables(analyse(results).experiments()[0], wide=True))
    assert [table.row_count for table in tables] == [12, 12]
    methods = [cell for cell in tables[1].columns[0].cells if cell]
    assert len(methods) == 3 * 3, "a word a row"
    value = next(iter(tables[1].columns[5].cells))
    mine = results.cells[
        (results.cells.method == METHODS[0])
        & (results.cells.rate == 1)
        & (results.cells.protocol == "strict")
        & (results.cells.attack == "cw_l2")
        & (results.cells.eps == 3)
    ]
    assert value.split(" ")[0] == f"{100 * mine.robust_accuracy.mean():.1f}"


def test_unpruned_models_that_all_methods_share_stand_once():
    results = synthetic(seeds=3)
    dense = results.cells[results.cells.method == METHODS[0]].set_index(["attack", "eps", "seed"])
    dense = dense[dense.rate == 1]["robust_accuracy"]
    cells, models = results.cells.copy(), results.models.copy()
    first = cells.rate == 1
    places = zip(cells.attack, cells.eps, cells.seed, strict=True)
    same = [dense[place] for place in places]
    cells["robust_accuracy"] = cells["robust_accuracy"].where(~first, same)
    models.loc[models.rate == 1, "accuracy"] = 0.97
    shared = dataclasses.replace(results, cells=cells, models=models)
    (table,) = summary_tables(analyse(shared).experiments()[0], wide=True)
    assert table.row_count == 1 + 3 * 3
    assert next(iter(table.columns[0].cells)) == "unpruned"
    assert list(table.columns[1].cells).count("1") == 1
    (table,) = summary_tables(analyse(results).experiments()[0], wide=True)
    assert "unpruned" not in table.columns[0].cells


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_a_method_s_name_takes_no_more_lines_than_there_are_and_stays_whole(most):
    for method in METHODS:
        lines = _in_lines(method, most)
        assert "".join(lines) == method
        assert len(lines) <= most
    assert _in_lines("magnitude-local-filter", 2) == ["magnitude-", "local-filter"]


def test_a_paragraph_wraps_at_words_and_markup_stays_text():
    text = io.StringIO()
    say(
        Terminal(file=text, width=40),
        "  lead: " + "magnitude-global-filter [red]x[/red] " * 4,
        hang=6,
    )
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert all(line.startswith("      ") for line in lines[1:])
    assert text.getvalue().count("magnitude-global-filter") == 4
    assert text.getvalue().count("[red]x[/red]") == 4
