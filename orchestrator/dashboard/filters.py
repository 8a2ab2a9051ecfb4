"""`?architecture=cnn5&rate=2,4`: which models and cells a view is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prunegrid.orchestrator.grid.grid import Selection
from prunegrid.orchestrator.grid.selection import AxisValue, match
from prunegrid.orchestrator.plan.plan_index import Axes, Bools, PlanIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """The models and cells that a filter lets through."""

    models: Bools  #: [models]; attack, eps and protocol don't matter to them
    cells: Bools  #: [cells]


def view_of(index: PlanIndex, selection: Selection) -> View:
    """Raises UsageError where a value is none of the plan's."""
    models = np.ones(len(index.plan.models), dtype=bool)
    cells = np.ones(len(index.plan.cells), dtype=bool)
    for axis, texts in selection.items():
        if axis in index.model_axes.names:
            models &= index.model_axes.mask(axis, values_of(index.model_axes, axis, texts))
        if len(cells):
            cells &= index.cell_axes.mask(axis, values_of(index.cell_axes, axis, texts))
    return View(models=models, cells=cells)


def values_of(axes: Axes, axis: str, texts: Iterable[str]) -> list[AxisValue]:
    """The plan's own values that some texts name. Raises UsageError."""
    return [match(text, axes.names[axis], where=axis) for text in texts]


def tasks_of(index: PlanIndex, view: View) -> set[str]:
    """The tasks that a view's models and cells rest on, ancestors included."""
    wanted = np.zeros(len(index.keys), dtype=bool)
    wanted[index.model_task[view.models]] = True
    if len(view.cells):
        lengths = np.diff(index.shard_start)
        wanted[index.shard_task[np.repeat(view.cells, lengths)]] = True
    for level in reversed(index.levels):
        parents = index.parent[level[wanted[level]]]
        wanted[parents[parents >= 0]] = True
    return {index.keys[i] for i in np.flatnonzero(wanted)}
