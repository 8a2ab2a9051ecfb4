"""Means over seeds, how sure they are, and tests that know how many they are. Pure.

Intervals are Student's t at 95 % over seeds, spreads are sample SDs, comparisons are paired t
tests over the seeds that both sides have, corrected by Holm's step-down method (Scandinavian
Journal of Statistics 6, 1979). Vectorised: a full grid has 15 000 cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95

#: Of adjusted p values.
SIGNIFICANT = 0.05

#: Two accuracies closer than this are equal: below one image in a billion, above rounding.
TINY = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of values that differ by seed alone."""

    n: int
    mean: float  #: NaN where n is 0
    sd: float  #: sample SD; NaN where n < 2
    half: float  #: half width of the 95 % t interval; NaN where n < 2

    def text(self, *, percent: bool = True, digits: int = 1) -> str:
        """`97.2 ± 0.4`, `97.2` for one value, an en dash for none. Of a percentage, an interval
        that leaves nothing out is `± >100`."""
        if self.n == 0 or math.isnan(self.mean):
            return "–"
        scale = 100 if percent else 1
        mean = f"{scale * self.mean:.{digits}f}"
        if math.isnan(self.half):
            return mean
        return (
            f"{mean} ± >100"
            if percent and self.half > 1
            else (f"{mean} ± {scale * self.half:.{digits}f}")
        )


def signed(fraction: float, digits: int = 1) -> str:
    """A difference of accuracies in points: `+1.3`, `−0.4`, `0.0`, with a true minus sign."""
    text = f"{100 * fraction:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, sample SD and 95 % t interval; missing values (NaN) do not count."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    mean = math.fsum(known) / n if n else math.nan
    sd = math.sqrt(math.fsum((known - mean) ** 2) / (n - 1)) if n > 1 else math.nan
    half = float(half_width(np.array([float(n)]), np.array([sd]))[0])
    return Estimate(n=n, mean=mean, sd=sd, half=half)


def half_width(n: Floats, sd: Floats) -> Floats:
    """Of the t interval around a mean of `n` values; NaN where n < 2."""
    n = np.asarray(n, dtype=float)
    quantile = stats.t.ppf((1 + LEVEL) / 2, np.where(n > 1, n - 1, np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(quantile * np.asarray(sd, dtype=float) / np.sqrt(n), dtype=float)


def over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """One row per group: its `by`, then n, mean, sd, half, low, high of `value`. Missing values
    do not count; a group of missing values alone has n = 0."""
    grouped = frame.groupby(by, sort=True, observed=True)[value]
    out = grouped.agg(n="count", mean="mean", sd="std").reset_index()
    out["half"] = half_width(out["n"].to_numpy(float), out["sd"].to_numpy(float))
    out["low"], out["high"] = out["mean"] - out["half"], out["mean"] + out["half"]
    return out


def paired_p(n: Floats, mean: Floats, sd: Floats) -> Floats:
    """Two-sided p of a paired t test from its differences' n, mean and sample SD.

    NaN where nothing can be tested: fewer than two pairs, or differences that are all the same
    and not zero (with two seeds and 100 images that happens by chance, and t would be infinite).
    """
    n, mean, sd = (np.asarray(a, dtype=float) for a in (n, mean, sd))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean / (sd / np.sqrt(n))
        p = 2 * stats.t.sf(np.abs(t), np.where(n > 1, n - 1, np.nan))
    flat = sd < TINY
    p = np.where(flat & (np.abs(mean) < TINY), 1.0, np.where(flat, np.nan, p))
    return np.asarray(np.where(n > 1, p, np.nan), dtype=float)


def welch_half(a: pd.DataFrame, b: pd.DataFrame) -> Floats:
    """Half width of the 95 % interval of mean(a) - mean(b), seeds not paired: Welch's t with
    Satterthwaite's degrees of freedom. `a` and `b` have columns n and sd, row by row."""
    parts = [(f["n"].to_numpy(float), f["sd"].to_numpy(float)) for f in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = [sd**2 / n for n, sd in parts]
        total = errors[0] + errors[1]
        freedom = total**2 / sum(e**2 / (n - 1) for e, (n, _) in zip(errors, parts, strict=True))
        freedom = np.where(total > 0, freedom, 1.0)
        half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(total)
    enough = (parts[0][0] > 1) & (parts[1][0] > 1)
    return np.asarray(np.where(enough, half, np.nan), dtype=float)


def holm(p: Floats) -> Floats:
    """Adjusted p values of one family; NaN is no test and does not count."""
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return out
