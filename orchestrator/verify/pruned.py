"""Whether a model's masks are what its pruning method and rate claim. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prunegrid.workers.catalog import method_of
from prunegrid.workers.contract import PruneTask
from prunegrid.workers.method_entry import pattern_of
from prunegrid.workers.pruning.step import survivors
from prunegrid.workers.pruning.structures import alive_units, grouped, pruned_layers, units

Masks = Mapping[str, np.ndarray]


def pruning_findings(
    task: PruneTask, masks: Masks, kinds: Mapping[str, str], parent: Masks | None
) -> Iterator[tuple[str, str]]:
    """(layer, or "" for all; what is wrong). `masks`, bool, and `kinds` by prunable layer;
    `parent`: the masks of the model that was pruned, None where they can't be read."""
    method, rate = method_of(task.pruning), task.pruning.rate
    if method is None:  # another installation's: its counts can't be known
        yield from _came_back(masks, parent)
        return
    layers = pruned_layers(method.structure, kinds, {n: mask.shape for n, mask in masks.items()})
    pattern = pattern_of(method.structure)
    alive: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        if unit := layers.get(name):
            parts = units(mask, unit)
            if (parts.any(axis=1) != parts.all(axis=1)).any():
                yield name, f"a {method.structure} is half pruned"
            alive[name] = alive_units(mask, unit)
            if pattern and (grouped(mask, mask.shape, pattern[1]).sum(axis=1) != pattern[0]).any():
                yield name, f"{pattern[1]} weights in a row have others than {pattern[0]} left"
        elif not mask.all():
            yield name, f"pruned, though pruning a {method.structure} leaves such a layer alone"
    yield from _came_back(masks, parent)
    if method.scope == "local":
        counts = {name: (len(mine), int(mine.sum())) for name, mine in alive.items()}
    else:
        total = sum(len(mine) for mine in alive.values())
        counts = {"": (total, sum(int(mine.sum()) for mine in alive.values()))}
    for name, (total, left) in counts.items():
        if left != survivors(total, rate):
            what = f"{method.structure} units of {total} left at rate {rate:g}"
            yield name, f"{left} {what}, expected {survivors(total, rate)}"


def _came_back(masks: Masks, parent: Masks | None) -> Iterator[tuple[str, str]]:
    for name, mask in masks.items():
        if parent is not None and (name not in parent or (mask & ~parent[name]).any()):
            yield name, "a weight is left that its parent had lost"
