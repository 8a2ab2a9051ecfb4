"""Which tasks come first, whatever the paths. Pure.

Without `--slices`: one task of each attack on each network, early, so that what is left is soon
estimated from all kinds of tasks.

With `--slices`: what whole publishable slices need, one after the other.

A slice is what one point of a published curve rests on: one architecture, variant, method, rate,
protocol and attack, over all seeds. Slices come in the grid file's order, rates ascending, since
a chain reaches them so: what stands first in the file is finished first.
"""

from __future__ import annotations

from prunegrid.orchestrator.plan.dag import Plan, parents_of
from prunegrid.workers.contract import AttackTask, network_label


def sample_ranks(plan: Plan) -> dict[str, int]:
    """One task of each attack on each network, of the model with the shortest way to it."""
    depth: dict[str, int] = {}
    first: dict[tuple[object, ...], tuple[int, str]] = {}
    for key, task in plan.tasks.items():  # parents come first
        depth[key] = 1 + max((depth.get(parent, 0) for parent in parents_of(task)), default=0)
        if isinstance(task, AttackTask):
            what = (network_label(task), task.data.dataset, task.attack)
            if what not in first or depth[key] < first[what][0]:
                first[what] = (depth[key], key)
    return {key: -1 for _, key in first.values()}


def slice_ranks(plan: Plan) -> dict[str, int]:
    """Task -> the number of the first slice that needs it. An ancestor is needed by all slices
    that its descendants are of."""
    order: dict[tuple[object, ...], int] = {}
    models: dict[tuple[object, ...], int] = {}
    first: dict[str, tuple[int, int]] = {}
    for model in plan.models:  # per chain, rates ascending; seeds within methods
        place = model.place
        models.setdefault(
            (place.architecture, place.variant, place.method, place.rate), len(models)
        )
    for cell in plan.cells:
        place = cell.place.model
        group = (place.architecture, place.variant, place.method, place.rate)
        attack = order.setdefault((*group, cell.place.protocol, cell.place.attack), len(order))
        for key in cell.task_keys:
            rank = (models[group], attack)
            first[key] = min(first.get(key, rank), rank)
    for transfer in plan.transfers:  # after the cells of the pruned model
        place = max(transfer.place.source, transfer.place.target, key=lambda model: model.rate)
        group = (place.architecture, place.variant, place.method, place.rate)
        rank = (models[group], len(order))
        first[transfer.task_key] = min(first.get(transfer.task_key, rank), rank)
    for key in reversed(list(plan.tasks)):  # children before parents
        for parent in parents_of(plan.tasks[key]) if key in first else ():
            first[parent] = min(first.get(parent, first[key]), first[key])
    ranked = {pair: number for number, pair in enumerate(sorted(set(first.values())))}
    return {key: ranked[pair] for key, pair in first.items()}
