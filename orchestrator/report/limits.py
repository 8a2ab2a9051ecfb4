"""How far one may prune: the most compressed model that is shown to lose little. Pure.

A model holds where clean accuracy and robustness both lose less than TOLERANCE to the unpruned
models of its own chains: one-sided paired t tests over seeds against that loss (non-inferiority;
both must pass, so the larger p counts), corrected by Holm over all candidates of an assumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from prunegrid.orchestrator.report.ladder import add_strength
from prunegrid.orchestrator.report.results import SETTING, Results, Setting, groups, threats
from prunegrid.orchestrator.report.statistics import (
    SIGNIFICANT,
    TINY,
    Estimate,
    Floats,
    holm,
    over_seeds,
)
from prunegrid.orchestrator.report.strategies import AVERAGE, WORST_ATTACK
from prunegrid.orchestrator.report.tables import DENSE

#: A loss that one may accept, of clean accuracy and of robustness: two points.
TOLERANCE = 0.02

_PAIR = ["method", "rate"]


@dataclass(frozen=True, kw_only=True)
class Tolerable:
    """A pruned model beside the unpruned models of its own chains."""

    method: str
    rate: float
    effective_rate: float
    speedup: float  #: NaN where it is not recorded
    clean: Estimate  #: margins, fractions
    robust: Estimate
    p_holm: float  #: that it loses TOLERANCE or more; NaN: can't be tested


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Of one assumption about the adversary."""

    setting: Setting
    protocol: str
    attack: str  #: "" where it is unknown
    criterion: str  #: AVERAGE or WORST_ATTACK
    shown: Tolerable | None  #: the most compressed that the tests pass
    by_means: Tolerable | None  #: the most compressed whose mean losses are within TOLERANCE

    @property
    def models(self) -> list[tuple[str, float] | None]:
        """Method and rate of either."""
        return [(t.method, t.rate) if t else None for t in (self.shown, self.by_means)]


def margin_rows(results: Results, clean: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, protocol, assumption (`attack`, "" for all, and `criterion`), method and
    rate above 1: `clean_*` and `robust_*` margins (n, mean, sd, half), `p`, `p_holm`,
    `effective_rate`, `speedup`. A seed that lacks a cell of the assumption does not count."""
    ranked = add_strength(results.cells)
    ranked = ranked[ranked["strength"] > 0]
    parts = []
    for place, cells in groups(ranked, [*SETTING, "protocol"]):
        setting = Setting(*map(str, place[:3]))
        models = setting.rows(results.models)
        own = over_seeds(_margins(models, "accuracy"), _PAIR, "margin")
        compression = setting.rows(clean)[[*_PAIR, "effective_rate", "speedup"]]
        for attack, criterion, scores in _assumptions(cells):
            robust = over_seeds(_margins(scores, "score"), _PAIR, "margin")
            both = own.merge(robust, on=_PAIR, suffixes=("_c", "_r"))
            p = np.maximum(_loses(both, "_c"), _loses(both, "_r"))  # NaN stays NaN
            names = {
                f"{v}_{end}": f"{name}_{v}"
                for v in ("n", "mean", "sd", "half")
                for end, name in (("c", "clean"), ("r", "robust"))
            }
            found = both.rename(columns=names)[[*_PAIR, *names.values()]]
            found = found.assign(p=p, p_holm=holm(p)).merge(compression, on=_PAIR, how="left")
            found = found.assign(attack=attack, criterion=criterion, protocol=str(place[3]))
            parts.append(found.assign(**dict(zip(SETTING, setting, strict=True))))
    if not parts:
        return pd.DataFrame(columns=[*SETTING, "protocol", "attack", "criterion", *_PAIR])
    first = [*SETTING, "protocol", "attack", "criterion"]
    out = pd.concat(parts, ignore_index=True)
    return out[[*first, *(name for name in out.columns if name not in first)]]


def _assumptions(cells: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(attack, criterion, method, rate, seed and score)."""
    yield "", AVERAGE, _average(cells)
    attacks = list(dict.fromkeys(t.attack for t in threats(cells)))
    if len(attacks) > 1:
        yield "", WORST_ATTACK, _worst(cells, len(attacks))
        for attack in attacks:
            yield attack, AVERAGE, _average(cells[cells["attack"] == attack])


def _average(cells: pd.DataFrame) -> pd.DataFrame:
    wanted = len(cells[["attack", "eps"]].drop_duplicates())
    parts = cells.groupby([*_PAIR, "seed"])["robust_accuracy"].agg(["mean", "count"])
    return parts.loc[parts["count"] == wanted, "mean"].rename("score").reset_index()


def _worst(cells: pd.DataFrame, attacks: int) -> pd.DataFrame:
    by = [*_PAIR, "seed", "strength"]
    rungs = cells.groupby(by)["robust_accuracy"].agg(["min", "count"])
    rungs = rungs[rungs["count"] == attacks].reset_index()
    parts = rungs.groupby([*_PAIR, "seed"])["min"].agg(["mean", "count"])
    wanted = cells["strength"].nunique()
    return parts.loc[parts["count"] == wanted, "mean"].rename("score").reset_index()


def _margins(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """method, rate, seed and `margin` to the unpruned model of the same method and seed."""
    keys = ["method", "seed"]
    dense = frame.loc[frame["rate"] == DENSE, [*keys, value]].drop_duplicates(keys)
    pruned = frame.loc[frame["rate"] != DENSE, [*keys, "rate", value]]
    both = pruned.merge(dense, on=keys, suffixes=("", "_dense"))
    return both.assign(margin=both[value] - both[f"{value}_dense"])


def _loses(both: pd.DataFrame, end: str) -> Floats:
    """One-sided p of losing TOLERANCE or more; NaN for fewer than two seeds or no spread."""
    n, mean, sd = (both[f"{v}{end}"].to_numpy(float) for v in ("n", "mean", "sd"))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (mean + TOLERANCE) / (sd / np.sqrt(n))
        p = stats.t.sf(t, np.where(n > 1, n - 1, np.nan))
    return np.asarray(np.where(sd > TINY, p, np.nan), dtype=float)


def limits(margins: pd.DataFrame) -> list[Limit]:
    """Of `margin_rows`, one for each assumption; a tie goes to the more robust."""
    out = []
    keys = [*SETTING, "protocol", "attack", "criterion"]
    for place, part in margins.groupby(keys, sort=False):
        *setting, protocol, attack, criterion = map(str, place)
        order = part.sort_values(["effective_rate", "robust_mean"], ascending=False)
        kept = order.dropna(subset=["robust_mean", "clean_mean", "effective_rate"])
        small = (kept[["robust_mean", "clean_mean"]] >= -TOLERANCE).all(axis=1)
        out.append(
            Limit(
                setting=Setting(*setting),
                protocol=protocol,
                attack=attack,
                criterion=criterion,
                shown=_first(kept[kept["p_holm"] < SIGNIFICANT]),
                by_means=_first(kept[small]),
            )
        )
    return out


def _first(rows: pd.DataFrame) -> Tolerable | None:
    if rows.empty:
        return None
    row = rows.iloc[0]
    clean, robust = (
        Estimate(
            n=int(row[f"{k}_n"]), **{v: float(row[f"{k}_{v}"]) for v in ("mean", "sd", "half")}
        )
        for k in ("clean", "robust")
    )
    return Tolerable(
        method=str(row["method"]),
        rate=float(row["rate"]),
        effective_rate=float(row["effective_rate"]),
        speedup=float(row["speedup"]),
        clean=clean,
        robust=robust,
        p_holm=float(row["p_holm"]),
    )
