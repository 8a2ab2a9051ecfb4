"""`prunegrid explain`: one task or cell, why it is as it is, and what would run it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.commands.status import read_progress
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.selection import GridSelection, one_name, parse_selection
from prunegrid.orchestrator.names import number_text
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.orchestrator.plan.descriptions import describe
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.orchestrator.store.history import RunHistory, finite
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.plan import changed_code, load_plan
from prunegrid.orchestrator.store.plan_progress import why_not_done
from prunegrid.orchestrator.store.run_health import advice
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
    explain(store, what, Terminal())


def explain(address: str, what: str, console: Console) -> None:
    """`what`: the first letters of a task's or cell's name, or coordinates as in --select.

    Raises UsageError where it names nothing, or more than one thing.
    """
    store = Store.open(address)
    plan = load_plan(store)
    for note in changed_code(plan.grid, store):
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    out = _Explainer(store, plan, console)
    if "=" in what:
        out.cell(cell_at(plan, what))
        return
    cells = {cell.name: cell for cell in plan.cells}
    transfers = {transfer.name: transfer.task_key for transfer in plan.transfers}
    name = one_name(what, [*plan.tasks, *cells, *transfers], of="task or cell")
    if name in cells:
        out.cell(cells[name])
    elif name in transfers:
        out.task(transfers[name])
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
        self._entries = read_journal(store)
        history = RunHistory.of(self._entries)
        self._progress = read_progress(store, plan=plan, finished=store.whole(), history=history)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, soft_wrap=True)

    def _is_done(self, key: str) -> bool:
        return self._progress.state_of(key) == "done"

    def cell(self, cell: PlannedCell) -> None:
        model = cell.place.model
        self._say(cell.name, "bold")
        self._say(
            f"{model.architecture} {model.method} rate {model.rate:g} seed {model.seed}, "
            f"{cell.place.protocol} {cell.place.attack} eps {number_text(cell.place.eps)}"
        )
        missing = [key for key in cell.task_keys if not self._is_done(key)]
        if not missing:
            self._say("done: all its attack tasks have results")
        else:
            self._say(f"waits for {len(missing)} of {len(cell.task_keys)} attack tasks")
        for key in missing or cell.task_keys:
            self.task(key)

    def task(self, key: str) -> None:
        address = self._store.address
        self._say(key, "bold")
        self._say(f"  {describe(self._plan.tasks[key])}")
        self._say(f"  {why_not_done(self._progress, key, address=address)}")
        for entry in self._entries:
            if entry.get("key") == key:
                self._say(f"  {_when(entry)} {_entry_text(entry)}", "dim")
        failures = self._store.failures(key)
        for failure in failures:
            self._say(f"  attempt {failure.attempt} failed: {failure.kind}", "yellow")
            self._say(f"  {failure.message}", "yellow")
        if failures:
            last = failures[-1]
            self._say(last.traceback)
            if last.log:
                self._say("  what its process printed last:", "yellow")
                self._say(last.log)
            self._say(f"  {_budget(last.kind)}")
        if failures and not self._is_done(key):
            self._say(f"  to try again: prunegrid retry --store {address} {key}")


def _budget(kind: str) -> str:
    if kind not in set(FailureKind):
        return ""
    attempts = POLICIES[FailureKind(kind)].attempts
    text = f"a task fails after {attempts} failed attempts of class {kind} in a run"
    return f"{text}: {advice(kind)}"


def _when(entry: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(finite(entry.get("at")) or 0.0, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _entry_text(entry: Mapping[str, Any]) -> str:
    skipped = ("at", "event", "key")
    rest = (f"{k}={v}" for k, v in entry.items() if k not in skipped)
    return f"{entry.get('event')} {' '.join(rest)}"
