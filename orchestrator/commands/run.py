"""`prunegrid run`, whole: from a grid file to a store, a table and a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import (
    AddressOption,
    DataDirOption,
    GridFile,
    SelectOption,
    StoreOption,
    absolute,
    cluster_of,
)
from prunegrid.orchestrator.commands.plan import network_notes
from prunegrid.orchestrator.dashboard.dashboard_process import DashboardProcess
from prunegrid.orchestrator.driver.foolbox_check import check_foolbox_attacks
from prunegrid.orchestrator.driver.launch import (
    INTERRUPTED,
    RunContext,
    RunOptions,
    check_cluster,
    run_plan,
)
from prunegrid.orchestrator.driver.rehearsals import try_out_new
from prunegrid.orchestrator.driver.run_view import GivenUp, RunResult
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal, plain
from prunegrid.orchestrator.plan.convergence_checks import find_doubled
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.plan import changed_code, keep_grid, read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.entry import REAL_RUNNER


# Parameters: one for each option of the command line.
def command(
    grid: GridFile,
    store: StoreOption,
    select: SelectOption = None,
    address: AddressOption = None,
    engine: Annotated[
        Literal["ray", "inline"], typer.Option(help="inline: in this process, for debugging.")
    ] = "ray",
    data_dir: DataDirOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report here (default: next to a local store).")
    ] = None,
    slices: Annotated[
        bool,
        typer.Option(
            "--slices", help="Finish publishable slices (an attack over all seeds) one by one."
        ),
    ] = False,
    slots: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most N tasks at once (default: all that fit)."),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Show it in a browser too, while it runs.")
    ] = False,
) -> None:
    """Run what is not done yet; running again resumes."""
    options = RunOptions(
        grid=grid,
        store=store,
        select=tuple(select or ()),
        address=cluster_of(address),
        engine=engine,
        data_dir=absolute(data_dir),
        report=report,
        slices=slices,
        slots=slots,
        dashboard=dashboard,
    )
    raise typer.Exit(run_grid(options, Terminal()))


def run_grid(options: RunOptions, console: Console) -> int:
    """Returns the exit code: 0 all selected models and cells have a result, 1 some have not, 130
    interrupted. Raises PrunegridError before anything starts where the input is no good."""
    check_cluster(None if options.engine == "inline" else options.address, options.store)
    known = Store.find(options.store)
    grid = read_grid_for(options.grid, known, options.data_dir)
    selection = parse_selection(options.select)
    plan = expand(grid, selection)
    stock = check_foolbox_attacks(plan, known.finished if known is not None else frozenset)
    for note in [*stock, *map(str, find_doubled(plan))]:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    for note in (*network_notes(grid), *changed_code(grid, known)):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    if options.runner is REAL_RUNNER and plan.unfinished(known.finished() if known else ()):
        try_out_new(plan, options.data_dir)
    if options.report is not None:
        from prunegrid.orchestrator.report.write import report_folder

        report_folder(options.report)  # refused now, and not when all is done
    store = Store.open_or_create(options.store)
    with (
        Lease.take(store, say=plain(console)) as lease,
        RunContext(grid, store, options, console) as context,
    ):
        keep_grid(store, grid)
        store.set_selection(selection)
        dashboard = DashboardProcess(store.address, console)
        with dashboard if options.dashboard else nullcontext():
            result = run_plan(plan, context, lease)
    _report(plan, store, options, console)
    _summarise(plan, result, store, options, console)
    if result.interrupted:
        return INTERRUPTED
    return 1 if result.missing or result.given_up else 0


def _summarise(
    plan: Plan, result: RunResult, store: Store, options: RunOptions, console: Console
) -> None:
    took = duration_text(result.elapsed_s)
    if result.ran == 0 and not result.missing:
        console.print(f"all done: {counted(result.reused, 'task')} had results already")
    else:
        console.print(f"{counted(result.ran, 'task')} run, {result.reused:,} reused, in {took}")
    if result.interrupted:
        console.print("interrupted; the same command resumes")
    if result.missing:
        console.print(f"{len(result.missing)} of {len(plan.cells)} cells have no result")
    if result.given_up:
        console.print(f"{counted(len(result.given_up), 'task')} failed:")
        for items in by_cause(result.given_up)[:20]:
            more = f" and {len(items) - 1} more" if len(items) > 1 else ""
            first = items[0]
            console.print(
                f"  {first.name}{more}: {first.kind}: {first.message}\n"
                f"    see it: prunegrid explain --store {options.store} {first.key}",
                soft_wrap=True,
            )


def by_cause(given_up: Iterable[GivenUp]) -> list[list[GivenUp]]:
    """The most frequent cause first."""
    groups: dict[str, list[GivenUp]] = defaultdict(list)
    for item in given_up:
        groups[item.cause].append(item)
    return sorted(groups.values(), key=len, reverse=True)


def _report(plan: Plan, store: Store, options: RunOptions, console: Console) -> None:
    """The table of accuracies, and the path of the page with the figures."""
    from prunegrid.orchestrator.report import load_results, write_report
    from prunegrid.orchestrator.report.evidence import gather
    from prunegrid.orchestrator.report.terminal import print_report

    out = options.report
    if out is None:
        folder = store.files.folder
        out = folder / "report" if folder else Path("prunegrid-report")
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
    console.print(f"figures: {paths.page}", soft_wrap=True)
