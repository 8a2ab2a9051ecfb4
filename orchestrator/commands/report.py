"""`prunegrid report` and `prunegrid import-authors`, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console

from prunegrid.orchestrator.authors.authors import import_authors as import_files
from prunegrid.orchestrator.authors.oddities import FINDINGS
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.report.analysis import Against
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.report.terminal import print_report, say, say_whole
from prunegrid.orchestrator.report.write import write_report
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout

#: Examples of a finding on an import; `verify` lists all.
SHOWN = 2


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
    plan = _plan(opened)
    planned = None if plan is None else [cell.place for cell in plan.cells]
    evidence = gather(opened.files, results, plan)
    paths = write_report(results, out, planned=planned, against=other, evidence=evidence)
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


def import_authors(files: Sequence[Path], store: str, *, console: Console) -> None:
    """Import and print what is odd. Raises StoreError, UsageError."""
    opened = Store.open_or_create(store)
    done = import_files(files, opened.files)
    rows = f"{done.models} models, {done.cells} cells and {done.images} image rows"
    say_whole(console, f"{rows} in {opened.address}")
    if not done.findings:
        return
    say(console, "What is odd in them, kept as it is:")
    for name, mine in groupby(done.findings, key=lambda finding: finding.name):
        found = sorted(mine, key=lambda finding: -finding.count)
        say(console, f"{sum(f.count for f in found):6} {name}: {FINDINGS[name]}", hang=9)
        for finding in found[:SHOWN]:
            say(console, f"         {finding.where}: {finding.message}", hang=13)
        if len(found) > SHOWN:
            say(console, f"         and {len(found) - SHOWN} more")
    say_whole(console, f"all of them: prunegrid verify --store {opened.address}")
