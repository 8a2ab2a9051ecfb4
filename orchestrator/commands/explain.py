"""`prunegrid explain`: one task or cell, why it is as it is, and what would run it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from prunegrid.orchestrator.commands.status import read_progress
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.orchestrator.plan.descriptions import describe
from prunegrid.orchestrator.plan.places import cell_id
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.orchestrator.store.history import RunHistory, finite
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.plan_progress import why_not_done
from prunegrid.orchestrator.store.run_health import advice
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import FailureKind


def explain(address: str, what: str, console: Console) -> None:
    """`what`: the first letters of a task's or cell's name, or coordinates as in --select.

    Raises UsageError where it names nothing, or more than one thing.
    """
    store = Store.open(address)
    plan = load_plan(store)
    out = _Explainer(store, plan, console)
    cells = {cell_id(cell.place, cell.task_keys): cell for cell in plan.cells}
    if "=" in what:
        out.cell(*_one_cell(cells, what))
        return
    tasks = [key for key in plan.tasks if key.startswith(what)]
    named = [name for name in cells if name.startswith(what)]
    if len(tasks) + len(named) != 1:
        found = [*tasks, *named]
        if not found:
            raise UsageError(f"{what!r} names no task or cell of the store's grid")
        few = ", ".join(found[:4])
        raise UsageError(f"{what!r} names {len(found)} tasks or cells: {few}, ...; give more of it")
    if tasks:
        out.task(tasks[0])
    else:
        out.cell(named[0], cells[named[0]])


def _one_cell(cells: dict[str, PlannedCell], what: str) -> tuple[str, PlannedCell]:
    selection = parse_selection([what])

    def matches(cell: PlannedCell) -> bool:
        place = cell.place
        model = place.model
        own = {
            "architecture": model.architecture,
            "variant": model.variant,
            "method": model.method,
            "rate": f"{model.rate:g}",
            "seed": str(model.seed),
            "protocol": place.protocol,
            "attack": place.attack,
            "eps": f"{place.eps:g}",
        }
        return all(own[axis] in values for axis, values in selection.items())

    found = [(name, cell) for name, cell in cells.items() if matches(cell)]
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
        self._console.print(Text(text, style=style), soft_wrap=True)

    def _is_done(self, key: str) -> bool:
        return self._progress.state_of(key) == "done"

    def cell(self, name: str, cell: PlannedCell) -> None:
        model = cell.place.model
        self._say(name, "bold")
        self._say(
            f"{model.architecture} {model.method} rate {model.rate:g} seed {model.seed}, "
            f"{cell.place.protocol} {cell.place.attack} eps {cell.place.eps:g}"
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
    text = f"a task is given up after {attempts} failures of class {kind} in a run"
    return f"{text}: {advice(kind)}"


def _when(entry: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(finite(entry.get("at")) or 0.0, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _entry_text(entry: Mapping[str, Any]) -> str:
    skipped = ("at", "event", "key")
    rest = (f"{k}={v}" for k, v in entry.items() if k not in skipped)
    return f"{entry.get('event')} {' '.join(rest)}"
