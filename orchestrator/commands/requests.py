"""`prunegrid retry`, `pause` and `resume`: ask a driver, running or yet to come, and say what
that will do."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from prunegrid.orchestrator.driver.retries import few, named_tasks, resting_on, task_prefixes
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.lease import Holder, is_alive, read_holder
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import (
    Pause,
    Request,
    pause_to_come,
    since_text,
    write_request,
)
from prunegrid.orchestrator.store.store import Store, store_errors


class NothingToDoError(PrunegridError):
    """What was asked for is there, but in no state in which the request would change anything."""


def retry(
    address: str, *, select: Sequence[str], failed: bool, tasks: Sequence[str], console: Console
) -> None:
    """Raises UsageError where nothing, or nothing that there is, is named; NothingToDoError
    where what is named was neither given up nor waits to be tried again."""
    store = Store.open(address)
    if not (select or failed or tasks):
        raise UsageError("expected --failed, --select or names of tasks, got nothing to retry")
    plan = load_plan(store)
    request = Request(
        kind="retry",
        by="cli",
        select=parse_selection(select),
        tasks=task_prefixes(plan, tasks),
        failed=failed,
    )
    names = named_tasks(plan, request)
    history = read_history(store)
    done = store.finished()
    given_up = set(history.given_up) & set(plan.tasks) - done
    delayed = set() if failed else history.delayed & names - done
    again = (given_up & names) | delayed
    if not again:
        raise NothingToDoError(_nothing(names, given_up, done, history))
    _write(store, request)
    text = _tasks(len(again)) + " will be tried again"
    if below := resting_on(plan, again) - done:
        text += f", then {_tasks(len(below))} that rest on {'them' if len(again) > 1 else 'it'}"
    console.print(f"{text}: {_when(store)}", highlight=False, markup=False, soft_wrap=True)


def _nothing(names: set[str], given_up: set[str], done: set[str], history: RunHistory) -> str:
    running = len(names & set(history.running) - done)
    counts = [
        (len(names & done), "done (their results stand)"),
        (running, "running"),
        (len(names - done) - running, "waiting for their turn"),
    ]
    states = ", ".join(f"{count} {words}" for count, words in counts if count)
    there = f"given up are {few(given_up)}" if given_up else "no task was given up"
    matched = f"{_tasks(len(names))} match: {states or 'none'}"
    return f"nothing to try again: {matched}; {there}"


def pause(address: str, console: Console) -> None:
    store = Store.open(address)
    if found := _pause_to_come(store):
        console.print(f"paused already{since_text(found)}", highlight=False)
        return
    _write(store, Request(kind="pause", by="cli"))
    holder = _driver(store)
    if holder is not None:
        text = f"{_named(holder)} starts nothing new; what runs goes on to its end"
    else:
        text = "no driver is running; the next one will wait"
    console.print(f"paused: {text}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"go on with: prunegrid resume --store {address}", highlight=False, markup=False)


def resume(address: str, console: Console) -> None:
    store = Store.open(address)
    if _pause_to_come(store) is None:
        console.print("not paused: nothing to resume", highlight=False)
        return
    _write(store, Request(kind="resume", by="cli"))
    holder = _driver(store)
    text = f"{_named(holder)} goes on" if holder else "no driver is running; the next one starts"
    console.print(f"resumed: {text}", highlight=False, markup=False, soft_wrap=True)


def _tasks(count: int) -> str:
    return f"{count:,} task{'s' if count != 1 else ''}"


def _when(store: Store) -> str:
    holder = _driver(store)
    if holder is None:
        return "no driver is running; the next 'prunegrid run' does it"
    return f"{_named(holder)} takes that up within seconds"


def _named(holder: Holder) -> str:
    return f"the driver with pid {holder.pid} on {holder.host}"


def _driver(store: Store) -> Holder | None:
    holder = read_holder(store)
    return holder if holder is not None and is_alive(holder) else None


def _pause_to_come(store: Store) -> Pause | None:
    with store_errors():
        return pause_to_come(store.files)


def _write(store: Store, request: Request) -> None:
    with store_errors():
        write_request(store.files, request)
