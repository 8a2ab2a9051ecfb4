"""`prunegrid report` and `prunegrid import-authors`, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orchestrator.authors import import_authors as import_files
from orchestrator.errors import StoreError
from orchestrator.report.analysis import Against
from orchestrator.report.results import load_results
from orchestrator.report.tables import summary_rows
from orchestrator.report.terminal import summary_tables
from orchestrator.report.write import write_report
from orchestrator.rows import CellPlace
from orchestrator.store import Store
from orchestrator.stored_plan import load_plan
from workers import layout


def report(store: str, out: Path, *, against: str | None, console: Console) -> None:
    """Write a store's report and print its summary. Raises StoreError, UsageError."""
    opened = Store.open(store)
    results = load_results(opened.files)
    if results.models.empty:
        raise StoreError(f"{opened.address}: no finished model to report on yet")
    other: Against | None = None
    if against == "paper":
        other = "paper"
    elif against is not None:
        other = load_results(Store.open(against).files)
    paths = write_report(results, out, planned=_planned(opened), against=other)
    for table in summary_tables(summary_rows(results)):
        console.print(table)
    for line in paths.lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {paths.page}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{len(paths.files)} files in {paths.folder}: csv, latex, figures (PNG and SVG)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _planned(store: Store) -> list[CellPlace] | None:
    """What the store's own grid asks for; None where no grid was run, or rows were imported."""
    if store.read_text(layout.GRID) is None or any(store.files.list("imported")):
        return None
    return [cell.place for cell in load_plan(store).cells]


def import_authors(files: Sequence[Path], store: str, *, console: Console) -> None:
    """Import and print what is odd. Raises StoreError, UsageError."""
    opened = Store.open_or_create(store)
    done = import_files(files, opened.files)
    console.print(
        f"{done.models} models, {done.cells} cells and {done.images} image rows in "
        f"{opened.address}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if not done.findings:
        return
    table = Table("finding", "models", "what", box=None, header_style="bold")
    for name, mine in groupby(done.findings, key=lambda finding: finding.name):
        found = list(mine)
        table.add_row(
            name, str(sum(f.count for f in found)), f"{found[0].where}: {found[0].message}"
        )
        if len(found) > 1:
            table.add_row("", "", f"and {len(found) - 1} more of this kind")
    console.print(table, markup=False)
    console.print(f"all of them: prunegrid verify --store {opened.address}", soft_wrap=True)
