"""The fake tasks of `tests.fakes`, taking some time, with a checkpoint, in the weather as it is."""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path

import numpy as np

from prunegrid.workers.checkpoints import Checkpoint
from prunegrid.workers.context import Interrupted
from prunegrid.workers.contract import Attempt, Failure, Outcome, WorkerSettings, classify
from prunegrid.workers.entry import describe
from prunegrid.workers.files import LocalFiles
from tests import fakes
from tests.chaos.weather import weathered
from tests.fakes import measure, prepare

STEPS = 5
STEP_S = 0.15


def run_attempt(attempt: Attempt, settings: WorkerSettings, beat, stop_requested) -> Outcome:
    fakes.open_files = weathered
    began_s = time.monotonic()
    LocalFiles(Path(settings.store)).write(f"begun/{attempt.task.key}-{uuid.uuid4().hex}", b"")
    try:
        _work(attempt, settings, beat, stop_requested)
        return fakes.run_attempt(attempt, settings, beat, stop_requested)
    except Exception as error:
        return Failure(
            key=attempt.task.key,
            kind=classify(error),
            message=describe(error),
            traceback="",
            host="fake",
            duration_s=time.monotonic() - began_s,
        )


class ChaosRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


RUNNER = ChaosRunner()


def _work(attempt: Attempt, settings: WorkerSettings, beat, stop_requested) -> None:
    """Steps that are kept in a checkpoint, and go on from there."""
    checkpoint = Checkpoint(weathered(settings.store), attempt.task.key)
    saved = checkpoint.load()
    done = int(saved.state["done"]) if saved is not None else 0
    for step in range(done, STEPS):
        time.sleep(STEP_S * (0.5 + random.random()))
        beat(step / STEPS, f"step {step}")
        if stop_requested():
            checkpoint.save({"step": np.array([step])}, {"done": step})
            raise Interrupted(f"stopped at step {step}")
    checkpoint.remove()
