"""A runner of a grid's own tasks: models as `tests.fakes` has them, attacks as `landscape` does."""

from __future__ import annotations

from collections.abc import Callable

from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask, Attempt, Outcome, Success, WorkerSettings
from prunegrid.workers.files import open_files
from tests import fakes
from tests.tuning.landscape import images, measure, prepare


def run_attempt(
    attempt: Attempt, settings: WorkerSettings, beat: Callable[..., None], stop: Callable[[], bool]
) -> Outcome:
    task = attempt.task
    if not isinstance(task, AttackTask):
        return fakes.run_attempt(attempt, settings, beat, stop)
    open_files(settings.store).write(layout.image_rows(task.key), images(task))
    return Success(key=task.key, duration_s=0.0, host="fake", device="cpu", summary=())


class DenseRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


RUNNER = DenseRunner()
