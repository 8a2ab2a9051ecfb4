"""The contract between an engine's worker and what computes its tasks. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from prunegrid.workers.contract import Attempt, DataSettings, Outcome, WorkerSettings
from prunegrid.workers.speeds import Probe, Speed

#: Called with the fraction done in [0, 1] and a short note; the task's heartbeat.
Beat: TypeAlias = Callable[[float, str], None]


class Runner(Protocol):
    """Computes tasks in a worker's process, one at a time.

    Runners keep no state. They are instances of classes at the top level of a module, so that
    they are pickled by reference and each worker imports them by itself. Their methods return
    failures and never raise for what a task or its data did.
    """

    def run_attempt(
        self,
        attempt: Attempt,
        settings: WorkerSettings,
        beat: Beat,
        stop_requested: Callable[[], bool],
    ) -> Outcome:
        """Run one task until its result is in the store. A task that finds `stop_requested()`
        true saves its state and ends as LOST."""

    def prepare(self, data: DataSettings, settings: WorkerSettings) -> str | None:
        """Have a data set ready on this node. Returns the reason where it can't be had."""

    def measure(self, probes: Sequence[Probe], settings: WorkerSettings) -> tuple[Speed, ...] | str:
        """How fast this process's device takes each network, in the order of `probes`. Returns
        the reason where that can't be measured."""
