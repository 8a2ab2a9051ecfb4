"""`prunegrid run`, whole: from a grid file to a store, a table and a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
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
from prunegrid.orchestrator.dashboard.dashboard_process import DashboardProcess
from prunegrid.orchestrator.driver.launch import INTERRUPTED, RunOptions, run_options
from prunegrid.orchestrator.driver.run_view import GivenUp, RunResult
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.python_api import report_plan
from prunegrid.orchestrator.store.store import Store


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
        bool,
        typer.Option(
            "--dashboard",
            help="Show it in a browser too, while it runs; after failures until Ctrl-C.",
        ),
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
    if options.report is not None:
        from prunegrid.orchestrator.report.write import report_folder

        report_folder(options.report)  # refused now, and not when all is done
    with ExitStack() as ends_last:
        pages: list[DashboardProcess] = []

        def watch(store: Store) -> None:
            if options.dashboard:
                page = DashboardProcess(store.address, console)
                pages.append(ends_last.enter_context(page))

        ran = run_options(options, console, started=watch)
        if not ran.result.interrupted:  # else somebody waits for the end, as Slurm does
            _report(ran.plan, ran.store, options, console)
        _summarise(ran.plan, ran.result, ran.store, options, console)
        if ran.result.interrupted:
            return INTERRUPTED
        failed = bool(ran.result.missing or ran.result.given_up)
        for page in pages:
            page.say_address()
            if failed and console.is_terminal:  # somebody is there to look, and to close it
                page.wait()
    return 1 if failed else 0


def _summarise(
    plan: Plan, result: RunResult, store: Store, options: RunOptions, console: Console
) -> None:
    took = duration_text(result.elapsed_s)
    if result.ran == 0 and not result.missing:
        console.print(f"all done: {counted(result.reused, 'task')} had results already")
    else:
        console.print(f"{counted(result.ran, 'task')} run, {result.reused:,} reused, in {took}")
    if result.interrupted:
        console.print("interrupted; the same command resumes ('prunegrid report': what is there)")
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
    from prunegrid.orchestrator.report.terminal import print_report

    out = options.report
    if out is None:
        folder = store.files.folder
        out = folder / "report" if folder else Path("prunegrid-report")
    paths = report_plan(store, out, plan, title=plan.grid.name, formats=["html"])
    if paths is not None:
        print_report(console, paths.analysis)
        console.print(f"figures: {paths.page}", soft_wrap=True)
