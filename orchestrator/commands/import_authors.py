"""`prunegrid import-authors`: raw results of the paper's authors, read into a store."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.authors.authors import import_authors as import_sources
from prunegrid.orchestrator.authors.authors import read_sources
from prunegrid.orchestrator.authors.oddities import FINDINGS
from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.report.terminal import say, say_whole
from prunegrid.orchestrator.store.store import Store

#: Examples of a finding on an import; `verify` lists all.
SHOWN = 2


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Parquet, a row per trained run.")
    ],
    store: StoreOption,
) -> None:
    """Read raw results in the form of the paper's authors into a store."""
    import_authors(files, store, console=Terminal())


def import_authors(files: Sequence[Path], store: str, *, console: Console) -> None:
    """Import and print what is odd. Raises StoreError, UsageError."""
    sources = read_sources(files)
    opened = Store.open_or_create(store)
    done = import_sources(sources, opened.files)
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
