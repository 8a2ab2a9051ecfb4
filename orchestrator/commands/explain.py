"""`prunegrid explain`: one task or cell, why it is as it is, and what would run it again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.commands.requests import since_text
from prunegrid.orchestrator.driver.lease import is_alive, read_holder
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.selection import GridSelection, one_name, parse_selection
from prunegrid.orchestrator.names import number_text
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, parent_of
from prunegrid.orchestrator.plan.descriptions import describe
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.orchestrator.scheduling.trouble import advice
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import pause_to_come
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import FailureKind


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CELL|TASK",
            help="A task or cell name, its first letters, or coordinates as --select takes them.",
        ),
    ],
    store: StoreOption,
) -> None:
    """Why a task or cell is done, waiting, failed, or would run again; its traceback and log."""
    explain(store, what, Console())


def explain(address: str, what: str, console: Console) -> None:
    """`what`: the first letters of a task's or cell's name, or coordinates as in --select.

    Raises UsageError where it names nothing, or more than one thing.
    """
    store = Store.open(address)
    plan = load_plan(store)
    out = _Explainer(store, plan, console)
    if "=" in what:
        out.cell(cell_at(plan, what))
        return
    cells = {cell.name: cell for cell in plan.cells}
    name = one_name(what, [*plan.tasks, *cells], of="task or cell")
    if name in cells:
        out.cell(cells[name])
    else:
        out.task(name)


def cell_at(plan: Plan, what: str) -> PlannedCell:
    """The one cell at coordinates such as `seed=0,eps=8/255,..`. Raises UsageError."""
    wanted = GridSelection(plan.grid, parse_selection([what], option="cell"), option="cell")
    found = [cell for cell in plan.cells if wanted.lets_cell(cell.place)]
    if len(found) != 1:
        raise UsageError(f"{what!r} names {len(found)} cells, expected one: give more coordinates")
    return found[0]


class _Explainer:
    def __init__(self, store: Store, plan: Plan, console: Console) -> None:
        self._store = store
        self._plan = plan
        self._console = console
        self._done = store.whole()
        self._journal: dict[str, list[dict[str, Any]]] = {}
        for entry in read_journal(store):
            self._journal.setdefault(str(entry.get("key")), []).append(entry)
        holder = read_holder(store)
        self._alive = holder is not None and is_alive(holder)
        self._pause = pause_to_come(store.files)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    def cell(self, cell: PlannedCell) -> None:
        model = cell.place.model
        self._say(cell.name, "bold")
        self._say(
            f"{model.architecture} {model.method} rate {model.rate:g} seed {model.seed}, "
            f"{cell.place.protocol} {cell.place.attack} eps {number_text(cell.place.eps)}"
        )
        missing = [key for key in cell.task_keys if key not in self._done]
        if not missing:
            self._say("done: all its attack tasks have results")
        else:
            self._say(f"waits for {len(missing)} of {len(cell.task_keys)} attack tasks")
        for key in missing or cell.task_keys:
            self.task(key)

    def task(self, key: str) -> None:
        task = self._plan.tasks[key]
        self._say(key, "bold")
        self._say(f"  {describe(task)}")
        if key in self._done:
            self._say("  done: its result is there and whole; it would not run again")
        else:
            self._say(f"  {self._why_not_done(key)}")
        for entry in self._journal.get(key, []):
            self._say(f"  {_when(entry)} {_entry_text(entry)}", "dim")
        failures = self._store.failures(key)
        for failure in failures:
            self._say(f"  attempt {failure['attempt']} failed: {failure['kind']}", "yellow")
            self._say(f"  {failure['message']}", "yellow")
        if failures:
            self._say(str(failures[-1]["traceback"]))
            if log := str(failures[-1].get("log", "")):
                self._say("  what its process printed last:", "yellow")
                self._say(log)
            self._say(f"  {self._budget(str(failures[-1]['kind']))}")
        if failures and key not in self._done:
            self._say(f"  to try again: prunegrid retry --store {self._store.address} {key}")

    @staticmethod
    def _budget(kind: str) -> str:
        if kind not in set(FailureKind):
            return ""
        attempts = POLICIES[FailureKind(kind)].attempts
        return f"a task is given up after {attempts} failures of class {kind} in a run: " + advice(
            kind
        )

    def _why_not_done(self, key: str) -> str:
        parent = parent_of(self._plan.tasks[key])
        while parent is not None and parent not in self._done:
            if self._given_up(parent):
                return f"blocked: its ancestor {parent} was given up"
            parent = parent_of(self._plan.tasks[parent])
        if self._given_up(key):
            return "failed: given up after its last attempt"
        events = [entry["event"] for entry in self._journal.get(key, [])]
        if self._alive and events and events[-1] == "start":
            return "running"
        direct = parent_of(self._plan.tasks[key])
        if direct is not None and direct not in self._done:
            held = "" if self._pause is None else f"; the grid is paused{since_text(self._pause)}"
            return f"waiting for its parent {direct}{held}"
        text = "ready: it runs as soon as a driver has a free slot"
        if self._alive and events and events[-1] == "retry":
            text = "failed before: it is tried again, maybe after a delay"
        if self._pause is None:
            return text
        address = self._store.address
        return f"paused{since_text(self._pause)}: prunegrid resume --store {address}; then {text}"

    def _given_up(self, key: str) -> bool:
        events = [entry["event"] for entry in self._journal.get(key, [])]
        return bool(events) and events[-1] == "given-up"


def _when(entry: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(float(entry.get("at", 0)), UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _entry_text(entry: dict[str, Any]) -> str:
    skipped = ("at", "event", "key")
    rest: Iterable[str] = (f"{k}={v}" for k, v in entry.items() if k not in skipped)
    return f"{entry.get('event')} {' '.join(rest)}"
