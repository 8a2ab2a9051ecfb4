"""Means over seeds, how sure they are, and tests that know how many they are. Pure.

Intervals are at 95 % over seeds: of differences Student's t, of accuracies Wilson's with Student's
t and the variance over seeds, which stays between 0 and 1. Spreads are sample SDs, comparisons are
paired t tests over the seeds that both sides have, corrected by Holm's step-down method
(Scandinavian Journal of Statistics 6, 1979). Values that are all the same allow neither.
Vectorised: a full grid has 15 000 cells.
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

#: The interval of an accuracy, by name.
INTERVAL = "Wilson's, with Student's t over seeds"

#: What stands for the interval of values that are all the same.
NO_SPREAD = "no spread"

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of values that differ by seed alone."""

    n: int
    mean: float  #: NaN where n is 0
    sd: float  #: sample SD; NaN where n < 2
    half: float  #: half width of the 95 % t interval; NaN where there is none: see `untestable`

    @property
    def low(self) -> float:
        """Of an accuracy: the lower end of its 95 % interval."""
        return float(accuracy_interval(np.array([self.mean]), np.array([self.half]))[0][0])

    @property
    def high(self) -> float:
        return float(accuracy_interval(np.array([self.mean]), np.array([self.half]))[1][0])

    def text(self) -> str:
        """An accuracy in percent: `97.2 (96.7–97.6)`, `97.2` for one value, `97.2 (no spread)`, an
        en dash for none."""
        if self.n == 0 or math.isnan(self.mean):
            return "–"
        interval = interval_text(self.n, self.low, self.high)
        return f"{100 * self.mean:.1f}" + (f" ({interval})" if interval else "")

    def points(self) -> str:
        """A difference of accuracies: `+1.3 ± 0.4 points`."""
        if math.isnan(self.mean):
            return "unknown margin"
        half = "" if math.isnan(self.half) else f" ± {100 * self.half:.1f}"
        end = f" ({NO_SPREAD})" if self.n > 1 and not half else ""
        return f"{signed(self.mean)}{half} points{end}"


def interval_text(n: int, low: float, high: float) -> str:
    """In percent: `96.7–97.6`; "" for one value."""
    if math.isnan(low):
        return NO_SPREAD if n > 1 else ""
    return f"{100 * low:.1f}–{100 * high:.1f}"


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


def untestable(n: Floats, sd: Floats) -> NDArray[np.bool_]:
    """Where values allow no interval and no test: fewer than two, or all the same. With two seeds
    and 100 images that happens by chance, and t would be infinite."""
    with np.errstate(invalid="ignore"):
        return np.asarray(~((n > 1) & (sd > TINY)), dtype=bool)


def half_width(n: Floats, sd: Floats) -> Floats:
    """Of the t interval around a mean of `n` values; NaN where it is untestable."""
    n, sd = np.asarray(n, dtype=float), np.asarray(sd, dtype=float)
    quantile = stats.t.ppf((1 + LEVEL) / 2, np.where(n > 1, n - 1, np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(untestable(n, sd), np.nan, quantile * sd / np.sqrt(n))


def accuracy_interval(mean: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Ends of the 95 % interval of a mean accuracy: the p that are `half` away from it, where half
    grows and shrinks as sqrt(p (1 - p)) does (Wilson, JASA 22, 1927; for other variances than the
    binomial one Kott and Carr, Journal of Official Statistics 13, 1997). NaN where `half` is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = half**2 / (mean * (1 - mean))
    middle, width = (mean + ratio / 2) / (1 + ratio), np.sqrt(half**2 + ratio**2 / 4) / (1 + ratio)
    return middle - width, middle + width


def sampling_half(images: int, accuracy: float = 0.5) -> float:
    """Half width of the 95 % binomial interval of an accuracy on so many random images."""
    return float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(accuracy * (1 - accuracy) / images)


def over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """One row per group: its `by`, then n, mean, sd, half of `value`. Missing values do not count;
    a group of missing values alone has n = 0."""
    grouped = frame.groupby(by, sort=True, observed=True)[value]
    out = grouped.agg(n="count", mean="mean", sd="std").reset_index()
    out["half"] = half_width(out["n"].to_numpy(float), out["sd"].to_numpy(float))
    return out


def accuracy_over_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """`over_seeds` of accuracies, then low and high."""
    out = over_seeds(frame, by, value)
    low, high = accuracy_interval(out["mean"].to_numpy(float), out["half"].to_numpy(float))
    return out.assign(low=low, high=high)


def paired_p(n: Floats, mean: Floats, sd: Floats) -> Floats:
    """Two-sided p of a paired t test from its differences' n, mean and sample SD.

    NaN where it is untestable; 1 where no pair differs at all.
    """
    n, mean, sd = (np.asarray(a, dtype=float) for a in (n, mean, sd))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean / (sd / np.sqrt(n))
        p = 2 * stats.t.sf(np.abs(t), np.where(n > 1, n - 1, np.nan))
        equal = (n > 1) & (sd <= TINY) & (np.abs(mean) < TINY)
    return np.where(equal, 1.0, np.where(untestable(n, sd), np.nan, p))


def welch_half(a: pd.DataFrame, b: pd.DataFrame) -> Floats:
    """Half width of the 95 % interval of mean(a) - mean(b), seeds not paired: Welch's t with
    Satterthwaite's degrees of freedom. `a` and `b` have columns n and sd, row by row."""
    parts = [(f["n"].to_numpy(float), f["sd"].to_numpy(float)) for f in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = [sd**2 / n for n, sd in parts]
        total = errors[0] + errors[1]
        freedom = total**2 / sum(e**2 / (n - 1) for e, (n, _) in zip(errors, parts, strict=True))
        half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(total)
    return np.where(untestable(*parts[0]) | untestable(*parts[1]), np.nan, half)


def holm(p: Floats) -> Floats:
    """Adjusted p values of one family; NaN is no test and does not count."""
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return out
