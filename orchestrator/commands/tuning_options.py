"""The commands that search settings instead of having them picked: tune, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import GridFile, SelectOption, StoreOption

AddressOption = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Join this Ray cluster ('auto' or host:port); else start Ray here.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Prepared data sets of each node (default: ~/.cache/prunegrid)."),
]


def register(app: typer.Typer) -> None:
    app.command()(tune)
    app.command()(calibrate)


def tune(
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
    from prunegrid.orchestrator.commands.tune import TuneOptions
    from prunegrid.orchestrator.commands.tune import tune as tune_it
    from prunegrid.orchestrator.errors import UsageError
    from prunegrid.orchestrator.grid.selection import parse_selection
    from prunegrid.orchestrator.tuning.search_plan import SearchOptions

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
        address=None if address in (None, "", "local") else address,
        data_dir=None if data_dir is None else str(data_dir.expanduser().absolute()),
    )
    raise typer.Exit(tune_it(options, Console()))


def calibrate(
    grid: Annotated[
        Path | None,
        typer.Argument(metavar="[GRID]", help="A grid file; without one the store as it is."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="S", help="A folder, s3://bucket/path or gs://..."),
    ] = None,
    from_authors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Raw results in the form of the paper's authors."),
    ] = None,
    select: SelectOption = None,
    marginal: Annotated[
        float, typer.Option(help="Accuracy that the weakest eps may cost the dense model.")
    ] = 0.05,
    left: Annotated[
        float, typer.Option(help="Robust accuracy that the strongest eps is to leave it.")
    ] = 0.25,
    address: AddressOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Four eps per architecture and attack by the paper's rule, from the dense models."""
    from prunegrid.orchestrator.commands.calibrate import CalibrateOptions
    from prunegrid.orchestrator.commands.calibrate import calibrate as calibrate_it
    from prunegrid.orchestrator.grid.selection import parse_selection
    from prunegrid.orchestrator.tuning.eps_levels import Rule

    options = CalibrateOptions(
        grid=grid,
        store=store,
        authors=tuple(from_authors or ()),
        select=parse_selection(select or ()),
        rule=Rule(marginal=marginal, left=left),
        address=None if address in (None, "", "local") else address,
        data_dir=None if data_dir is None else str(data_dir.expanduser().absolute()),
    )
    raise typer.Exit(calibrate_it(options, Console()))
