"""`prunegrid measure`: the batch and shard sizes for a grid's networks on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption
from prunegrid.orchestrator.driver.launch import worker_settings
from prunegrid.orchestrator.driver.sizes import MeasureError
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.grid.sizes import Sizes, settle
from prunegrid.orchestrator.output import print_json
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.plan.sizes import choose, sizes_json, unmeasured, with_all_auto
from prunegrid.workers.entry import measure as measure_here
from prunegrid.workers.speeds import Speed

SIZES = ("batch_size", "images_per_shard")


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    grid: Path
    select: Sequence[str] = ()
    slots: int = 1  #: tasks at once


def command(
    grid: GridFile,
    select: SelectOption = None,
    slots: Annotated[
        int, typer.Option(metavar="N", help="So many tasks at once are to have work.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """How fast this machine takes a grid's networks, and the batch and shard sizes for it."""
    options = MeasureOptions(grid=grid, select=tuple(select or ()), slots=slots)
    show_measured(options, as_json=as_json, console=Console())


def show_measured(options: MeasureOptions, *, as_json: bool, console: Console) -> None:
    """Raises UsageError, GridError, MeasureError."""
    if options.slots < 1:
        raise UsageError(f"--slots: expected at least 1, got {options.slots}")
    grid, select = read_grid(options.grid), parse_selection(options.select)
    own = expand(grid, select)
    free = with_all_auto(grid)
    probes = unmeasured(expand(free, select), Sizes())
    names = ", ".join(probe.architecture for probe in probes)
    with Console(stderr=True).status(f"measuring {names}: some seconds each"):
        speeds = measure_here(probes, worker_settings(grid.resources, "", None))
    if isinstance(speeds, str):
        raise MeasureError(f"{names}: {speeds}")
    sizes = choose(free, select, Sizes(), speeds, slots=options.slots)
    chosen = expand(settle(free, sizes), select)
    rows = [
        row | {"grid": {name: _given(own, name) for name in SIZES}}
        for row, own in zip(sizes_json(chosen, sizes), sizes_json(own, Sizes()), strict=True)
    ]
    if as_json:
        print_json({"speeds": [asdict(speed) for speed in speeds], "sizes": rows})
        return
    for speed in speeds:
        console.print(_speed_text(speed), highlight=False, soft_wrap=True)
    console.print(_table(rows, {plan.name: plan.attack_images for plan in grid.architectures}))
    at_once = f"{options.slots} task{'s' * (options.slots != 1)} at once"
    console.print(
        f"measured on {speeds[0].device} ({speeds[0].host}), for {at_once}; with 'auto' in the "
        "grid file the first run chooses so, and its store keeps to it",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _speed_text(speed: Speed) -> str:
    rates = (f"{rate:,.0f} by {n}" for n, rate in zip(speed.sizes, speed.passes_per_s, strict=True))
    threads = f"{speed.threads} thread{'s' * (speed.threads != 1)}"
    return f"{speed.architecture}, images forward and back a second ({threads}): {', '.join(rates)}"


def _short(seconds: float) -> str:
    return duration_text(seconds) if seconds >= 1 else "< 1 s"


def _given(row: dict[str, Any], name: str) -> int | str:
    """What the grid file says."""
    given: int = row[name]
    return "auto" if name in row["auto"] else given


def _table(rows: Sequence[dict[str, Any]], images: Mapping[str, int]) -> Table:
    """`images`: to attack, by architecture; a shard of more is one of all."""
    table = Table(box=None)
    for name in ("architecture", "protocol", "attack"):
        table.add_column(name)
    for name in (*SIZES, "a task"):
        table.add_column(name, justify="right")
    for row in rows:
        names = (row["architecture"], row["protocol"], row["attack"])
        shown = row | {"images_per_shard": min(row["images_per_shard"], images[names[0]])}
        sizes = (
            f"{shown[name]} (grid: {row['grid'][name]})" if name in row["auto"] else f"{row[name]}"
            for name in SIZES
        )
        table.add_row(*names, *sizes, _short(row["task_s"]))
    return table
