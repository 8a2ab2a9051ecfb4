"""What a search or a calibration rests on, made first as `prunegrid run` makes it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from prunegrid.orchestrator.driver.launch import Place, RunOptions, run_plan
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.runner import Runner


def keep_grid(store: Store, grid: Grid) -> None:
    """A new store gets the grid: workers look for it."""
    if store.read_text(layout.GRID) is None:
        store.set_grid(grid.text)


def have_tasks(
    plan: Plan,
    store: Store,
    *,
    address: str | None,
    data_dir: str | None,
    runner: Runner,
    console: Console,
) -> bool:
    """Run what of a plan is not done, as `run` would; False where that was interrupted. Raises
    StoreError where another driver is at it, or the store is another grid's."""
    todo = plan.unfinished(store.whole())
    kept = store.read_text(layout.GRID)
    if todo and kept is not None and kept != plan.grid.text:
        raise StoreError(
            f"{store.address}: {len(todo)} tasks have no result here, and the store's grid is "
            f"another one; run them first: prunegrid run {plan.grid.source} --store "
            f"{store.address} --select rate=1"
        )
    keep_grid(store, plan.grid)
    if not todo:
        return True
    options = RunOptions(
        grid=Path(plan.grid.source),
        store=store.address,
        address=address,
        data_dir=data_dir,
        runner=runner,
    )
    lease = Lease.take(store)
    try:
        result = run_plan(plan, Place(plan.grid.resources, store, options, console), lease)
    finally:
        lease.release()
    if result.given_up:
        first = result.given_up[0]
        raise StoreError(
            f"{first.key}: {first.kind}: {first.message}; see it: prunegrid explain --store "
            f"{store.address} {first.key}"
        )
    return not result.interrupted
