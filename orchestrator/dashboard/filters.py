"""`?architecture=cnn5&rate=2,4`: which models and cells a view is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.orchestrator.grid.grid import AXES
from prunegrid.orchestrator.plan.plan_index import Axes, Bools, PlanIndex

_NUMBERS = ("rate", "seed", "eps")


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """The models and cells that a filter lets through."""

    models: Bools  #: [models]; attack, eps and protocol don't matter to them
    cells: Bools  #: [cells]


def selection_of(query: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The axes among a query's names and values; other names are left to others."""
    out: dict[str, list[str]] = {}
    for name, text in query:
        if name in AXES:
            out.setdefault(name, []).extend(v.strip() for v in text.split(",") if v.strip())
    return {axis: tuple(values) for axis, values in out.items() if values}


def view_of(index: PlanIndex, selection: Mapping[str, tuple[str, ...]]) -> View:
    """Raises UsageError where a value is none of the plan's."""
    models = np.ones(len(index.plan.models), dtype=bool)
    cells = np.ones(len(index.plan.cells), dtype=bool)
    for axis, texts in selection.items():
        if axis in index.model_axes.names:
            models &= index.model_axes.mask(axis, values_of(index.model_axes, axis, texts))
        if len(cells):
            cells &= index.cell_axes.mask(axis, values_of(index.cell_axes, axis, texts))
    return View(models=models, cells=cells)


def values_of(axes: Axes, axis: str, texts: Iterable[str]) -> list[object]:
    """Texts as the plan's own values; numbers may be fractions. Raises UsageError."""
    names = axes.names[axis]
    if axis not in _NUMBERS:
        for text in texts:
            if text not in names:
                raise UsageError(f"{axis}: {expected([str(n) for n in names], text)}")
        return list(texts)
    return [_nearest(axis, text, names) for text in texts]


def _nearest(axis: str, text: str, names: tuple[str | float | int, ...]) -> object:
    top, _, bottom = text.partition("/")
    try:
        number = float(top) / float(bottom) if bottom else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{axis}: expected a number, got {text!r}") from None
    for name in names:
        if abs(float(name) - number) <= 1e-6 * max(1e-3, abs(number)):
            return name
    raise UsageError(f"{axis}: {expected([f'{name:g}' for name in names], text)}")


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
