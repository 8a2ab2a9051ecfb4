"""How a plan stands: tasks and cells by state, and what is to come. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.costs import cost_of, hours_of
from prunegrid.orchestrator.plan.dag import Plan, parent_of
from prunegrid.orchestrator.plan.estimates import Eta
from prunegrid.orchestrator.store.journal_state import JournalState
from prunegrid.workers.contract import Task

#: From the best to the worst; a cell is in the state of its worst task.
ORDER = ("done", "waiting", "running", "blocked", "failed")
SHOWN = ("done", "running", "waiting", "blocked", "failed")


def task_states(
    plan: Plan,
    *,
    done: Collection[str],
    left: Mapping[str, Task],
    running: Collection[str],
    failed: Collection[str],
) -> dict[str, str]:
    """Of what is done and of what must run yet; `left`: parents first. A task is blocked where
    an ancestor that it needs was given up."""
    states = dict.fromkeys((key for key in plan.tasks if key in done), "done")
    for key, task in left.items():
        stuck = states.get(parent_of(task) or "") in ("failed", "blocked")
        if key in failed:
            states[key] = "failed"
        elif stuck:
            states[key] = "blocked"
        else:
            states[key] = "running" if key in running else "waiting"
    return states


def count_tasks(states: Mapping[str, str]) -> dict[str, int]:
    return _shown(Counter(states.values()))


def count_cells(plan: Plan, states: Mapping[str, str], rows: Collection[int]) -> dict[str, int]:
    """`rows`: the numbers of the plan's cells that have their row; others are not done."""
    counts: Counter[str] = Counter()
    worst_of: dict[tuple[str, ...], str] = {}
    for number, cell in enumerate(plan.cells):
        if number in rows:
            counts["done"] += 1
            continue
        worst = worst_of.get(cell.task_keys)
        if worst is None:
            worst = max((states[key] for key in cell.task_keys), key=ORDER.index)
            worst_of[cell.task_keys] = worst
        counts["waiting" if worst == "done" else worst] += 1
    return _shown(counts)


def _shown(counts: Mapping[str, int]) -> dict[str, int]:
    return {state: counts.get(state, 0) for state in SHOWN}


def money(grid: Grid, state: JournalState, eta: Eta) -> dict[str, Any]:
    """`hours` and `cost`, ready for JSON."""
    spent_s = state.spent_so_far_s
    hours = asdict(hours_of(grid.resources, spent_s=spent_s, eta=eta))
    cost = cost_of(grid.price, spent_s=spent_s, eta=eta, slots=max(state.slots, 1))
    return {
        "hours": _rounded(hours),
        "cost": None if cost is None else _rounded(asdict(cost)),
    }


def _rounded(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: _round(value) for name, value in raw.items()}


def _round(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_round(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
