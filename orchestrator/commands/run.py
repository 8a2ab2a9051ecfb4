"""`prunegrid run`, whole: from a grid file to a store, a table and a page."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.dashboard.beside import Beside
from prunegrid.orchestrator.driver.launch import (
    INTERRUPTED,
    RunContext,
    RunOptions,
    check_cluster,
    run_plan,
)
from prunegrid.orchestrator.driver.lease import Lease
from prunegrid.orchestrator.driver.run_state import RunResult
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.store.plan import read_grid_for
from prunegrid.orchestrator.store.store import Store


def run_grid(options: RunOptions, console: Console) -> int:
    """Returns the exit code: 0 all selected cells have a result, 1 some have not, 130
    interrupted. Raises PrunegridError before anything starts where the input is no good."""
    check_cluster(None if options.engine == "inline" else options.address, options.store)
    grid = read_grid_for(options.grid, Store.find(options.store))
    selection = parse_selection(options.select)
    plan = expand(grid, selection)
    store = Store.open_or_create(options.store)
    lease = Lease.take(store)
    try:
        with RunContext(grid.resources, store, options, console) as context:
            store.set_grid(grid.text)
            store.set_selection(selection)
            beside = Beside(store.address, console) if options.dashboard else nullcontext()
            with beside:
                result = run_plan(plan, context, lease)
    finally:
        lease.release()
    _report(plan, store, options, console)
    _summarise(plan, result, store, options, console)
    if result.interrupted:
        return INTERRUPTED
    return 1 if result.missing else 0


def _summarise(
    plan: Plan, result: RunResult, store: Store, options: RunOptions, console: Console
) -> None:
    took = duration_text(result.elapsed_s)
    if result.ran == 0 and not result.missing:
        console.print(f"all done: {result.reused} tasks had their results already", highlight=False)
    else:
        console.print(f"{result.ran} tasks run, {result.reused} reused, in {took}", highlight=False)
    if result.interrupted:
        console.print("interrupted; the same command resumes", highlight=False)
    if result.missing:
        console.print(f"{len(result.missing)} of {len(plan.cells)} cells have no result")
    if result.given_up:
        table = Table("task", "why", "message", box=None)
        for item in result.given_up[:20]:
            table.add_row(item.key, item.kind, item.message)
        console.print(table)
        console.print(
            f"see one: prunegrid explain --store {options.store} {result.given_up[0].key}",
            highlight=False,
            markup=False,
        )


def _report(plan: Plan, store: Store, options: RunOptions, console: Console) -> None:
    """The table of accuracies, and the path of the page with the figures."""
    from prunegrid.orchestrator.report import load_results, write_report
    from prunegrid.orchestrator.report.evidence import gather
    from prunegrid.orchestrator.report.terminal import print_report
    from prunegrid.workers.files import LocalFiles

    out = options.report
    if out is None:
        local = isinstance(store.files, LocalFiles)
        out = Path(store.address) / "report" if local else Path("prunegrid-report")
    results = load_results(store.files)
    if results.models.empty:
        return
    planned = [cell.place for cell in plan.cells]
    paths = write_report(
        results,
        out,
        planned=planned,
        evidence=gather(store.files, results, plan),
        title=plan.grid.name,
        formats=["html"],
    )
    print_report(console, paths.analysis)
    console.print(f"figures: {paths.page}", highlight=False, soft_wrap=True)
