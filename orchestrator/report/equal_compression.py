"""Methods beside each other at equal compression, effective or in theoretical speed-up. Pure.

Nominal rates differ from effective ones by up to a factor of ten between methods. Here a method is
a curve over its own compression (the mean over seeds); between two of its rates its accuracy is
interpolated linearly in the logarithm of the compression, seed by seed and image by image, never
beyond its last rate. Differences are paired by seed. No interval covers what a straight line
between two rates misses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import attack_title
from prunegrid.orchestrator.report.crossed import crossed_t
from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.image_outcomes import (
    ImageOutcomes,
    Standing,
    mean_standing,
    paired_differences,
)
from prunegrid.orchestrator.report.moderated import false_discovery, moderated_t
from prunegrid.orchestrator.report.results import (
    SETTING,
    Results,
    Setting,
    Threat,
    groups,
    records,
    threats,
)
from prunegrid.orchestrator.report.statistics import (
    Floats,
    estimate,
    holm,
    paired_p,
)
from prunegrid.orchestrator.report.strategies import count_rivals
from prunegrid.orchestrator.report.tables import DENSE, pruned_nothing, seed_averages

#: What measures compression: columns of `clean_table`.
AXES = ("effective_rate", "speedup")

#: The `attack` of clean accuracy, on the whole test split.
CLEAN = "clean"

#: Two compressions that differ by less than this share are one place.
SAME = 1e-3

#: So far beyond its last rate a curve is taken to reach: rounding to whole units.
NEAR_END = 0.02


class Judged(NamedTuple):
    """What is compared: clean accuracy, one threat, or a mean over threats."""

    attack: str  #: CLEAN; "": all attacks
    norm: str
    eps: float | None  #: None: the mean over the attack's levels

    @property
    def title(self) -> str:
        if self.attack == CLEAN:
            return "clean, whole test split"
        if self.eps is not None:
            return Threat(self.attack, self.norm, self.eps).title
        return f"{attack_title(self.attack)}, mean over ε" if self.attack else "mean over attacks"


class _Point(NamedTuple):
    """A place on a method's curve: `weight` of the rate `high`, the rest of `low`."""

    low: float
    high: float
    weight: float


_Values = dict[int, float]  # by seed


class _Curves:
    """All methods of one setting and protocol along one axis."""

    def __init__(
        self, cells: pd.DataFrame, models: pd.DataFrame, clean: pd.DataFrame, axis: str
    ) -> None:
        known = clean[~pruned_nothing(clean) & (clean[axis] > 0)].sort_values(axis)
        self.x: dict[str, dict[float, float]] = {}  #: of each method: compression by rate
        for method, rate, x in records(known[["method", "rate", axis]]):
            mine = self.x.setdefault(method, {})
            if not mine or x > max(mine.values()) * (1 + SAME):
                mine[rate] = x
        self.x = {method: mine for method, mine in self.x.items() if len(mine) > 1}
        self._scores = dict(_scores(cells, models))
        self.judged = list(self._scores)
        self._cells = {(c.method, c.rate, int(c.seed), c.attack, c.eps): c for c in records(cells)}
        ranked = with_counterparts(cells)
        self._levels = threats(ranked)

    def place(self, method: str, x: float) -> _Point | None:
        """None beyond the method's first or last rate."""
        rates = list(self.x[method])
        logs = np.log([self.x[method][rate] for rate in rates])
        at = math.log(x)
        if at < logs[0] - SAME or at > logs[-1] + NEAR_END:
            return None
        high = int(np.clip(np.searchsorted(logs, at), 1, len(logs) - 1))
        weight = (at - logs[high - 1]) / (logs[high] - logs[high - 1])
        return _Point(rates[high - 1], rates[high], float(np.clip(weight, 0, 1)))

    def values(self, judged: Judged, method: str, x: float) -> _Values:
        """Accuracy by seed; a seed that lacks a cell at either rate is left out."""
        place = self.place(method, x)
        if place is None:
            return {}
        mine = self._scores[judged]
        low, high = (mine.get((method, rate), {}) for rate in (place.low, place.high))
        if place.weight in (0, 1):
            return dict(high if place.weight else low)
        return {
            seed: (1 - place.weight) * low[seed] + place.weight * high[seed]
            for seed in sorted(set(low) & set(high))
        }

    def dense(self, judged: Judged, method: str) -> _Values:
        return self._scores[judged].get((method, DENSE), {})

    def standings(
        self, judged: Judged, method: str, x: float, outcomes: ImageOutcomes
    ) -> dict[int, Standing | None]:
        """As `values`, image by image."""
        place = self.place(method, x)
        if place is None or judged.attack == CLEAN:
            return {}
        wanted = [t for t in self._levels if judged.attack in ("", t.attack)]
        if judged.eps is not None:
            wanted = [Threat(judged.attack, judged.norm, judged.eps)]
        out: dict[int, Standing | None] = {}
        for seed in self.values(judged, method, x):
            sides = []
            for rate, weight in ((place.low, 1 - place.weight), (place.high, place.weight)):
                if weight:
                    cells = [self._cells[method, rate, seed, t.attack, t.eps] for t in wanted]
                    sides.append((weight, mean_standing(outcomes.of(cell) for cell in cells)))
            out[seed] = _mixed(sides)
        return out


def _mixed(sides: Sequence[tuple[float, Standing | None]]) -> Standing | None:
    known = [(weight, side) for weight, side in sides if side is not None]
    if len(known) < len(sides):
        return None
    images = known[0][1].images
    if any(not np.array_equal(images, side.images) for _, side in known):
        return None
    return Standing(images, np.sum([weight * side.robust for weight, side in known], axis=0))


def _scores(
    cells: pd.DataFrame, models: pd.DataFrame
) -> Iterator[tuple[Judged, dict[tuple[str, float], _Values]]]:
    """Of all that is judged: accuracy by method and rate, and seed."""
    ranked = with_counterparts(cells)
    yield Judged(CLEAN, "", None), _by_model(models, "accuracy")
    yield Judged("", "", None), _by_model(seed_averages(ranked), "score")
    single = threats(cells)
    for attack, norm in dict.fromkeys((t.attack, t.norm) for t in single):
        mine = ranked[ranked["attack"] == attack]
        yield Judged(attack, norm, None), _by_model(seed_averages(mine), "score")
    for t in single:
        mine = cells[(cells["attack"] == t.attack) & (cells["eps"] == t.eps)]
        yield Judged(t.attack, t.norm, t.eps), _by_model(mine, "robust_accuracy")


def _by_model(frame: pd.DataFrame, value: str) -> dict[tuple[str, float], _Values]:
    out: dict[tuple[str, float], _Values] = defaultdict(dict)
    known = frame[["method", "rate", "seed", value]].dropna()
    for method, rate, seed, accuracy in records(known):
        out[method, float(rate)][int(seed)] = float(accuracy)
    return dict(out)


def _all_curves(results: Results, clean: pd.DataFrame) -> Iterator[tuple[dict[str, Any], _Curves]]:
    """(setting, protocol and axis as columns, curves) of all that have two methods to compare."""
    for place, cells in groups(results.cells, [*SETTING, "protocol"]):
        setting = Setting(*map(str, place[:3]))
        for axis in AXES:
            curves = _Curves(cells, setting.rows(results.models), setting.rows(clean), axis)
            names = dict(zip([*SETTING, "protocol", "axis"], [*place, axis], strict=True))
            yield names, curves


_BEST = [*SETTING, "protocol", "axis", "x", "attack", "norm", "method", "low_rate", "high_rate"]
_BEST += ["n", "mean", "sd", "half", "low", "high", "margin", "margin_n", "margin_sd"]
_BEST += ["margin_half", "second", "lead", "lead_half", "rivals", "candidates"]


def best_at_equal(results: Results, clean: pd.DataFrame) -> pd.DataFrame:
    """The best method at each compression, on average over all attacks and over each one's levels.

    A row per setting, protocol, `axis`, compression `x` and `attack` ("": all, CLEAN): `method`,
    the nominal rates between which it lies (`low_rate`, `high_rate`), n, mean, sd, half, low, high
    over seeds; the `margin` to its unpruned models; `second`, the next best, and the `lead` over
    it; `rivals` and `candidates` as in `Strategy`. `x`: the grid's rates, and the highest
    compression that every method reaches. A method that prunes nothing is left out.
    """
    rows = []
    for names, curves in _all_curves(results, clean):
        for x in _targets(curves):
            for judged in curves.judged:
                if judged.eps is None and (row := _best(curves, judged, x)):
                    rows.append(names | {"x": x, "attack": judged.attack} | row)
    return pd.DataFrame(rows, columns=_BEST).astype({"x": float})


def _targets(curves: _Curves) -> list[float]:
    if len(curves.x) < 2:
        return []
    reached = [max(by_rate.values()) for by_rate in curves.x.values()]
    nominal = {rate for by_rate in curves.x.values() for rate in by_rate if rate > DENSE}
    found: list[float] = []
    for x in sorted({*nominal, min(reached)}):
        new = not found or x > found[-1] * (1 + NEAR_END)
        if new and x > 1 + SAME:
            found.append(x)
    return found


def _best(curves: _Curves, judged: Judged, x: float) -> dict[str, object] | None:
    by_method = {method: curves.values(judged, method, x) for method in curves.x}
    most = max(map(len, by_method.values()))
    whole = {method: v for method, v in by_method.items() if len(v) == most > 0}
    if len(whole) < 2:
        return None
    seeds = sorted({seed for values in whole.values() for seed in values})
    scores = np.array([[v.get(seed, np.nan) for seed in seeds] for v in whole.values()])
    order = np.argsort(-np.nanmean(scores, axis=1), kind="stable")
    best, second = int(order[0]), int(order[1])
    methods = list(whole)
    method = methods[best]
    found = estimate(scores[best].tolist())
    dense = curves.dense(judged, method)
    margin = estimate([v - dense[s] for s, v in whole[method].items() if s in dense])
    lead = estimate((scores[best] - scores[second]).tolist())
    place = curves.place(method, x)
    assert place is not None
    return {
        "norm": judged.norm,
        "method": method,
        "low_rate": place.low if place.weight < 1 else place.high,
        "high_rate": place.high if place.weight else place.low,
        **{name: getattr(found, name) for name in ("n", "mean", "sd", "half", "low", "high")},
        "margin": margin.mean,
        **{f"margin_{name}": getattr(margin, name) for name in ("n", "sd", "half")},
        "second": methods[second],
        "lead": lead.mean,
        "lead_half": lead.half,
        "rivals": count_rivals(scores, best, order[1:]),
        "candidates": len(methods),
    }


_CONTRAST = [*SETTING, "protocol", "axis", "x", "at", "a", "b", "attack", "norm", "eps", "title"]
_CONTRAST += ["n", "mean_a", "mean_b", "difference", "sd", "half", "p", "images", "crossed_half"]
_TESTS = ("p", "p_moderated", "p_crossed")


def contrast_table(
    results: Results, clean: pd.DataFrame, outcomes: ImageOutcomes, a: str, b: str
) -> pd.DataFrame:
    """Method `a` less method `b` wherever their compressions meet: at each rate of either (`at`
    names it) that lies within the other's. A row per setting, protocol, `axis`, `x` and what is
    judged (`title`).

    Over seeds that both have: n, `mean_a`, `mean_b`, `difference`, sd, half, and p of a paired t
    test; `p_moderated`; over seeds and `images`, `crossed_half` and `p_crossed`. Each p with
    `_holm` and `_fdr`, corrected over all rows of a setting, protocol and axis.
    """
    parts = []
    for names, curves in _all_curves(results, clean):
        if a not in curves.x or b not in curves.x:
            continue
        rows, images = [], []
        for x, at in _meetings(curves, a, b):
            for judged in curves.judged:
                ours, theirs = (curves.values(judged, method, x) for method in (a, b))
                seeds = sorted(set(ours) & set(theirs))
                if not seeds:
                    continue
                d = estimate([ours[s] - theirs[s] for s in seeds])
                means = [float(np.mean([side[s] for s in seeds])) for side in (ours, theirs)]
                what = (judged.attack, judged.norm, judged.eps, judged.title)
                rows.append((x, at, a, b, *what, d.n, *means, d.mean, d.sd, d.half))
                sides = [curves.standings(judged, m, x, outcomes) for m in (a, b)]
                images.append(paired_differences(sides[0], sides[1]))
        if rows:
            parts.append(_tested(rows, images).assign(**names))
    out = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    more = [f"{p}{end}" for p in _TESTS for end in ("", "_holm", "_fdr") if p + end != "p"]
    return out.reindex(columns=[*_CONTRAST, *more])


def _meetings(curves: _Curves, a: str, b: str) -> list[tuple[float, str]]:
    """(compression, whose rate it is) of every rate of one that the other reaches."""
    found: list[tuple[float, str]] = []
    places = [
        (x, f"{method} at rate {rate:g}")
        for method, other in ((a, b), (b, a))
        for rate, x in curves.x[method].items()
        if rate > DENSE and curves.place(other, x)
    ]
    for x, at in sorted(places):
        if found and x <= found[-1][0] * (1 + SAME):
            found[-1] = (found[-1][0], f"{found[-1][1]}, {at}")
        else:
            found.append((x, at))
    return found


def _tested(rows: Sequence[tuple[Any, ...]], images: Sequence[Floats | None]) -> pd.DataFrame:
    columns = ["x", "at", "a", "b", "attack", "norm", "eps", "title"]
    columns += ["n", "mean_a", "mean_b", "difference", "sd", "half"]
    frame = pd.DataFrame(rows, columns=columns).astype({"eps": float})
    n, mean, sd = (frame[c].to_numpy(float) for c in ("n", "difference", "sd"))
    crossed = crossed_t(images)
    tests = {
        "p": paired_p(n, mean, sd),
        "p_moderated": moderated_t(n, mean, sd).p,
        "p_crossed": crossed.p,
    }
    frame["images"] = [np.nan if d is None else d.shape[1] for d in images]
    frame["crossed_half"] = crossed.half
    for name, p in tests.items():
        frame[name], frame[f"{name}_holm"] = p, holm(p)
        frame[f"{name}_fdr"] = false_discovery(p)
    return frame
