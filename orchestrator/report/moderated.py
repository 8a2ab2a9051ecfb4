"""Tests with more power than a paired t test over a few seeds, each with what it assumes. Pure.

- `moderated_t`: Smyth's moderated t (Statistical Applications in Genetics and Molecular Biology
  3(1), 2004; limma). Cells of a family differ in mean, but their variances over seeds are alike:
  each is shrunk to a prior that all cells give, which adds the prior's degrees of freedom. About
  new seeds, on these images.
- `false_discovery`: Benjamini and Hochberg's adjusted p (Journal of the Royal Statistical Society
  B 57, 1995): of the differences called, at most that share is expected to be false.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from prunegrid.orchestrator.report.statistics import LEVEL, TINY, Floats

#: A prior needs the variances of at least that many cells.
LEAST_CELLS = 5

#: Variances below this share of the median one are raised to it before the prior is fitted: a
#: variance of 0 (equal counts of images in every seed) has no logarithm.
_LEAST_VARIANCE = 1e-2


@dataclass(frozen=True, kw_only=True)
class VariancePrior:
    """A scaled inverse chi-squared distribution of variances."""

    variance: float  #: its scale, s0 squared
    freedom: float  #: its degrees of freedom, d0; inf: all variances are one


def fit_prior(variances: Floats, freedom: Floats) -> VariancePrior | None:
    """The prior of sample variances with `freedom` degrees of freedom each, by the moments of their
    logarithms (Smyth 2004, section 6.2). None where fewer than LEAST_CELLS are known and not 0."""
    variances, freedom = (np.asarray(a, dtype=float) for a in (variances, freedom))
    known = np.isfinite(variances) & (freedom > 0)
    variances, freedom = variances[known], freedom[known]
    if (variances > TINY**2).sum() < LEAST_CELLS:
        return None
    floor = _LEAST_VARIANCE * np.median(variances[variances > TINY**2])
    logs = np.log(np.maximum(variances, floor))
    half = freedom / 2
    centred = logs - special.digamma(half) + np.log(half)
    mean = float(centred.mean())
    spread = float(centred.var(ddof=1) - special.polygamma(1, half).mean())
    if spread <= 0:
        return VariancePrior(variance=math.exp(mean), freedom=math.inf)
    prior = 2 * _inverse_trigamma(spread)
    scale = math.exp(mean + float(special.digamma(prior / 2)) - math.log(prior / 2))
    return VariancePrior(variance=scale, freedom=prior)


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value, by Newton's method on 1 / trigamma (convex, so it converges
    from below)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(special.polygamma(1, x))
        step = found * (1 - found / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class ShrunkVariances:
    """One entry per cell of the family, in its order; NaN where its own is unknown."""

    variances: Floats
    freedom: Floats  #: the prior's included
    prior: VariancePrior


def shrink(variances: Floats, freedom: Floats) -> ShrunkVariances | None:
    """Sample variances with `freedom` degrees of freedom each, shrunk to the prior of them all;
    None where there is none."""
    own = np.where(np.asarray(freedom, dtype=float) > 0, freedom, np.nan)
    variances = np.where(np.isnan(own), np.nan, variances)
    prior = fit_prior(variances, own)
    if prior is None:
        return None
    if math.isinf(prior.freedom):
        shrunk = np.where(np.isnan(own), np.nan, prior.variance)
        total = np.where(np.isnan(own), np.nan, np.inf)
    else:
        total = own + prior.freedom
        shrunk = (own * variances + prior.freedom * prior.variance) / total
    # No more than all cells have together: the prior was estimated from them.
    return ShrunkVariances(variances=shrunk, freedom=np.minimum(total, np.nansum(own)), prior=prior)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModeratedTests:
    """One entry per cell of the family, in its order."""

    p: Floats  #: two-sided; NaN: not tested
    half: Floats  #: half width of the 95 % interval of the mean
    freedom: Floats  #: degrees of freedom, the prior's included
    prior: VariancePrior | None


def moderated_t(n: Floats, mean: Floats, sd: Floats) -> ModeratedTests:
    """From each cell's paired differences: how many, their mean and sample SD.

    NaN where fewer than two pairs are known, or the family has too few cells for a prior.
    """
    n, mean, sd = (np.asarray(a, dtype=float) for a in (n, mean, sd))
    shrunk = shrink(sd**2, n - 1)
    if shrunk is None:
        missing = np.full(mean.shape, np.nan)
        return ModeratedTests(p=missing, half=missing.copy(), freedom=missing.copy(), prior=None)
    error = np.sqrt(shrunk.variances / n)
    p = 2 * stats.t.sf(np.abs(mean) / error, shrunk.freedom)
    half = stats.t.ppf((1 + LEVEL) / 2, shrunk.freedom) * error
    return ModeratedTests(p=p, half=half, freedom=shrunk.freedom, prior=shrunk.prior)


def false_discovery(p: Floats) -> Floats:
    """Adjusted p values of one family; NaN is no test and does not count."""
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known], method="bh")
    return out
