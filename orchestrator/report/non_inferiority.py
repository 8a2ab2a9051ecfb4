"""How far one may prune: the most compressed model that is shown to lose little. Pure.

A model is non-inferior if clean accuracy and robustness both lose less than TOLERANCE against the
unpruned models of its own chains: one-sided paired t tests over seeds against that loss. Both must
pass, so the larger p value decides. Holm corrects over all candidates of an assumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.results import SETTING, Results, Setting, groups, threats
from prunegrid.orchestrator.report.statistics import (
    SIGNIFICANT,
    Estimate,
    Floats,
    holm,
    over_seeds,
    untestable,
)
from prunegrid.orchestrator.report.strategies import AVERAGE, WORST_ATTACK
from prunegrid.orchestrator.report.tables import (
    model_name,
    paired_margins,
    pruned_nothing,
    seed_averages,
)

#: A loss that one may accept, of clean accuracy and of robustness: two points.
TOLERANCE = 0.02

_PAIR = ["method", "rate"]


@dataclass(frozen=True, kw_only=True)
class NonInferiorModel:
    """A pruned model beside the unpruned models of its own chains."""

    method: str
    rate: float
    effective_rate: float
    speedup: float  #: NaN where it is not recorded
    clean: Estimate  #: margins, fractions
    robust: Estimate
    p_holm: float  #: that it loses TOLERANCE or more; NaN: can't be tested

    @property
    def name(self) -> str:
        return model_name(self.method, self.rate, self.effective_rate)


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """How far one may prune under one assumption about the adversary."""

    setting: Setting
    protocol: str
    attack: str  #: "" where it is unknown
    criterion: str  #: AVERAGE or WORST_ATTACK
    shown: NonInferiorModel | None  #: the most compressed that the tests pass
    by_means: NonInferiorModel | None  #: the most compressed whose mean losses are below TOLERANCE

    @property
    def models(self) -> list[tuple[str, float] | None]:
        """Method and rate of either."""
        return [(m.method, m.rate) if m else None for m in (self.shown, self.by_means)]


def margin_rows(results: Results, clean: pd.DataFrame) -> pd.DataFrame:
    """A row per setting, protocol, assumption (`attack`, "" for all, and `criterion`), method and
    rate above 1: `clean_*` and `robust_*` margins (n, mean, sd, half), `p`, `p_holm`,
    `effective_rate`, `speedup`. A seed that lacks a cell of the assumption does not count."""
    parts = []
    for place, cells in groups(with_counterparts(results.cells), [*SETTING, "protocol"]):
        setting = Setting(*map(str, place[:3]))
        models = setting.rows(results.models)
        own = over_seeds(paired_margins(models, _PAIR, "accuracy"), _PAIR, "margin")
        compression = setting.rows(clean)[[*_PAIR, "effective_rate", "speedup"]]
        for attack, criterion, scores in _assumptions(cells):
            robust = over_seeds(paired_margins(scores, _PAIR, "score"), _PAIR, "margin")
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
    yield "", AVERAGE, seed_averages(cells)
    attacks = list(dict.fromkeys(t.attack for t in threats(cells)))
    if len(attacks) > 1:
        yield "", WORST_ATTACK, _worst(cells, len(attacks))
        for attack in attacks:
            yield attack, AVERAGE, seed_averages(cells[cells["attack"] == attack])


def _worst(cells: pd.DataFrame, attacks: int) -> pd.DataFrame:
    by = [*_PAIR, "seed", "strength"]
    levels = cells.groupby(by)["robust_accuracy"].agg(["min", "count"])
    levels = levels[levels["count"] == attacks].reset_index()
    parts = levels.groupby([*_PAIR, "seed"])["min"].agg(["mean", "count"])
    wanted = cells["strength"].nunique()
    return parts.loc[parts["count"] == wanted, "mean"].rename("score").reset_index()


def _loses(both: pd.DataFrame, end: str) -> Floats:
    """One-sided p of losing TOLERANCE or more; NaN where it is untestable."""
    n, mean, sd = (both[f"{v}{end}"].to_numpy(float) for v in ("n", "mean", "sd"))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (mean + TOLERANCE) / (sd / np.sqrt(n))
        p = stats.t.sf(t, np.where(n > 1, n - 1, np.nan))
    return np.where(untestable(n, sd), np.nan, p)


def non_inferiority(margins: pd.DataFrame) -> list[NonInferiority]:
    """Of `margin_rows`, one for each assumption. Of equally compressed models the more robust one
    is taken."""
    out = []
    keys = [*SETTING, "protocol", "attack", "criterion"]
    for place, part in margins.groupby(keys, sort=False):
        *setting, protocol, attack, criterion = map(str, place)
        order = part.sort_values(["effective_rate", "robust_mean"], ascending=False)
        kept = order.dropna(subset=["robust_mean", "clean_mean", "effective_rate"])
        kept = kept[~pruned_nothing(kept)]
        small = (kept[["robust_mean", "clean_mean"]] >= -TOLERANCE).all(axis=1)
        out.append(
            NonInferiority(
                setting=Setting(*setting),
                protocol=protocol,
                attack=attack,
                criterion=criterion,
                shown=_first(kept[kept["p_holm"] < SIGNIFICANT]),
                by_means=_first(kept[small]),
            )
        )
    return out


def _first(rows: pd.DataFrame) -> NonInferiorModel | None:
    if rows.empty:
        return None
    row = rows.iloc[0]
    clean, robust = (
        Estimate(
            n=int(row[f"{k}_n"]), **{v: float(row[f"{k}_{v}"]) for v in ("mean", "sd", "half")}
        )
        for k in ("clean", "robust")
    )
    return NonInferiorModel(
        method=str(row["method"]),
        rate=float(row["rate"]),
        effective_rate=float(row["effective_rate"]),
        speedup=float(row["speedup"]),
        clean=clean,
        robust=robust,
        p_holm=float(row["p_holm"]),
    )
