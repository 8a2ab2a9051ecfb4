"""What an engine is, and the one that runs attempts in this process.

The contract, which `tests/engines/test_engines.py` tests for every engine: `poll` returns each
submitted attempt exactly once, as an outcome; an engine never raises for what a task did; it
retries nothing by itself; `close` ends everything it started and may be called twice. The driver's
thread owns an engine; nothing here is thread-safe.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from prunegrid.orchestrator.store.store import this_host
from prunegrid.workers.contract import (
    Attempt,
    DataSettings,
    Failure,
    FailureKind,
    Outcome,
    WorkerSettings,
)
from prunegrid.workers.entry import REAL_RUNNER, Worker
from prunegrid.workers.runner import Runner

NoticeKind: TypeAlias = Literal[
    "node-joined", "node-left", "node-draining", "node-fenced", "no-room", "other-code"
]


#: A signal to every process of a job has reached all of them within that time: workers and Ray may
#: be gone before the driver has its own.
ALL_SIGNALLED_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One attempt's end."""

    outcome: Outcome
    attempt: int
    worker: str  #: host and slot, for people


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """An attempt that runs, as far as is known."""

    key: str
    worker: str
    fraction: float  #: of it that is done, in [0, 1]
    note: str  #: what it does now


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that people should know about the nodes."""

    kind: NoticeKind
    node: str  #: for people; "" if it is about no single node
    text: str
    for_s: float = 0.0  #: how long it holds; 0 if that is not known


class Engine(Protocol):
    @property
    def slots(self) -> int:
        """How many attempts can run at once, now; it changes while nodes come and go. 0 if there
        is no worker yet."""

    @property
    def description(self) -> str:
        """Where tasks run, for people."""

    def prepare(self, data: DataSettings) -> str | None:
        """Prepare a data set. Returns None, or in one line why it can't be had."""

    def submit(self, attempt: Attempt) -> None:
        """Run it as soon as a slot is free; returns at once."""

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        """The attempts that ended since the last call; waits up to `timeout_s` for the first."""

    def doing(self) -> Sequence[RunningTask]:
        """The attempts that run, as far as is known without waiting."""

    def notices(self) -> Sequence[Notice]:
        """What happened since the last call: nodes that joined, left or were excluded."""

    def demand(self, tasks: int) -> None:
        """How many attempts could run at once, given enough slots: an engine may request more
        nodes, or release idle ones."""

    def request_stop(self) -> None:
        """Ask running attempts to save their state and end; they end as LOST."""

    def close(self) -> None:
        """End everything at once."""


class InlineEngine:
    """Runs each attempt in this process, one at a time, inside `poll`: for tests and debugging."""

    slots = 1
    description = "this process (inline)"

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        runner: Runner = REAL_RUNNER,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stop_requested` is asked while a task runs, since the driver can't step meanwhile."""
        self._worker = Worker(settings, runner, stop_requested)
        self._queue: deque[Attempt] = deque()
        self._name = f"{this_host()}/inline"

    def prepare(self, data: DataSettings) -> str | None:
        return self._worker.prepare(data)

    def submit(self, attempt: Attempt) -> None:
        self._queue.append(attempt)

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        if not self._queue:
            time.sleep(timeout_s)
            return []
        attempt = self._queue.popleft()
        try:
            outcome = self._worker.run(attempt)
        except Exception as error:
            outcome = Failure(
                key=attempt.task.key,
                kind=FailureKind.CRASHED,
                message=f"the worker itself failed: {error}",
                traceback=traceback.format_exc(),
                host=this_host(),
                duration_s=0.0,
            )
        return [Ended(outcome=outcome, attempt=attempt.number, worker=self._name)]

    def doing(self) -> Sequence[RunningTask]:
        key, fraction, note, _ = self._worker.progress()
        return (
            [RunningTask(key=key, worker=self._name, fraction=fraction, note=note)] if key else []
        )

    def notices(self) -> Sequence[Notice]:
        return []

    def demand(self, tasks: int) -> None:
        pass

    def request_stop(self) -> None:
        self._worker.request_stop()

    def close(self) -> None:
        self._queue.clear()
