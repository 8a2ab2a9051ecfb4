"""`prunegrid retry`: ask a driver, running or yet to come, to try tasks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import SelectOption, StoreOption
from prunegrid.orchestrator.commands.send_request import driver_of, named, write
from prunegrid.orchestrator.driver.retries import few, named_tasks, resting_on, task_prefixes
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import Request
from prunegrid.orchestrator.store.store import Store


class NothingToDoError(PrunegridError):
    """What was asked for is there, but in no state in which the request would change anything."""


def command(
    store: StoreOption,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="Names of tasks or cells, or their first letters."),
    ] = None,
    select: SelectOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Every task that failed, within --select.")
    ] = False,
) -> None:
    """Try failed tasks again, with new attempts; a running driver takes it up at once."""
    retry(store, select=select or [], failed=failed, tasks=tasks or [], console=Terminal())


def retry(
    address: str, *, select: Sequence[str], failed: bool, tasks: Sequence[str], console: Console
) -> None:
    """Raises UsageError where nothing, or nothing that there is, is named; NothingToDoError
    where what is named has neither failed nor waits to be tried again."""
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
    write(store, request)
    text = counted(len(again), "task") + " will be tried again"
    if below := resting_on(plan, again) - done:
        these = "them" if len(again) > 1 else "it"
        text += f", then {counted(len(below), 'task')} that rest on {these}"
    console.print(f"{text}: {_when(store)}", soft_wrap=True)


def _nothing(names: set[str], given_up: set[str], done: set[str], history: RunHistory) -> str:
    running = len(names & set(history.running) - done)
    counts = [
        (len(names & done), "done (their results stand)"),
        (running, "running"),
        (len(names - done) - running, "waiting for their turn"),
    ]
    states = ", ".join(f"{count} {words}" for count, words in counts if count)
    there = f"failed are {few(given_up)}" if given_up else "no task failed"
    matched = f"{counted(len(names), 'task')} match: {states or 'none'}"
    return f"nothing to try again: {matched}; {there}"


def _when(store: Store) -> str:
    holder = driver_of(store)
    if holder is None:
        return "no driver is running; the next 'prunegrid run' does it"
    return f"{named(holder)} takes that up within seconds"
