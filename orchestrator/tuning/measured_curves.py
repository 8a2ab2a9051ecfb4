"""A grid's dense models' security curves: distances as they are, fixed-eps attacks by bisection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.dense_curves import (
    Calibration,
    SecurityCurve,
    calibrate_curve,
)
from prunegrid.orchestrator.tuning.eps_rule import Rule
from prunegrid.orchestrator.tuning.level_crossing import Bisection
from prunegrid.orchestrator.tuning.scoring import distances_in
from prunegrid.orchestrator.tuning.stored_curves import nearest_curve
from prunegrid.workers.catalog import attack_entry
from prunegrid.workers.contract import AttackTask, Task
from prunegrid.workers.image_rows import ImageRows
from prunegrid.workers.scratch import find_images

#: Have tasks computed, with a note of what they are for; raises where that was interrupted or
#: failed.
Compute = Callable[[Sequence[Task], str], None]
#: Rounds of proposing at most: eps that a proposal adds are measured before the next.
_ROUNDS = 6


@dataclass(kw_only=True)
class MeasuredCurve:
    """One architecture's attack: the grid's tasks on its dense models, and what they found."""

    architecture: str
    attack: str
    norm: str
    minimum_norm: bool
    present: tuple[float, ...]
    tasks: tuple[AttackTask, ...]
    clean: float = 0.0
    models: int = 0
    points: dict[float, float] = field(default_factory=dict)
    distances: np.ndarray | None = None

    @property
    def curve(self) -> SecurityCurve:
        if self.distances is not None:
            return nearest_curve(
                self.architecture,
                self.attack,
                self.distances,
                models=self.models,
                norm=self.norm,
            )
        return SecurityCurve(
            architecture=self.architecture,
            attack=self.attack,
            norm=self.norm,
            clean=self.clean,
            models=self.models,
            points=dict(self.points),
        )

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
    entry = attack_entry(tasks[0].attack.attack)
    assert entry is not None
    out = MeasuredCurve(
        architecture=key[0],
        attack=key[1],
        norm=entry.norm,
        minimum_norm=entry.finds == "minimum-norm",
        present=cells[0].attack.eps,
        tasks=tuple(tasks),
        models=len({task.parent_key for task in tasks}),
    )
    parts = [store.image_rows(task.key) for task in tasks]
    if any(part.table.column("skipped").to_pylist()[0] for part in parts):
        raise PrunegridError(
            f"{key[0]} {key[1]}: the attack was skipped on a dense model, for its low accuracy or "
            "because it diverged; expected dense models that are worth attacking"
        )
    if out.minimum_norm:
        out.distances = np.nan_to_num(distances_in(parts), nan=0.0, posinf=np.inf)
        out.clean = float(np.mean(out.distances > 0))
    else:
        note(out, parts)
    return out


def note(found: MeasuredCurve, parts: Iterable[ImageRows]) -> None:
    """Points of a fixed-eps attack's curve from its rows."""
    rows = [part.table.to_pandas() for part in parts]
    for eps in sorted({float(e) for frame in rows for e in frame["eps"].unique()}):
        chosen = [frame[frame["eps"] == eps] for frame in rows]
        broken = np.concatenate([frame["broken"].to_numpy(bool) for frame in chosen])
        found.points[eps] = float(1 - broken.mean())
    right = np.concatenate([(f["label"] == f["clean_prediction"]).to_numpy(bool) for f in rows])
    found.clean = float(right.mean())


def calibrate_measured(
    every: Sequence[MeasuredCurve], rule: Rule, store: str, compute: Compute
) -> list[Calibration]:
    """A set for each; fixed-eps attacks are run at more eps as needed. Raises EpsLevelsError."""
    fixed = [found for found in every if not found.minimum_norm]
    searches = [(found, search) for found in fixed for search in _searches(found, rule)]
    while asked := [(f, eps) for f, search in searches if (eps := search.next_eps()) is not None]:
        _measure(asked, store, compute)
        for found, search in searches:
            for eps, robust in found.points.items():
                if eps not in search.points:
                    search.take(eps, robust)
    for _ in range(_ROUNDS):
        out = [calibrate_curve(found.curve, found.present, rule) for found in every]
        unknown = [
            (found, step.eps)
            for found, made in zip(every, out, strict=True)
            if not found.minimum_norm
            for step in made.proposed
            if step.eps not in found.points
        ]
        if not unknown:
            break
        _measure(unknown, store, compute)
    return out


def _searches(found: MeasuredCurve, rule: Rule) -> list[Bisection]:
    """For L-infinity the strongest eps alone: the others follow from it."""
    levels = [rule.left] if found.norm == "linf" else [rule.left, found.clean - rule.marginal]
    most = 1.0 if found.norm == "linf" else 1e6
    out = []
    for level in levels:
        search = Bisection(level=level, first=found.present[len(found.present) // 2], most=most)
        for eps, robust in sorted(found.points.items()):
            search.take(eps, robust)
        out.append(search)
    return out


def _measure(asked: Sequence[tuple[MeasuredCurve, float]], store: str, compute: Compute) -> None:
    tasks = [task for found, eps in asked for task in found.at(eps)]
    note_text = ", ".join(
        f"{found.architecture} {found.attack}, eps {len(found.points) + 1}" for found, _ in asked
    )
    compute(tasks, note_text)
    for found, eps in asked:
        note(found, [find_images(task, store) for task in found.at(eps)])
