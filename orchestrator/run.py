"""`prunegrid run`, whole: from a grid file to a store, a table and a page."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from rich.console import Console
from rich.table import Table

from orchestrator.dag import Plan, expand
from orchestrator.dashboard.beside import Beside
from orchestrator.driver import Driver
from orchestrator.engine import Engine, InlineEngine
from orchestrator.errors import UsageError
from orchestrator.estimates import duration_text
from orchestrator.grid import Resources
from orchestrator.grid_file import read_grid
from orchestrator.lease import Lease
from orchestrator.progress import Display
from orchestrator.revision import git_revision
from orchestrator.run_state import RunResult
from orchestrator.selection import parse_selection
from orchestrator.slices import slice_ranks
from orchestrator.store import Store
from workers.contract import TaskKind, WorkerSettings
from workers.entry import REAL_RUNNER

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    grid: Path
    store: str
    select: tuple[str, ...] = ()
    address: str | None = None
    engine: Literal["ray", "inline"] = "ray"
    data_dir: str | None = None
    report: Path | None = None
    slices: bool = False  #: whole publishable slices first
    dashboard: bool = False
    runner: str = REAL_RUNNER  #: tests name their own


def run_grid(options: RunOptions, console: Console) -> int:
    """Returns the exit code: 0 all selected cells have a result, 1 some have not, 130
    interrupted. Raises PrunegridError before anything starts where the input is no good."""
    check_cluster(None if options.engine == "inline" else options.address, options.store)
    grid = read_grid(options.grid)
    selection = parse_selection(options.select)
    plan = expand(grid, selection)
    store = Store.open_or_create(options.store)
    lease = Lease.take(store)
    try:
        store.set_grid(grid.text)
        store.set_selection(selection)
        with Beside(store.address, console) if options.dashboard else contextlib.nullcontext():
            result = run_plan(plan, store, options, console, lease)
    finally:
        lease.release()
    _report(plan, store, options, console)
    _summarise(plan, result, store, options, console)
    if result.interrupted:
        return INTERRUPTED
    return 1 if result.missing else 0


def check_cluster(address: str | None, store: str) -> None:
    """The address, and the store: a relative folder would be in a job's temporary directory, or
    in the driver's home, which no other node has. Raises UsageError."""
    if address is None:
        return
    if address.startswith(("http:", "https:")):
        raise UsageError(
            f"--address, or RAY_ADDRESS: {address} is a dashboard, which takes `ray job "
            "submit`; expected auto, host:port, or none to start Ray here"
        )
    if "://" not in store and not Path(store).expanduser().is_absolute():
        raise UsageError(
            f"--store {store}: workers of the cluster at {address} may not see "
            "this folder; expected an absolute path that all nodes share, s3://bucket/path or "
            "gs://bucket/path"
        )


def run_plan(
    plan: Plan, store: Store, options: RunOptions, console: Console, lease: Lease
) -> RunResult:
    """What of a plan is not done yet, with the progress on the console. Raises PrunegridError."""
    stop = StopSignal()
    count = Counter(task.kind for task in plan.tasks.values())
    console.print(
        f"{plan.grid.name}: {len(plan.models)} models, {len(plan.cells)} cells; "
        + ", ".join(f"{count[kind]} {kind.value}" for kind in TaskKind)
        + f" tasks into {store.address}",
        highlight=False,
    )
    with Display(console, title=plan.grid.name) as display:
        engine = _engine(plan, store, options, console, stop)
        driver = Driver(
            plan,
            store,
            engine,
            display,
            lease=lease,
            stop_requested=stop.is_requested,
            ranks=slice_ranks(plan) if options.slices else None,
        )
        try:
            with stop:
                return driver.run()
        except BaseException:
            if stop.is_final():  # Ray may have made another error of it, or have lost it
                raise SystemExit(INTERRUPTED) from None
            raise
        finally:
            engine.close()


def _engine(
    plan: Plan, store: Store, options: RunOptions, console: Console, stop: StopSignal
) -> Engine:
    resources = plan.grid.resources
    settings = worker_settings(resources, store.address, options.data_dir)
    if not plan.unfinished(store.whole()):
        return _NoEngine(settings)
    if options.engine == "inline":
        engine: Engine = InlineEngine(
            settings, runner=options.runner, stop_requested=stop.is_requested
        )
    else:
        from orchestrator.engine_ray import RayEngine

        with console.status("starting Ray"):
            engine = RayEngine(settings, resources, address=options.address, runner=options.runner)
    console.print(f"running on {engine.description}", highlight=False)
    return engine


def worker_settings(resources: Resources, store: str, data_dir: str | None) -> WorkerSettings:
    return WorkerSettings(
        store=store,
        data_dir=data_dir,
        threads=resources.threads,
        gpu_memory_mib=resources.gpu_memory_mib,
        git_revision=git_revision(),
        latency_batch=resources.latency_batch,
    )


class _NoEngine(InlineEngine):
    """Nothing is left to run: no need to start Ray for that."""

    description = "nothing: all is done"


class StopSignal:
    """SIGINT or SIGTERM once: stop in order; twice: at once."""

    def __init__(self) -> None:
        self._count = 0
        self._old: dict[int, object] = {}

    def is_requested(self) -> bool:
        return self._count > 0

    def is_final(self) -> bool:
        return self._count > 1

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._receive)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise SystemExit(INTERRUPTED)


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
    from orchestrator.report import load_results, write_report
    from orchestrator.report.evidence import gather
    from orchestrator.report.terminal import print_report
    from workers.files import LocalFiles

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
