"""Which tasks a retry is about. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prunegrid.orchestrator.errors import UsageError, nearest
from prunegrid.orchestrator.grid.selection import names_like
from prunegrid.orchestrator.plan.dag import Plan, expand, parents_of
from prunegrid.orchestrator.store.requests import Request

_LISTED = 4


def named_tasks(plan: Plan, request: Request) -> set[str]:
    """The plan's tasks that a retry names, and their ancestors: who asks for a blocked task asks
    for what it waits for.

    Raises UsageError where the request names what the plan has not.
    """
    names = set(plan.tasks)
    if request.select:
        names &= set(expand(plan.grid, request.select).tasks)
    if request.tasks:
        names &= _with_ancestors(plan, _matching(plan, request.tasks))
    return names


def _matching(plan: Plan, prefixes: Iterable[str]) -> set[str]:
    out: set[str] = set()
    for prefix in prefixes:
        found = names_like(prefix, plan.tasks)
        if not found:
            raise UsageError(
                f"no task of the store's grid begins with {prefix!r}{nearest(prefix, plan.tasks)}"
            )
        out |= set(found)
    return out


def _with_ancestors(plan: Plan, keys: Iterable[str]) -> set[str]:
    out: set[str] = set()
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key not in out:
            out.add(key)
            stack.extend(parents_of(plan.tasks[key]))
    return out


def task_prefixes(plan: Plan, given: Iterable[str]) -> tuple[str, ...]:
    """A cell's name, or its first letters, stands for its tasks; a task's name for itself."""
    out: list[str] = []
    cells: dict[str, tuple[str, ...]] = {}
    for text in given:
        if text.startswith("cell"):
            cells = cells or {cell.name: cell.task_keys for cell in plan.cells}
        out += [key for name in names_like(text, cells) for key in cells[name]] or [text]
    return tuple(dict.fromkeys(out))


def resting_on(plan: Plan, keys: Collection[str]) -> set[str]:
    """Every task below these."""
    below: set[str] = set()
    for key, task in plan.tasks.items():  # parents come first
        if any(parent in below or parent in keys for parent in parents_of(task)):
            below.add(key)
    return below - set(keys)


def few(keys: Collection[str]) -> str:
    """The first of them, for a line."""
    listed = ", ".join(sorted(keys)[:_LISTED])
    return listed + (", ..." if len(keys) > _LISTED else "")
