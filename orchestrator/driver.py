"""The driver: a thin loop between the scheduler, which decides, and an engine, which runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.dag import Plan, parent_of
from orchestrator.descriptions import short
from orchestrator.engine import Ended, Engine
from orchestrator.errors import PrunegridError
from orchestrator.estimates import Durations, estimate
from orchestrator.events import (
    BlockCommand,
    Command,
    EndCommand,
    Event,
    FailedEvent,
    GiveUpCommand,
    RetryCommand,
    RunCommand,
    SlotsEvent,
    StopEvent,
    SucceededEvent,
    TickEvent,
)
from orchestrator.journal import Journal, read_journal
from orchestrator.lease import Lease
from orchestrator.recorder import Recorder
from orchestrator.run_state import GivenUp, Observer, RunResult, View
from orchestrator.scheduler import Job, Scheduler, State
from orchestrator.store import Store
from workers.contract import Attempt, Failure, Success, Task, TaskKind

POLL_S = 0.25
SHOW_S = 1.0


class DataError(PrunegridError):
    """A data set can't be had; nothing was started."""


@dataclass(kw_only=True)
class _Tally:
    ran: int = 0
    failures: int = 0
    given_up: list[GivenUp] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)


class Driver:
    """One run of one plan into one store."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        engine: Engine,
        observer: Observer,
        *,
        lease: Lease,
        clock: Callable[[], float] = time.time,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._store = store
        self._engine = engine
        self._observer = observer
        self._lease = lease
        self._clock = clock
        self._stop_requested = stop_requested
        self._recorder = Recorder(plan, store)
        self._journal = Journal(store)
        self._durations = Durations()
        self._tally = _Tally()
        self._started: dict[str, float] = {}
        self._finished: set[str] = set()
        self._stopping = False
        self._over = False
        self._slots = -1
        self._shown_s = 0.0

    def run(self) -> RunResult:
        """Until every task has ended, or the run was stopped. Raises DataError, StoreError."""
        began_s = self._clock()
        done = self._take_stock()
        todo = self._plan.unfinished(done)
        self._scheduler = Scheduler([self._job(task, todo) for task in todo.values()])
        self._journal.write(
            "run", grid=self._plan.grid.name, tasks=len(self._plan.tasks), todo=len(todo)
        )
        if todo:
            self._prepare(todo)
        self._feed(SlotsEvent(slots=0, at_s=began_s))
        while not self._over:
            self._step(began_s)
        self._journal.write("end", stopped=self._stopping, ran=self._tally.ran)
        self._journal.close()
        return RunResult(
            missing=tuple(self._recorder.missing_cells()),
            given_up=tuple(self._tally.given_up),
            blocked=self._tally.blocked,
            interrupted=self._stopping,
            ran=self._tally.ran,
            reused=len(done & set(self._plan.tasks)),
            elapsed_s=self._clock() - began_s,
        )

    def _take_stock(self) -> set[str]:
        """What is done already; torn files step aside, owed rows are written."""
        for path in self._store.set_torn_aside():
            self._observer.say(f"torn: {path} was not whole; moved to torn/, its task runs again")
        finished = self._store.finished()
        done = {key for key in self._plan.tasks if key in finished}
        self._recorder.catch_up(done)
        for entry in read_journal(self._store):  # durations that earlier runs measured
            task = self._plan.tasks.get(str(entry.get("key")))
            if entry.get("event") == "done" and task is not None:
                self._durations.add(task, float(entry.get("seconds", 0.0)))
        return done

    def _job(self, task: Task, todo: Mapping[str, Task]) -> Job:
        parent = parent_of(task)
        return Job(
            key=task.key,
            parent=parent if parent in todo else None,
            cost_s=self._durations.expect(task)[0],
        )

    def _prepare(self, todo: Mapping[str, Task]) -> None:
        """One clear error before any training, not one per task."""
        sets = dict.fromkeys(task.data for task in todo.values())
        for data in sets:
            self._observer.say(f"preparing {data.dataset}")
            if reason := self._engine.prepare(data):
                raise DataError(f"data set {data.dataset} can't be had: {reason}")

    # ------------------------------------------------------------------ the loop

    def _step(self, began_s: float) -> None:
        self._check_stop()
        if self._engine.slots != self._slots:
            self._slots = self._engine.slots
            self._feed(SlotsEvent(slots=self._slots, at_s=self._clock()))
        ends = [] if self._over else self._engine.poll(POLL_S)
        self._check_stop()  # what ended because of a stop must not look like a failure
        for ended in ends:
            self._take(ended)
        if not self._over:
            self._feed(TickEvent(at_s=self._clock()))
        self._lease.renew()
        self._journal.flush()
        if self._over or self._clock() - self._shown_s >= SHOW_S:
            self._shown_s = self._clock()
            self._observer.show(self._view(began_s))

    def _check_stop(self) -> None:
        if self._stop_requested() and not self._stopping:
            self._stopping = True
            self._observer.say("stopping: what runs saves its state; once more to stop at once")
            self._engine.request_stop()
            self._feed(StopEvent(at_s=self._clock()))

    def _take(self, ended: Ended) -> None:
        outcome, now_s = ended.outcome, self._clock()
        self._started.pop(outcome.key, None)
        common = {"key": outcome.key, "attempt": ended.attempt, "worker": ended.worker}
        if isinstance(outcome, Success):
            self._durations.add(self._plan.tasks[outcome.key], outcome.duration_s)
            self._recorder.task_done(outcome.key)
            self._tally.ran += outcome.key not in self._finished
            self._finished.add(outcome.key)
            self._journal.write(
                "done", **common, seconds=round(outcome.duration_s, 3), **dict(outcome.summary)
            )
            self._feed(SucceededEvent(key=outcome.key, attempt=ended.attempt, at_s=now_s))
        else:
            self._take_failure(outcome, ended, common, now_s)

    def _take_failure(
        self, failure: Failure, ended: Ended, common: dict[str, object], now_s: float
    ) -> None:
        if not self._stopping:
            self._tally.failures += 1
            self._store.record_failure(failure, ended.attempt)
        self._journal.write("failed", **common, kind=failure.kind.value, message=failure.message)
        self._feed(
            FailedEvent(
                key=failure.key,
                attempt=ended.attempt,
                kind=failure.kind,
                message=failure.message,
                at_s=now_s,
            )
        )

    def _feed(self, event: Event) -> None:
        for command in self._scheduler.handle(event):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case RunCommand():
                self._started[command.key] = self._clock()
                self._journal.write("start", key=command.key, attempt=command.attempt)
                task = self._plan.tasks[command.key]
                self._engine.submit(Attempt(task=task, number=command.attempt))
            case RetryCommand():
                self._journal.write("retry", key=command.key, kind=command.kind.value)
            case GiveUpCommand():
                self._tally.given_up.append(
                    GivenUp(key=command.key, kind=command.kind.value, message=command.message)
                )
                self._journal.write("given-up", key=command.key, kind=command.kind.value)
                self._observer.say(f"given up: {command.key}: {command.message}")
            case BlockCommand():
                self._tally.blocked[command.key] = command.ancestor
                self._journal.write("blocked", key=command.key, ancestor=command.ancestor)
            case EndCommand():
                self._over = True

    # ------------------------------------------------------------------ views

    def _view(self, began_s: float) -> View:
        counts: dict[str, Counter[str]] = {kind.value: Counter() for kind in TaskKind}
        states = self._scheduler.states
        left = {}
        for key, task in self._plan.tasks.items():
            state = states.get(key, State.DONE)
            counts[task.kind.value][state.value] += 1
            if state in (State.WAITING, State.READY, State.DELAYED, State.RUNNING):
                left[key] = task
        now_s = self._clock()
        elapsed = [now_s - started_s for started_s in self._started.values()]
        return View(
            counts=counts,
            cells_total=len(self._plan.cells),
            cells_missing=self._recorder.missing_count,
            slots=max(self._slots, 0),
            doing=(doing := tuple(self._engine.doing())),
            names={d.key: short(self._plan.tasks[d.key]) for d in doing},
            failures=self._tally.failures,
            given_up=tuple(self._tally.given_up),
            elapsed_s=now_s - began_s,
            eta=estimate(left, self._durations, slots=max(self._slots, 1), elapsed=elapsed),
            stopping=self._stopping,
        )
