"""`prunegrid plan` and `prunegrid status`: counts, without starting anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.dag import Plan, expand
from orchestrator.estimates import Durations, duration_text, estimate
from orchestrator.grid_file import read_grid
from orchestrator.journal import read_journal
from orchestrator.lease import is_alive, read_holder
from orchestrator.output import print_json
from orchestrator.rows import cell_id
from orchestrator.selection import parse_selection
from orchestrator.store import Store
from orchestrator.stored_plan import load_plan
from orchestrator.trouble import find_trouble, lines
from workers import layout
from workers.contract import TaskKind


def counts(plan: Plan, done: set[str]) -> dict[str, Any]:
    """What `plan --json` prints. `done` and `remaining` count tasks."""
    finished = len(done & set(plan.tasks))
    return {
        "models": len(plan.models),
        "cells": len(plan.cells),
        "tasks": {kind.value: plan.count(kind) for kind in TaskKind},
        "done": finished,
        "remaining": len(plan.unfinished(done)),
    }


def plan(
    path: Path, *, store: str | None, select: Sequence[str], as_json: bool, console: Console
) -> None:
    grid = read_grid(path)
    expanded = expand(grid, parse_selection(select))
    found = Store.find(store) if store is not None else None
    done = found.finished() if found is not None else set()
    numbers = counts(expanded, done)
    if as_json:
        print_json(numbers)
        return
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
    console.print(table)
    console.print(
        f"{numbers['done']:,} tasks done, {numbers['remaining']:,} to run", highlight=False
    )


def status_json(store: Store) -> dict[str, Any]:
    """What `status --json` prints."""
    expanded = load_plan(store)
    finished = store.finished()
    numbers = counts(expanded, finished)
    ids = {cell_id(cell.place, cell.task_keys) for cell in expanded.cells}
    running, failed, slots = _from_journal(store, finished)
    durations = Durations()
    for entry in read_journal(store):
        task = expanded.tasks.get(str(entry.get("key")))
        if entry.get("event") == "done" and task is not None:
            durations.add(task, float(entry.get("seconds", 0.0)))
    holder = read_holder(store)
    live = holder is not None and is_alive(holder)
    left = expanded.unfinished(finished)
    eta = estimate(left, durations, slots=max(slots, 1), elapsed=[])
    return {
        "grid": expanded.grid.name,
        **numbers,
        "cells_done": len(ids & store.row_ids(layout.CELL_ROWS)),
        "running": sorted(running) if live else [],
        "failed": sorted(failed),
        "trouble": asdict(find_trouble(read_journal(store), time.time())),
        "driver": {"alive": live, **(asdict(holder) if holder else {})},
        "eta_s": [round(eta.low_s, 1), round(eta.high_s, 1)],
        "eta_measured_frac": round(eta.measured_frac, 3),
        "work_s": round(eta.work_s, 1),
        "at_s": round(time.time(), 3),
    }


def _from_journal(store: Store, finished: set[str]) -> tuple[set[str], set[str], int]:
    """Tasks running and given up since the last run began, and the most that ran at once."""
    running: set[str] = set()
    failed: set[str] = set()
    most = 0
    for entry in read_journal(store):
        key, event = str(entry.get("key", "")), entry.get("event")
        if event == "run":
            running, failed, most = set(), set(), 0
        elif event == "start":
            running.add(key)
            most = max(most, len(running))
        elif event in ("done", "failed"):
            running.discard(key)
        elif event == "given-up":
            failed.add(key)
    return running - finished, failed - finished, most


WATCH_EVERY_S = 2.0


def watch(address: str, console: Console) -> None:
    """`status`, again and again, until all is done or the user has seen enough."""
    store = Store.open(address)
    while True:
        console.clear()
        status(address, as_json=False, console=console)
        if not status_json(store)["remaining"]:
            return
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:
            return


def status(address: str, *, as_json: bool, console: Console) -> None:
    store = Store.open(address)
    numbers = status_json(store)
    if as_json:
        print_json(numbers)
        return
    total = sum(numbers["tasks"].values())
    percent = 100 * numbers["done"] // max(total, 1)
    driver = numbers["driver"]
    state = "no driver is running"
    if driver["alive"]:
        state = f"driver alive: pid {driver['pid']} on {driver['host']}"
    console.print(f"{numbers['grid']} in {store.address}: {state}", highlight=False)
    console.print(
        f"{percent} % done: {numbers['done']:,} of {total:,} tasks, "
        f"{numbers['cells_done']:,} of {numbers['cells']:,} cells; {len(numbers['running'])} "
        f"running, {len(numbers['failed'])} given up",
        highlight=False,
    )
    if numbers["remaining"]:
        low, high = numbers["eta_s"]
        sure = f"{100 * numbers['eta_measured_frac']:.0f} % of it measured"
        console.print(
            f"left: {duration_text(low)} to {duration_text(high)} ({sure})", highlight=False
        )
    for line in lines(find_trouble(read_journal(store), time.time())):
        console.print(line, highlight=False, markup=False)
    for key in numbers["failed"][:10]:
        console.print(f"given up: prunegrid explain --store {address} {key}", highlight=False)
