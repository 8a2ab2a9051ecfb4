"""`prunegrid calibrate`, whole: four eps per architecture and attack from dense models' security
curves, those of a grid, of a store as it is, or of the paper's authors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import (
    AddressOption,
    DataDirOption,
    SelectOption,
    absolute,
    cluster_of,
)
from prunegrid.orchestrator.driver.launch import (
    INTERRUPTED,
    StopSignal,
    check_cluster,
    worker_settings,
)
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import Grid, Selection
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.plan import read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.calibrate_view import lines_of, show
from prunegrid.orchestrator.tuning.evaluation import compute, missing
from prunegrid.orchestrator.tuning.ladder import Rule, eps_as_written
from prunegrid.orchestrator.tuning.measure import calibrate_measured, measured
from prunegrid.orchestrator.tuning.models import have_tasks
from prunegrid.orchestrator.tuning.piece import eps_piece
from prunegrid.orchestrator.tuning.plan import dense_plan
from prunegrid.orchestrator.tuning.security import Calibration
from prunegrid.orchestrator.tuning.stored_curves import authors_curves, stored_curves
from prunegrid.workers import layout
from prunegrid.workers.contract import Task
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.keys import digest
from prunegrid.workers.runner import Runner
from prunegrid.workers.tuning import TUNING_RUNNER

if TYPE_CHECKING:
    from prunegrid.orchestrator.engines.ray.engine import RayEngine


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    grid: Path | None
    store: str | None
    authors: tuple[Path, ...] = ()
    select: Selection = dataclasses.field(default_factory=dict)
    rule: Rule = dataclasses.field(default_factory=Rule)
    address: str | None = None
    data_dir: str | None = None
    runner: Runner = TUNING_RUNNER  #: of tasks aside; tests name their own
    grid_runner: Runner = REAL_RUNNER  #: of the grid's own tasks


def command(
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
    options = CalibrateOptions(
        grid=grid,
        store=store,
        authors=tuple(from_authors or ()),
        select=parse_selection(select or ()),
        rule=Rule(marginal=marginal, left=left),
        address=cluster_of(address),
        data_dir=absolute(data_dir),
    )
    raise typer.Exit(calibrate(options, Console()))


class _Stopped(Exception):  # noqa: N818 - what happened: the user asked for it
    pass


def calibrate(options: CalibrateOptions, console: Console) -> int:
    """Returns the exit code: 0, or 130 where it was interrupted. Raises PrunegridError."""
    _check(options)
    if options.authors:
        found = authors_curves(options.authors, options.rule)
        show(found, options.rule, console, whose="published")
        return 0
    assert options.store is not None
    if options.grid is None:
        show(stored_curves(Store.open(options.store), options.rule), options.rule, console)
        return 0
    check_cluster(options.address, options.store)
    grid = read_grid_for(options.grid, Store.find(options.store))
    plan = one_protocol(dense_plan(grid, options.select), console)
    store = Store.open_or_create(options.store)
    done = have_tasks(
        plan,
        store,
        address=options.address,
        data_dir=options.data_dir,
        runner=options.grid_runner,
        console=console,
    )
    try:
        if not done:
            raise _Stopped
        found = _measure(plan, store, options, console)
    except _Stopped:
        console.print("interrupted; the same command resumes", highlight=False)
        return INTERRUPTED
    show(found, options.rule, console)
    _leave(found, grid, store, options.rule, console)
    return 0


def _check(options: CalibrateOptions) -> None:
    rule = options.rule
    if options.authors and (options.grid or options.store):
        raise UsageError("--from-authors: expected neither GRID nor --store beside it")
    if not options.authors and options.store is None:
        raise UsageError("expected --store S, with GRID or alone, or --from-authors FILE")
    if options.grid is None and options.select:
        raise UsageError("--select: expected GRID, whose coordinates it names")
    for name, value in (("--marginal", rule.marginal), ("--left", rule.left)):
        if not 0 < value < rule.most_left:
            raise UsageError(
                f"{name}: expected a number above 0 and below {rule.most_left:g}, got {value:g}"
            )


def one_protocol(plan: Plan, console: Console) -> Plan:
    """A grid has one set of eps for all its protocols: the first one's attacks are measured."""
    names = list(dict.fromkeys(cell.place.protocol for cell in plan.cells))
    if len(names) > 1:
        console.print(
            f"protocol {names[0]} is calibrated; --select protocol={names[1]} takes another",
            highlight=False,
        )
    cells = tuple(cell for cell in plan.cells if cell.place.protocol == names[0])
    keys = {m.task_key for m in plan.models} | {key for cell in cells for key in cell.task_keys}
    tasks = {key: task for key, task in plan.tasks.items() if key in keys}
    return dataclasses.replace(plan, cells=cells, tasks=tasks)


def _measure(
    plan: Plan, store: Store, options: CalibrateOptions, console: Console
) -> list[Calibration]:
    stop = StopSignal()
    with _Aside(plan, store, options, console, stop) as aside, stop:
        return calibrate_measured(
            measured(plan, store), options.rule, store.address, aside.compute, aside.say
        )


class _Aside:
    """An engine for tasks that are not the grid's, started with the first of them."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        options: CalibrateOptions,
        console: Console,
        stop: StopSignal,
    ) -> None:
        self._store, self._options, self._stop = store, options, stop
        self._resources = plan.grid.resources
        self._status = console.status("more eps")
        self._engine: RayEngine | None = None

    def __enter__(self) -> _Aside:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()
        if self._engine is not None:
            self._engine.close()

    def say(self, text: str) -> None:
        self._status.update(text)

    def compute(self, tasks: Sequence[Task]) -> None:
        """Raises _Stopped, EvaluationError."""
        todo = missing(tasks, self._store.address)
        if not todo:
            return
        if self._engine is None:
            from prunegrid.orchestrator.engines.ray.engine import RayEngine

            self._engine = RayEngine(
                worker_settings(self._resources, self._store.address, self._options.data_dir),
                self._resources,
                address=self._options.address,
                runner=self._options.runner,
            )
        if not compute(todo, self._engine, lambda _: None, self._stop.is_requested):
            raise _Stopped


def _leave(
    found: Sequence[Calibration], grid: Grid, store: Store, rule: Rule, console: Console
) -> None:
    sets: dict[str, dict[str, tuple[str, ...]]] = {}
    for item in found:
        texts = tuple(eps_as_written(step.eps, item.curve.norm) for step in item.proposed)
        sets.setdefault(item.curve.architecture, {})[item.curve.attack] = texts
    comment = [line for item in found for line in lines_of(item, rule, whose="in use")]
    piece = eps_piece(grid, sets, "\n".join(comment))
    name = f"calibration-{digest([grid.text, rule, piece], length=8)}.yaml"
    store.write(f"{layout.TUNING}/{name}", piece.encode())
    console.print(f"\nfor {grid.source}:", highlight=False, soft_wrap=True)
    body = [line for line in piece.splitlines() if not line.startswith("#")]
    console.print("\n".join(body), highlight=False, soft_wrap=True, markup=False)
    console.print(f"\nthis piece: {store.address}/{layout.TUNING}/{name}", soft_wrap=True)
