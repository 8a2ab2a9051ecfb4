"""What a running task may ask of its surroundings: the store, progress, and whether to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.files import Files


class Interrupted(Exception):  # noqa: N818 - no error: the task saved its state as it was asked to
    """Raised by a task after it wrote its checkpoint because `stop_requested()` became true."""


class TornInput(ValueError):  # noqa: N818 - what happened, as the log shows it
    """A stored result that a task rests on is missing, torn or not what its record says."""


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    files: Files  #: the store, or the scratch store
    settings: WorkerSettings
    attempt: int
    #: Called now and then with the fraction done in [0, 1] and a short note; it is the
    #: heartbeat as well, so a task calls it at least every few seconds of work.
    beat: Callable[[float, str], None]
    #: True once the node is to go away or the user asked to stop: checkpoint, then raise
    #: Interrupted. Asked after each epoch and each few seconds of an attack.
    stop_requested: Callable[[], bool]
    #: The store of parents that are not in `files`: a trial's results are in a scratch store.
    parents: Files | None = None
