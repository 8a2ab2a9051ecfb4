"""The report for a terminal: tables that fit 80 columns, findings, comparisons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

import pandas as pd
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.findings import Topic, findings
from prunegrid.orchestrator.report.results import Setting, eps_text, method_order, records
from prunegrid.orchestrator.report.tables import Attacked, SummaryRow, summary_rows

#: Models of one experiment that still get a line each.
FEW = 24
#: From this width on a matrix has its intervals.
WIDE = 112


def print_report(console: Console, analysis: Analysis) -> None:
    """Tables, and the findings that one acts on."""
    results = analysis.results
    if max(len(setting.rows(analysis.clean)) for setting in results.settings) <= FEW:
        for table in summary_tables(summary_rows(results)):
            console.print(table)
    else:
        for setting in results.settings:
            for table in matrices(analysis, setting, wide=console.width >= WIDE):
                console.print(table)
    topic = (Topic.DEPLOY, Topic.HOW_FAR)
    told = [f for f in findings(analysis) if f.topic in topic and "unknown, " in f.lead]
    for (setting, protocol), part in groupby(told, key=lambda f: (f.setting, f.protocol)):
        say(console, f"{setting.title}, protocol {protocol}:")
        for finding in part:
            say(console, f"  {finding.topic}. {finding.text}")


def say(console: Console, text: str, *, hang: int = 4) -> None:
    """A paragraph, wrapped at words; its later lines start at column `hang`."""
    wrapped = textwrap.wrap(
        text,
        max(console.width, 40),
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        break_long_words=False,
    )
    say_whole(console, "\n".join(wrapped))


def say_whole(console: Console, text: str) -> None:
    """As it is: a path must stay in one piece."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def matrices(analysis: Analysis, setting: Setting, *, wide: bool) -> Iterator[Table]:
    """Methods by rates: clean accuracy, and for each protocol the average robust accuracy."""
    from prunegrid.orchestrator.report.curves import average_robustness

    shown = {"clean accuracy": setting.rows(analysis.clean)}
    for protocol in analysis.results.protocols(setting):
        name = f"average robust accuracy, protocol {protocol}"
        shown[name] = average_robustness(analysis, setting, protocol)
    for name, rows in shown.items():
        if len(rows):
            low, high = rows["n"].min(), rows["n"].max()
            seeds = f"{low} seeds" if low == high else f"{low} to {high} seeds"
            title = f"{setting.title}: {name}, %, mean over {seeds}"
            yield _matrix(title + (" ± 95 % interval" if wide else ""), rows, wide=wide)


def _matrix(title: str, rows: pd.DataFrame, *, wide: bool) -> Table:
    table = Table(title=title, box=None, title_justify="left", header_style="bold", padding=(0, 1))
    rates = sorted(rows["rate"].unique())
    found = {
        (method, rate): f"{100 * mean:.1f}"
        + (f" ±{100 * half:.1f}" if wide and half == half else "")
        for method, rate, mean, half in records(rows[["method", "rate", "mean", "half"]])
        if mean == mean
    }
    table.add_column("method \\ rate", no_wrap=True)
    for rate in rates:
        table.add_column(f"{rate:g}", justify="right", no_wrap=True)
    for method in method_order(rows["method"]):
        table.add_row(method, *(found.get((method, rate), "–") for rate in rates))
    return table


def summary_tables(rows: list[SummaryRow]) -> Iterator[Table]:
    """One for each experiment and protocol: clean accuracy, and robust accuracy at each attack's
    middle eps; means over seeds, %."""
    for place, part in groupby(rows, key=lambda row: (row.architecture, row.variant)):
        mine = list(part)
        columns = middle_columns([c for c in mine[0].robust if any(r.robust[c].n for r in mine)])
        protocols = list(dict.fromkeys(column.protocol for column in columns)) or [""]
        for protocol in protocols:
            where = " ".join(name for name in place if name != "standard")
            where += f", protocol {protocol}" if protocol else ""
            yield _table(where, mine, [c for c in columns if c.protocol == protocol])


def _table(title: str, rows: list[SummaryRow], columns: list[Attacked]) -> Table:
    table = Table(
        title=f"{title}: accuracy, %, mean over seeds ± 95 % interval",
        box=None,
        title_justify="left",
        header_style="bold",
        padding=(0, 1),
    )
    table.add_column("method", no_wrap=True, min_width=12)
    for name in ("rate", "eff.", "clean"):
        table.add_column(name, justify="right", no_wrap=True, min_width=4)
    for column in columns:
        head = f"{column.attack}\n{eps_text(column.norm, column.eps)}"
        table.add_column(head, justify="right", no_wrap=True)
    for method, part in groupby(rows, key=lambda row: row.method):
        table.add_section()
        mine = list(part)
        names = _in_rows(method, len(mine))
        for row, name in zip(mine, names + [""] * len(mine), strict=False):
            values = [row.robust[column].text() for column in columns]
            numbers = [f"{row.rate:g}", f"{row.effective_rate:.2f}", row.clean.text()]
            table.add_row(name, *numbers, *values)
    return table


def _in_rows(method: str, rows: int) -> list[str]:
    """A method's name over its rows, a word a row, so that numbers keep their room; whole in one
    where there are too few."""
    words = method.split("-")
    lines = [f"{word}-" for word in words[:-1]] + words[-1:]
    return lines if len(lines) <= rows else [method]


def middle_columns(columns: list[Attacked]) -> list[Attacked]:
    """One eps per protocol and attack: the upper middle one."""
    out = []
    for key in dict.fromkeys((c.protocol, c.attack) for c in columns):
        mine = [c for c in columns if (c.protocol, c.attack) == key]
        out.append(mine[len(mine) // 2])
    return out
