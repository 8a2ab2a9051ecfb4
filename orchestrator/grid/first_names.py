"""What `cw_l2`, `bb_l0` and `pgd_linf` mean in `strict`, in a store made before they meant the
papers' algorithms alone. Pure.

Settings say it by their `edition`, which is in the task keys: so such a store goes on with what it
has, and no store holds two algorithms under one name.
"""

from __future__ import annotations

import dataclasses

from prunegrid.orchestrator.grid.grid import ArchitecturePlan, Grid, PlannedAttack
from prunegrid.workers.catalog import FIRST_NAMES


def with_first_names(grid: Grid) -> Grid:
    """The grid as a store of before means it, with a note of what differs."""
    differ: dict[str, str] = {}

    def of_before(attack: PlannedAttack) -> PlannedAttack:
        settings = attack.settings
        if settings.engine != "strict" or settings.edition == 1:
            return attack
        if settings.attack not in FIRST_NAMES:
            return attack
        differ[settings.attack] = FIRST_NAMES[settings.attack].name
        return dataclasses.replace(attack, settings=dataclasses.replace(settings, edition=1))

    def each(plan: ArchitecturePlan) -> ArchitecturePlan:
        return dataclasses.replace(plan, attacks=tuple(map(of_before, plan.attacks)))

    plans = tuple(map(each, grid.architectures))
    if not differ:
        return grid
    names = ", ".join(sorted(differ))
    note = (
        f"{names} in strict: this store has results of what is named "
        f"{', '.join(differ[name] for name in sorted(differ))} since, and goes on with that; in a "
        "store made now the plain names are the papers' algorithms alone"
    )
    return dataclasses.replace(grid, architectures=plans, notes=(*grid.notes, note))
