"""What a trial of `prunegrid tune` or a bisection of `calibrate` computes: ordinary tasks, whose
results stay out of the grid's own, in the store's `tuning/` folder, under their task keys. Equal
work runs once: a killed search finds there what it had computed, and so does another search.

An engine takes TUNING_RUNNER for it; a trial calls `ensure`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from prunegrid.workers import layout
from prunegrid.workers.contract import (
    AttackTask,
    Attempt,
    Failure,
    FailureKind,
    Outcome,
    Success,
    Task,
    WorkerSettings,
)
from prunegrid.workers.entry import measure, prepare, run_into
from prunegrid.workers.files import Files, open_files
from prunegrid.workers.image_rows import ImageRows, read_images
from prunegrid.workers.records import ModelRecord
from prunegrid.workers.runner import Beat, Runner


class TuningFailed(RuntimeError):  # noqa: N818 - what happened, as a trial's log shows it
    """A trial's task ended in a failure."""


class TuningBroken(TuningFailed):
    """In one that it would end in on every worker."""


def aside(store: str) -> Files:
    """The store within a store."""
    return open_files(f"{store.rstrip('/')}/{layout.TUNING}")


def run_attempt(
    attempt: Attempt, settings: WorkerSettings, beat: Beat, stop_requested: Callable[[], bool]
) -> Outcome:
    """As `prunegrid.workers.entry.run_attempt`, aside."""
    if has_result(attempt.task, settings.store):
        return Success(key=attempt.task.key, duration_s=0.0, host="", device="", summary=())
    return run_into(aside, attempt, settings, beat, stop_requested)


def has_result(task: Task, store: str) -> bool:
    path = _result_path(task)
    return aside(store).exists(path) or open_files(store).exists(path)


class TuningRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


TUNING_RUNNER: Runner = TuningRunner()


def ensure(
    task: Task, settings: WorkerSettings, runner: Runner, final: Collection[FailureKind]
) -> None:
    """Have a task's result, aside or in the grid's own. Raises TuningBroken after a failure of a
    `final` class, TuningFailed after another."""
    if has_result(task, settings.store):
        return
    outcome = runner.run_attempt(
        Attempt(task=task, number=1), settings, lambda *_: None, lambda: False
    )
    if isinstance(outcome, Failure):
        error = TuningBroken if outcome.kind in final else TuningFailed
        raise error(f"{outcome.message}\n{outcome.traceback}")


def find_images(task: AttackTask, store: str) -> ImageRows:
    """An attack task's rows. Raises FileNotFoundError, ValueError, StorageError."""
    return read_images(_read(task, store))


def find_record(task: Task, store: str) -> ModelRecord:
    """A train or prune task's record. Raises as `find_images` does."""
    return ModelRecord.from_json(_read(task, store))


def _read(task: Task, store: str) -> bytes:
    path = _result_path(task)
    try:
        return aside(store).read(path)
    except FileNotFoundError:
        return open_files(store).read(path)


def _result_path(task: Task) -> str:
    if isinstance(task, AttackTask):
        return layout.image_rows(task.key)
    return layout.model_record(task.key)
