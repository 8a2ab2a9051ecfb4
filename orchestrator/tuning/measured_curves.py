"""A grid's dense models' security curves: distances as they are, fixed-eps attacks by bisection."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.orchestrator.store.rows import WITHIN, broken_at
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import (
    Calibration,
    Rule,
    SecurityCurve,
    calibrate_curve,
    nearest_curve,
)
from prunegrid.orchestrator.tuning.trials import distances_in
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.contract import AttackTask, Task
from prunegrid.workers.image_rows import ImageRows
from prunegrid.workers.scratch import find_images

#: Have tasks computed, with a note of what they are for; raises where that was interrupted or
#: failed.
Compute = Callable[[Sequence[Task], str], None]
#: Rounds of proposing at most: eps that a proposal adds are measured before the next.
_ROUNDS = 6
#: Of eps, from one point to the next, until a level is between two.
_FACTOR = 2.0


@dataclass(kw_only=True)
class Bisection:
    """Where a falling curve crosses a level, when each point of it costs an attack: call `next_eps`
    and `take` until there is no next one; then `eps` is the answer.

    In log eps: double or halve until the level is between two points, then halve that bracket until
    its ends are within `tolerance`. A fixed-eps attack's curve may rise in places; the answer is
    then one of its crossings.
    """

    level: float
    first: float  #: the first eps
    tolerance: float = 1.05  #: the bracket's upper end over its lower one
    least: float = 1e-6
    most: float = 1.0  #: of L-infinity in [0, 1] there is no more
    above: float | None = None  #: the largest eps known to be at or above the level
    below: float | None = None  #: the smallest known to be below
    points: dict[float, float] = field(default_factory=dict)

    def next_eps(self) -> float | None:
        """None once the crossing is known, or is beyond `least` or `most`."""
        if self.above is None and self.below is None:
            return self.first
        if self.below is None:
            assert self.above is not None
            return None if self.above >= self.most else min(self.above * _FACTOR, self.most)
        if self.above is None:
            return None if self.below <= self.least else max(self.below / _FACTOR, self.least)
        if self.below / self.above <= self.tolerance:
            return None
        return math.sqrt(self.above * self.below)

    def take(self, eps: float, robust: float) -> None:
        """Note a point of the curve; points measured for another level help, too."""
        self.points[eps] = robust
        if robust >= self.level:
            if self.above is None or eps > self.above:
                self.above = eps
        elif self.below is None or eps < self.below:
            self.below = eps
        if self.above is not None and self.below is not None and self.above >= self.below:
            # The curve rises here: only points below the smallest miss form a bracket.
            lower = [e for e, r in self.points.items() if r >= self.level and e < self.below]
            self.above = max(lower, default=None)

    @property
    def eps(self) -> float:
        """The largest eps known to be at or above the level; `least` where none is, and infinite
        where even `most` is."""
        if self.below is None:
            return math.inf
        return self.least if self.above is None else self.above


@dataclass(kw_only=True)
class MeasuredCurve:
    """One architecture's attack: the grid's tasks on its dense models, and what they found."""

    curve: SecurityCurve
    present: tuple[float, ...]
    tasks: tuple[AttackTask, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether every point costs attacks at one more eps."""
        return self.curve.distances is None

    def at(self, eps: float) -> tuple[AttackTask, ...]:
        """The same attacks at one eps."""
        return tuple(
            dataclasses.replace(t, attack=dataclasses.replace(t.attack, eps=(eps,)))
            for t in self.tasks
        )


def measured(plan: Plan, store: Store) -> list[MeasuredCurve]:
    """From the plan's cells, whose tasks must be done. Raises StoreError, and PrunegridError
    where an attack was skipped."""
    groups: dict[tuple[str, str], list[PlannedCell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.place.model.architecture, cell.place.attack), []).append(cell)
    return [_measured(key, cells, plan, store) for key, cells in groups.items()]


def _measured(
    key: tuple[str, str], cells: list[PlannedCell], plan: Plan, store: Store
) -> MeasuredCurve:
    keys = dict.fromkeys(task_key for cell in cells for task_key in cell.task_keys)
    tasks = []
    for task_key in keys:
        task = plan.tasks[task_key]
        assert isinstance(task, AttackTask)
        tasks.append(task)
    entry = attack_of(tasks[0].attack)
    assert entry is not None
    parts = [store.image_rows(task.key) for task in tasks]
    if any(part.table.column("skipped").to_pylist()[0] for part in parts):
        raise PrunegridError(
            f"{key[0]} {key[1]}: the attack was skipped on a dense model, for its low accuracy or "
            "because it diverged; expected dense models that are worth attacking"
        )
    models = len({task.parent_key for task in tasks})
    if entry.finds == "minimum-norm":
        distances = np.nan_to_num(distances_in(parts), nan=0.0, posinf=np.inf)
        within = broken_at(cells[0].place.protocol, minimum_norm=True) == WITHIN
        curve = nearest_curve(*key, distances, models=models, norm=entry.norm, within=within)
    else:
        empty = SecurityCurve(
            architecture=key[0], attack=key[1], norm=entry.norm, clean=0.0, models=models
        )
        curve = _with_points(empty, parts)
    return MeasuredCurve(curve=curve, present=cells[0].attack.eps, tasks=tuple(tasks))


def _with_points(curve: SecurityCurve, parts: Iterable[ImageRows]) -> SecurityCurve:
    """With those of a fixed-eps attack's rows."""
    rows = [part.table.to_pandas() for part in parts]
    points = dict(curve.points)
    for eps in sorted({float(e) for frame in rows for e in frame["eps"].unique()}):
        broken = [frame.loc[frame["eps"] == eps, "broken"].to_numpy(bool) for frame in rows]
        points[eps] = float(1 - np.concatenate(broken).mean())
    right = np.concatenate([(f["label"] == f["clean_prediction"]).to_numpy(bool) for f in rows])
    return dataclasses.replace(curve, points=points, clean=float(right.mean()))


def calibrate_measured(
    every: Sequence[MeasuredCurve], rule: Rule, store: str, compute: Compute
) -> list[Calibration]:
    """A set for each; fixed-eps attacks are run at more eps as needed. Raises EpsLevelsError."""
    fixed = [found for found in every if found.is_fixed]
    searches = [(found, search) for found in fixed for search in _searches(found, rule)]
    while asked := [(f, eps) for f, search in searches if (eps := search.next_eps()) is not None]:
        _measure(asked, store, compute)
        for found, search in searches:
            for eps, robust in found.curve.points.items():
                if eps not in search.points:
                    search.take(eps, robust)
    for _ in range(_ROUNDS):
        out = [calibrate_curve(found.curve, found.present, rule) for found in every]
        unknown = [
            (found, step.eps)
            for found, made in zip(every, out, strict=True)
            if found.is_fixed
            for step in made.proposed
            if step.eps not in found.curve.points
        ]
        if not unknown:
            break
        _measure(unknown, store, compute)
    return out


def _searches(found: MeasuredCurve, rule: Rule) -> list[Bisection]:
    """For L-infinity the strongest eps alone: the others follow from it."""
    curve = found.curve
    linf = curve.norm == "linf"
    levels = [rule.left] if linf else [rule.left, curve.clean - rule.marginal]
    most = 1.0 if linf else 1e6
    out = []
    for level in levels:
        search = Bisection(level=level, first=found.present[len(found.present) // 2], most=most)
        for eps, robust in sorted(curve.points.items()):
            search.take(eps, robust)
        out.append(search)
    return out


def _measure(asked: Sequence[tuple[MeasuredCurve, float]], store: str, compute: Compute) -> None:
    tasks = [task for found, eps in asked for task in found.at(eps)]
    curves = [found.curve for found, _ in asked]
    compute(
        tasks, ", ".join(f"{c.architecture} {c.attack}, eps {len(c.points) + 1}" for c in curves)
    )
    for found, eps in asked:
        parts = [find_images(task, store) for task in found.at(eps)]
        found.curve = _with_points(found.curve, parts)
