"""`prunegrid measure`: how fast this machine takes a grid's networks, for `plan`; batch and shard
sizes for the grid file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption
from prunegrid.orchestrator.driver.launch import worker_settings
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid_text
from prunegrid.orchestrator.grid.grid import PlannedAttack
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal, print_json, print_table
from prunegrid.orchestrator.plan.cost_model import epoch_images
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.plan.task_sizes import AttackSizes, TaskSizes, choose_sizes, probes_of
from prunegrid.orchestrator.store.auto_sizes import without_auto
from prunegrid.orchestrator.store.forecast_inputs import write_speeds
from prunegrid.orchestrator.tuning.piece import sizes_piece
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.speeds import Speed

SIZES = ("batch_size", "images_per_shard")


class MeasureError(PrunegridError):
    """This machine could not be measured."""


def command(
    grid: GridFile,
    select: SelectOption = None,
    slots: Annotated[
        int, typer.Option(metavar="N", help="Tasks to run at once; each is to have work.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the speeds there, for 'plan --speeds FILE'."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine for `plan`, and the sizes to write into the grid file."""
    if slots < 1:
        raise UsageError(f"--slots: expected at least 1, got {slots}")
    text = without_auto(read_grid_text(grid), batch_size=128, images_per_shard=250)
    parsed = parse_grid(text, source=str(grid))
    plan = expand(parsed, parse_selection(select or ()))
    sizes = measure_sizes(plan, slots=slots)
    if out is not None:
        write_speeds(out, sizes.speeds)
    first = sizes.speeds[0]
    at_once = f"{counted(slots, 'task')} at once"
    rests_on = f"measured on {first.device} ({first.host}), for {at_once}"
    piece = sizes_piece(parsed, sizes, rests_on)
    now = {(c.place.model.architecture, c.attack.protocol, c.attack.label): c.attack
           for c in plan.cells}  # fmt: skip
    rows = [(row, now[row.architecture, row.protocol, row.attack]) for row in sizes.attacks]
    console = Terminal()
    if as_json:
        print_json(
            {
                "speeds": [asdict(speed) for speed in sizes.speeds],
                "sizes": [asdict(row) | {"grid": _given(attack)} for row, attack in rows],
                "piece": piece,
            }
        )
        return
    console.print(_title(first), soft_wrap=True)
    images = {plan_of.name: epoch_images(plan_of.data) for plan_of in parsed.architectures}
    print_table(console, _speeds_table(sizes.speeds, images))
    print_table(console, _table(rows), keys=3)
    if out is not None:
        console.print(f"\nwritten: {out}", soft_wrap=True)
    console.print(f"\nfor {parsed.source}:", soft_wrap=True)
    console.print(piece.rstrip(), soft_wrap=True)


def measure_sizes(plan: Plan, *, slots: int) -> TaskSizes:
    """Sizes for a plan's attacks by the speed of this machine. Raises MeasureError."""
    probes = probes_of(plan)
    names = ", ".join(probe.architecture for probe in probes)
    with Terminal(stderr=True).status(f"measuring {names}: some seconds each"):
        speeds = REAL_RUNNER.measure(probes, worker_settings(plan.grid, "", None))
    if isinstance(speeds, str):
        raise MeasureError(f"{names}: {speeds}")
    return choose_sizes(plan, speeds, slots=slots)


def _title(first: Speed) -> str:
    threads = counted(first.threads, "thread")
    start = f"a worker starts in {first.start_s:.1f} s" if first.start_s else "start not measured"
    return f"{first.device} ({threads}; {start}); images a second:"


def _speeds_table(speeds: Sequence[Speed], images: Mapping[str, tuple[float, float]]) -> Table:
    table = Table(box=None)
    table.add_column("architecture")
    for name in ("batch", "forward", "and back", "in training", "an epoch", "compiling"):
        table.add_column(name, justify="right")
    for speed in speeds:
        epoch = f"{speed.epoch_s(*images[speed.architecture]):,.1f} s"
        first = (f"{speed.trained_per_s:,.0f}", epoch, f"{speed.compile_s:.1f} s")
        numbers = zip(speed.sizes, speed.forward_per_s, speed.passes_per_s, strict=True)
        for line, (size, forward, both) in enumerate(numbers):
            rest = ("", "", "") if line else first
            name = "" if line else speed.architecture
            table.add_row(name, f"{size}", f"{forward:,.0f}", f"{both:,.0f}", *rest)
    return table


def _given(attack: PlannedAttack) -> dict[str, int]:
    """What the grid file says."""
    return {
        "batch_size": attack.settings.batch_size,
        "images_per_shard": attack.images_per_shard,
    }


def _table(rows: Sequence[tuple[AttackSizes, PlannedAttack]]) -> Table:
    table = Table(box=None)
    for name in ("architecture", "protocol", "attack"):
        table.add_column(name)
    for name in (*SIZES, "a task"):
        table.add_column(name, justify="right")
    for row, attack in rows:
        sizes = (
            f"{size} (grid: {given})" if size != given else f"{size}"
            for size, given in zip(
                (row.batch_size, row.images_per_shard), _given(attack).values(), strict=True
            )
        )
        took = duration_text(row.task_s) if row.task_s >= 1 else "< 1 s"
        table.add_row(row.architecture, row.protocol, row.attack, *sizes, took)
    return table
