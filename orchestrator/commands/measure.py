"""`prunegrid measure`: the batch and shard sizes for a grid's networks on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption


def measure(
    grid: GridFile,
    select: SelectOption = None,
    slots: Annotated[
        int, typer.Option(metavar="N", help="So many tasks at once are to have work.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """How fast this machine takes a grid's networks, and the batch and shard sizes for it."""
    from prunegrid.orchestrator.commands import measured

    options = measured.MeasureOptions(grid=grid, select=tuple(select or ()), slots=slots)
    measured.show_measured(options, as_json=as_json, console=Console())
