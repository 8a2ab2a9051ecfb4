"""Whether Foolbox has the attacks that a grid names by class, with these options. Asked of a child
process, once and before any task runs: the driver imports neither Foolbox nor TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.file import refusal
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.workers.child_process import ask_child
from prunegrid.workers.contract import AttackTask

_MODULE = "prunegrid.workers.attacks.foolbox_classes"
_MOST_S = 300.0


def check_foolbox_attacks(plan: Plan, finished: Callable[[], AbstractSet[str]]) -> list[str]:
    """Of the attacks of unfinished tasks. Without such attacks nothing is started, and `finished`,
    which may list a whole store, not called.

    Returns what users should know of them. Raises GridError on an attack that no worker could
    run, PrunegridError where Foolbox can't be asked.
    """
    stock = [
        (cell, task)
        for cell in plan.cells
        for key in cell.task_keys[:1]
        if isinstance(task := plan.tasks[key], AttackTask) and task.attack.engine == "foolbox-stock"
    ]
    done = finished() if stock else frozenset()
    labels = {
        (task.attack.attack, task.attack.options): cell.place.attack
        for cell, task in stock
        if not set(cell.task_keys) <= done
    }
    if not labels:
        return []
    asked = [{"attack": name, "options": dict(options)} for name, options in labels]
    try:
        answers = ask_child(_MODULE, asked, timeout_s=_MOST_S)
    except ValueError as error:
        raise PrunegridError(f"Foolbox can't be asked about its attacks: {error}") from error
    notes = []
    for (name, _), label, found in zip(labels, labels.values(), answers, strict=True):
        if found["error"]:
            raise refusal(plan.grid, "attacks", label, message=found["error"])
        if found["minimises"] and name.startswith("foolbox:"):
            notes.append(
                f"{label}: {name.removeprefix('foolbox:')} minimises a norm; named by its class it "
                "is scored at each eps, and its rows have no other distances"
            )
    return notes
