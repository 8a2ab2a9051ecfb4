"""What a search minimises, and how much stronger one attack is than another. Pure.

Distances are [models, images], on the same images in the same order; NaN where an image does not
count because the model gets it wrong to begin with, infinite where no adversarial was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
#: Distances closer than this (relatively) are equal: float32 rounding of a norm.
EQUAL = 1e-6


def median_distance(distances: Floats) -> float:
    """The geometric mean over models of each one's median: models of different scales count
    alike. Infinite where an attack fails on half of a model's images."""
    medians = [_median(row[~np.isnan(row)]) for row in np.atleast_2d(distances)]
    known = [value for value in medians if not math.isnan(value)]
    if not known:
        return math.inf
    return math.exp(math.fsum(math.log(value) for value in known) / len(known))


def _median(values: Floats) -> float:
    """NaN of none; between two neighbours their mean, which is infinite where one is."""
    if not len(values):
        return math.nan
    ordered = np.sort(values)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def robust_accuracy(distances: Floats, eps: float) -> float:
    """The mean over models of the share of images that no adversarial within `eps` was found of, at
    a distance of `eps` or less; images that the model gets wrong are broken."""
    return float(np.mean(np.nan_to_num(distances, nan=0.0, posinf=np.inf) > eps))


def geometric_mean(distances: Floats) -> float:
    """Of all finite distances above 0; infinite where there is none. Tells two attacks apart whose
    medians are equal, as those of whole numbers often are."""
    known = distances[np.isfinite(distances) & (distances > 0)]
    return float(np.exp(np.log(known).mean())) if len(known) else math.inf


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two attacks on the same images: ours against theirs."""

    models: int
    pairs: int  #: of model and image that count
    ours: float  #: the objective
    theirs: float
    effect: float  #: ours / theirs of distances, ours - theirs of robust accuracies
    low: float  #: of its 95 % interval, by bootstrap over images and models
    high: float
    at_least: int  #: pairs on which ours is no further away
    nearer: int  #: pairs on which it is nearer
    at_least_low: float  #: least share of such pairs, by Clopper and Pearson's 95 % interval


def compare(ours: Floats, theirs: Floats, *, eps: float | None = None, seed: int = 0) -> Comparison:
    """`eps`: None compares median distances, else robust accuracy there.

    The bootstrap draws images, the same ones for every model and both attacks, and models where
    there are several. Raises ValueError where the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"expected distances of one shape, got {ours.shape} and {theirs.shape}")
    counts = ~np.isnan(ours) & ~np.isnan(theirs)
    a, b = np.where(counts, ours, np.nan), np.where(counts, theirs, np.nan)

    def effect(x: Floats, y: Floats) -> tuple[float, float, float]:
        if eps is None:
            one, other = median_distance(x), median_distance(y)
            both = math.isinf(one) and math.isinf(other)
            return one, other, 1.0 if both else one / other
        one, other = robust_accuracy(x, eps), robust_accuracy(y, eps)
        return one, other, one - other

    rng = np.random.default_rng(seed)
    models, images = ours.shape
    draws = []
    for _ in range(RESAMPLES):
        rows = rng.integers(models, size=models) if models > 1 else np.zeros(1, np.int64)
        columns = rng.integers(images, size=images)
        pick = np.ix_(rows, columns)
        draws.append(effect(a[pick], b[pick])[2])
    mine, other, size = effect(a, b)
    pairs = int(counts.sum())
    with np.errstate(invalid="ignore"):
        at_least = int((counts & (a <= b * (1 + EQUAL))).sum())
        nearer = int((counts & (a < b * (1 - EQUAL))).sum())
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Comparison(
        models=models,
        pairs=pairs,
        ours=mine,
        theirs=other,
        effect=size,
        low=float(low),
        high=float(high),
        at_least=at_least,
        nearer=nearer,
        at_least_low=_least_share(at_least, pairs),
    )


def _least_share(hits: int, of: int) -> float:
    """Lower end of Clopper and Pearson's interval."""
    if not hits:
        return 0.0
    return float(stats.beta.ppf((1 - LEVEL) / 2, hits, of - hits + 1))
