"""`prunegrid report`: the tables, figures and findings of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.report.analysis import Against
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.report.terminal import print_report, say_whole
from prunegrid.orchestrator.report.write import write_report
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout


def command(
    store: StoreOption,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new or empty folder, or an earlier report.")
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="paper|S", help="Beside the published tables, or another store."),
    ] = None,
    contrast: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Method A against method B at equal compression."),
    ] = None,
) -> None:
    """Tables, figures and findings: one page that needs no network; CSV, LaTeX, PNG and SVG."""
    report(store, out, against=against, contrast=contrast, console=Terminal())


def report(
    store: str,
    out: Path,
    *,
    against: str | None,
    contrast: tuple[str, str] | None = None,
    console: Console,
) -> None:
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
    plan = _plan(opened)
    planned = None if plan is None else [cell.place for cell in plan.cells]
    evidence = gather(opened.files, results, plan)
    paths = write_report(
        results, out, planned=planned, against=other, contrast=contrast, evidence=evidence
    )
    print_report(console, paths.analysis)
    say_whole(console, f"report: {paths.page}")
    say_whole(
        console, f"{len(paths.files)} files in {paths.folder}: csv, latex, figures (PNG and SVG)"
    )


def _plan(store: Store) -> Plan | None:
    """What the store's own grid asks for; None where no grid was run, or rows were imported."""
    if store.read_text(layout.GRID) is None or any(store.files.list("imported")):
        return None
    return load_plan(store)
