"""`prunegrid report`: the tables, figures and findings of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.python_api import report as write
from prunegrid.orchestrator.report.terminal import print_report, say_whole


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
    """Tables, figures and findings: one page that needs no network; CSV, LaTeX, PNG, SVG, PDF."""
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
    paths = write(store, out, against=against, contrast=contrast)
    print_report(console, paths.analysis)
    say_whole(console, f"report: {paths.page}")
    say_whole(
        console,
        f"{len(paths.files)} files in {paths.folder}: csv, latex, figures (PNG, SVG and PDF)",
    )
