"""`prunegrid tune`, whole: from a grid file to a piece of grid file."""

from __future__ import annotations

import json
from typing import Annotated

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
from prunegrid.orchestrator.driver.launch import (
    INTERRUPTED,
    RunOptions,
    check_cluster,
)
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.plan import read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.piece import attack_piece, show_piece, training_piece
from prunegrid.orchestrator.tuning.search import SearchContext, conclude, run_trials
from prunegrid.orchestrator.tuning.search_plan import (
    SearchOptions,
    attack_studies,
    training_studies,
)
from prunegrid.orchestrator.tuning.study import Study, TrainingStudy
from prunegrid.orchestrator.tuning.task_runs import RunInterrupted, give_grid, have_grid_tasks
from prunegrid.orchestrator.tuning.trials import SearchOutcome
from prunegrid.orchestrator.tuning.wording import (
    attack_report,
    changed,
    summary,
    training_report,
    varied,
)
from prunegrid.workers import layout
from prunegrid.workers.contract import network_label


# Parameters: one for each option of the command line.
def command(
    grid: GridFile,
    store: StoreOption,
    attack: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The grid's attack to make stronger.")
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Instead: how chains are trained and fine-tuned.")
    ] = False,
    select: SelectOption = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N|PART",
            help="Queries an image, or a part of what the grid's settings cost, such as 1/20 "
            "(default: as many as the grid's settings).",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings to try, the grid's own included.")] = 32,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="median|robust",
            help="Median distance, or robust accuracy at --eps (default: what the attack finds).",
        ),
    ] = None,
    eps: Annotated[float | None, typer.Option(help="Of --objective robust.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LOW..HIGH]",
            help="Only these settings (default: all that the catalog has ranges for).",
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="Half to search on, half to report on (default: the grid's)."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Compare with the grid's settings at their full cost, too."),
    ] = False,
    slots: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials at once (default: all that fit; half, where others are at work)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the trials that are proposed.")] = 0,
    address: AddressOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Search an attack's settings (or a chain's training) within a budget; resumes."""
    if (attack is None) is not training:
        raise UsageError("expected one of --attack LABEL and --training")
    asked = SearchOptions(
        attack=attack,
        select=parse_selection(select or ()),
        budget=budget,
        trials=trials,
        objective=objective,
        eps=eps,
        vary=tuple(vary or ()),
        images=images,
        seed=seed,
        slots=slots,
        whole=full,
    )
    options = RunOptions(
        grid=grid, store=store, address=cluster_of(address), data_dir=absolute(data_dir)
    )
    raise typer.Exit(tune(options, asked, Terminal()))


def tune(options: RunOptions, asked: SearchOptions, console: Console) -> int:
    """Returns the exit code: 0, 1 where no trial went through, 130 interrupted. Raises
    PrunegridError, before anything starts where the input is no good."""
    check_cluster(options.address, options.store)
    grid = read_grid_for(options.grid, Store.find(options.store), options.data_dir)
    if asked.attack is None:
        studies: tuple[Study, ...] = training_studies(grid, asked)
        dense = None
    else:
        studies, dense = attack_studies(grid, asked)
    store = Store.open_or_create(options.store)
    context = SearchContext(
        grid=grid, store=store, options=options, slots=asked.slots, console=console
    )
    try:
        if dense is None:
            give_grid(store, grid)
        else:
            have_grid_tasks(dense, store, options, console)
        for study in studies:
            run_trials(study, context)
            _present(conclude(study, context, whole=asked.whole), grid, store, console)
    except RunInterrupted:
        console.print("interrupted; the same command resumes")
        return INTERRUPTED
    return 0


def _present(outcome: SearchOutcome, grid: Grid, store: Store, console: Console) -> None:
    from prunegrid.orchestrator.tuning.search_figure import figures

    study = outcome.study
    if isinstance(study, TrainingStudy):
        lines = training_report(outcome, outcome.trials.get(0))
        piece = training_piece(
            grid,
            network_label(study.chains[0].tasks[0]),
            study.training(outcome.best.options),
            varied(study),
            "\n".join(lines),
        )
    else:
        lines = attack_report(outcome)
        piece = attack_piece(
            grid,
            protocol=study.protocol,
            label=study.label,
            options=changed(study, outcome.best.options),
            comment="\n".join(lines),
        )
    folder = f"{layout.TUNING}/{study.name}"
    files = {
        "piece.yaml": piece.encode(),
        "summary.json": json.dumps(summary(outcome), indent=1).encode(),
        **figures(outcome),
    }
    for name, content in files.items():
        store.write(f"{folder}/{name}", content)
    console.print()
    for line in lines:
        console.print(line, soft_wrap=True)
    show_piece(piece, grid, console)
    console.print(
        f"\nthis piece, the figure and the numbers: {store.address}/{folder}; "
        f"every trial: {store.address}/{layout.TUNING_ROWS}",
        soft_wrap=True,
    )
