"""What the journal tells, line by line: attempts, who runs what, when things ended. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Later moments and longer durations are none: the line is not ours, or damaged.
_LATEST_S = 1e11
_MOST = 10**9


@dataclass(slots=True, kw_only=True)
class Try:
    """One attempt at a task. Times are seconds since the epoch."""

    key: str
    number: int
    worker: str  #: host and slot; "" while not known
    start_s: float
    end_s: float | None = None
    outcome: str = "running"  #: running, done, failed, or lost: its driver died meanwhile
    kind: str = ""  #: a failure's class
    message: str = ""


@dataclass(slots=True)
class RunLog:
    """Follows journals of any number of drivers, oldest first."""

    tries: dict[str, list[Try]] = field(default_factory=dict)  #: by task, oldest first
    bars: list[Try] = field(default_factory=list)  #: all, as they started
    open: dict[str, Try] = field(default_factory=dict)  #: what runs, by task
    given_up: set[str] = field(default_factory=set)  #: since the last run began
    done: list[tuple[str, float, float]] = field(default_factory=list)  #: key, at_s, seconds
    most: int = 0  #: attempts at once since the last run began
    slots: int | None = None  #: as the driver said last
    began_s: float | None = None  #: of the last run
    ended: bool = True  #: the last run said goodbye
    paused: bool = False
    last_s: float = 0.0  #: the newest line
    bad: int = 0  #: lines that are none of ours
    #: Of the last run, what `find_trouble` asks for; every field of the type it should have.
    troubles: list[dict[str, Any]] = field(default_factory=list)

    def take(self, entry: Mapping[str, Any]) -> None:
        """One line. What is not known is passed over; what is malformed is counted."""
        event, key = _text(entry.get("event")), entry.get("key", "")
        at_s = finite(entry.get("at"))
        if at_s is None or not 0 < at_s < _LATEST_S or not isinstance(key, str):
            self.bad += 1
            return
        self._trouble(event, entry, at_s)
        match event:
            case "run":
                self._run(at_s, first=_count(entry.get("number", 1)) == 1)
            case "start":
                self._start(key, _count(entry.get("attempt")), _text(entry.get("worker")), at_s)
            case "placed":
                if key in self.open:
                    self.open[key].worker = _text(entry.get("worker"))
            case "done":
                seconds = _seconds(entry.get("seconds"))
                self._end(entry, key, at_s, "done", seconds)
                self.done.append((key, at_s, seconds or 0.0))
            case "failed":
                self._end(entry, key, at_s, "failed", _seconds(entry.get("seconds")))
            case "given-up":
                self.given_up.add(key)
            case "reopened":
                self.given_up.discard(key)
            case "slots":
                self.slots = _count(entry.get("slots"))
            case "pause" | "resume" as word:
                self.paused = word == "pause"
            case "end":
                self.ended = True
        self.last_s = max(self.last_s, at_s)

    def _run(self, at_s: float, *, first: bool) -> None:
        """`first`: not another pass of the same run."""
        for lost in self.open.values():
            lost.outcome, lost.end_s = "lost", max(self.last_s, lost.start_s)
        self.open.clear()
        self.given_up.clear()
        self.most, self.ended = 0, False
        if first:
            self.slots, self.began_s = None, at_s

    def _start(self, key: str, number: int, worker: str, at_s: float) -> None:
        one = Try(key=key, number=number, worker=worker, start_s=at_s)
        self.tries.setdefault(key, []).append(one)
        self.bars.append(one)
        self.open[key] = one
        self.given_up.discard(key)
        self.most = max(self.most, len(self.open))

    def _end(
        self, entry: Mapping[str, Any], key: str, at_s: float, outcome: str, seconds: float | None
    ) -> None:
        one = self.open.pop(key, None)
        if one is None and outcome == "done":
            one = self._outlived(key, _count(entry.get("attempt")))
        if one is None:  # its start was not told
            one = Try(key=key, number=_count(entry.get("attempt")), worker="", start_s=at_s)
            self.tries.setdefault(key, []).append(one)
            self.bars.append(one)
        one.end_s, one.outcome = at_s, outcome
        one.worker = _text(entry.get("worker")) or one.worker
        if seconds is not None:  # started when a slot was free, not when it was handed over
            one.start_s = at_s - seconds
        one.kind, one.message = _text(entry.get("kind")), _text(entry.get("message"))

    def _outlived(self, key: str, number: int) -> Try | None:
        """A failed attempt that proves to be a success: its worker was lost after it had written
        its result."""
        last = next(iter(self.tries.get(key, [])[-1:]), None)
        return last if last and last.outcome == "failed" and last.number == number else None

    def _trouble(self, event: str, entry: Mapping[str, Any], at_s: float) -> None:
        """Starts and ends say only that something can run, so one in a row is enough."""
        if event == "run" and _count(entry.get("number", 1)) == 1:
            self.troubles.clear()
        if event in ("start", "done"):
            if self.troubles and self.troubles[-1]["event"] != "start":
                self.troubles.append({"event": "start"})
            return
        if event in ("run", "failed", "given-up", "blocked", "reopened", "notice"):
            texts = {name: _text(entry.get(name)) for name in ("key", "kind", "message", "node")}
            numbers = {"at": at_s, "for_s": _seconds(entry.get("for_s")) or 0.0}
            number = _count(entry.get("number", 1))
            text = _text(entry.get("text"))
            self.troubles.append(
                {"event": event, "number": number, "text": text, **texts, **numbers}
            )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    number = finite(value)
    return int(number) if number is not None and 0 <= number < _MOST else 0


def _seconds(value: object) -> float | None:
    number = finite(value)
    return number if number is not None and 0 <= number < _LATEST_S else None


def finite(value: object) -> float | None:
    """A number of a file that anyone may have written; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
