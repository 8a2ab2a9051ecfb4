"""One pruning step: from weights and masks to the next, smaller masks. Pure numpy.

Counts are exact: of n units `survivors(n, rate)` are left, chosen among the living ones. A pruned
weight never comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prunegrid.workers.catalog import MethodEntry
from prunegrid.workers.keys import derive_seed
from prunegrid.workers.pruning.scores import CRITERIA, magnitude
from prunegrid.workers.pruning.structures import Unit, alive_units, spread, unit_of, units


class PruneCountError(Exception):
    """A step left a wrong number of units, or can't leave the right one."""

    def __init__(self, layer: str, expected: int, got: int, problem: str) -> None:
        super().__init__(layer, expected, got, problem)  # all arguments, so that it unpickles
        self.layer = layer  #: its name, or "all layers"
        self.expected = expected  #: units
        self.got = got
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.layer}: expected {self.expected} units left, got {self.got}: {self.problem}"


def survivors(n: int, rate: float) -> int:
    """round(n / rate), halves to even, as in the authors' raw counts.

    It may be 0 (CNN5's 6 filters from rate 16 on): the layer is gone, the network's output is
    constant, and its accuracy shows it. No count is rounded up to avoid this.
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
) -> dict[str, np.ndarray]:
    """New masks by layer. `weights`, `masks` (bool) and `kinds` (see `unit_of`) have the same
    layers. Raises PruneCountError, ValueError where the rate does not exceed the parent's."""
    if rate <= parent_rate:
        raise ValueError(f"rate: expected more than the parent's {parent_rate:g}, got {rate:g}")
    layers = {n: unit for n in weights if (unit := unit_of(method.structure, kinds[n]))}
    alive = {name: alive_units(masks[name], unit) for name, unit in layers.items()}
    parts = {name: units(weights[name] * masks[name], unit) for name, unit in layers.items()}
    score = CRITERIA[method.criterion]
    scores = {}
    for name in layers:
        rng = np.random.default_rng(derive_seed(seed, "prune", rate, name))
        scores[name] = score(parts[name], method.scope, rng)
    if method.scope == "local":
        counts = {name: _count(name, alive[name], rate) for name in layers}
    elif method.scope == "global":
        counts = _global_counts(scores, alive, rate)
    else:
        unused = np.random.default_rng(0)
        magnitudes = {name: magnitude(parts[name], "global", unused) for name in layers}
        counts = _global_counts(magnitudes, alive, rate)
    out = {name: mask.copy() for name, mask in masks.items()}
    for name, unit in layers.items():
        keep = _best(scores[name], alive[name], counts[name])
        out[name] &= spread(keep, weights[name].shape, unit)
    check_counts(out, masks, layers, counts)
    return out


def _count(name: str, alive: np.ndarray, rate: float) -> int:
    """How many of the layer's units survive. Raises PruneCountError where fewer are alive: the
    masks are not those of the parent's rate."""
    expected, living = survivors(len(alive), rate), int(np.count_nonzero(alive))
    if living < expected:
        raise PruneCountError(name, expected, living, "the parent has too few alive")
    return expected


def _best(scores: np.ndarray, alive: np.ndarray, count: int) -> np.ndarray:
    """The `count` best living units, bool [units]; among equals the first win."""
    keep = np.zeros(len(scores), dtype=bool)
    if count:
        mine = scores[alive]
        threshold = np.partition(mine, len(mine) - count)[len(mine) - count]
        chosen = mine > threshold
        ties = np.flatnonzero(mine == threshold)
        chosen[ties[: count - int(chosen.sum())]] = True
        keep[alive] = chosen
    return keep


def _global_counts(
    scores: Mapping[str, np.ndarray], alive: Mapping[str, np.ndarray], rate: float
) -> dict[str, int]:
    """How many units of each layer are among the best units of all layers."""
    names = list(scores)
    if not names:  # a structured method on a network without convolutions
        return {}
    flat = np.concatenate([scores[name] for name in names])
    living = np.concatenate([alive[name] for name in names])
    keep = _best(flat, living, _count("all layers", living, rate))
    ends = np.cumsum([len(scores[name]) for name in names])[:-1]
    return {name: int(part.sum()) for name, part in zip(names, np.split(keep, ends), strict=True)}


def check_counts(
    new: Mapping[str, np.ndarray],
    old: Mapping[str, np.ndarray],
    layers: Mapping[str, Unit],
    counts: Mapping[str, int],
) -> None:
    """`layers`: the unit of each pruned one. Raises PruneCountError where a layer's count is wrong,
    a pruned weight came back, or a unit is half pruned."""
    for name, unit in layers.items():
        left = int(np.count_nonzero(alive_units(new[name], unit)))
        if left != counts[name]:
            raise PruneCountError(name, counts[name], left, "wrong count")
        if unit != "unstructured" and _ragged(units(new[name], unit)):
            raise PruneCountError(name, counts[name], left, "a unit is half pruned")
        if (new[name] & ~old[name]).any():
            raise PruneCountError(name, counts[name], left, "a pruned weight came back")


def _ragged(parts: np.ndarray) -> bool:
    return bool((parts.any(axis=1) != parts.all(axis=1)).any())
