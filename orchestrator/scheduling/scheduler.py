"""Which task next: a pure state machine. `handle(event)` returns commands; others perform them.

Every task is in one state: waiting (for its parents), ready, delayed (before a retry), running,
done, failed (its attempts are used up) or blocked (an ancestor failed). Ready tasks run by the
longest remaining path first, so that chains move and attack shards fill the gaps; a rank, where
given, comes before that.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prunegrid.orchestrator.scheduling.events import (
    BlockCommand,
    Command,
    EndCommand,
    Event,
    FailedEvent,
    GiveUpCommand,
    PauseEvent,
    ReopenCommand,
    RetryCommand,
    RetryEvent,
    RunCommand,
    SlotsEvent,
    StopEarlyCommand,
    StopEvent,
    SucceededEvent,
    TickEvent,
)
from prunegrid.orchestrator.scheduling.policies import MAX_SHARE, POLICIES, Policy, cause
from prunegrid.workers.contract import FailureKind


class State(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    DELAYED = "delayed"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"


ENDED = (State.DONE, State.FAILED, State.BLOCKED)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task as the scheduler sees it."""

    key: str
    parents: tuple[str, ...] = ()  #: without those whose results exist
    cost_s: float  #: expected duration; only its size relative to others matters
    rank: int = 0  #: lower runs first, whatever the path
    attempts: int = 0  #: made by earlier runs: their numbers go on, budgets are new


class Scheduler:
    """Not thread-safe; the driver's loop owns it."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        policies: Mapping[FailureKind, Policy] = POLICIES,
        alike: int | None = None,
    ) -> None:
        """`alike`: stop where so many tasks failed for one cause before any succeeded."""
        self._jobs = {job.key: job for job in jobs}
        if len(self._jobs) != len(jobs):
            raise ValueError("two jobs with one key")
        self._policies = policies
        self._children: dict[str, list[str]] = {}
        for job in jobs:
            for parent in job.parents:
                if parent not in self._jobs:
                    raise ValueError(f"{job.key}: its parent {parent} is no job")
                self._children.setdefault(parent, []).append(job.key)
        self._path = self._remaining_paths()
        self._order = {key: number for number, key in enumerate(self._jobs)}
        self._attempts = {job.key: job.attempts for job in jobs if job.attempts}
        self._shares: dict[str, int] = {}
        self._failures: dict[tuple[str, FailureKind], int] = {}
        self._alike = alike
        self._causes: list[str] = []  #: why tasks failed, while none has succeeded
        self._ready: list[tuple[int, float, int, str]] = []
        self._delayed: list[tuple[float, str]] = []
        self._due_s: dict[str, float] = {}
        self._running: set[str] = set()
        self._slots = 0
        self._stopping = False
        self._paused = False
        self._ended = False
        self._open = len(self._jobs)
        self.states: dict[str, State] = dict.fromkeys(self._jobs, State.WAITING)
        for job in jobs:
            if not job.parents:
                self._make_ready(job.key)

    def _remaining_paths(self) -> dict[str, float]:
        """Seconds from a task's start to the end of its longest chain of descendants."""
        path: dict[str, float] = {}
        order: list[str] = [job.key for job in self._jobs.values() if not job.parents]
        above = {job.key: len(job.parents) for job in self._jobs.values()}
        for key in order:
            for child in self._children.get(key, ()):
                above[child] -= 1
                if not above[child]:
                    order.append(child)
        if len(order) != len(self._jobs):
            raise ValueError("the jobs' parents form a cycle")
        for key in reversed(order):
            below = max((path[child] for child in self._children.get(key, ())), default=0.0)
            path[key] = self._jobs[key].cost_s + below
        return path

    # ------------------------------------------------------------------ views

    @property
    def running(self) -> Collection[str]:
        return self._running

    @property
    def demand(self) -> int:
        """How many tasks could run at once, given enough slots."""
        if self._stopping:
            return 0
        return len(self._running) + (0 if self._paused else len(self._ready))

    def attempt(self, key: str) -> int:
        """The number of its last attempt, 0 before the first."""
        return self._attempts.get(key, 0)

    # ------------------------------------------------------------------ events

    def handle(self, event: Event) -> list[Command]:
        """The commands that follow from one event, in order."""
        commands: list[Command] = []
        match event:
            case SlotsEvent():
                self._slots = event.slots
            case StopEvent():
                self._stopping = True
            case PauseEvent():
                self._paused = event.paused
            case RetryEvent():
                commands += self._reopen(event)
            case SucceededEvent():
                self._succeed(event.key)
            case FailedEvent():
                commands += self._fail(event)
            case TickEvent():
                pass
        self._wake(event.at_s)
        commands += self._fill()
        if not self._ended and self._is_over():
            self._ended = True
            commands.append(EndCommand())
        return commands

    def _succeed(self, key: str) -> None:
        """A result counts, whichever attempt left it. A second one changes nothing."""
        if self.states[key] in ENDED:
            return
        self._running.discard(key)
        self._alike = None
        self._end(key, State.DONE)
        for child in self._children.get(key, ()):
            parents = self._jobs[child].parents
            if self.states[child] is State.WAITING and all(
                self.states[parent] is State.DONE for parent in parents
            ):
                self._make_ready(child)

    def _fail(self, event: FailedEvent) -> list[Command]:
        key = event.key
        if self.states[key] is not State.RUNNING or event.attempt != self._attempts[key]:
            return []  # an old attempt: a later one runs, or the task has ended
        self._running.discard(key)
        policy = self._policies[event.kind]
        count = self._failures[key, event.kind] = self._failures.get((key, event.kind), 0) + 1
        if policy.larger:
            self._shares[key] = min(2 * self._shares.get(key, 1), MAX_SHARE)
        if count >= policy.attempts:
            self._end(key, State.FAILED)
            return [
                GiveUpCommand(key=key, kind=event.kind, message=event.message),
                *self._block_below(key),
                *self._stop_early(event),
            ]
        delay_s = policy.delay_s_after(count)
        due_s = self._due_s[key] = event.at_s + delay_s
        self.states[key] = State.DELAYED
        heapq.heappush(self._delayed, (due_s, key))
        return [RetryCommand(key=key, kind=event.kind, not_before_s=due_s)]

    def _stop_early(self, event: FailedEvent) -> list[Command]:
        self._causes.append(cause(event.kind, event.message))
        if len(self._causes) != self._alike or len(set(self._causes)) > 1:
            return []
        self._stopping = True
        return [StopEarlyCommand(tasks=self._alike, kind=event.kind, message=event.message)]

    def _block_below(self, key: str) -> list[Command]:
        commands: list[Command] = []
        stack = list(self._children.get(key, ()))
        while stack:
            child = stack.pop()
            if self.states[child] is State.BLOCKED:
                continue  # by another of its parents
            self._end(child, State.BLOCKED)
            commands.append(BlockCommand(key=child, ancestor=key))
            stack.extend(self._children.get(child, ()))
        return commands

    def _reopen(self, event: RetryEvent) -> list[Command]:
        """After the end of the run it is too late."""
        commands: list[Command] = []
        for key in event.keys if not self._ended else ():
            was = self.states.get(key)
            if was not in (State.FAILED, State.DELAYED):
                continue
            for kind in FailureKind:
                self._failures.pop((key, kind), None)
            self._make_ready(key)
            commands.append(ReopenCommand(key=key, was=was.value))
            if was is State.FAILED:
                self._open += 1
                commands += self._unblock_below(key)
        return commands

    def _unblock_below(self, key: str) -> list[Command]:
        commands: list[Command] = []
        stack = list(self._children.get(key, ()))
        while stack:
            child = stack.pop()
            above = (self.states[parent] for parent in self._jobs[child].parents)
            stuck = any(state in (State.FAILED, State.BLOCKED) for state in above)
            if stuck or self.states[child] is not State.BLOCKED:
                continue
            self.states[child] = State.WAITING
            self._open += 1
            commands.append(ReopenCommand(key=child, was=State.BLOCKED.value))
            stack.extend(self._children.get(child, ()))
        return commands

    def _end(self, key: str, state: State) -> None:
        self.states[key] = state
        self._open -= 1

    def _make_ready(self, key: str) -> None:
        self.states[key] = State.READY
        job = self._jobs[key]
        heapq.heappush(self._ready, (job.rank, -self._path[key], self._order[key], key))

    def _wake(self, now_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= now_s:
            due_s, key = heapq.heappop(self._delayed)
            if self.states[key] is State.DELAYED and due_s == self._due_s[key]:
                self._make_ready(key)  # else it ran meanwhile, and may wait for a later moment

    def _fill(self) -> list[Command]:
        commands: list[Command] = []
        held = self._stopping or self._paused
        while not held and self._ready and len(self._running) < self._slots:
            *_, key = heapq.heappop(self._ready)
            if self.states[key] is not State.READY:
                continue  # an attempt that counted as lost has succeeded meanwhile
            self.states[key] = State.RUNNING
            self._running.add(key)
            self._attempts[key] = self._attempts.get(key, 0) + 1
            share = self._shares.get(key, 1)
            commands.append(RunCommand(key=key, attempt=self._attempts[key], share=share))
        return commands

    def _is_over(self) -> bool:
        return not self._running and (self._open == 0 or self._stopping)
