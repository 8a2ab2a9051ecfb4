"""The command line. Each command is a thin layer over a module of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from prunegrid.orchestrator.commands import request_options as cli_requests
from prunegrid.orchestrator.commands import tuning_options as cli_tuning
from prunegrid.orchestrator.commands.measure import measure
from prunegrid.orchestrator.commands.options import (
    GridFile,
    JsonOption,
    SelectOption,
    StoreOption,
    VersionOption,
)
from prunegrid.orchestrator.commands.prepare import prepare
from prunegrid.orchestrator.errors import PrunegridError

app = typer.Typer(
    name="prunegrid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def prunegrid(version: VersionOption = False) -> None:
    """What does compressing this network do to its robustness? Train, prune and attack whole
    grids of networks over Ray."""


@app.command()
def plan(
    grid: GridFile,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Count what is done there already.")
    ] = None,
    durations_from: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="Expect what tasks like these took in another store."),
    ] = None,
    slots: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="So many tasks at once (default: 1, 8 and 64)."),
    ] = None,
    select: SelectOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a grid would take: models, cells, tasks, hours, cost, and what of it is done."""
    from prunegrid.orchestrator.commands import plan as plan_view

    options = plan_view.PlanOptions(
        grid=grid,
        store=store,
        durations_from=tuple(durations_from or ()),
        slots=tuple(slots or plan_view.SLOTS),
        select=select or [],
    )
    plan_view.plan(options, as_json=as_json, console=Console())


@app.command()
def run(
    grid: GridFile,
    store: StoreOption,
    select: SelectOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="Join this Ray cluster ('auto' or host:port); else start Ray here.",
        ),
    ] = None,
    engine: Annotated[
        Literal["ray", "inline"], typer.Option(help="inline: in this process, for debugging.")
    ] = "ray",
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Prepared data sets of each node (default: ~/.cache/prunegrid)."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report here (default: next to a local store).")
    ] = None,
    slices: Annotated[
        bool,
        typer.Option(
            "--slices", help="Finish publishable slices (an attack over all seeds) one by one."
        ),
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Show it in a browser too, while it runs.")
    ] = False,
) -> None:
    """Run what is not done yet; running again resumes."""
    from prunegrid.orchestrator.commands.run import run_grid
    from prunegrid.orchestrator.driver.launch import RunOptions

    options = RunOptions(
        grid=grid,
        store=store,
        select=tuple(select or ()),
        address=None if address in (None, "", "local") else address,
        engine=engine,
        data_dir=None if data_dir is None else str(data_dir.expanduser().absolute()),
        report=report,
        slices=slices,
        dashboard=dashboard,
    )
    raise typer.Exit(run_grid(options, Console()))


app.command()(prepare)
app.command()(measure)


@app.command()
def status(
    store: StoreOption,
    watch: Annotated[bool, typer.Option("--watch", help="Every two seconds, until done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How far a store's grid is, what fails, and how long it will take."""
    from prunegrid.orchestrator.commands import status as views

    if watch and not as_json:
        views.watch(store, Console())
        return
    views.status(store, as_json=as_json, console=Console())


@app.command()
def explain(
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
    from prunegrid.orchestrator.commands.explain import explain as explain_it

    explain_it(store, what, Console())


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model, cell or task name, its first letters, or coordinates as in --select.",
        ),
    ],
    store: StoreOption,
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="A new file.keras, or a new folder (SavedModel).")
    ],
    form: Annotated[
        Literal["keras", "savedmodel", "shrunk"],
        typer.Option(help="shrunk: physically smaller, without dead channels, the same logits."),
    ] = "keras",
    latency_batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Also time a forward pass of N images here."),
    ] = None,
) -> None:
    """A model as a plain Keras file or a SavedModel; pruned weights are its zeros."""
    from prunegrid.orchestrator.commands.export import export as export_it

    export_it(store, what, out, form=form, latency_batch=latency_batch, console=Console())


@app.command()
def verify(store: StoreOption, as_json: JsonOption = False) -> None:
    """Check every claim of a store again; exit 1 on any doubt."""
    from prunegrid.orchestrator.verify.show import show_findings

    raise typer.Exit(show_findings(store, as_json=as_json, console=Console()))


@app.command()
def dashboard(
    store: StoreOption,
    host: Annotated[
        str, typer.Option(help="Where to listen; any but loopback needs the token it prints.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="(default: 8050, or the next free one; 0: any)")
    ] = None,
    allow_retry: Annotated[
        bool, typer.Option("--allow-retry", help="Let viewers ask the driver to retry tasks.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name of this server, as a proxy has it."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Don't serve: write a copy to read, as files, here."),
    ] = None,
) -> None:
    """Watch a store in a browser: live, beside a driver or after its end."""
    from prunegrid.orchestrator.dashboard.server import ServerOptions, export_page, serve

    if export is not None:
        export_page(store, export, Console())
        return
    options = ServerOptions(
        store=store,
        host=host,
        port=port,
        allow_retry=allow_retry,
        allowed_hosts=tuple(allowed_host or ()),
    )
    serve(options, Console())


@app.command()
def compact(store: StoreOption) -> None:
    """Merge many small result files into few; readers may go on reading."""
    from prunegrid.orchestrator.commands.compact import compact as compact_it

    compact_it(store, Console())


@app.command()
def report(
    store: StoreOption,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new or empty folder, or an earlier report.")
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="paper|S", help="Beside the published tables, or another store."),
    ] = None,
) -> None:
    """Tables, figures and findings: one page that needs no network; CSV, LaTeX, PNG and SVG."""
    from prunegrid.orchestrator.commands.report import report as report_it

    report_it(store, out, against=against, console=Console())


@app.command("import-authors")
def import_authors(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Parquet, a row per trained run.")
    ],
    store: StoreOption,
) -> None:
    """Read raw results in the form of the paper's authors into a store."""
    from prunegrid.orchestrator.commands.report import import_authors as import_them

    import_them(files, store, console=Console())


cli_requests.register(app)
cli_tuning.register(app)


def guarded(command: Callable[[], Any]) -> int:
    """Run a command; what a user can mend is one line on standard error, not a traceback."""
    try:
        command()
    except PrunegridError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return 0


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `prunegrid`; exits with 0, 1, 2 or 130."""
    sys.exit(guarded(lambda: app(args=arguments, prog_name="prunegrid")))


if __name__ == "__main__":
    main()
