"""Whether a model's masks are what its pruning method and rate claim. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prunegrid.workers.catalog import METHODS
from prunegrid.workers.contract import PruneTask
from prunegrid.workers.pruning.step import survivors
from prunegrid.workers.pruning.structures import alive_units, unit_of, units

Masks = Mapping[str, np.ndarray]


def pruning_findings(
    task: PruneTask, masks: Masks, kinds: Mapping[str, str], parent: Masks | None
) -> Iterator[tuple[str, str]]:
    """(layer, or "" for all; what is wrong). `masks`, bool, and `kinds` by prunable layer;
    `parent`: the masks of the model that was pruned, None where they can't be read."""
    method, rate = METHODS.get(task.pruning.method), task.pruning.rate
    if method is None:
        yield "", f"pruning method {task.pruning.method!r} is not in this version's catalog"
        return
    alive: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        if unit := unit_of(method.structure, kinds[name]):
            parts = units(mask, unit)
            if (parts.any(axis=1) != parts.all(axis=1)).any():
                yield name, f"a {method.structure} is half pruned"
            alive[name] = alive_units(mask, unit)
        elif not mask.all():
            yield name, f"pruned, though pruning a {method.structure} leaves such a layer alone"
        if parent is not None and (name not in parent or (mask & ~parent[name]).any()):
            yield name, "a weight is left that its parent had lost"
    if method.scope == "local":
        counts = {name: (len(mine), int(mine.sum())) for name, mine in alive.items()}
    else:
        total = sum(len(mine) for mine in alive.values())
        counts = {"": (total, sum(int(mine.sum()) for mine in alive.values()))}
    for name, (total, left) in counts.items():
        if left != survivors(total, rate):
            what = f"{method.structure} units of {total} left at rate {rate:g}"
            yield name, f"{left} {what}, expected {survivors(total, rate)}"
