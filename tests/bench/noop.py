"""A runner whose tasks do nothing and leave nothing."""

from __future__ import annotations

from collections.abc import Sequence

from prunegrid.workers.contract import Attempt, DataSettings, Outcome, Success, WorkerSettings
from prunegrid.workers.speeds import Probe, Speed


def run_attempt(attempt: Attempt, settings: WorkerSettings, beat, stop_requested) -> Outcome:
    return Success(key=attempt.task.key, duration_s=0.0, host="", device="", summary=())


def prepare(data: DataSettings, settings: WorkerSettings) -> str | None:
    return None


def measure(probes: Sequence[Probe], settings: WorkerSettings) -> tuple[Speed, ...] | str:
    return "nothing is computed here"


class IdleRunner:
    run_attempt = staticmethod(run_attempt)
    prepare = staticmethod(prepare)
    measure = staticmethod(measure)


RUNNER = IdleRunner()
