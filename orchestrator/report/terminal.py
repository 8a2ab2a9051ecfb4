"""The summary as tables for a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.table import Table

from orchestrator.report.results import eps_text
from orchestrator.report.tables import Attacked, SummaryRow


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
