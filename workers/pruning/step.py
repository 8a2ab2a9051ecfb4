"""One pruning step: from weights and masks to the next, smaller masks. Pure numpy.

Counts are exact: of n units `survivors(n, rate)` are left, chosen among the living ones. A pruned
weight never comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prunegrid.workers.method_entry import MethodEntry, pattern_of
from prunegrid.workers.pruning.scores import NetworkView, Scoring, magnitude
from prunegrid.workers.pruning.structures import (
    Unit,
    alive_units,
    grouped,
    pruned_layers,
    spread,
    ungrouped,
    units,
)
from prunegrid.workers.user_code import UserCodeError


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


class ScoreError(ValueError):
    """A score failed, or does not give each unit a finite number."""


def survivors(n: int, rate: float) -> int:
    """round(n / rate), halves to even, as in the authors' raw counts.

    It may be 0 (CNN5's 6 filters from rate 16 on): the layer is gone, the network's output is
    constant, and its accuracy shows it. No count is rounded up to avoid this.
    """
    return round(n / rate)


# Parameters: the network and what of it is known, and the step.
def prune_step(
    weights: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    *,
    method: MethodEntry,
    rate: float,
    parent_rate: float,
    seed: int,
    network: NetworkView | None = None,
) -> dict[str, np.ndarray]:
    """New masks by layer. `weights`, `masks` (bool) and `kinds` (see `unit_of`) have the same
    layers; `network`: for scores that need it.

    Raises PruneCountError, ScoreError, and ValueError where the rate does not exceed the
    parent's."""
    if rate <= parent_rate:
        raise ValueError(f"rate: expected more than the parent's {parent_rate:g}, got {rate:g}")
    layers = pruned_layers(method.structure, kinds, {n: w.shape for n, w in weights.items()})
    alive = {name: alive_units(masks[name], unit) for name, unit in layers.items()}
    scoring = Scoring(
        weights={name: weights[name] * masks[name] for name in layers},
        masks={name: masks[name] for name in layers},
        unit=layers,
        scope=method.scope,
        rate=rate,
        seed=seed,
        network=network,
    )
    scores = scores_of(scoring, method) if layers else {}
    pattern = pattern_of(method.structure)
    if method.scope == "global":
        counts = _global_counts(scores, alive, rate)
    elif method.scope == "matched":
        counts = _global_counts(per_unit(magnitude(scoring), scoring, mean=True), alive, rate)
    else:
        counts = {name: _count(name, alive[name], rate) for name in layers}
    out = {name: mask.copy() for name, mask in masks.items()}
    for name, unit in layers.items():
        shape = weights[name].shape
        if pattern is None:
            keep = _best(scores[name], alive[name], counts[name])
        else:
            keep = _best_of_groups(scores[name], alive[name], shape, pattern)
        out[name] &= spread(keep, shape, unit)
    check_counts(out, masks, layers, counts)
    return out


def scores_of(scoring: Scoring, method: MethodEntry) -> dict[str, np.ndarray]:
    """One number for each unit of each layer that is pruned. Raises ScoreError."""
    try:
        found = method.score.call(scoring=scoring)
    except UserCodeError as error:
        raise ScoreError(str(error)) from error
    of = method.score.target
    if not isinstance(found, Mapping):
        raise ScoreError(
            f"{of}: expected a mapping of layers to arrays, got {type(found).__name__}"
        )
    if missing := sorted(scoring.weights.keys() - found.keys()):
        raise ScoreError(f"{of}: expected a score of each layer, got none of {missing[0]}")
    arrays = {name: np.asarray(found[name]) for name in scoring.weights}
    scores = per_unit(arrays, scoring, mean=method.scope == "global")
    for name, mine in scores.items():
        if mine.shape != (scoring.count(name),):
            raise ScoreError(
                f"{of}: expected scores of {name} for its weights {scoring.weights[name].shape} or "
                f"its {scoring.count(name)} units, got {arrays[name].shape}"
            )
        if not np.isfinite(mine).all():
            if scoring.network is None or not scoring.network.lost:
                wrong = int(np.count_nonzero(~np.isfinite(mine)))
                raise ScoreError(
                    f"{of}: expected finite scores of {name}, got {wrong} of {len(mine)} that are "
                    "NaN or infinite"
                )
            scores[name] = np.nan_to_num(mine)
    return scores


def per_unit(
    arrays: Mapping[str, np.ndarray], scoring: Scoring, *, mean: bool
) -> dict[str, np.ndarray]:
    """Scores of weights summed over each unit, or their means; scores of units as they are."""
    out = {}
    for name, array in arrays.items():
        if array.shape != scoring.weights[name].shape:
            out[name] = array
            continue
        parts = units(array, scoring.unit[name])
        if parts.shape[1] == 1:  # sum and mean are the weight's; a reduction would only be slow
            out[name] = parts[:, 0]
        else:
            wide = parts.astype(np.float64, copy=False)
            out[name] = wide.mean(axis=1) if mean else wide.sum(axis=1)
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


def _best_of_groups(
    scores: np.ndarray, alive: np.ndarray, shape: tuple[int, ...], pattern: tuple[int, int]
) -> np.ndarray:
    """The best N living of each M weights, bool [weights]; among equals the first win."""
    kept, size = pattern
    ranked = np.where(alive, scores, -np.inf)
    order = np.argsort(-grouped(ranked, shape, size), axis=1, kind="stable")
    keep = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(keep, order[:, :kept], True, axis=1)
    return np.asarray(ungrouped(keep, shape) & alive)


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
