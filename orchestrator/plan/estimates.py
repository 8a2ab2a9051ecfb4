"""How long what is left will take, as a range that says how much of it is measured. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from prunegrid.orchestrator.plan.dag import parents_of
from prunegrid.orchestrator.plan.durations import Durations, Outlook, compiled
from prunegrid.workers.contract import Task

__all__ = ["Durations", "Eta", "duration_text", "estimate"]

#: The scheduler ends this close to max(work / slots, critical path): see tests/bench/scheduler.py.
_SLACK = 1.05
#: Ranges are this many standard deviations wide, either way; for the unluckiest of many, more.
_WIDE, _UNLUCKIEST = 1.6, 3.0
#: How far off the time to compile may be.
_FIRST_FACTOR = 2.0


@dataclass(frozen=True, kw_only=True)
class Eta:
    """Seconds until the last task ends, as a range."""

    low_s: float
    high_s: float
    work_s: float  #: slot-seconds left
    critical_s: float  #: the longest chain left: no number of slots beats it
    measured_frac: float  #: share of the work whose duration rests on finished tasks alike
    work_low_s: float = 0.0
    work_high_s: float = 0.0
    likely_s: float = 0.0  #: between `low_s` and `high_s`


class _Work:
    """Durations added up. Tasks vary by themselves; those of a group are off together, and what was
    guessed by one model may be off as a whole."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self.measured_s = 0.0
        self._variance = 0.0
        self._off_s: dict[Hashable, float] = defaultdict(float)
        #: By how far off all may be together: by group, seconds and their own factor.
        self._guessed: dict[float, dict[Hashable, tuple[float, float]]] = defaultdict(dict)

    def add(self, outlook: Outlook, left_s: float) -> None:
        self.mean_s += left_s
        self._variance += outlook.spread_s**2
        if outlook.measured:
            self.measured_s += left_s
            self._off_s[outlook.group] += left_s * outlook.unsure
        else:
            doubt, group = outlook.doubt, outlook.group
            before_s, _ = self._guessed[doubt.common].get(group, (0.0, 0.0))
            self._guessed[doubt.common][group] = (before_s + left_s, doubt.factor)

    def bounds_s(self) -> tuple[float, float]:
        variance = self._variance + sum(off_s**2 for off_s in self._off_s.values())
        margin_s = _WIDE * math.sqrt(variance)
        low_s, high_s = max(0.0, self.measured_s - margin_s), self.measured_s + margin_s
        for common, groups in self._guessed.items():
            total_s = sum(seconds for seconds, _ in groups.values())
            less_s = math.hypot(*(s * (1 - 1 / factor) for s, factor in groups.values()))
            more_s = math.hypot(*(s * (factor - 1) for s, factor in groups.values()))
            low_s += (total_s - less_s) / common
            high_s += (total_s + more_s) * common
        return low_s, high_s


class _Path:
    """A chain of tasks from one that can run now."""

    __slots__ = ("_high_s", "_low_s", "_variance", "mean_s")

    def __init__(
        self, mean_s: float = 0.0, low_s: float = 0.0, high_s: float = 0.0, variance: float = 0.0
    ) -> None:
        self.mean_s, self._low_s, self._high_s = mean_s, low_s, high_s
        self._variance = variance

    def longer(self, outlook: Outlook, left_s: float) -> _Path:
        off, factor = _WIDE * outlook.unsure, outlook.doubt.factor * outlook.doubt.common
        return _Path(
            self.mean_s + left_s,
            self._low_s + left_s * max(0.0, 1 - off) / factor,
            self._high_s + left_s * (1 + off) * factor,
            self._variance + outlook.spread_s**2,
        )

    def least_s(self) -> float:
        return max(0.0, self._low_s - _WIDE * math.sqrt(self._variance))

    def most_s(self) -> float:
        return self._high_s + _UNLUCKIEST * math.sqrt(self._variance)


def estimate(
    remaining: Mapping[str, Task],
    durations: Durations,
    *,
    slots: int,
    elapsed: Mapping[str, float] | Iterable[tuple[str, float]],
) -> Eta:
    """`remaining`: tasks without a result, parents before children; `elapsed`: seconds that the
    running ones among them have run already.

    Whatever the schedule, `slots` equal slots take at least max(work / slots, critical path);
    ours takes little more.
    """
    spent = dict(elapsed)
    work, last_s = _Work(), 0.0
    alike: dict[Hashable, list[Task]] = {}
    paths: dict[str, _Path] = {"": _Path()}
    for key, task in remaining.items():
        outlook = durations.outlook(task)
        alike.setdefault(compiled(task), []).append(task)
        # What has run longer than expected may run on for as long as such tasks vary.
        least_s = min(max(0.1 * outlook.mean_s, 0.5 * outlook.spread_s), outlook.mean_s)
        left_s = max(outlook.mean_s - spent.get(key, 0.0), least_s)
        work.add(outlook, left_s)
        last_s = max(last_s, left_s)  # others have nothing left while it runs
        known = [paths[parent] for parent in parents_of(task) if parent in paths]
        above = max(known, key=lambda path: path.mean_s, default=paths[""])
        paths[key] = above.longer(outlook, left_s)
    low_s, high_s = work.bounds_s()
    first_s, factor = _first_s(alike, durations, slots)
    low_s, high_s = low_s + first_s / factor, high_s + first_s * factor
    full_s = high_s / max(slots, 1) + (last_s if slots > 1 else 0.0)
    low_time_s = max(low_s / max(slots, 1), *(path.least_s() for path in paths.values()))
    high_time_s = _SLACK * max(full_s, *(path.most_s() for path in paths.values()))
    critical_s = max(path.mean_s for path in paths.values())
    likely_s = max((work.mean_s + first_s) / max(slots, 1), critical_s)
    return Eta(
        low_s=low_time_s,
        high_s=high_time_s,
        likely_s=min(max(likely_s, low_time_s), high_time_s),
        work_s=work.mean_s + first_s,
        critical_s=critical_s,
        measured_frac=work.measured_s / work.mean_s if work.mean_s else 1.0,
        work_low_s=low_s,
        work_high_s=high_s,
    )


def _first_s(
    alike: Mapping[Hashable, list[Task]], durations: Durations, slots: int
) -> tuple[float, float]:
    """What workers take to start, and to compile what they have not compiled yet; and how far off
    that may be."""
    total_s, factor = 0.0, _FIRST_FACTOR
    starting = durations.not_compiled("", slots)
    for what, tasks in alike.items():
        count = min(durations.not_compiled(what, slots), len(tasks))
        began = min(starting, count)
        starting -= began
        total_s += count * durations.model.first_s(tasks[0])
        total_s += began * durations.model.start_s(tasks[0])
        if not durations.count:
            factor = max(factor, durations.model.doubt(tasks[0]).common)
    return total_s * durations.scale, factor


def eta_text(eta: Eta) -> str:
    """`about 4 min (3 min to 5 min)`."""
    if eta.work_s == 0:
        return "done"
    likely, low, high = map(duration_text, (eta.likely_s, eta.low_s, eta.high_s))
    return f"about {likely}" if low == high else f"about {likely} ({low} to {high})"


def duration_text(seconds: float) -> str:
    """`45 s`, `2.5 min`, `34 min`, `3.4 h`, `2.1 d`."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            digits = 0 if size == 1 or seconds / size >= 10 else 1
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} d"
