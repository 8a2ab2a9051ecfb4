"""Sweet spots: pruned models at least as accurate and as robust as the dense one (paper, section
4). Pure.

Means decide what is a sweet spot, as in the paper; a paired t test over seeds, corrected for all
comparisons of a setting and protocol (Holm), says which differences are more than seeds' noise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.results import PLACE, SETTING
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, TINY
from prunegrid.orchestrator.report.strategies import AVERAGE
from prunegrid.orchestrator.report.tables import DENSE, pruned_nothing

_MARGIN = ["margin", "margin_n", "margin_sd", "margin_half"]

#: Margins of `sweet_models`.
_NAMES = ("clean", "least", "mean")

BETTER, AS_GOOD, LOWER, WORSE, UNKNOWN = (
    "better",  # shown: p_holm below 5 %
    "as good",  # the mean is not lower; no difference is shown
    "lower",  # the mean is lower; no difference is shown
    "worse",  # shown
    "unknown",  # no dense model of the same seed
)


def sweet_cells(clean: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` (of `cell_table`) of pruned models, with `clean_margin`, `clean_margin_n`,
    `clean_margin_sd`, `clean_margin_half` (of `clean_table`),
    `verdict` (one of those above) and `sweet`: neither accuracy's mean is below the dense."""
    pruned = cells[cells["rate"] != DENSE]
    out = pruned.merge(
        clean[[*PLACE, *_MARGIN, "effective_rate"]].rename(
            columns={name: f"clean_{name}" for name in _MARGIN}
        ),
        on=PLACE,
        how="left",
    )
    margin, p = out["margin"].to_numpy(float), out["p_holm"].to_numpy(float)
    out["verdict"] = np.select(
        [np.isnan(margin), (p < SIGNIFICANT) & (margin > 0), (p < SIGNIFICANT), margin >= -TINY],
        [UNKNOWN, BETTER, WORSE, AS_GOOD],
        LOWER,
    )
    out["sweet"] = (margin >= -TINY) & (out["clean_margin"].to_numpy(float) >= -TINY)
    return out[~pruned_nothing(out)].reset_index(drop=True)


def sweet_models(sweet: pd.DataFrame, margins: pd.DataFrame) -> pd.DataFrame:
    """Per PLACE and protocol: `cells`, `sweet` cells, `better` and `worse` ones (shown), three
    margins with their `_n`, `_sd` and `_half`: `clean`, the `least` one with its threat, and the
    `mean` one over eps levels (of `non_inferiority.margin_rows`); `complete`: every threat that the
    setting has under this protocol has a result; `whole`: a sweet spot in every cell."""
    by = [*PLACE, "protocol"]
    if sweet.empty:
        values = [f"{name}{end}" for name in _NAMES for end in ("", "_n", "_sd", "_half")]
        counts = ["cells", "wanted", "sweet", "better", "worse", "effective_rate"]
        threat = ["least_attack", "least_norm", "least_eps"]
        return pd.DataFrame(columns=[*by, *counts, *values, *threat, "complete", "whole"])
    threats = sweet.assign(threat=sweet["attack"] + " " + sweet["eps"].map(repr))
    wanted = threats.groupby([*SETTING, "protocol"])["threat"].transform("nunique")
    threats = threats.assign(
        wanted=wanted,
        is_better=threats["verdict"] == BETTER,
        is_worse=threats["verdict"] == WORSE,
    )
    grouped = threats.groupby(by, sort=True)
    of_clean = {name: f"clean{name.removeprefix('margin')}" for name in _MARGIN}
    out = grouped.agg(
        cells=("margin", "count"),
        wanted=("wanted", "max"),
        sweet=("sweet", "sum"),
        better=("is_better", "sum"),
        worse=("is_worse", "sum"),
        effective_rate=("effective_rate", "first"),
        **{to: (f"clean_{name}", "first") for name, to in of_clean.items()},
    ).reset_index()
    known = threats.dropna(subset="margin")
    lowest = known.loc[known.groupby(by)["margin"].idxmin()]
    names = {name: f"least{name.removeprefix('margin')}" for name in _MARGIN}
    names |= {name: f"least_{name}" for name in ("attack", "norm", "eps")}
    out = out.merge(lowest[[*by, *names]].rename(columns=names), on=by, how="left")
    average = margins[(margins["attack"] == "") & (margins["criterion"] == AVERAGE)]
    names = {f"robust_{v}": f"mean_{v}" for v in ("n", "sd", "half")} | {"robust_mean": "mean"}
    known = average.reindex(columns=[*by, *names]).rename(columns=names)
    # Without any row `known` has no types to merge by: its columns are NaN.
    empty = dict.fromkeys(names.values(), np.nan)
    out = out.merge(known, on=by, how="left") if len(known) else out.assign(**empty)
    out["complete"] = out["cells"] == out["wanted"]
    out["whole"] = out["complete"] & (out["sweet"] == out["wanted"])
    return out
