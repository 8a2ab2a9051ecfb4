"""`prunegrid tune`, whole: from a grid file to a piece of grid file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

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
from prunegrid.orchestrator.tuning.piece import attack_piece, training_piece
from prunegrid.orchestrator.tuning.search import SearchContext, conclude, hold_out, run_trials
from prunegrid.orchestrator.tuning.search_outcome import SearchOutcome
from prunegrid.orchestrator.tuning.search_plan import (
    SearchOptions,
    attack_studies,
    training_studies,
)
from prunegrid.orchestrator.tuning.study import AttackStudy, Study, TrainingStudy
from prunegrid.orchestrator.tuning.task_runs import have_grid_tasks, keep_grid
from prunegrid.orchestrator.tuning.wording import attack_report, training_report, varied
from prunegrid.workers import layout
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.runner import Runner


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    grid: Path
    store: str
    search: SearchOptions
    whole: bool = False  #: also against the grid's settings at their full cost
    slots: int | None = None
    address: str | None = None
    data_dir: str | None = None
    runner: Runner = REAL_RUNNER  #: tests name their own

    @property
    def run(self) -> RunOptions:
        """Of the tasks that it needs."""
        return RunOptions(
            grid=self.grid,
            store=self.store,
            address=self.address,
            data_dir=self.data_dir,
            runner=self.runner,
        )


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
    search = SearchOptions(
        attack=attack,
        select=parse_selection(select or ()),
        budget=budget,
        trials=trials,
        objective=objective,
        eps=eps,
        vary=tuple(vary or ()),
        images=images,
        seed=seed,
    )
    options = TuneOptions(
        grid=grid,
        store=store,
        search=search,
        whole=full,
        slots=slots,
        address=cluster_of(address),
        data_dir=absolute(data_dir),
    )
    raise typer.Exit(tune(options, Terminal()))


def tune(options: TuneOptions, console: Console) -> int:
    """Returns the exit code: 0, 1 where no trial went through, 130 interrupted. Raises
    PrunegridError, before anything starts where the input is no good."""
    check_cluster(options.address, options.store)
    grid = read_grid_for(options.grid, Store.find(options.store))
    if options.search.attack is None:
        studies: tuple[Study, ...] = training_studies(grid, options.search)
        dense = None
    else:
        studies, dense = attack_studies(grid, options.search)
    store = Store.open_or_create(options.store)
    if dense is None:
        keep_grid(store, grid)
    elif not have_grid_tasks(dense, store, options.run, console):
        return INTERRUPTED
    context = SearchContext(
        grid=grid, store=store, options=options.run, slots=options.slots, console=console
    )
    for study in studies:
        outcome = _outcome(study, context, options.whole) if run_trials(study, context) else None
        if outcome is None:
            console.print("interrupted; the same command resumes", highlight=False)
            return INTERRUPTED
        _present(outcome, grid, store, console)
    return 0


def _outcome(study: Study, context: SearchContext, whole: bool) -> SearchOutcome | None:
    if isinstance(study, AttackStudy):
        return hold_out(study, context, whole=whole)
    winner, trials = conclude(study, context.store)
    return SearchOutcome(study=study, trials=trials, best=winner, rivals=())


def _present(outcome: SearchOutcome, grid: Grid, store: Store, console: Console) -> None:
    from prunegrid.orchestrator.tuning.search_figure import figures

    study = outcome.study
    if isinstance(study, TrainingStudy):
        lines = training_report(outcome, outcome.trials.get(0))
        piece = training_piece(
            grid,
            study.chains[0].tasks[0].architecture,
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
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(f"\nfor {grid.source}:", highlight=False, soft_wrap=True)
    body = [line for line in piece.splitlines() if not line.startswith("#")]
    console.print("\n".join(body), highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\nthis piece, the figure and the numbers: {store.address}/{folder}; "
        f"every trial: {store.address}/{layout.TUNING_ROWS}",
        highlight=False,
        soft_wrap=True,
    )


def changed(study: AttackStudy, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a trial's options those that a grid file has to name: what the trials vary, and what the
    budget cut."""
    base = dict(study.base.options)
    names = set(varied(study))
    return {n: v for n, v in options.items() if n in names or base.get(n) != v}


def summary(outcome: SearchOutcome) -> dict[str, Any]:
    """The numbers, for a script."""
    study = outcome.study
    return {
        "study": study.name,
        "objective": study.objective,
        "eps": study.eps,
        "budget": study.budget or None,
        "trials": len(outcome.trials),
        "stopped_early": sum(t.state == "stopped early" for t in outcome.trials.values()),
        "best": {"trial": outcome.best.trial, "settings": dict(outcome.best.options)},
        "held_out": [
            {
                "role": rival.role,
                "settings": dict(rival.options),
                "queries_mean": rival.queries_mean,
                **({} if rival.comparison is None else dataclasses.asdict(rival.comparison)),
            }
            for rival in outcome.rivals
        ],
    }
