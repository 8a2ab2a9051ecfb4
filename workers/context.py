"""A running task's surroundings: the store, the heartbeat, and whether to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.files import Files


class Interrupted(Exception):  # noqa: N818 - no error: the task saved its state on request
    """Raised by a task that found `stop_requested()` true, after it wrote its checkpoint."""


class TornInput(ValueError):  # noqa: N818 - what happened, as the log shows it
    """A stored result that the task needs is missing, torn or not what its record says."""


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    files: Files  #: the store, or the scratch store
    settings: WorkerSettings
    attempt: int
    #: Reports the fraction done in [0, 1] and a short note. It is the heartbeat as well, so a task
    #: calls it at least every few seconds.
    beat: Callable[[float, str], None]
    #: True once the node is about to go away or the user asked to stop; the task then saves a
    #: checkpoint and raises Interrupted. Asked after each epoch and every few seconds of an attack.
    stop_requested: Callable[[], bool]
    #: The store of parents that are not in `files`: a trial's results are in a scratch store.
    parents: Files | None = None
    #: Says that all is there which the task needs, and its own work begins.
    work_begins: Callable[[], None] = lambda: None
