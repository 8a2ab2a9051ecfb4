"""`prunegrid status`: how a store's grid stands, without touching it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import JsonOption, StoreOption
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal, plain, print_json, print_table
from prunegrid.orchestrator.plan.costs import range_text
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.descriptions import describe
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import duration_text, eta_text
from prunegrid.orchestrator.plan.plan_index import PlanIndex
from prunegrid.orchestrator.store.forecast_inputs import model_here
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.lease import LeaseWatch, find_driver
from prunegrid.orchestrator.store.mixed_provenance import mixed_lines
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.plan_progress import (
    PlanProgress,
    StoreReading,
    estimate_left,
    progress_of,
)
from prunegrid.orchestrator.store.requests import pause_to_come, since_text
from prunegrid.orchestrator.store.slot_time import SlotTime, slot_time
from prunegrid.orchestrator.store.store import Store, store_errors
from prunegrid.workers import layout

WATCH_EVERY_S = 2.0


def command(
    store: StoreOption,
    watching: Annotated[
        bool, typer.Option("--watch", help="Every two seconds, until done.")
    ] = False,
    time_spent: Annotated[
        bool, typer.Option("--time", help="Where the time of the task slots went, in all runs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """How far a store's grid is, what fails, and how long it will take."""
    if watching and not as_json:
        if time_spent:
            raise UsageError("--time: expected without --watch; the dashboard's timeline has it")
        watch(store, Terminal())
        return
    status(store, as_json=as_json, console=Terminal(), time_spent=time_spent)


def status_json(store: Store, *, now_s: float | None = None) -> dict[str, Any]:
    """What `status --json` says of progress. `now_s`: seconds since the epoch; None: now."""
    return read_progress(store, now_s=now_s).to_json()


def read_progress(
    store: Store,
    *,
    now_s: float | None = None,
    plan: Plan | None = None,
    finished: Set[str] | None = None,
    history: RunHistory | None = None,
    lease: LeaseWatch | None = None,
) -> PlanProgress:
    """`plan`, `finished`, `history`: where the caller has read them already. `lease`: of a caller
    that looks again and again; else this may wait for a heartbeat. Raises StoreError, GridError."""
    index = PlanIndex(load_plan(store) if plan is None else plan)
    finished = store.finished() if finished is None else finished
    history = read_history(store) if history is None else history
    if lease is None:
        holder, alive = find_driver(store)
    else:
        lease.look()
        holder, alive = lease.holder, lease.is_believed
    with store_errors():
        pause = pause_to_come(store.files)
    done = index.done(finished)
    durations = Durations(model_here(index.plan))
    history.learn(durations, index.plan.tasks)
    reading = StoreReading(
        at_s=time.time() if now_s is None else now_s,
        history=history,
        finished=finished - index.plan.lacking(finished),
        holder=holder,
        alive=alive,
        pause=pause,
    )
    return progress_of(
        index,
        reading,
        done=done,
        rows=index.rows_present(store.row_ids(layout.CELL_ROWS)),
        eta=estimate_left(index, index.needed(done), durations, slots=history.slots),
    )


# --------------------------------------------------------------------------- for people


def watch(address: str, console: Console) -> None:
    """`status`, again and again, until all is done or the user has seen enough."""
    store = Store.open(address)
    lease = LeaseWatch(store)
    while True:
        progress = read_progress(store, lease=lease)
        console.clear()
        show(store, progress, console)
        if not progress.remaining:
            return
        try:
            time.sleep(WATCH_EVERY_S)
        except KeyboardInterrupt:
            return


def status(address: str, *, as_json: bool, console: Console, time_spent: bool = False) -> None:
    """`time_spent`: where the slots' time went, in place of the progress; as JSON both."""
    store = Store.open(address)
    plan, history = load_plan(store), read_history(store)
    if time_spent and not as_json:
        show_time(slot_time(history, plan.tasks), console)
        return
    progress = read_progress(store, plan=plan, history=history)
    if as_json:
        spent = slot_time(history, plan.tasks)
        print_json({**progress.to_json(), "time": spent.to_json()})
    else:
        show(store, progress, console, mixed=mixed_lines(store, plan))


def show_time(spent: SlotTime, console: Console) -> None:
    """A row per part of the slots' time, and one per attack."""
    if not spent.slots_s:
        console.print("nothing has run yet")
        return
    say = plain(console)
    took = f"{counted(spent.runs, 'run')}, {_seconds_text(spent.clock_s)} by the clock"
    say(f"{_seconds_text(spent.slots_s)} of task slots in {took}")
    parts = Table(box=None)
    parts.add_column("part")
    parts.add_column("time", justify="right")
    parts.add_column("%", justify="right")
    for name, seconds in spent.parts.items():
        parts.add_row(name, _seconds_text(seconds), f"{100 * seconds / spent.slots_s:.1f}")
    parts.add_row("all slots", _seconds_text(spent.slots_s), "100.0")
    print_table(console, parts)
    if spent.processor_s:
        say(f"finished tasks took {_seconds_text(spent.processor_s)} of processor")
    if spent.undivided:
        say(
            f"{counted(spent.undivided, 'finished attempt')}: start and storage are not known, "
            "and count as work"
        )
    if not spent.attacks:
        return
    say("seconds per image of what finished:")
    attacks = Table(box=None)
    attacks.add_column("attack")
    for column in ("tasks", "images", "by the clock", "of processor"):
        attacks.add_column(column, justify="right")
    for name, cost in spent.attacks.items():
        timed = cost.processor_images
        processor = f"{cost.processor_s / timed:.3g}" if timed else "not known"
        wall = f"{cost.wall_s / cost.images:.3g}"
        attacks.add_row(name, str(cost.tasks), str(cost.images), wall, processor)
    print_table(console, attacks)


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else duration_text(seconds)


def show(
    store: Store, progress: PlanProgress, console: Console, *, mixed: Sequence[str] = ()
) -> None:
    numbers = progress.to_json()

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

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
        f"{percent} % done: {numbers['done']:,} of {counted(total, 'task')}, "
        f"{numbers['cells_done']:,} of {counted(numbers['cells'], 'cell')}; "
        f"{by_state['running']} running, {by_state['waiting']} waiting, "
        f"{by_state['failed']} failed, {by_state['blocked']} blocked"
    )
    if progress.pause is not None:
        say(f"paused{since_text(progress.pause)}: prunegrid resume --store {store.address}")
    if numbers["remaining"]:
        sure = f"{100 * numbers['eta_measured_frac']:.0f} % of it measured"
        slots = max(numbers["slots"], 1)
        say(
            f"left: {eta_text(progress.eta)} with {counted(slots, 'task')} "
            f"at once, no less than the longest chain's "
            f"{duration_text(numbers['critical_s'])} or so ({sure})"
        )
    _say_costs(numbers, say)
    for line in progress.health.lines():
        say(line)
    for line in mixed:
        say(f"warning: {line}")
    for key in numbers["failed"][:10]:
        say(f"failed: prunegrid explain --store {store.address} {key}")
    if progress.index is not None:
        for key in numbers["diverged"][:10]:
            say(f"diverged, no accuracy: {describe(progress.index.plan.tasks[key])} ({key})")
        for key in numbers["diverged_later"][:10]:
            say(
                "diverged later, judged by weights kept from before: "
                f"{describe(progress.index.plan.tasks[key])} ({key})"
            )
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
