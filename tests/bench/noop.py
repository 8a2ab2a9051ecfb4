"""A runner whose tasks do nothing and leave nothing."""

from __future__ import annotations

from prunegrid.workers.contract import Attempt, DataSettings, Outcome, Success, WorkerSettings


def run_attempt(attempt: Attempt, settings: WorkerSettings, beat, stop_requested) -> Outcome:
    return Success(key=attempt.task.key, duration_s=0.0, host="", device="", summary=())


def prepare(data: DataSettings, settings: WorkerSettings) -> str | None:
    return None
