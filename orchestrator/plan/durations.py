"""What tasks took, and what tasks like them will take. Pure.

A duration is kept as its ratio to the task's guess (`cost_model.py`), so that a shard of 16 images
tells of one of 250, and a training of 10 epochs, if roughly, of one of 150.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from prunegrid.orchestrator.plan.cost_model import CostModel, Doubt
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
_SPREAD = 0.35
#: Nor do a few tasks show that they vary less than this.
_SPREAD_LEAST = 0.2
#: How far a coarser group's mean may be off for a finer one, as a share.
_OFF_COARSE = 0.35
#: How far off a guess is once durations scale it: of the same attack or kind of task on another
#: network; of others on the same network; of any others.
_ELSEWHERE = Doubt(factor=1.6, common=1.1)
_SAME_NETWORK = Doubt(factor=1.8, common=1.1)
_OTHERS = Doubt(factor=2.0, common=1.2)
_SURE = Doubt(factor=1.0, common=1.0)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a task is expected to take."""

    mean_s: float
    spread_s: float  #: standard deviation between tasks alike
    unsure: float  #: standard error of the mean itself, as a share; shared by tasks alike
    doubt: Doubt  #: how far off it may be where it is a guess
    group: Hashable  #: tasks of one group are off together

    @property
    def measured(self) -> bool:
        return self.doubt == _SURE


@dataclass(frozen=True, kw_only=True)
class _Ratio:
    mean: float
    spread: float
    unsure: float
    doubt: Doubt
    group: Hashable


class Durations:
    """Learns from finished tasks. Tasks are alike by kind, architecture, data and settings; less
    alike by fewer of these."""

    def __init__(self, model: CostModel | None = None) -> None:
        self.model = model or CostModel()
        self._seen: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        #: Of workers' first tasks of a kind, over the guess with the compiling: for want of others.
        self._first: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._workers: dict[Hashable, set[str]] = defaultdict(set)  #: by what they have compiled
        self._ratios: dict[Hashable, _Ratio] = {}  #: by finest group, until the next is added
        #: Seconds measured, and guessed for the same tasks: by network, and under "" of all.
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.count = 0

    def add(self, task: Task, duration_s: float, worker: str = "") -> None:
        """`worker`: who did it, of whom the first task of a kind also compiles; "": one that had
        compiled it."""
        guessed_s = self.model.seconds(task)
        compiled_there = self._workers[compiled(task)]
        first = bool(worker) and worker not in compiled_there
        if first:
            guessed_s += self.first_s(task, worker)
        compiled_there.add(worker)
        self._workers[""].add(worker)
        self.count += 1
        for name in ("", network_label(task)):
            sums = self._sums[name]
            sums[0] += duration_s
            sums[1] += guessed_s
        for group in _groups(task):
            (self._first if first else self._seen)[group].append(duration_s / guessed_s)
        self._ratios.clear()

    @property
    def scale(self) -> float:
        """What tasks took over what was guessed for them; 1.0 where none has ended."""
        took_s, guessed_s = self._sums.get("", (0.0, 0.0))
        return took_s / guessed_s if guessed_s else 1.0

    def first_s(self, task: Task, worker: str) -> float:
        """The guess of what a worker's first such task takes more than a later one."""
        start_s = 0.0 if worker in self._workers[""] else self.model.start_s(task)
        return start_s + self.model.first_s(task)

    def not_compiled(self, what: Hashable, workers: int) -> int:
        """How many of `workers` have not compiled it, see `compiled`; of "": have done nothing."""
        known = self._workers.get(what, ())
        return 0 if "" in known else max(0, workers - len(known))

    def expect(self, task: Task) -> tuple[float, bool]:
        """Seconds, and whether tasks alike were measured."""
        outlook = self.outlook(task)
        return outlook.mean_s, outlook.measured

    def outlook(self, task: Task) -> Outlook:
        groups = _groups(task)
        ratio = self._ratios.get(groups[0])
        if ratio is None:
            ratio = self._ratios[groups[0]] = self._ratio(task, groups)
        guessed_s = self.model.seconds(task)
        return Outlook(
            mean_s=ratio.mean * guessed_s,
            spread_s=ratio.spread * guessed_s,
            unsure=ratio.unsure,
            doubt=ratio.doubt,
            group=ratio.group,
        )

    def _ratio(self, task: Task, groups: tuple[Hashable, ...]) -> _Ratio:
        for level, group in enumerate(groups[:-1]):
            if seen := self._seen.get(group) or self._first.get(group):
                mean = sum(seen) / len(seen)
                spread = _SPREAD * mean
                if len(seen) > 1:
                    spread = math.sqrt(sum((r - mean) ** 2 for r in seen) / (len(seen) - 1))
                relative = max(spread / mean, _SPREAD_LEAST) if mean else 0.0
                unsure = relative / math.sqrt(len(seen)) + level * _OFF_COARSE
                return _Ratio(mean=mean, spread=spread, unsure=unsure, doubt=_SURE, group=group)
        scale, doubt = self._scale(task, groups[-1])
        spread = _SPREAD * scale
        return _Ratio(mean=scale, spread=spread, unsure=0.0, doubt=doubt, group=groups[0])

    def _scale(self, task: Task, coarsest: Hashable) -> tuple[float, Doubt]:
        """Of a guess of which no task alike was measured. Where the model has the speed of its
        network, that of another network says nothing."""
        own = self._sums.get(network_label(task))
        seen = self._seen.get(coarsest) or self._first.get(coarsest)
        if seen and own is None:
            return sum(seen) / len(seen), _ELSEWHERE
        for sums, doubt in ((own, _SAME_NETWORK), (self._sums.get(""), _OTHERS)):
            if sums is not None and sums[1]:
                return sums[0] / sums[1], doubt
        return 1.0, self.model.doubt(task)


def compiled(task: Task) -> Hashable:
    """What a worker compiles for it, once."""
    place = (network_label(task), task.data.dataset)
    if isinstance(task, TransferTask):
        return (*place, task.kind, task.attack.batch_size)
    return (*place, task.attack if isinstance(task, AttackTask) else task.training)


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
