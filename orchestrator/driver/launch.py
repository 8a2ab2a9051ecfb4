"""Start a driver on a plan: its engine, the worker settings, and how a run is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal, cast

from rich.console import Console

from prunegrid.orchestrator.driver.display import Display
from prunegrid.orchestrator.driver.driver import Driver
from prunegrid.orchestrator.driver.foolbox_check import check_foolbox_attacks
from prunegrid.orchestrator.driver.rehearsals import try_out_new
from prunegrid.orchestrator.driver.run_view import Observer, RunResult
from prunegrid.orchestrator.engines.engine import Engine, InlineEngine
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import plain
from prunegrid.orchestrator.plan.convergence_checks import find_doubled
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.slices import sample_ranks, slice_ranks
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.plan import changed_code, keep_grid, read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tracking.follower import TrackerFollower
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.files import expanded
from prunegrid.workers.revision import CODE
from prunegrid.workers.runner import Runner
from prunegrid.workers.user_code import UserCodeError, collect

INTERRUPTED = 130
#: With an IPv6 address in brackets; also of Ray's own client, ray://host:port.
_HOST_AND_PORT = re.compile(
    r"(?:[a-z]+://)?(?:[^\s:/\[\]]+|\[[\da-fA-F:.]+\]):(\d{1,5})/?", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    grid: Path | Grid
    store: str
    select: tuple[str, ...] = ()
    address: str | None = None
    engine: Literal["ray", "inline"] = "ray"
    data_dir: str | None = None
    report: Path | None = None
    slices: bool = False  #: whole publishable slices first
    slots: int | None = None  #: at most so many tasks at once
    dashboard: bool = False
    runner: Runner = REAL_RUNNER  #: tests name their own


def check_cluster(address: str | None, store: str) -> None:
    """Check the cluster's address, and that its nodes can see the store: a relative folder is in
    a job's temporary directory or in the driver's home. Raises UsageError."""
    if address is None:
        return
    what = "--address, or RAY_ADDRESS: expected auto, host:port, or none to start Ray here"
    if address.startswith(("http:", "https:")):
        raise UsageError(f"{what}, got {address}, a dashboard, which takes `ray job submit`")
    place = _HOST_AND_PORT.fullmatch(address)
    if address != "auto" and (place is None or not 0 < int(place[1]) < 2**16):
        raise UsageError(f"{what}, got {address!r}")
    if "://" not in store and not expanded(store).is_absolute():
        raise UsageError(
            f"--store {store}: workers of the cluster at {address} may not see "
            "this folder; expected an absolute path that all nodes share, s3://bucket/path or "
            "gs://bucket/path"
        )


class RunContext:
    """What one run computes with: its engine, which starts when it is first asked for, its store,
    and how people stop it. A context manager: the engine ends with it."""

    def __init__(
        self,
        grid: Grid,
        store: Store,
        options: RunOptions,
        console: Console,
        *,
        results: Store | None = None,
    ) -> None:
        """`results`: a scratch store for what tasks leave; `store` then has what they rest on."""
        self.store = store if results is None else results
        self.options = options
        self.console = console
        self.stop = StopSignal()
        console.file = cast(IO[str], LostReader(console.file, self.stop))
        self._resources = grid.resources
        self._settings = worker_settings(grid, store.address, options.data_dir)
        if results is not None:
            self._settings = dataclasses.replace(self._settings, results=results.address)
        self._engine: Engine | None = None

    def engine(self, *, needed: bool = True) -> Engine:
        """`needed`: False where nothing is left to run, so that Ray need not start. Raises
        EngineError."""
        if self._engine is None:
            if not needed:
                return _NoEngine(self._settings)
            self._engine = self._start()
            self.console.print(f"running on {self._engine.description}")
        return self._engine

    def _start(self) -> Engine:
        options = self.options
        if options.engine == "inline":
            return InlineEngine(
                self._settings, runner=options.runner, stop_requested=self.stop.is_requested
            )
        from prunegrid.orchestrator.engines.ray.ray_engine import RayEngine

        if options.address is not None:
            where = f"the Ray cluster at {options.address} (--address, or RAY_ADDRESS)"
            self.console.print(f"joining {where}")
        with self.console.status("starting Ray"):
            return RayEngine(
                self._settings,
                self._resources,
                address=options.address,
                runner=options.runner,
                slots=options.slots,
                stop_requested=self.stop.is_requested,
            )

    def __enter__(self) -> RunContext:
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What ran, and how it ended."""

    plan: Plan
    store: Store
    result: RunResult


def run_options(
    options: RunOptions, console: Console, *, started: Callable[[Store], None] = lambda store: None
) -> FinishedRun:
    """From a grid to results in a store. `started` is called once this driver holds the store.
    Raises PrunegridError; before anything starts where the input is no good."""
    check_cluster(None if options.engine == "inline" else options.address, options.store)
    known = Store.find(options.store)
    grid = read_grid_for(options.grid, known, options.data_dir)
    selection = parse_selection(options.select)
    plan = expand(grid, selection)
    finished = known.finished if known is not None else frozenset
    stock = check_foolbox_attacks(plan, finished)
    doubled = map(str, find_doubled(plan))
    for note in (*stock, *doubled, *grid.remarks, *changed_code(grid, known)):
        plain(console)(note)
    if options.runner is REAL_RUNNER:
        try_out_new(plan, options.data_dir, finished)
    store = Store.open_or_create(options.store)
    with (
        Lease.take(store, say=plain(console)) as lease,
        RunContext(grid, store, options, console) as context,
    ):
        keep_grid(store, grid)
        store.set_selection(selection)
        started(store)
        return FinishedRun(plan=plan, store=store, result=run_plan(plan, context, lease))


def run_plan(plan: Plan, context: RunContext, lease: Lease) -> RunResult:
    """Run the unfinished tasks of a plan, with progress on the console. Raises PrunegridError."""
    store, console = context.store, context.console
    count = Counter(task.kind for task in plan.tasks.values())
    console.print(
        f"{plan.grid.name}: {counted(len(plan.models), 'model')}, "
        f"{counted(len(plan.cells), 'cell')}; "
        + ", ".join(f"{count[kind]} {kind.value}" for kind in plan.kinds)
        + f" tasks into {store.address}"
    )
    with (
        Display(console, title=plan.grid.name) as display,
        TrackerFollower(plan, store, say=display.say),
    ):
        return drive(plan, context, lease, display)


def drive(plan: Plan, context: RunContext, lease: Lease, observer: Observer) -> RunResult:
    """Run the unfinished tasks of a plan; `observer` is shown the progress."""
    stop = context.stop
    began_s = time.monotonic()
    try:
        with stop:
            engine = context.engine(needed=bool(plan.unfinished(context.store.whole())))
            driver = Driver(
                plan,
                context.store,
                engine,
                observer,
                lease=lease,
                stop_requested=stop.is_requested,
                ranks=slice_ranks(plan) if context.options.slices else sample_ranks(plan),
                starting_s=time.monotonic() - began_s,
            )
            return driver.run()
    except BaseException:
        if stop.is_final():  # Ray may have replaced or lost the SystemExit
            raise SystemExit(INTERRUPTED) from None
        raise


def worker_settings(grid: Grid, store: str, data_dir: str | None) -> WorkerSettings:
    """Raises UsageError where the user's modules can't travel."""
    resources = grid.resources
    try:
        user_code = collect(code.target for code in grid.user_code())
    except UserCodeError as error:
        raise UsageError(str(error)) from error
    return WorkerSettings(
        store=store,
        data_dir=data_dir,
        threads=resources.threads,
        gpu_memory_mib=resources.gpu_memory_mib,
        code=CODE,
        user_code=user_code if user_code.targets else None,
        latency_batch=resources.latency_batch,
    )


class _NoEngine(InlineEngine):
    """For a plan that is done: Ray need not start."""

    description = "nothing: all is done"


#: SIGUSR1 and SIGUSR2: what schedulers send ahead of a job's end, as Slurm's `--signal=USR1@60`.
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopSignal:
    """The first signal of _STOPPING asks for an orderly stop; the second ends the process. Python
    hears signals in its main thread alone: in another one nothing is caught."""

    def __init__(self) -> None:
        self._count = 0
        self._old: dict[int, object] = {}

    def is_requested(self) -> bool:
        return self._count > 0

    def is_final(self) -> bool:
        return self._count > 1

    def request(self) -> None:
        """Ask for an orderly stop, if nobody has yet."""
        self._count = max(self._count, 1)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _STOPPING:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # under nohup
            self._old[number] = signal.signal(number, self._receive)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if number == signal.SIGHUP:  # the terminal, or the SSH session, is gone: nobody reads on
            _discard(1)
            _discard(2)
        if self._count > 1:
            raise SystemExit(INTERRUPTED)


def _discard(descriptor: int) -> None:
    """What is written to it from now on goes nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


class LostReader:
    """A text stream whose reader may go away, as `head` and an interrupted `tee` do: this asks for
    an orderly stop, as the SIGHUP of a lost terminal does, and the rest goes nowhere."""

    def __init__(self, stream: IO[str], stop: StopSignal) -> None:
        self._stream = stream
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with self._losses():
            self._stream.write(text)

    def flush(self) -> None:
        with self._losses():
            self._stream.flush()

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._stop.request()
            with contextlib.suppress(OSError):
                _discard(self._stream.fileno())
