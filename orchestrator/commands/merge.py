"""`prunegrid merge`: several stores into one, and every claim of that one checked."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.verify import show_findings
from prunegrid.orchestrator.output import Terminal, plain
from prunegrid.orchestrator.python_api import merge as merge_stores


def command(
    stores: Annotated[list[str], typer.Argument(metavar="A B...", help="The stores to merge.")],
    into: Annotated[
        str,
        typer.Option("--into", metavar="C", help="A new or empty folder, or a store to add to."),
    ],
) -> None:
    """Copy the results of several stores into one; nothing is replaced."""
    raise typer.Exit(merge(stores, into, Terminal()))


def merge(stores: list[str], into: str, console: Console) -> int:
    """Merge, say what was done, and verify. Returns the exit code of `verify`. Raises StoreError,
    UsageError."""
    done, say = merge_stores(stores, into), plain(console)
    shared = f"; {done.shared} results were in several" if done.shared else ""
    say(f"{into}: {done.tasks} results and {done.rows} rows of {len(stores)} stores{shared}")
    if not done.is_one_grid:
        say(
            f"the stores' grids differ, so none is taken: run the one that asks for all into {into}"
        )
        if done.underived:
            say(f"{done.underived} rows rest on results of several stores; that run derives them")
    return show_findings(into, as_json=False, console=console)
