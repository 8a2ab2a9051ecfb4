"""`prunegrid check`: a grid tried out in small, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import (
    DataDirOption,
    GridFile,
    JsonOption,
    SelectOption,
    absolute,
)
from prunegrid.orchestrator.commands.plan import outlook
from prunegrid.orchestrator.driver.rehearsals import refusals, rehearsals_of, remember_well, try_out
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal, print_json
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import estimate
from prunegrid.orchestrator.store.forecast_inputs import model_here
from prunegrid.orchestrator.store.plan import read_grid_for
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.rehearsal import RehearsedPart

#: Bytes of an image's row, compressed, and of a weight: itself, and a bit of its mask.
_ROW_BYTES, _WEIGHT_BYTES = 40, 4 + 1 / 8


def command(
    grid: GridFile,
    select: SelectOption = None,
    data_dir: DataDirOption = None,
    slots: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tasks at once, for the time it will take.")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Try a grid out in small: data, networks, pruning and attacks; exit 1 where one fails."""
    folder = absolute(data_dir)
    plan = expand(read_grid_for(grid, None, folder), parse_selection(select or ()))
    with Terminal(stderr=True).status("trying everything once: some seconds for each network"):
        parts = try_out(plan.grid, rehearsals_of(plan, folder))
    errors = [str(error) for error in refusals(plan.grid, parts)]
    if not errors:
        remember_well(plan, folder)
    if as_json:
        print_json({"parts": [asdict(part) for part in parts], "errors": errors})
    else:
        _show(plan, parts, errors, slots, Terminal())
    raise typer.Exit(1 if errors else 0)


def _show(
    plan: Plan, parts: Sequence[RehearsedPart], errors: list[str], slots: int, console: Console
) -> None:
    for note in plan.grid.remarks:
        console.print(note, soft_wrap=True)
    for part in parts:
        sign = "failed" if part.error else "ok"
        said = f": {part.note}" if part.note else ""
        line = f"{sign}  {part.what}, {part.took_s:.1f} s{said}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for error in errors:
        console.print(error, soft_wrap=True, highlight=False, markup=False)
    if errors:
        console.print(f"{counted(len(errors), 'thing')} to mend; nothing was trained")
        return
    for line in _prospect(plan, parts, slots):
        console.print(line, soft_wrap=True)


def _prospect(plan: Plan, parts: Sequence[RehearsedPart], slots: int) -> Iterator[str]:
    """How long and how large all will be."""
    durations = Durations(model_here(plan))
    eta = estimate(plan.tasks, durations, slots=slots, elapsed={})
    yield from outlook(plan, {slots: eta}, durations)
    size = {part.where[1]: part.parameters for part in parts if part.parameters}
    models = {model.task_key: model.place.architecture for model in plan.models}
    weights = sum(size[label] * _WEIGHT_BYTES for label in models.values())
    rows = sum(
        (task.stop - task.start) * max(1, len(task.attack.eps))  # one for all eps at minimum norm
        for task in plan.tasks.values()
        if isinstance(task, AttackTask)
    )
    yield (
        f"the store: about {(weights + rows * _ROW_BYTES) / 1e6:,.0f} MB, "
        f"{counted(len(models), 'model')} and {counted(rows, 'image row')}"
    )
