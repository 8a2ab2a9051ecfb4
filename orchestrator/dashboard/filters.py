"""What `?architecture=cnn5&rate=2,4` lets through, and what the menus of filters offer. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from prunegrid.orchestrator.grid.grid import Selection
from prunegrid.orchestrator.grid.selection import AxisValue, match
from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.plan.dag import parents_of
from prunegrid.orchestrator.plan.plan_index import Axes, Bools, PlanIndex
from prunegrid.workers.catalog import ARCHITECTURES, attack_of


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
    for key in {transfer.task_key for transfer in index.plan.transfers}:
        i = index.number[key]
        _, *attacks = parents_of(index.plan.tasks[key])
        wanted[i] = any(wanted[index.number[attack]] for attack in attacks)
    for children, parents in reversed(index.levels):
        wanted[parents[wanted[children]]] = True
    return {index.keys[i] for i in np.flatnonzero(wanted)}


@functools.lru_cache(maxsize=2)  # a plan is told each second
def axes_payload(index: PlanIndex | None) -> dict[str, list[list[str]]]:
    """Axis -> [value, its text], and "threats" -> [attack, eps, the eps's text], in the plan's
    order."""
    if index is None:
        return {}
    names = {**index.model_axes.names, **(index.cell_axes.names if index.plan.cells else {})}
    threats = _threats(index)
    texts = {eps: text for _, eps, text in threats}
    out = {}
    for axis, values in names.items():
        plain = [value if isinstance(value, str) else number_text(value) for value in values]
        out[axis] = [[text, _title(axis, text, texts)] for text in plain]
    return {**out, "threats": threats}


def number_text(value: float) -> str:
    """As JavaScript's String(value) writes it."""
    if float(value).is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)), "f")
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa}e{int(exponent):+d}" if exponent else mantissa


def _title(axis: str, text: str, eps_texts: dict[str, str]) -> str:
    if axis == "architecture":
        entry = ARCHITECTURES.get(text)
        return entry.title if entry else text
    if axis == "attack":
        return attack_title(text)
    return eps_texts.get(text, text) if axis == "eps" else text


def _threats(index: PlanIndex) -> list[list[str]]:
    """Of the cells that the plan has: its selection may leave some out."""
    if not index.plan.cells:
        return []
    known = set(index.cell_axes.names["eps"])
    labels = set(index.cell_axes.names["attack"])
    out: dict[tuple[str, float], str] = {}
    for architecture in index.plan.grid.architectures:
        for attack in architecture.attacks:
            entry = attack_of(attack.settings)
            for eps in attack.eps:
                if attack.label in labels and eps in known:
                    out[attack.label, eps] = eps_text(entry.norm if entry else "", eps)
    order = sorted(out, key=lambda threat: index.cell_axes.names["attack"].index(threat[0]))
    return [[attack, number_text(eps), out[attack, eps]] for attack, eps in order]
