"""`prunegrid status`: how a store's grid stands, without touching it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import JsonOption, StoreOption
from prunegrid.orchestrator.commands.plan import counts
from prunegrid.orchestrator.commands.requests import since_text
from prunegrid.orchestrator.driver.lease import Holder, is_alive, read_holder
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.output import print_json
from prunegrid.orchestrator.plan.costs import range_text
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import duration_text, estimate
from prunegrid.orchestrator.plan.guesses import flops_per_s
from prunegrid.orchestrator.scheduling.trouble import Trouble, find_trouble, lines
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.journal_state import JournalState, fold_journal
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import Pause, pause_to_come
from prunegrid.orchestrator.store.standing import count_cells, count_tasks, money, task_states
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.files import StorageError

WATCH_EVERY_S = 2.0


def command(
    store: StoreOption,
    watching: Annotated[
        bool, typer.Option("--watch", help="Every two seconds, until done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How far a store's grid is, what fails, and how long it will take."""
    if watching and not as_json:
        watch(store, Console())
        return
    status(store, as_json=as_json, console=Console())


def status_json(store: Store, *, now_s: float | None = None) -> dict[str, Any]:
    """What `status --json` prints. `now_s`: seconds since the epoch; None: now."""
    return _read(store, now_s)[0]


def _read(store: Store, now_s: float | None = None) -> tuple[dict[str, Any], Trouble]:
    now_s = time.time() if now_s is None else now_s
    plan = load_plan(store)
    finished = store.finished()
    entries = list(read_journal(store))
    state = fold_journal(entries)
    holder = read_holder(store)
    live = holder is not None and is_alive(holder)
    running = set(state.running) - finished if live else set()
    failed = set(state.given_up) - finished
    left = plan.unfinished(finished)
    ids = [cell.name for cell in plan.cells]
    present = store.row_ids(layout.CELL_ROWS)
    rows = {number for number, name in enumerate(ids) if name in present}
    states = task_states(plan, done=finished, left=left, running=running, failed=failed)
    durations = Durations(flops_per_s=flops_per_s(plan.grid.resources))
    for key, seconds in state.done:
        if (task := plan.tasks.get(key)) is not None:
            durations.add(task, seconds)
    eta = estimate(left, durations, slots=max(state.slots, 1), elapsed={})
    trouble = find_trouble(entries, now_s)
    numbers = {
        "grid": plan.grid.name,
        **counts(plan, finished),
        "cells_done": len(rows),
        "tasks_by_state": count_tasks(states),
        "cells_by_state": count_cells(plan, states, rows),
        "running": sorted(running),
        "failed": sorted(failed),
        "trouble": asdict(trouble),
        "paused": pause_json(_pause(store)),
        "driver": {"alive": live, **(asdict(holder) if holder else {})},
        "slots": state.slots,
        "eta_s": [round(eta.low_s, 1), round(eta.high_s, 1)],
        "eta_measured_frac": round(eta.measured_frac, 3),
        "critical_s": round(eta.critical_s, 1),
        "work_s": round(eta.work_s, 1),
        **money(plan.grid, state, eta),
        "data_age_s": round(age_s(state, holder, now_s), 1),
        "at_s": round(now_s, 3),
    }
    return numbers, trouble


def _pause(store: Store) -> Pause | None:
    try:
        return pause_to_come(store.files)
    except StorageError as error:
        raise StoreError(str(error)) from error


def pause_json(pause: Pause | None) -> dict[str, Any] | None:
    return None if pause is None else asdict(pause)


def age_s(state: JournalState, holder: Holder | None, now_s: float) -> float:
    """Since the newest sign of life: a line of the journal, or a heartbeat; 0 before any."""
    newest_s = max(state.last_s, holder.renewed_at_s if holder is not None else 0.0)
    return max(0.0, now_s - newest_s) if newest_s else 0.0


# --------------------------------------------------------------------------- for people


def watch(address: str, console: Console) -> None:
    """`status`, again and again, until all is done or the user has seen enough."""
    store = Store.open(address)
    while True:
        numbers, trouble = _read(store)
        console.clear()
        show(store, numbers, trouble, console)
        if not numbers["remaining"]:
            return
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:
            return


def status(address: str, *, as_json: bool, console: Console) -> None:
    store = Store.open(address)
    numbers, trouble = _read(store)
    if as_json:
        print_json(numbers)
    else:
        show(store, numbers, trouble, console)


def show(store: Store, numbers: dict[str, Any], trouble: Trouble, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    total = sum(numbers["tasks"].values())
    percent = 100 * numbers["done"] // max(total, 1)
    by_state = numbers["tasks_by_state"]
    driver = numbers["driver"]
    state = "no driver is running"
    if driver["alive"]:
        state = f"driver alive: pid {driver['pid']} on {driver['host']}"
    if numbers["data_age_s"]:
        state += f"; last sign of life {duration_text(numbers['data_age_s'])} ago"
    say(f"{numbers['grid']} in {store.address}: {state}")
    say(
        f"{percent} % done: {numbers['done']:,} of {total:,} tasks, "
        f"{numbers['cells_done']:,} of {numbers['cells']:,} cells; "
        f"{by_state['running']} running, {by_state['waiting']} waiting, "
        f"{by_state['failed']} given up, {by_state['blocked']} blocked"
    )
    if numbers["paused"]:
        since = since_text(Pause(**numbers["paused"]))
        say(f"paused{since}: prunegrid resume --store {store.address}")
    if numbers["remaining"]:
        low, high = numbers["eta_s"]
        sure = f"{100 * numbers['eta_measured_frac']:.0f} % of it measured"
        slots = max(numbers["slots"], 1)
        say(
            f"left: {duration_text(low)} to {duration_text(high)} with {slots} "
            f"task{'s' if slots != 1 else ''} at once, no less than the longest chain's "
            f"{duration_text(numbers['critical_s'])} or so ({sure})"
        )
    _say_costs(numbers, say)
    for line in lines(trouble):
        say(line)
    for key in numbers["failed"][:10]:
        say(f"given up: prunegrid explain --store {store.address} {key}")
    if numbers["failed"]:
        say(f"to try them again: prunegrid retry --store {store.address} --failed")


def _say_costs(numbers: dict[str, Any], say: Callable[[str], None]) -> None:
    hours, cost = numbers["hours"], numbers["cost"]
    unit = f"{hours['unit']} hours"
    parts = [f"{range_text(hours['spent'], hours['spent'], unit)} spent"]
    if numbers["remaining"]:
        low, high = hours["to_come"]
        parts.append(f"{range_text(low, high)} to come")
    if cost is not None:
        currency = cost["currency"]
        parts.append(f"cost so far {range_text(cost['spent'], cost['spent'], currency)}")
        if numbers["remaining"]:
            low, high = cost["to_come"]
            parts.append(f"to come {range_text(low, high, currency)}")
    say(", ".join(parts))
