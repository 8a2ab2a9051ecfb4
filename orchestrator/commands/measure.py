"""`prunegrid measure`: batch and shard sizes for a grid file, measured on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption


def measure(
    grid: GridFile,
    select: SelectOption = None,
    slots: Annotated[
        int,
        typer.Option(metavar="N", help="Tasks to run at once; each is to have work."),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine, and print the batch and shard sizes to write into the grid file."""
    from prunegrid.orchestrator.commands import measured

    options = measured.MeasureOptions(grid=grid, select=tuple(select or ()), slots=slots)
    measured.show_measured(options, as_json=as_json, console=Console())
