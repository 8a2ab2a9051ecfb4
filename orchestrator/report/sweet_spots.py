"""Sweet spots: pruned models at least as accurate and as robust as the dense one (paper, section
4). Pure.

Means decide what is a sweet spot, as in the paper; a paired t test over seeds, corrected for all
comparisons of a setting and protocol (Holm), says which differences are more than seeds' noise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from orchestrator.report.results import PLACE, SETTING
from orchestrator.report.statistics import TINY
from orchestrator.report.tables import DENSE

#: Of adjusted p values.
SIGNIFICANT = 0.05

BETTER, AS_GOOD, LOWER, WORSE, UNKNOWN = (
    "better",  # shown: p_holm below 5 %
    "as good",  # the mean is not lower; no difference is shown
    "lower",  # the mean is lower; no difference is shown
    "worse",  # shown
    "unknown",  # no dense model of the same seed
)


def sweet_cells(clean: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` (of `cell_table`) at rates above 1, with `clean_margin` (of `clean_table`),
    `verdict` (one of those above) and `sweet`: neither accuracy's mean is below the dense."""
    pruned = cells[cells["rate"] != DENSE]
    out = pruned.merge(
        clean[[*PLACE, "margin", "effective_rate"]].rename(columns={"margin": "clean_margin"}),
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
    return out


def sweet_models(sweet: pd.DataFrame) -> pd.DataFrame:
    """Per PLACE and protocol: `cells`, `sweet` cells, `better` and `worse` ones (shown), the
    clean margin, the `least` margin with its threat, the mean margin; `complete`: every threat
    that the setting has under this protocol has a result; `whole`: a sweet spot in every cell."""
    by = [*PLACE, "protocol"]
    if sweet.empty:
        return pd.DataFrame(columns=[*by, "cells", "sweet", "better", "worse", "whole"])
    threats = sweet.assign(threat=sweet["attack"] + " " + sweet["eps"].map("{:.6g}".format))
    wanted = threats.groupby([*SETTING, "protocol"])["threat"].transform("nunique")
    threats = threats.assign(
        wanted=wanted,
        is_better=threats["verdict"] == BETTER,
        is_worse=threats["verdict"] == WORSE,
    )
    grouped = threats.groupby(by, sort=True)
    out = grouped.agg(
        cells=("margin", "count"),
        wanted=("wanted", "max"),
        sweet=("sweet", "sum"),
        better=("is_better", "sum"),
        worse=("is_worse", "sum"),
        effective_rate=("effective_rate", "first"),
        clean_margin=("clean_margin", "first"),
        mean_margin=("margin", "mean"),
        n=("margin_n", "min"),
    ).reset_index()
    known = threats.dropna(subset="margin")
    least = known.loc[
        known.groupby(by)["margin"].idxmin(), [*by, "margin", "attack", "norm", "eps"]
    ]
    names = {"margin": "least", "attack": "least_attack", "norm": "least_norm", "eps": "least_eps"}
    out = out.merge(least.rename(columns=names), on=by, how="left")
    out["complete"] = out["cells"] == out["wanted"]
    out["whole"] = out["complete"] & (out["sweet"] == out["wanted"])
    return out
