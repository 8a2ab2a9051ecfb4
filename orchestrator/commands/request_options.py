"""The commands that ask something of a driver: retry, pause, resume."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import SelectOption, StoreOption


def register(app: typer.Typer) -> None:
    for command in (retry, pause, resume):
        app.command()(command)


def retry(
    store: StoreOption,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="Names of tasks or cells, or their first letters."),
    ] = None,
    select: SelectOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Every task that was given up, within --select.")
    ] = False,
) -> None:
    """Try given-up tasks again, with a whole budget; a running driver takes it up at once."""
    from prunegrid.orchestrator.commands import requests as commands

    commands.retry(store, select=select or [], failed=failed, tasks=tasks or [], console=Console())


def pause(store: StoreOption) -> None:
    """Start nothing new until 'resume'; what runs goes on to its end."""
    from prunegrid.orchestrator.commands import requests as commands

    commands.pause(store, Console())


def resume(store: StoreOption) -> None:
    """Go on after 'pause'."""
    from prunegrid.orchestrator.commands import requests as commands

    commands.resume(store, Console())
