"""`prunegrid plan`: what a grid takes, without starting anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.grid import Grid, Selection
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.grid.sizes import ASSUMED_BATCH, ASSUMED_SHARD, Sizes, settle
from prunegrid.orchestrator.output import print_json
from prunegrid.orchestrator.plan.costs import cost_of, hours_of, range_text, sureness
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, duration_text, estimate
from prunegrid.orchestrator.plan.guesses import flops_per_s
from prunegrid.orchestrator.plan.sizes import choose, sizes_json, sizes_text, unmeasured
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.journal_state import fold_journal
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.sizes import read_sizes
from prunegrid.orchestrator.store.standing import money
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.cache import latest_speed_here
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
    grid, select = read_grid(options.grid), parse_selection(options.select)
    expanded = expand(grid, select)
    found = Store.find(options.store) if options.store is not None else None
    sizes, assumed = Sizes(), ""
    if grid.auto:
        expanded, sizes, assumed = _with_sizes(grid, select, found, min(options.slots))
    done = found.finished() if found is not None else set()
    numbers = counts(expanded, done)
    durations = Durations(flops_per_s=flops_per_s(grid.resources))
    state = fold_journal(read_journal(found) if found is not None else ())
    _learn(durations, expanded, state.done)
    for address in options.durations_from:
        store = Store.open(address)
        told = fold_journal(read_journal(store)).done
        _learn(durations, load_plan(store, whole=True), told)
    left = expanded.unfinished(done)
    etas = {n: estimate(left, durations, slots=n, elapsed={}) for n in options.slots}
    first = next(iter(etas.values()))
    if as_json:
        print_json(
            numbers
            | money(grid, state, first)
            | {
                "eta_s": {n: [round(e.low_s, 1), round(e.high_s, 1)] for n, e in etas.items()},
                "critical_s": round(first.critical_s, 1),
                "work_s": round(first.work_s, 1),
                "eta_measured_frac": round(first.measured_frac, 3),
                "durations": durations.count,
                "sizes": sizes_json(expanded, sizes),
                "sizes_assumed": assumed or None,
            }
        )
        return
    console.print(_table(options.grid, expanded, numbers))
    console.print(
        f"{numbers['done']:,} tasks done, {numbers['remaining']:,} to run", highlight=False
    )
    lines = sizes_text(expanded, sizes)
    if assumed:
        lines.append(f"{assumed}; the first run measures, and its store keeps to that")
    for line in lines + _outlook(expanded, etas, durations.count):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _with_sizes(
    grid: Grid, select: Selection, store: Store | None, slots: int
) -> tuple[Plan, Sizes, str]:
    """The plan by the store's sizes, else by what was measured on this machine, else by assumed
    ones; these sizes; and, in a line, which of them no store has kept yet, "" where none."""
    sizes = read_sizes(store) if store is not None else Sizes()
    plan = expand(settle(grid, sizes), select)
    assumed = [cell.attack for cell in plan.cells if cell.attack.assumed]
    if not assumed:
        return plan, sizes, ""
    probes = unmeasured(plan, sizes)
    kept = [latest_speed_here(probe, grid.resources.threads) for probe in probes]
    speeds = [speed for speed in kept if speed is not None]
    if len(speeds) == len(probes):
        sizes = choose(grid, select, sizes, speeds, slots=slots)
        plan = expand(settle(grid, sizes), select)
        return plan, sizes, "not measured for a store yet: assumed as on this machine"
    names = {name for attack in assumed for name in attack.assumed}
    values = {"batch_size": ASSUMED_BATCH, "images_per_shard": ASSUMED_SHARD}
    text = ", ".join(f"{name} {values[name]}" for name in values if name in names)
    return plan, sizes, f"not measured yet: counted with {text}"


def _learn(durations: Durations, plan: Plan, done: Sequence[tuple[str, float]]) -> None:
    for key, seconds in done:
        if (task := plan.tasks.get(key)) is not None:
            durations.add(task, seconds)


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
