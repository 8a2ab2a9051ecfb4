"""A t test over seeds and images at once, where both sides attacked the same images. Pure.

Seeds and images are crossed random effects: the variance of a mean difference comes from a two-way
analysis of variance, its degrees of freedom from Satterthwaite's approximation (Biometrics
Bulletin 2, 1946). Variances over seeds are shrunk as those of `moderated_t`. Unlike a test over
seeds alone it is about new seeds and new images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prunegrid.orchestrator.report.moderated import shrink
from prunegrid.orchestrator.report.statistics import LEVEL, TINY, Floats

#: Of a cell without a family: the variance of two seeds is too often small by chance.
LEAST_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class MeanSquares:
    """Of differences [seeds, images]."""

    seeds: int
    images: int
    mean: float
    of_seeds: float  #: images * the sample variance of the seeds' means
    of_images: float  #: seeds * the sample variance of the images' means
    rest: float  #: the interaction, a draw's own noise included


def mean_squares(d: NDArray[np.float64]) -> MeanSquares:
    """`d`: [seeds, images], at least two of each."""
    seeds, images = d.shape
    by_seed, by_image = d.mean(axis=1), d.mean(axis=0)
    rest = d - by_seed[:, None] - by_image[None, :] + d.mean()
    return MeanSquares(
        seeds=seeds,
        images=images,
        mean=float(d.mean()),
        of_seeds=images * float(by_seed.var(ddof=1)),
        of_images=seeds * float(by_image.var(ddof=1)),
        rest=float((rest**2).sum()) / ((seeds - 1) * (images - 1)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossedTests:
    """One entry per cell of the family, in its order; NaN: not tested."""

    p: Floats  #: two-sided
    half: Floats  #: half width of the 95 % interval of the mean
    freedom: Floats


def crossed_t(family: Sequence[NDArray[np.floating] | None]) -> CrossedTests:
    """Each entry: differences [seeds, images], of one image under one seed, robust (1) or not (0)
    on one side less the same on the other, or a weighted mean of such; None: no image rows.

    Not tested with fewer than two seeds or images, where every difference is the same, or, in a
    family with too few cells for a prior, with fewer than LEAST_SEEDS seeds. Raises ValueError for
    another number of axes.
    """
    squares: list[MeanSquares | None] = []
    for entry in family:
        if entry is not None and entry.ndim != 2:
            raise ValueError(f"expected differences [seeds, images], got the shape {entry.shape}")
        usable = entry is not None and min(entry.shape) > 1 and np.ptp(entry) > TINY
        squares.append(mean_squares(entry.astype(float)) if entry is not None and usable else None)
    own = np.array([s.of_seeds / s.images if s else math.nan for s in squares])
    freedom = np.array([s.seeds - 1.0 if s else math.nan for s in squares])
    shrunk = shrink(own, freedom)
    if shrunk is not None:
        own, freedom = shrunk.variances, shrunk.freedom
    else:
        own = np.where(freedom >= LEAST_SEEDS - 1, own, np.nan)
    out = np.full((3, len(squares)), np.nan)
    for k, found in enumerate(squares):
        if found is None or math.isnan(own[k]):
            continue
        variance, free = mean_variance(found, float(own[k]) * found.images, float(freedom[k]))
        if (error := math.sqrt(variance)) > TINY:
            out[:, k] = (
                2 * stats.t.sf(abs(found.mean) / error, free),
                float(stats.t.ppf((1 + LEVEL) / 2, free)) * error,
                free,
            )
    return CrossedTests(p=out[0], half=out[1], freedom=out[2])


def mean_variance(found: MeanSquares, of_seeds: float, seed_freedom: float) -> tuple[float, float]:
    """Of the mean over seeds and images: its variance and degrees of freedom. `of_seeds`: the
    seeds' mean square, shrunk or not.

    Mean squares of seeds + images - rest are unbiased for it, times seeds * images. They are kept
    at or above the larger of the first two, so that chance can't make the variance vanish.
    """
    n, m = found.seeds, found.images
    total = max(of_seeds + found.of_images - found.rest, of_seeds, found.of_images)
    parts = (
        of_seeds**2 / seed_freedom,
        found.of_images**2 / (m - 1),
        found.rest**2 / ((n - 1) * (m - 1)),
    )
    return total / (n * m), max(total**2 / max(sum(parts), TINY**2), 1.0)
