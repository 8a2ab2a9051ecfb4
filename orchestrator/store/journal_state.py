"""What the journal says of the runs so far: what runs, what waits, what was given up. Pure.

A record, not a state: what is done, the store's result files say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class JournalState:
    """Since the last run began, but for what is said to be of all runs."""

    running: dict[str, float] = field(default_factory=dict)  #: task -> when it was started
    given_up: dict[str, str] = field(default_factory=dict)  #: task -> class of its last failure
    blocked: dict[str, str] = field(default_factory=dict)  #: task -> the ancestor given up
    delayed: set[str] = field(default_factory=set)  #: failed, and to be tried again
    slots: int = 0  #: how many tasks could run at once, as the driver said last; else the most
    said_slots: bool = False
    began_s: float | None = None
    ended_s: float | None = None  #: None: it runs, or its driver was lost
    spent_s: float = 0.0  #: slot-seconds of all attempts of all runs that have ended
    attempts: int = 0  #: of all runs
    done: list[tuple[str, float]] = field(default_factory=list)  #: of all runs: task, seconds
    last_s: float = 0.0  #: the newest line's moment, seconds since the epoch

    def take(self, entry: Mapping[str, Any]) -> None:
        """One line. What is not known, or not well-formed, is passed over."""
        at_s, key = _number(entry.get("at")), entry.get("key", "")
        if at_s is None or not isinstance(key, str):
            return
        match entry.get("event"):
            case "run":
                self._run(entry, at_s)
            case "slots":
                self.slots, self.said_slots = int(_number(entry.get("slots")) or 0), True
            case "start":
                self._start(key, at_s)
            case "done":
                seconds = _number(entry.get("seconds"))
                self._end(key, at_s, seconds)
                self.given_up.pop(key, None)
                if seconds is not None:
                    self.done.append((key, seconds))
            case "failed":
                self._end(key, at_s)
            case "retry":
                self.delayed.add(key)
            case "given-up":
                self.given_up[key] = str(entry.get("kind", ""))
            case "blocked":
                self.blocked[key] = str(entry.get("ancestor", ""))
            case "reopened":
                self.given_up.pop(key, None)
                self.blocked.pop(key, None)
                self.delayed.discard(key)
            case "end":
                self.ended_s = at_s
        self.last_s = max(self.last_s, at_s)

    def _run(self, entry: Mapping[str, Any], at_s: float) -> None:
        for started_s in self.running.values():  # their driver was lost; when, nobody said
            self.spent_s += max(0.0, self.last_s - started_s)
        self.running.clear()
        self.given_up.clear()
        self.blocked.clear()
        self.delayed.clear()
        if entry.get("number", 1) == 1:  # else another pass of the same run
            self.slots, self.said_slots, self.began_s, self.ended_s = 0, False, at_s, None

    def _start(self, key: str, at_s: float) -> None:
        self.running[key] = at_s
        self.delayed.discard(key)
        self.attempts += 1
        if not self.said_slots:
            self.slots = max(self.slots, len(self.running))

    def _end(self, key: str, at_s: float, seconds: float | None = None) -> None:
        """`seconds`: as its worker measured them, without the wait for it; None: not known."""
        started_s = self.running.pop(key, None)
        if seconds is not None:
            self.spent_s += seconds
        elif started_s is not None:
            self.spent_s += max(0.0, at_s - started_s)

    @property
    def spent_so_far_s(self) -> float:
        """Of running attempts too, up to the newest line."""
        if self.ended_s is not None:
            return self.spent_s
        return self.spent_s + sum(max(0.0, self.last_s - s) for s in self.running.values())


def fold_journal(entries: Iterable[Mapping[str, Any]]) -> JournalState:
    """`entries`: oldest first."""
    state = JournalState()
    for entry in entries:
        state.take(entry)
    return state


def _number(value: object) -> float | None:
    """A finite number of at least 0 that no sane clock exceeds; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e11 else None
