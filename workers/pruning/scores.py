"""How much a unit matters: units with higher scores survive. Pure numpy.

To add a criterion: a function of the same form, its line in CRITERIA, and its methods in
workers/catalog/methods.py (`Criterion` and `_SELECTIONS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from prunegrid.workers.catalog import Scope

#: (weights [units, size], scope, random generator) -> scores [units]
ScoreFunction: TypeAlias = Callable[[np.ndarray, Scope, np.random.Generator], np.ndarray]


def magnitude(weights: np.ndarray, scope: Scope, rng: np.random.Generator) -> np.ndarray:
    """The sum of |w| within a layer; across layers the mean, so that layers of different sizes
    compare."""
    if weights.shape[1] == 1:  # sum and mean are the weight; a reduction would only be slow
        return np.asarray(np.abs(weights[:, 0]))
    sizes = np.abs(weights, dtype=np.float64)
    return np.asarray(sizes.mean(axis=1) if scope == "global" else sizes.sum(axis=1))


def random(weights: np.ndarray, scope: Scope, rng: np.random.Generator) -> np.ndarray:
    """Uniform in [0, 1), independent of the weights."""
    return rng.random(len(weights))


CRITERIA: Mapping[str, ScoreFunction] = {"magnitude": magnitude, "random": random}
