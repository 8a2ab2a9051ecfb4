"""Attacks that a plan also runs with twice the steps. Pure.

A grid asks for such a check of convergence by a second label: `pgd_linf_x2: {attack: pgd_linf,
steps: 80}`. What it found is in `report/convergence.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.workers.contract import AttackSettings, AttackTask


@dataclass(frozen=True, kw_only=True, order=True)
class DoubledSteps:
    """Two labels of a protocol that differ by the number of steps alone."""

    protocol: str
    once: str
    doubled: str
    steps: int  #: of `once`

    def __str__(self) -> str:
        return (
            f"{self.doubled} is {self.once} with twice the steps ({self.protocol}): the report "
            "takes it for a check of convergence, and leaves it out of its tables"
        )


def find_doubled(plan: Plan) -> tuple[DoubledSteps, ...]:
    """Every attack that the plan also runs with twice the steps."""
    settings: dict[str, dict[str, AttackSettings]] = {}
    for cell in plan.cells:
        task = plan.tasks[cell.task_keys[0]]
        if isinstance(task, AttackTask):
            settings.setdefault(cell.place.protocol, {})[cell.place.attack] = task.attack
    return tuple(
        sorted(
            DoubledSteps(protocol=protocol, once=a, doubled=b, steps=steps)
            for protocol, labels in settings.items()
            for a, b in permutations(labels, 2)
            if (steps := _doubled(labels[a], labels[b]))
        )
    )


def _doubled(once: AttackSettings, twice: AttackSettings) -> int:
    """The steps of `once`; 0 where `twice` is not the same with twice as many."""
    a, b = dict(once.options), dict(twice.options)
    steps, more = a.pop("steps", 0), b.pop("steps", 0)
    same = (once.attack, once.engine, once.outputs, a) == (
        twice.attack,
        twice.engine,
        twice.outputs,
        b,
    )
    return int(steps) if same and steps and more == 2 * int(steps) else 0
