"""`prunegrid plan`: what a grid takes, without starting anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.output import Terminal, print_json, print_table
from prunegrid.orchestrator.plan.costs import cost_of, hours_of, range_text, sureness
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, duration_text, estimate
from prunegrid.orchestrator.plan.guesses import flops_per_s
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import load_plan, read_grid_for
from prunegrid.orchestrator.store.plan_progress import bill_of
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import TaskKind

#: How many tasks at once, where the user names no number.
SLOTS = (1, 8, 64)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    grid: Path
    store: str | None = None  #: count what is done there, and learn from it
    durations_from: tuple[str, ...] = ()  #: learn from these stores too
    slots: tuple[int, ...] = SLOTS
    select: Sequence[str] = ()


def command(
    grid: GridFile,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Count what is done there already.")
    ] = None,
    durations_from: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="Expect what tasks like these took in another store."),
    ] = None,
    slots: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="So many tasks at once (default: 1, 8 and 64)."),
    ] = None,
    select: SelectOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a grid would take: models, cells, tasks, hours, cost, and what of it is done."""
    options = PlanOptions(
        grid=grid,
        store=store,
        durations_from=tuple(durations_from or ()),
        slots=tuple(slots or SLOTS),
        select=select or [],
    )
    plan(options, as_json=as_json, console=Terminal())


def counts(plan: Plan, done: set[str]) -> dict[str, Any]:
    """`done` and `remaining` count tasks."""
    finished = len(done & set(plan.tasks))
    return {
        "models": len(plan.models),
        "cells": len(plan.cells),
        "tasks": {kind.value: plan.count(kind) for kind in TaskKind},
        "done": finished,
        "remaining": len(plan.unfinished(done)),
    }


def plan(options: PlanOptions, *, as_json: bool, console: Console) -> None:
    """Raises UsageError, GridError, StoreError."""
    if any(count < 1 for count in options.slots):
        raise UsageError(f"--slots: expected at least 1, got {min(options.slots)}")
    found = Store.find(options.store) if options.store is not None else None
    grid = read_grid_for(options.grid, found)
    expanded = expand(grid, parse_selection(options.select))
    done = found.finished() if found is not None else set()
    numbers = counts(expanded, done)
    durations = Durations(flops_per_s=flops_per_s(grid.resources))
    history = RunHistory() if found is None else read_history(found)
    history.learn(durations, expanded.tasks)
    for address in options.durations_from:
        store = Store.open(address)
        read_history(store).learn(durations, load_plan(store, whole=True).tasks)
    left = expanded.unfinished(done)
    etas = {n: estimate(left, durations, slots=n, elapsed={}) for n in options.slots}
    first = next(iter(etas.values()))
    if as_json:
        print_json(
            numbers
            | bill_of(grid, history, first)
            | {
                "eta_s": {n: [round(e.low_s, 1), round(e.high_s, 1)] for n, e in etas.items()},
                "critical_s": round(first.critical_s, 1),
                "work_s": round(first.work_s, 1),
                "eta_measured_frac": round(first.measured_frac, 3),
                "durations": durations.count,
            }
        )
        return
    print_table(console, _table(options.grid, expanded, numbers))
    console.print(
        f"{numbers['done']:,} tasks done, {numbers['remaining']:,} to run", highlight=False
    )
    for line in _outlook(expanded, etas, durations.count):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _outlook(plan: Plan, etas: dict[int, Eta], measured: int) -> list[str]:
    """What is to come, in lines; none where nothing is left."""
    first = next(iter(etas.values()))
    if not first.work_s:
        return []
    grid = plan.grid
    hours = hours_of(grid.resources, spent_s=0.0, eta=first)
    cost = cost_of(grid.price, spent_s=0.0, eta=first, slots=1)
    unit = f"{hours.unit} hours"
    low, high = hours.to_come
    likely = "most likely" if first.measured_frac > 0.5 else "perhaps"
    middle = range_text(hours.expected, hours.expected)
    text = f"to come: {range_text(low, high, unit)}, {likely} {middle}"
    if cost is not None and grid.price is not None:
        each = grid.price.per_slot_hour / 3600
        money_text = range_text(first.work_low_s * each, first.work_high_s * each, cost.currency)
        text += f"; {money_text} if no machine idles"
    lines = [f"{text} ({sureness(first)})"]
    for slots, eta in etas.items():
        at_once = f"{slots:,} task{'s' if slots != 1 else ''} at once"
        lines.append(f"with {at_once}: {duration_text(eta.low_s)} to {duration_text(eta.high_s)}")
    lines.append(f"longest chain: {duration_text(first.critical_s)}; more machines do not help it")
    if not measured:
        lines.append("run a corner of it (--select), then plan with --store or --durations-from")
    return lines


def _table(path: Path, expanded: Plan, numbers: dict[str, Any]) -> Table:
    grid = expanded.grid
    table = Table(title=f"{grid.name} ({path})", box=None, title_justify="left")
    for name in ("architecture", "data set", "models", "cells", "train", "prune", "attack"):
        table.add_column(name, justify="left" if name in ("architecture", "data set") else "right")
    for architecture in grid.architectures:
        name = architecture.name
        kinds = Counter(t.kind for t in expanded.tasks.values() if t.architecture == name)
        models = sum(m.place.architecture == name for m in expanded.models)
        if models:
            cells = sum(c.place.model.architecture == name for c in expanded.cells)
            row = (models, cells, *(kinds[kind] for kind in TaskKind))
            table.add_row(name, architecture.data.dataset, *(f"{n:,}" for n in row))
    tasks = numbers["tasks"]
    row = (numbers["models"], numbers["cells"], tasks["train"], tasks["prune"], tasks["attack"])
    table.add_section()
    table.add_row("all", "", *(f"{n:,}" for n in row), style="bold")
    return table
