"""What Ray's exceptions mean for a task. The `ray` module comes as an argument."""

from __future__ import annotations

import re
from typing import Any

from prunegrid.orchestrator.engines.engine import Ended
from prunegrid.workers.contract import Attempt, Failure, FailureKind

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


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


def classify(ray: Any, error: Exception, *, node_gone: bool) -> FailureKind:
    """`node_gone`: whether the cluster says that the attempt's node is dead: for some seconds an
    actor lost with its node looks like one that crashed."""
    errors = ray.exceptions
    if isinstance(error, errors.OutOfMemoryError):
        return FailureKind.HOST_MEMORY
    if node_gone or getattr(error, "preempted", False) or "node has died" in str(error):
        return FailureKind.LOST
    lost = (errors.ActorUnavailableError, errors.NodeDiedError, errors.TaskCancelledError)
    return FailureKind.LOST if isinstance(error, lost) else FailureKind.CRASHED


def is_own_failure(error: Exception) -> bool:
    """Whether an actor did not start because of an error in its own code, not in its node."""
    return bool(getattr(error, "actor_init_failed", False)) or "creation task" in str(error)


def why_not_started(error: Exception) -> str:
    """An actor's failed creation: the worker's own exception, which Ray puts last."""
    lines = [line for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
