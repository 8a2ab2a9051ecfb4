"""How long what is left will take: measured durations where there are any, guesses elsewhere.

Pure. An estimate says how much of it is measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.dag import parent_of
from workers.contract import PruneTask, Task, TrainTask

#: Guesses in seconds before anything is measured; only their proportions matter much.
_GUESS_S = {"train": 60.0, "prune": 40.0, "attack": 30.0}


@dataclass(frozen=True, kw_only=True)
class Eta:
    """Seconds until the last task ends, as a range."""

    low_s: float
    high_s: float
    work_s: float  #: slot-seconds left
    critical_s: float  #: the longest chain left: no number of slots beats it
    measured_frac: float  #: share of the work whose duration rests on finished tasks alike


class Durations:
    """Learns from finished tasks. Tasks are alike by kind, architecture and what they run."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._measured_s = 0.0
        self._guessed_s = 0.0  #: what was guessed for the same tasks: it scales other guesses

    def add(self, task: Task, duration_s: float) -> None:
        self._measured_s += duration_s
        self._guessed_s += _GUESS_S[task.kind.value]
        for group in _groups(task):
            self._seen[group].append(duration_s)

    def expect(self, task: Task) -> tuple[float, bool]:
        """Seconds, and whether that was measured on tasks of the same group."""
        groups = _groups(task)
        for index, group in enumerate(groups):
            if seen := self._seen.get(group):
                recent = seen[-50:]
                return sum(recent) / len(recent), index == 0
        scale = self._measured_s / self._guessed_s if self._guessed_s else 1.0
        return _GUESS_S[task.kind.value] * scale, False

    def spread(self, task: Task) -> float:
        """Sample SD of the finest measured group with at least two; else the mean itself."""
        for group in _groups(task):
            seen = self._seen.get(group, [])[-50:]
            if len(seen) >= 2:
                mean = sum(seen) / len(seen)
                return math.sqrt(sum((s - mean) ** 2 for s in seen) / (len(seen) - 1))
        return self.expect(task)[0]


def _groups(task: Task) -> list[tuple[str, ...]]:
    """From the finest group that a task belongs to, to the coarsest."""
    kind = task.kind.value
    if isinstance(task, TrainTask):
        return [(kind, task.architecture), (kind,)]
    if isinstance(task, PruneTask):
        return [(kind, task.architecture, str(task.pruning.rate)), (kind, task.architecture)]
    what = f"{task.attack.attack}/{task.attack.engine}"
    return [(kind, task.architecture, what), (kind, what), (kind,)]


def estimate(
    remaining: Mapping[str, Task], durations: Durations, *, slots: int, elapsed: Iterable[float]
) -> Eta:
    """`remaining`: tasks without a result, parents before children; `elapsed`: seconds that
    the running ones among them have run already. The two bounds of any schedule on `slots`
    equal slots: at least max(work / slots, critical path), at most their sum (Graham)."""
    path: dict[str, float] = {}
    work_s = variance = measured_s = 0.0
    for key, task in remaining.items():
        cost_s, measured = durations.expect(task)
        work_s += cost_s
        variance += durations.spread(task) ** 2
        measured_s += cost_s * measured
        path[key] = cost_s + path.get(parent_of(task) or "", 0.0)
    critical_s = max(path.values(), default=0.0)
    spent_s = min(sum(elapsed), work_s)
    share_s = (work_s - spent_s) / max(slots, 1)
    margin_s = 2 * math.sqrt(variance) / max(slots, 1)
    low_s = max(0.0, share_s - margin_s, critical_s - spent_s)
    high_s = max(share_s + margin_s, critical_s)
    known = measured_s / work_s if work_s else 1.0
    return Eta(
        low_s=low_s,
        high_s=max(low_s, high_s) * (1 if known > 0.5 else 2),
        work_s=work_s,
        critical_s=critical_s,
        measured_frac=known,
    )


def duration_text(seconds: float) -> str:
    """`45 s`, `2.5 min`, `34 min`, `3.4 h`, `2.1 d`."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            digits = 0 if size == 1 or seconds / size >= 10 else 1
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} d"
