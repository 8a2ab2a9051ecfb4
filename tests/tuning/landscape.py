"""A runner that computes nothing, and whose answers are known: an image's distance under `cw_l2`
is its own, times how far the step size is from `BEST`; under `pgd_linf` it breaks beyond its own
`reach`. The grid's own models are those of `tests.fakes`.

Files in the store tell it to misbehave: `interrupt` holds a process to send SIGINT to, once so many
tasks have run; a step size above `FAILS` fails.
"""

from __future__ import annotations

import dataclasses
import math
import os
import random
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

from prunegrid.workers import layout
from prunegrid.workers.contract import (
    AttackTask,
    Attempt,
    FailureKind,
    Outcome,
    PruneTask,
    Success,
    WorkerSettings,
)
from prunegrid.workers.files import open_files
from prunegrid.workers.image_rows import images_to_parquet, read_images
from prunegrid.workers.records import ModelRecord
from tests import fakes
from tests.fakes import failed, fake_images, fake_model, measure, prepare, provenance

BEST, FAILS = 0.05, 2.0
QUERIES = 60
#: The learning rate that chains train best with.
BEST_RATE = 0.003


def factor(stepsize: float) -> float:
    """Of an image's distance."""
    return 1 + math.log10(stepsize / BEST) ** 2


def run_attempt(
    attempt: Attempt,
    settings: WorkerSettings,
    beat: Callable[..., None],
    stop: Callable[[], bool],
) -> Outcome:
    task = attempt.task
    done = Success(key=task.key, duration_s=0.0, host="fake", device="cpu", summary=())
    if settings.results is None:  # one of the grid's own
        if not isinstance(task, AttackTask):
            return fakes.run_attempt(attempt, settings, beat, stop)
        open_files(settings.store).write(layout.image_rows(task.key), images(task))
        return done
    files = open_files(settings.results)
    log = Path(settings.store) / "log-aside"
    log.mkdir(exist_ok=True)
    (log / f"{task.key}-{os.nice(0)}-{uuid.uuid4().hex}").touch()
    _interrupt(Path(settings.store), len(list(log.iterdir())))
    if not isinstance(task, AttackTask):
        files.write(layout.model_record(task.key), _model(attempt).to_json().encode())
        return done
    if dict(task.attack.options).get("stepsize", 0.0) > FAILS:
        return failed(attempt, FailureKind.BUG, "ValueError: planted")
    files.write(layout.image_rows(task.key), images(task))
    return done


class LandscapeRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


RUNNER = LandscapeRunner()


def images(task: AttackTask) -> bytes:
    columns = read_images(fake_images(task)).table.to_pydict()
    for row, image in enumerate(columns["image"]):
        draw = random.Random(f"{task.parent_key}-{image}")
        wrong, own = draw.random() < 0.05, reach(draw)
        columns["clean_prediction"][row] = (columns["label"][row] + wrong) % 10
        if wrong:
            distance, broken = 0.0, True
        elif task.attack.eps:
            broken = own < columns["eps"][row]
            distance = own if broken else math.inf
        else:
            stepsize = float(dict(task.attack.options)["stepsize"])  # type: ignore[arg-type]
            distance, broken = (1 + draw.random()) * factor(stepsize), True
        columns["distance"][row], columns["broken"][row] = distance, broken
        columns["queries"][row] = 0 if wrong else QUERIES
    return images_to_parquet(columns, task=task, provenance=provenance(task, 1))


def reach(draw: random.Random) -> float:
    """Of an image: a quarter of all lie beyond 0.083, or 21/255."""
    return draw.expovariate(1 / 0.06)


def _model(attempt: Attempt) -> ModelRecord:
    task = attempt.task
    assert not isinstance(task, AttackTask)
    record = fake_model(task, attempt.number)
    loss = 0.1 + math.log10(task.training.learning_rate / BEST_RATE) ** 2
    loss += 0.01 * isinstance(task, PruneTask)
    result = dataclasses.replace(record.result, validation_loss=loss)
    return dataclasses.replace(record, result=result)


def _interrupt(store: Path, tasks: int) -> None:
    try:
        after, pid = map(int, (store / "interrupt").read_text().split())
        if tasks == after:
            (store / "interrupt").unlink()
            os.kill(pid, signal.SIGINT)
    except FileNotFoundError:
        pass
