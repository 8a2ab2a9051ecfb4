"""What tasks took, and what tasks like them will take. Pure.

A duration is kept as its ratio to the task's guess (`guesses.py`), so that a shard of 16 images
tells of one of 250, and a training of 10 epochs, if roughly, of one of 150.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from prunegrid.orchestrator.plan.guesses import CPU_FLOPS_PER_S, GUESS_FACTOR, guess_s
from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import (
    AttackTask,
    PruneTask,
    Task,
    TrainTask,
    TransferTask,
    network_label,
)

#: Machines change: only the latest of a group count.
_RECENT = 50
#: Spread between tasks of a group of which only one was measured, as a share of the mean.
_SPREAD = 0.5
#: Nor do a few tasks show that they vary less than this.
_SPREAD_LEAST = 0.2
#: How far a coarser group's mean may be off for a finer one, as a share.
_OFF_COARSE = 0.35
#: How far off a guess may be, either way, once durations of the same attack or kind of task on
#: another architecture scale it, and once any others do.
_FACTOR_ELSEWHERE, _FACTOR_OTHERS = 4.0, 6.0


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a task is expected to take."""

    mean_s: float
    spread_s: float  #: standard deviation between tasks alike
    unsure: float  #: standard error of the mean itself, as a share; shared by tasks alike
    factor: float  #: 1: measured; else the guess may be off so far either way
    group: Hashable  #: tasks of one group are off together

    @property
    def measured(self) -> bool:
        return self.factor == 1.0


@dataclass(frozen=True, kw_only=True)
class _Ratio:
    mean: float
    spread: float
    unsure: float
    factor: float
    group: Hashable


class Durations:
    """Learns from finished tasks. Tasks are alike by kind, architecture, data and settings; less
    alike by fewer of these."""

    def __init__(self, *, flops_per_s: float = CPU_FLOPS_PER_S) -> None:
        self._flops_per_s = flops_per_s
        self._seen: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._ratios: dict[Hashable, _Ratio] = {}  #: by finest group, until the next is added
        self._measured_s = 0.0
        self._guessed_s = 0.0  #: what was guessed for the same tasks: it scales other guesses
        self.count = 0

    def add(self, task: Task, duration_s: float) -> None:
        guessed_s = guess_s(task, self._flops_per_s)
        self._measured_s += duration_s
        self._guessed_s += guessed_s
        self.count += 1
        for group in _groups(task):
            self._seen[group].append(duration_s / guessed_s)
        self._ratios.clear()

    def expect(self, task: Task) -> tuple[float, bool]:
        """Seconds, and whether tasks alike were measured."""
        outlook = self.outlook(task)
        return outlook.mean_s, outlook.measured

    def outlook(self, task: Task) -> Outlook:
        groups = _groups(task)
        ratio = self._ratios.get(groups[0])
        if ratio is None:
            ratio = self._ratios[groups[0]] = self._ratio(groups)
        guessed_s = guess_s(task, self._flops_per_s)
        return Outlook(
            mean_s=ratio.mean * guessed_s,
            spread_s=ratio.spread * guessed_s,
            unsure=ratio.unsure,
            factor=ratio.factor,
            group=ratio.group,
        )

    def _ratio(self, groups: tuple[Hashable, ...]) -> _Ratio:
        for level, group in enumerate(groups[:-1]):
            if seen := self._seen.get(group):
                mean = sum(seen) / len(seen)
                spread = _SPREAD * mean
                if len(seen) > 1:
                    spread = math.sqrt(sum((r - mean) ** 2 for r in seen) / (len(seen) - 1))
                relative = max(spread / mean, _SPREAD_LEAST) if mean else 0.0
                unsure = relative / math.sqrt(len(seen)) + level * _OFF_COARSE
                return _Ratio(mean=mean, spread=spread, unsure=unsure, factor=1.0, group=group)
        scale, factor = 1.0, GUESS_FACTOR
        if seen := self._seen.get(groups[-1]):
            scale, factor = sum(seen) / len(seen), _FACTOR_ELSEWHERE
        elif self._guessed_s:
            scale, factor = self._measured_s / self._guessed_s, _FACTOR_OTHERS
        spread = _SPREAD * scale
        return _Ratio(mean=scale, spread=spread, unsure=0.0, factor=factor, group=groups[-1])


def _groups(task: Task) -> tuple[Hashable, ...]:
    """From the finest group that a task belongs to, to the coarsest; the last one holds tasks of
    other architectures, too."""
    kind, architecture = task.kind.value, network_label(task)
    place = (kind, architecture, task.data.dataset)
    if isinstance(task, TrainTask):
        return ((*place, task.training), place, (kind,))
    if isinstance(task, PruneTask):
        fine = (*place, task.training)
        return ((*fine, task.pruning.rate), fine, place, (kind,))
    if isinstance(task, TransferTask):
        return ((*place, task.attack), place, (kind,))
    assert isinstance(task, AttackTask)
    what = (attack_name(task.attack), task.attack.engine)
    return ((*place, task.attack), (*place, *what), (kind, *what))
