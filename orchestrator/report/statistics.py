"""Means over seeds and how sure they are. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of values that differ by seed alone."""

    n: int
    mean: float  #: NaN where n is 0
    sd: float  #: sample SD; NaN where n < 2
    half: float  #: half width of the 95 % t interval; NaN where n < 2

    def text(self, *, percent: bool = True) -> str:
        """`97.2 ± 0.4`, `97.2` for one value, an en dash for none."""
        if self.n == 0:
            return "–"
        scale = 100 if percent else 1
        mean = f"{scale * self.mean:.1f}"
        return mean if math.isnan(self.half) else f"{mean} ± {scale * self.half:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, sample SD and 95 % t interval; missing values (NaN) do not count."""
    known = [float(v) for v in values if not math.isnan(v)]
    n = len(known)
    if n == 0:
        return Estimate(n=0, mean=math.nan, sd=math.nan, half=math.nan)
    mean = math.fsum(known) / n
    if n == 1:
        return Estimate(n=1, mean=mean, sd=math.nan, half=math.nan)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Estimate(n=n, mean=mean, sd=sd, half=half)
