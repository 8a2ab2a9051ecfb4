"""Where an engine enters a worker: one attempt in, one outcome out, never an exception.

TensorFlow is imported with the first task, not with this module.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

import prunegrid.workers
from prunegrid.workers import layout, worker_logs
from prunegrid.workers.context import TaskContext
from prunegrid.workers.contract import (
    AttackTask,
    Attempt,
    DataSettings,
    Failure,
    FailureKind,
    Outcome,
    PruneTask,
    Success,
    TransferTask,
    WorkerSettings,
    classify,
)
from prunegrid.workers.files import open_files
from prunegrid.workers.process import Whereabouts, announce
from prunegrid.workers.revision import CODE, Code, code_there, own_revision
from prunegrid.workers.runner import Beat, Runner
from prunegrid.workers.speeds import Probe, Speed
from prunegrid.workers.task_clock import TaskClock


def run_attempt(
    attempt: Attempt, settings: WorkerSettings, beat: Beat, stop_requested: Callable[[], bool]
) -> Outcome:
    """Run one task to its result in the store."""
    clock = TaskClock()
    task = attempt.task
    try:
        from prunegrid.workers.device import configure

        device = configure(settings.threads, settings.gpu_memory_mib, settings.gpu_frac)
        if settings.code is not None:
            _import_all(settings.code)
        if settings.user_code is not None:
            settings.user_code.install()
        from prunegrid.workers import stages

        context = TaskContext(
            files=clock.timed(open_files(settings.results or settings.store)),
            settings=settings,
            attempt=attempt.number,
            beat=beat,
            stop_requested=stop_requested,
            parents=clock.timed(open_files(settings.store)),
            work_begins=clock.work_begins,
        )
        if isinstance(task, AttackTask):
            summary = stages.attack(task, context)
        elif isinstance(task, TransferTask):
            summary = stages.transfer(task, context)
        else:
            if isinstance(task, PruneTask):
                record = stages.prune(task, context)
            else:
                record = stages.train(task, context)
            summary = record.result.summary
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return Failure(
            key=task.key,
            kind=classify(error),
            message=describe(error),
            traceback=traceback.format_exc(),
            host=socket.gethostname(),
            duration_s=clock.elapsed_s,
        )
    return Success(
        key=task.key,
        duration_s=clock.elapsed_s,
        host=socket.gethostname(),
        device=device,
        summary=summary,
        time=clock.use(),
    )


def describe(error: BaseException) -> str:
    """One line, the exception's own first one. A failure's class says what our own exceptions
    are; others have their name."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    ours = type(error).__module__.startswith("prunegrid.")
    if lines and ours and classify(error) is not FailureKind.BUG:
        return lines[0]
    return f"{name}: {lines[0]}" if lines else name


@functools.cache
def _import_all(expected: Code) -> None:
    """Import all that computes, before anything does: a module that is imported later could be of
    a file that was edited meanwhile. Raises OtherCode where the files are not the `expected`
    ones, the driver's."""
    try:
        for module in pkgutil.walk_packages(prunegrid.workers.__path__, "prunegrid.workers."):
            importlib.import_module(module.name)
    finally:
        _require(expected)


def _require(expected: Code) -> None:
    """Of what is imported, and of what is imported from now on. Raises OtherCode."""
    for found in (CODE, code_there()):
        expected.require(found)


def prepare(data: DataSettings, settings: WorkerSettings) -> str | None:
    """Fetch and check a data set on this node, and see that its store is the driver's. Returns
    the reason where it can't work here."""
    try:
        if settings.store and not open_files(settings.store).exists(layout.GRID):
            return (
                f"{socket.gethostname()} sees no store at {settings.store}: expected a folder "
                "that all nodes share, s3://bucket/path or gs://bucket/path"
            )
        if settings.code is not None:
            _require(settings.code)
        if settings.user_code is not None:
            settings.user_code.check()
        from prunegrid.workers.data.base import load

        load(data, settings.data_dir)
    except Exception as error:
        return describe(error)
    return None


def measure(probes: Sequence[Probe], settings: WorkerSettings) -> tuple[Speed, ...] | str:
    """How fast this worker's device takes each network, or why that can't be told."""
    try:
        from prunegrid.workers.device import configure

        began_s = time.process_time()
        configure(settings.threads, settings.gpu_memory_mib, settings.gpu_frac)
        if settings.user_code is not None:
            settings.user_code.install()
        from prunegrid.workers import model_cache
        from prunegrid.workers.attacks.runtime.device_speed import measure_speed
        from prunegrid.workers.catalog import DATASETS

        start_s = time.process_time() - began_s  # to import libraries is one thread's work
        return tuple(
            measure_speed(
                model_cache.network_on(
                    probe.built or probe.architecture,
                    probe.own_data or DATASETS[probe.dataset],
                    probe.network,
                ),
                probe,
                start_s=start_s,
            )
            for probe in probes
        )
    except Exception as error:
        return describe(error)


class TensorFlowRunner:
    """The runner of everything but tests."""

    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


REAL_RUNNER: Runner = TensorFlowRunner()


class Worker:
    """One slot of an engine: runs one attempt at a time, answers questions from other threads."""

    def __init__(
        self,
        settings: WorkerSettings,
        runner: Runner = REAL_RUNNER,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._stop = threading.Event()
        self._stop_outside = stop_requested
        self._lock = threading.Lock()
        self._progress = ("", 0.0, "", time.monotonic())
        self._streams: tuple[str, ...] = ()
        own_revision()  # now, before any task: the checkout may move on

    def run(self, attempt: Attempt) -> Outcome:
        key = attempt.task.key

        def beat(fraction: float, note: str) -> None:
            with self._lock:
                self._progress = (key, fraction, note, time.monotonic())

        beat(0.0, "starting")
        if self._streams:
            worker_logs.begin()
        outcome = self._runner.run_attempt(attempt, self._settings, beat, self._stop_requested)
        if self._streams and isinstance(outcome, Failure):
            worker_logs.flush()
            outcome = replace(outcome, log=worker_logs.last_attempt(self._streams))
        return outcome

    def _stop_requested(self) -> bool:
        return self._stop.is_set() or self._stop_outside()

    def prepare(self, data: DataSettings) -> str | None:
        return self._runner.prepare(data, self._settings)

    def progress(self) -> tuple[str, float, str, float]:
        """Task key, fraction done, note, and how many seconds ago that was said."""
        with self._lock:
            key, fraction, note, said_s = self._progress
        return key, fraction, note, time.monotonic() - said_s

    def whereabouts(self) -> Whereabouts:
        """Of this process; only for a process that is the engine's to end, and whose output is
        nobody's: from now on it goes with failures."""
        where = announce()
        self._streams = where.streams
        return where

    def request_stop(self) -> None:
        """The running task is to save its state and end."""
        self._stop.set()
