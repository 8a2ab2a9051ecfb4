"""The scratch store: the folder `tuning/` of a store, for what a search or a calibration computes.

Ordinary tasks leave their results there under their task keys, apart from the grid's own. Equal
work runs once: a killed search finds there what it had computed, and so does another search.
"""

from __future__ import annotations

from collections.abc import Collection

from prunegrid.workers import layout
from prunegrid.workers.contract import (
    AttackTask,
    Attempt,
    Failure,
    FailureKind,
    Task,
    WorkerSettings,
)
from prunegrid.workers.files import Files, open_files
from prunegrid.workers.image_rows import ImageRows, read_images
from prunegrid.workers.records import ModelRecord
from prunegrid.workers.runner import Runner


class TrialTaskFailed(RuntimeError):  # noqa: N818 - what happened, as a trial's log shows it
    """A task of a trial ended in a failure."""


class TrialTaskBroken(TrialTaskFailed):
    """In one that it would end in on every worker."""


def scratch_address(store: str) -> str:
    return f"{store.rstrip('/')}/{layout.TUNING}"


def has_result(task: Task, store: str) -> bool:
    """In the scratch store, or among the grid's own."""
    path = _result_path(task)
    return any(files.exists(path) for files in _places(store))


def ensure(
    task: Task, settings: WorkerSettings, runner: Runner, final: Collection[FailureKind]
) -> None:
    """Have a task's result. Raises TrialTaskBroken after a failure of a `final` class,
    TrialTaskFailed after another."""
    if has_result(task, settings.store):
        return
    outcome = runner.run_attempt(
        Attempt(task=task, number=1), settings, lambda *_: None, lambda: False
    )
    if isinstance(outcome, Failure):
        error = TrialTaskBroken if outcome.kind in final else TrialTaskFailed
        raise error(f"{outcome.message}\n{outcome.traceback}")


def find_images(task: AttackTask, store: str) -> ImageRows:
    """An attack task's rows. Raises FileNotFoundError, ValueError, StorageError."""
    return read_images(_read(task, store))


def find_record(task: Task, store: str) -> ModelRecord:
    """A train or prune task's record. Raises as `find_images` does."""
    return ModelRecord.from_json(_read(task, store))


def _places(store: str) -> tuple[Files, Files]:
    return open_files(scratch_address(store)), open_files(store)


def _read(task: Task, store: str) -> bytes:
    path, (scratch, own) = _result_path(task), _places(store)
    try:
        return scratch.read(path)
    except FileNotFoundError:
        return own.read(path)


def _result_path(task: Task) -> str:
    if isinstance(task, AttackTask):
        return layout.image_rows(task.key)
    return layout.model_record(task.key)
