"""How much a unit matters: a higher score survives. Pure numpy.

To add a criterion: a function of the same form, its line in CRITERIA, and its methods in
workers/catalog/methods.py (`Criterion` and `_SELECTIONS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from prunegrid.workers.catalog import Scope

#: (weights [units, size], scope, random generator) -> scores [units]
Score: TypeAlias = Callable[[np.ndarray, Scope, np.random.Generator], np.ndarray]


def magnitude(weights: np.ndarray, scope: Scope, rng: np.random.Generator) -> np.ndarray:
    """Sum of |w| within a layer; the mean across layers, so that sizes compare."""
    if weights.shape[1] == 1:  # sum and mean are the weight; a reduction would only be slow
        return np.abs(weights[:, 0])
    sizes = np.abs(weights, dtype=np.float64)
    return sizes.mean(axis=1) if scope == "global" else sizes.sum(axis=1)


def random(weights: np.ndarray, scope: Scope, rng: np.random.Generator) -> np.ndarray:
    """Uniform in [0, 1), whatever the weights are."""
    return rng.random(len(weights))


CRITERIA: Mapping[str, Score] = {"magnitude": magnitude, "random": random}
