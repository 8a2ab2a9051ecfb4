"""What the journal says of a store's runs: attempts, what runs, what went wrong. Pure.

A record, not a state: which tasks are done, the store's result files say. A journal may be
damaged, or somebody else's, so every field of a line is checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.workers.contract import Task

#: No moment is later, and no duration longer: such a line is not ours, or damaged.
_LATEST_S = 1e11
_LARGEST_COUNT = 10**9

AttemptOutcome = Literal["running", "done", "failed", "lost"]


@dataclass(slots=True, kw_only=True)
class AttemptRecord:
    """One attempt at a task. Times are seconds since the epoch."""

    key: str
    number: int
    worker: str  #: host and slot; "" while not known
    start_s: float
    handed_s: float  #: when the driver handed it over; a worker may have had it later
    end_s: float | None = None
    outcome: AttemptOutcome = "running"  #: lost: its driver died meanwhile
    kind: str = ""  #: a failure's class
    message: str = ""
    # Of its seconds, as its worker measured them; None: not known. See TimeUse.
    start_up_s: float | None = None
    storage_s: float | None = None
    processor_s: float | None = None


class DoneRecord(NamedTuple):
    """The end of a task that succeeded."""

    key: str
    at_s: float  #: seconds since the epoch
    seconds: float | None  #: as its worker measured them; None: not known
    worker: str = ""  #: host and slot, and which of the store's runs; "" while not known


@dataclass(slots=True, kw_only=True)
class RunSpan:
    """One run of one driver. Times are seconds since the epoch."""

    begin_s: float  #: when it began to start its engine
    end_s: float  #: its last line's moment
    slots: list[tuple[float, int]] = field(default_factory=list)  #: as the driver said, and when
    attempts: list[AttemptRecord] = field(default_factory=list)


class Exclusion(NamedTuple):
    """A node that gets no tasks."""

    until_s: float  #: seconds since the epoch
    text: str  #: what the driver said of it


@dataclass(slots=True, kw_only=True)
class RunHistory:
    """The journals of any number of drivers, line by line, oldest first."""

    # Of all runs.
    attempts: dict[str, list[AttemptRecord]] = field(default_factory=dict)  #: by task
    by_start: list[AttemptRecord] = field(default_factory=list)  #: all, in the journal's order
    done: list[DoneRecord] = field(default_factory=list)
    runs: list[RunSpan] = field(default_factory=list)
    #: Done trainings whose networks have no accuracy, "diverged", or that of weights kept from
    #: before, "diverged_later".
    diverged: dict[str, str] = field(default_factory=dict)
    spent_s: float = 0.0  #: slot-seconds of all attempts that have ended
    paused: bool = False
    last_s: float = 0.0  #: the newest line's moment
    bad_lines: int = 0  #: damaged, or none of ours

    # Since the last run began. A run has several passes where it makes torn results anew.
    began_s: float | None = None
    ended: bool = True  #: False: it runs, or its driver was lost
    said_slots: int | None = None  #: how many tasks can run at once, as the driver said last
    most_running: int = 0  #: how many attempts ran at once
    failures: Counter[str] = field(default_factory=Counter)  #: failed attempts by class
    excluded: dict[str, Exclusion] = field(default_factory=dict)  #: by node; some are over

    # Since its last pass began.
    running: dict[str, AttemptRecord] = field(default_factory=dict)  #: by task
    given_up: dict[str, str] = field(default_factory=dict)  #: task -> class of its last failure
    blocked: dict[str, str] = field(default_factory=dict)  #: task -> the ancestor that failed
    delayed: set[str] = field(default_factory=set)  #: failed, and to be tried again
    waiting: str = ""  #: why nothing can run for now; "" where something can

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> RunHistory:
        """`entries`: the journal's lines, oldest first."""
        history = cls()
        for entry in entries:
            history.take(entry)
        return history

    def take(self, entry: Mapping[str, Any]) -> None:
        """One line. An unknown event is passed over; a malformed line is counted."""
        event, key = _text(entry.get("event")), entry.get("key", "")
        at_s = finite(entry.get("at"))
        if at_s is None or not 0 < at_s < _LATEST_S or not isinstance(key, str):
            self.bad_lines += 1
            return
        kind = _text(entry.get("kind"))
        match event:
            case "run":
                starting_s = _seconds(entry.get("starting_s")) or 0.0
                self._begin(at_s, starting_s, first=_count(entry.get("number", 1)) == 1)
            case "slots":
                self.said_slots = _count(entry.get("slots"))
                self._run(at_s).slots.append((at_s, self.said_slots))
            case "start":
                self._start(entry, key, at_s)
            case "placed":
                if key in self.running:
                    self.running[key].worker = _text(entry.get("worker"))
            case "done":
                seconds = self._end(entry, key, at_s, "done")
                worker = _text(entry.get("worker"))
                place = f"{len(self.runs)} {worker}" if worker else ""
                self.done.append(DoneRecord(key, at_s, seconds, place))
                self.diverged.pop(key, None)
                for how in ("diverged", "diverged_later"):
                    if entry.get(how):
                        self.diverged[key] = how
                self.given_up.pop(key, None)
                self.delayed.discard(key)
                self.waiting = ""
            case "failed":
                self._end(entry, key, at_s, "failed")
                self.failures[kind] += 1
            case "retry":
                self.delayed.add(key)
            case "given-up":
                self.given_up[key] = kind
            case "blocked":
                self.blocked[key] = _text(entry.get("ancestor"))
            case "reopened":
                self.given_up.pop(key, None)
                self.blocked.pop(key, None)
                self.delayed.discard(key)
            case "notice" if kind == "node-fenced":
                until_s = at_s + (_seconds(entry.get("for_s")) or 0.0)
                node, text = _text(entry.get("node")), _text(entry.get("text"))
                self.excluded[node] = Exclusion(until_s, text)
            case "notice" if kind == "no-room":
                self.waiting = _text(entry.get("text"))
            case "pause" | "resume":
                self.paused = event == "pause"
            case "end":
                self.ended = True
        self.last_s = max(self.last_s, at_s)
        if self.runs:
            self.runs[-1].end_s = max(self.runs[-1].end_s, at_s)

    def _run(self, at_s: float) -> RunSpan:
        """The one that goes on."""
        if not self.runs:  # the line of its begin is missing
            self.runs.append(RunSpan(begin_s=at_s, end_s=at_s))
        return self.runs[-1]

    def _begin(self, at_s: float, starting_s: float, *, first: bool) -> None:
        """`first`: not another pass of the same run."""
        for lost in self.running.values():  # when their driver was lost, nobody said
            lost.outcome, lost.end_s = "lost", max(self.last_s, lost.start_s)
            self.spent_s += lost.end_s - lost.start_s
        self.running.clear()
        self.given_up.clear()
        self.blocked.clear()
        self.delayed.clear()
        self.waiting, self.ended = "", False
        if first:
            self.runs.append(RunSpan(begin_s=at_s - starting_s, end_s=at_s))
            self.said_slots, self.most_running, self.began_s = None, 0, at_s
            self.failures.clear()
            self.excluded.clear()

    def _start(self, entry: Mapping[str, Any], key: str, at_s: float) -> None:
        attempt = self._new_attempt(entry, key, at_s)
        attempt.worker = _text(entry.get("worker"))
        self.running[key] = attempt
        self.given_up.pop(key, None)
        self.delayed.discard(key)
        self.waiting, self.ended = "", False
        self.most_running = max(self.most_running, len(self.running))

    def _end(
        self, entry: Mapping[str, Any], key: str, at_s: float, outcome: AttemptOutcome
    ) -> float | None:
        """Returns the seconds that the worker measured."""
        attempt = self.running.pop(key, None)
        if attempt is None and outcome == "done":
            attempt = self._outlived(key, _count(entry.get("attempt")))
        if attempt is None:  # the line of its start is missing
            attempt = self._new_attempt(entry, key, at_s)
        attempt.end_s, attempt.outcome = at_s, outcome
        attempt.worker = _text(entry.get("worker")) or attempt.worker
        attempt.kind, attempt.message = _text(entry.get("kind")), _text(entry.get("message"))
        attempt.start_up_s = _seconds(entry.get("start_up_s"))
        attempt.storage_s = _seconds(entry.get("storage_s"))
        attempt.processor_s = _seconds(entry.get("processor_s"))
        seconds = _seconds(entry.get("seconds"))
        if seconds is None:
            self.spent_s += max(0.0, at_s - attempt.start_s)
        else:  # it began when a worker was free, not when it was handed over
            attempt.start_s = at_s - seconds
            self.spent_s += seconds
        return seconds

    def _outlived(self, key: str, number: int) -> AttemptRecord | None:
        """A failed attempt that proves to be a success: its worker was lost after it had written
        its result."""
        last = self.last_attempt(key)
        if last is None or last.outcome != "failed" or last.number != number:
            return None
        self.spent_s -= max(0.0, (last.end_s or last.start_s) - last.start_s)  # not twice
        return last

    def _new_attempt(self, entry: Mapping[str, Any], key: str, at_s: float) -> AttemptRecord:
        number = _count(entry.get("attempt"))
        attempt = AttemptRecord(key=key, number=number, worker="", start_s=at_s, handed_s=at_s)
        self._run(at_s).attempts.append(attempt)
        self.attempts.setdefault(key, []).append(attempt)
        self.by_start.append(attempt)
        return attempt

    # ------------------------------------------------------------------ answers

    def last_attempt(self, key: str) -> AttemptRecord | None:
        attempts = self.attempts.get(key)
        return attempts[-1] if attempts else None

    def attempt_count(self, key: str) -> int:
        """The largest number of an attempt at a task; 0: never tried."""
        return max((attempt.number for attempt in self.attempts.get(key, ())), default=0)

    @property
    def slots(self) -> int:
        """How many tasks can run at once: as the driver said, else the most that did."""
        return self.most_running if self.said_slots is None else self.said_slots

    @property
    def spent_so_far_s(self) -> float:
        """Of running attempts too, up to the newest line."""
        if self.ended:
            return self.spent_s
        running = self.running.values()
        return self.spent_s + sum(max(0.0, self.last_s - one.start_s) for one in running)

    def learn(self, durations: Durations, tasks: Mapping[str, Task], *, skip: int = 0) -> None:
        """Add what those of the done tasks took that are in `tasks`. `skip`: so many of `done`
        were added before."""
        for key, _, seconds, worker in self.done[skip:]:
            task = tasks.get(key)
            if task is not None and seconds is not None:
                durations.add(task, seconds, worker)


def finite(value: object) -> float | None:
    """A number of a file that anyone may have written; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    number = finite(value)
    return int(number) if number is not None and 0 <= number < _LARGEST_COUNT else 0


def _seconds(value: object) -> float | None:
    number = finite(value)
    return number if number is not None and 0 <= number < _LATEST_S else None
