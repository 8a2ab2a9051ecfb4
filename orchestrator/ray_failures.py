"""What Ray's exceptions mean for a task. The `ray` module comes as an argument."""

from __future__ import annotations

from typing import Any

from orchestrator.engine import Ended
from workers.contract import Attempt, Failure, FailureKind


def never_started(attempt: Attempt) -> Ended:
    failure = Failure(
        key=attempt.task.key,
        kind=FailureKind.LOST,
        message="stopped before it started",
        traceback="",
        host="",
        duration_s=0.0,
    )
    return Ended(outcome=failure, attempt=attempt.number, worker="none")


def classify(ray: Any, error: Exception) -> FailureKind:
    errors = ray.exceptions
    if isinstance(error, errors.OutOfMemoryError):
        return FailureKind.HOST_MEMORY
    if isinstance(error, errors.ActorDiedError):
        node_gone = getattr(error, "preempted", False) or "node has died" in str(error)
        return FailureKind.LOST if node_gone else FailureKind.CRASHED
    lost = (errors.ActorUnavailableError, errors.NodeDiedError, errors.TaskCancelledError)
    return FailureKind.LOST if isinstance(error, lost) else FailureKind.CRASHED


def first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
