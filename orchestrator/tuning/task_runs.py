"""Tasks that a search or a calibration needs, run by the driver on any engine: the grid's own into
its store, others into the scratch store."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.status import Status

from prunegrid.orchestrator.driver.launch import RunContext, RunOptions, drive, run_plan
from prunegrid.orchestrator.driver.run_view import RunView
from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.output import plain
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.plan import keep_grid
from prunegrid.orchestrator.store.store import Store, store_files
from prunegrid.workers import layout
from prunegrid.workers.contract import Task
from prunegrid.workers.scratch import has_result, scratch_address


class TaskFailedError(PrunegridError):
    """A task outside the grid failed for good."""


class RunInterrupted(Exception):  # noqa: N818 - what happened: the user asked for it
    """Before all tasks had their results."""


def give_grid(store: Store, grid: Grid) -> None:
    """A new store gets the grid: workers look for it."""
    if store.read_text(layout.GRID) is None:
        keep_grid(store, grid)


def have_grid_tasks(plan: Plan, store: Store, options: RunOptions, console: Console) -> None:
    """Run what of a plan is not done, as `run` would. Raises RunInterrupted; StoreError where
    another driver is at it, or the store is another grid's."""
    todo = plan.unfinished(store.whole())
    kept = store.read_text(layout.GRID)
    if todo and kept is not None and kept != plan.grid.text:
        raise StoreError(
            f"{store.address}: {len(todo)} tasks have no result here, and the store's grid is "
            f"another one; run them first: prunegrid run {plan.grid.source} --store "
            f"{store.address} --select rate=1"
        )
    give_grid(store, plan.grid)
    if not todo:
        return
    with (
        Lease.take(store, say=plain(console)) as lease,
        RunContext(plan.grid, store, options, console) as context,
    ):
        result = run_plan(plan, context, lease)
    if result.given_up:
        first = result.given_up[0]
        raise StoreError(
            f"{first.key}: {first.kind}: {first.message}; see it: prunegrid explain --store "
            f"{store.address} {first.key}"
        )
    if result.interrupted:
        raise RunInterrupted


class ScratchRuns:
    """Runs tasks into the scratch store, on one engine that the first of them starts. A context
    manager."""

    def __init__(
        self, grid: Grid, store: Store, options: RunOptions, console: Console, *, name: str
    ) -> None:
        """`name`: of the work, which one process at a time may do."""
        self._grid = grid
        self._store = store
        self._console = console
        self._lease_path = f"{layout.TUNING}/leases/{name}.json"
        self._lease: Lease | None = None
        scratch = Store(store_files(scratch_address(store.address)))
        self._context = RunContext(grid, store, options, console, results=scratch)

    def run(self, tasks: Iterable[Task], note: str) -> None:
        """Have the tasks' results. Raises RunInterrupted, TaskFailedError, StoreError where
        another process is at the same work."""
        todo = {t.key: t for t in tasks if not has_result(t, self._store.address)}
        if not todo:
            return
        if self._lease is None:
            say = plain(self._console)
            self._lease = Lease.take(self._store, self._lease_path, say=say)
        plan = Plan(grid=self._grid, models=(), cells=(), tasks=todo, wanted=tuple(todo))
        self._context.engine()  # says so in a line, before there is a status
        with self._console.status(note) as status:
            result = drive(plan, self._context, self._lease, _StatusObserver(status, note))
        if result.interrupted:
            raise RunInterrupted
        if result.given_up:
            first = result.given_up[0]
            raise TaskFailedError(f"{first.key}: {first.kind}: {first.message}")

    def __enter__(self) -> ScratchRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__()
        if self._lease is not None:
            self._lease.release()


class _StatusObserver:
    """Progress in one line, which is gone at the end."""

    def __init__(self, status: Status, note: str) -> None:
        self._status = status
        self._note = note

    def show(self, view: RunView) -> None:
        done = sum(counts["done"] for counts in view.counts.values())
        total = sum(counts.total() for counts in view.counts.values())
        self._status.update(f"{self._note}: {done} of {total} tasks done")

    def say(self, line: str) -> None:
        self._status.update(line)
