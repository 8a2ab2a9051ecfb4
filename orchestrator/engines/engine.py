"""Engines run attempts somewhere; and the one that runs them right here.

The contract, which `tests/engines/test_engines.py` holds every engine to: each submitted attempt
comes back from `poll` exactly once, as an outcome; an engine never raises for what a task did; it
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
from prunegrid.workers.speeds import Probe, Speed

NoticeKind: TypeAlias = Literal[
    "node-joined", "node-left", "node-draining", "node-fenced", "no-room"
]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One attempt's end."""

    outcome: Outcome
    attempt: int
    worker: str  #: host and slot, for people


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """What a slot is at."""

    key: str
    worker: str
    fraction: float
    note: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something about the place where tasks run that people should know."""

    kind: NoticeKind
    node: str  #: as people know it; "" where it is about none
    text: str
    for_s: float = 0.0  #: how long it holds, where that is known


class Engine(Protocol):
    @property
    def slots(self) -> int:
        """How many attempts run at once, now; it may change while nodes come and go. 0 where
        there is no place yet."""

    @property
    def description(self) -> str:
        """For people: where tasks run."""

    def prepare(self, data: DataSettings) -> str | None:
        """Have a data set ready, or say in one line why it can't be had."""

    @property
    def room(self) -> int:
        """How many attempts it will run at once, with what is there: workers that still start
        count."""

    def measure(self, probes: Sequence[Probe]) -> tuple[Speed, ...] | str:
        """How fast one of its workers takes each network, or why that can't be told, in a line.
        Before any data is prepared. It may wait for a worker."""

    def submit(self, attempt: Attempt) -> None:
        """Run it as soon as a slot is free; returns at once."""

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        """What has ended since the last call; waits up to `timeout_s` for the first."""

    def doing(self) -> Sequence[RunningTask]:
        """What runs, as far as is known without waiting."""

    def notices(self) -> Sequence[Notice]:
        """What there is to say since the last call: nodes that came, left or were excluded."""

    def demand(self, tasks: int) -> None:
        """How many attempts could run at once, had the engine the room: it may ask for more
        nodes, or let idle ones go."""

    def request_stop(self) -> None:
        """Ask what runs to save its state and end; it ends as LOST."""

    def close(self) -> None:
        """End everything at once."""


class InlineEngine:
    """Runs each attempt in this process, one at a time, inside `poll`: for tests and debugging."""

    slots = room = 1
    description = "this process (inline)"

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        runner: str = REAL_RUNNER,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stop_requested` is asked while a task runs, since the driver can't step meanwhile."""
        self._worker = Worker(settings, runner, stop_requested)
        self._queue: deque[Attempt] = deque()
        self._name = f"{this_host()}/inline"

    def prepare(self, data: DataSettings) -> str | None:
        return self._worker.prepare(data)

    def measure(self, probes: Sequence[Probe]) -> tuple[Speed, ...] | str:
        return self._worker.measure(probes)

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
