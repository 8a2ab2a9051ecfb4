"""Tasks run aside of the grid's own, through an engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from prunegrid.orchestrator.engines.engine import Engine
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.workers.contract import Attempt, Failure, Task
from prunegrid.workers.tuning import has_result

TRIES = 3
POLL_S = 0.25


class EvaluationError(PrunegridError):
    """A task of a search's end, or of a bisection, failed for good."""


def missing(tasks: Iterable[Task], store: str) -> list[Task]:
    """Those that have no result yet, once each."""
    return [t for t in {task.key: task for task in tasks}.values() if not has_result(t, store)]


def compute(
    tasks: Iterable[Task],
    engine: Engine,
    say: Callable[[str], None],
    stop_requested: Callable[[], bool],
) -> bool:
    """Run them all; False where a stop was requested. Raises EvaluationError."""
    todo = {task.key: task for task in tasks}
    tries: dict[str, int] = defaultdict(int)
    total, stopping = len(todo), False
    for task in todo.values():
        tries[task.key] = 1
        engine.submit(Attempt(task=task, number=1))
    while todo and not (stopping and not engine.doing()):
        if stop_requested() and not stopping:
            stopping = True
            engine.request_stop()
        for ended in engine.poll(POLL_S):
            key = ended.outcome.key
            if not isinstance(ended.outcome, Failure) or stopping:
                todo.pop(key, None)
            else:
                _again(todo[key], ended.outcome, tries, engine)
        say(f"{total - len(todo)} of {total} tasks done")
    return not stopping


def _again(task: Task, failure: Failure, tries: dict[str, int], engine: Engine) -> None:
    policy = POLICIES[failure.kind]
    tries[task.key] += not policy.blameless
    if tries[task.key] > TRIES or policy.final:
        raise EvaluationError(f"{task.key}: {failure.kind}: {failure.message}")
    engine.submit(Attempt(task=task, number=tries[task.key]))
