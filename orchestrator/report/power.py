"""How many seeds and images would show a change of robust accuracy. Pure.

A cell's margin varies by seed, by image and by the draw of both (the crossed model of
`report/crossed.py`). From these three variances follow the variance of a mean over any number of
seeds and images, and the chance that a test calls a true change: the noncentral t distribution.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from prunegrid.orchestrator.grid.grid import CellCoordinates
from prunegrid.orchestrator.report.crossed import MeanSquares, mean_squares, mean_variance
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes, margin_images
from prunegrid.orchestrator.report.moderated import fit_prior
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.statistics import SIGNIFICANT
from prunegrid.orchestrator.report.tables import DENSE

#: Of a test: the chance to call the change that is asked for.
WANTED = 0.8

#: As far as one looks.
MOST_SEEDS, MOST_IMAGES = 100, 10_000

PAIRED, MODERATED, CROSSED = "paired t", "moderated t", "crossed t"
#: What a call of each test is about.
ABOUT = {
    PAIRED: "new seeds, these images",
    MODERATED: "new seeds, these images",
    CROSSED: "new seeds, new images",
}


@dataclass(frozen=True, kw_only=True)
class MarginNoise:
    """Variances of a cell's margin, of accuracies as fractions."""

    seeds: float  #: of the true margin from seed to seed
    images: float  #: of what one side finds harder about an image, with every seed
    rest: float  #: of a single draw
    freedom: float  #: the prior's, of variances over seeds; inf: all are one, 0: no prior
    source: str  #: where they come from

    def text(self) -> str:
        sds = (100 * math.sqrt(v) for v in (self.seeds, self.images, self.rest))
        return "SDs of {:.1f} points over seeds, {:.0f} over images, {:.0f} of a draw".format(*sds)


#: Where no store says it: near the demo's, SDs of 2.1, 11 and 35 points as `prunegrid plan
#: grids/demo.yaml --power 3 --store demo-store` says after `make demo`; the prior's freedom is
#: a guess.
ASSUMED = MarginNoise(seeds=0.02**2, images=0.12**2, rest=0.35**2, freedom=4.0, source="assumed")


def noise_of(results: Results, outcomes: ImageOutcomes) -> MarginNoise | None:
    """From the margins of all pruned cells that have image rows of two seeds or more; None where
    there are none. Mean squares are averaged over cells, the prior is that of their variances."""
    found = [
        mean_squares(d)
        for _, d in margin_images(results.cells, outcomes)
        if d is not None and min(d.shape) > 1
    ]
    if not found:
        return None
    n, m = (np.array([getattr(s, name) for s in found], float) for name in ("seeds", "images"))
    own, each, rest = (
        np.array([getattr(s, name) for s in found]) for name in ("of_seeds", "of_images", "rest")
    )
    prior = fit_prior(own / m, n - 1)
    return MarginNoise(
        seeds=max(0.0, float(((own - rest) / m).mean())),
        images=max(0.0, float(((each - rest) / n).mean())),
        rest=float(rest.mean()),
        freedom=prior.freedom if prior else 0.0,
        source=f"{len(found)} margins of {results.address}",
    )


@dataclass(frozen=True, kw_only=True)
class PoweredTest:
    """One test of one family of cells, and what it takes."""

    architecture: str
    protocol: str
    cells: int  #: of the family
    test: str
    corrected: bool  #: by Holm's method over all cells; else one cell alone, at 5 %
    seeds: int  #: as planned
    images: int
    power: float  #: with these
    seeds_needed: int | None  #: at so many images; None: more than MOST_SEEDS
    images_needed: int | None  #: with so many seeds; None: more than MOST_IMAGES


# Parameters: the noise, the test, the change, and how much of what is measured.
def power_of(
    noise: MarginNoise,
    test: str,
    change: float,
    *,
    seeds: int,
    images: int,
    cells: int,
    level: float,
) -> float:
    """The chance that `test` calls a true `change` (a fraction) at `level`, two-sided; 0 where it
    can't be tested. `cells`: of the family, which share a prior."""
    if seeds < 2 or images < 2:
        return 0.0
    own = seeds - 1.0
    shared = own if test == PAIRED else min(own + noise.freedom, cells * own)
    of_seeds = images * noise.seeds + noise.rest
    if test == CROSSED:
        expected = MeanSquares(
            seeds=seeds,
            images=images,
            mean=change,
            of_seeds=of_seeds,
            of_images=seeds * noise.images + noise.rest,
            rest=noise.rest,
        )
        variance, freedom = mean_variance(expected, of_seeds, shared)
    else:
        variance, freedom = of_seeds / (seeds * images), shared
    if variance <= 0:
        return 1.0
    shift, freedom = abs(change) / math.sqrt(variance), min(freedom, 1e6)
    limit = float(stats.t.isf(level / 2, freedom))
    if freedom > 1e4:
        return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def powered_tests(
    cells: Sequence[CellCoordinates],
    images: Mapping[str, int],
    change: float,
    noise: MarginNoise,
) -> Iterator[PoweredTest]:
    """Of every architecture and protocol of a plan. `images`: attacked ones, by architecture. A
    family is the pruned cells of an architecture and variant under one protocol, seeds aside."""
    frame = pd.DataFrame(
        [
            dataclasses.asdict(c.model) | {"protocol": c.protocol, "attack": c.attack, "eps": c.eps}
            for c in cells
        ]
    )
    if frame.empty:
        return
    for (architecture, protocol), mine in frame.groupby(["architecture", "protocol"], sort=False):
        pruned = mine[mine["rate"] != DENSE].drop(columns="seed").drop_duplicates()
        if pruned.empty:
            continue
        family = int(pruned.groupby("variant").size().max())
        n, m = mine["seed"].nunique(), images[str(architecture)]
        for test, corrected in product((PAIRED, MODERATED, CROSSED), (False, True)):
            at = partial(
                power_of,
                noise,
                test,
                change,
                cells=family,
                level=SIGNIFICANT / (family if corrected else 1),
            )
            yield PoweredTest(
                architecture=str(architecture),
                protocol=str(protocol),
                cells=family,
                test=test,
                corrected=corrected,
                seeds=n,
                images=m,
                power=at(seeds=n, images=m),
                seeds_needed=_least(MOST_SEEDS, partial(at, images=m), "seeds"),
                images_needed=_least(MOST_IMAGES, partial(at, seeds=n), "images"),
            )


def _least(most: int, power: Callable[..., float], name: str) -> int | None:
    """The fewest with which the power is WANTED, which grows with their number; by bisection."""
    if power(**{name: most}) < WANTED:
        return None
    low, high = 1, most  # power is too low with `low`, enough with `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(**{name: middle}) >= WANTED else (middle, high)
    return high
