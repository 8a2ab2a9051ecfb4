"""The summary as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from orchestrator.report.results import eps_text
from orchestrator.report.tables import Attacked, SummaryRow


def summary_table(rows: list[SummaryRow]) -> Table:
    """Clean accuracy, and robust accuracy at each attack's middle eps: means over seeds, %."""
    table = Table(
        title="accuracy, %: mean over seeds ± 95 % interval",
        box=None,
        title_justify="left",
        header_style="bold",
        padding=(0, 1),
    )
    several = len({row.architecture for row in rows}) > 1
    if several:
        table.add_column("architecture")
    for name in ("method", "rate", "effective", "clean"):
        table.add_column(name, justify="left" if name == "method" else "right")
    columns = middle_columns(list(rows[0].robust)) if rows else []
    for column in columns:
        table.add_column(f"{column.attack}\n{eps_text(column.norm, column.eps)}", justify="right")
    previous = rows[0].method if rows else ""
    for row in rows:
        if row.method != previous:
            table.add_section()
            previous = row.method
        values = [row.robust[column].text() for column in columns]
        head = [row.architecture] if several else []
        numbers = [f"{row.rate:g}", f"{row.effective_rate:.2f}", row.clean.text()]
        table.add_row(*head, row.method, *numbers, *values)
    return table


def middle_columns(columns: list[Attacked]) -> list[Attacked]:
    """One eps per protocol and attack: the upper middle one."""
    out = []
    for key in dict.fromkeys((c.protocol, c.attack) for c in columns):
        mine = [c for c in columns if (c.protocol, c.attack) == key]
        out.append(mine[len(mine) // 2])
    return out
