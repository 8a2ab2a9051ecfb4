"""One pruning step: from weights and masks to the next, smaller masks. Pure numpy.

Counts are exact: of the n units that a method prunes there survive `survivors(n, rate)`, chosen
among those alive; a mask never grows again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workers.catalog import MethodEntry, Scope, Structure
from workers.keys import derive_seed
from workers.pruning.scores import CRITERIA, magnitude
from workers.pruning.structures import prunes, spread, units

Masks = dict[str, np.ndarray]


class PruneCountError(Exception):
    """A step left another number of units than it must."""


def survivors(n: int, rate: float) -> int:
    """round(n / rate), halves to even, as the authors' raw counts have it.

    It may be 0 (CNN5's 6 filters from rate 16 on): that layer is gone, the network's output is
    constant, and its accuracy says so. Nothing is rounded up to spare a method this.
    """
    return round(n / rate)


def prune_step(
    weights: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    *,
    method: MethodEntry,
    rate: float,
    parent_rate: float,
    seed: int,
) -> Masks:
    """New masks by layer. `weights`, `masks` (bool) and `kinds` ("conv", "dense") have the same
    layers. Raises PruneCountError, ValueError where the rate does not exceed the parent's."""
    if rate <= parent_rate:
        raise ValueError(f"rate: expected more than the parent's {parent_rate:g}, got {rate:g}")
    structure = method.structure
    layers = [name for name in weights if prunes(structure, kinds[name])]
    alive: Masks = {name: np.asarray(units(masks[name], structure).any(axis=1)) for name in layers}
    parts = {name: units(weights[name] * masks[name], structure) for name in layers}
    if method.scope == "local":
        counts = {
            name: min(survivors(len(alive[name]), rate), int(alive[name].sum())) for name in layers
        }
    else:
        counts = _global_counts(parts, alive, rate)
    score = CRITERIA[method.criterion]
    out = {name: mask.copy() for name, mask in masks.items()}
    for name in layers:
        rng = np.random.default_rng(derive_seed(seed, "prune", rate, name))
        keep = _best(score(parts[name], _score_scope(method.scope), rng), alive[name], counts[name])
        out[name] &= spread(keep, weights[name].shape, structure)
    check_counts(out, masks, layers, structure, counts)
    return out


def _score_scope(scope: Scope) -> Scope:
    """Within one layer, sum and mean choose alike; "global" scores are what was compared."""
    return "local" if scope == "local" else "global"


def _best(scores: np.ndarray, alive: np.ndarray, count: int) -> np.ndarray:
    """The `count` best of those alive, as bools; ties go to the first."""
    keep = np.zeros(len(scores), dtype=bool)
    if count:
        living = np.flatnonzero(alive)
        mine = scores[living]
        threshold = np.partition(mine, len(mine) - count)[len(mine) - count]
        chosen = mine > threshold
        ties = np.flatnonzero(mine == threshold)
        chosen[ties[: count - int(chosen.sum())]] = True
        keep[living[chosen]] = True
    return keep


def _global_counts(
    parts: Mapping[str, np.ndarray], alive: Mapping[str, np.ndarray], rate: float
) -> dict[str, int]:
    """How many units of each layer are among the best of all layers by magnitude."""
    names = list(parts)
    scores = [magnitude(parts[n], "global", np.random.default_rng(0)) for n in names]
    flat = np.concatenate(scores)
    living = np.concatenate([alive[n] for n in names])
    total = min(survivors(len(flat), rate), int(living.sum()))
    keep = _best(flat, living, total)
    ends = np.cumsum([len(s) for s in scores])[:-1]
    return {name: int(part.sum()) for name, part in zip(names, np.split(keep, ends), strict=True)}


def check_counts(
    new: Mapping[str, np.ndarray],
    old: Mapping[str, np.ndarray],
    layers: list[str],
    structure: Structure,
    counts: Mapping[str, int],
) -> None:
    """Raises PruneCountError where a layer has another count than asked, a pruned weight came
    back, or a unit is half pruned."""
    for name in layers:
        parts = units(new[name], structure)
        left = int(parts.any(axis=1).sum())
        if left != counts[name] or (structure != "unstructured" and _ragged(parts)):
            raise PruneCountError(f"{name}: expected {counts[name]} whole units left, got {left}")
        if (new[name] & ~old[name]).any():
            raise PruneCountError(f"{name}: a pruned weight came back")


def _ragged(parts: np.ndarray) -> bool:
    return bool((parts.any(axis=1) != parts.all(axis=1)).any())
