"""Signs of masked gradients that only show across cells. Pure.

A stronger adversary must win more images (Carlini et al., On Evaluating Adversarial Robustness,
2019, section 3.2 on sanity checks). Where robust accuracy hardly falls from an attack's weakest to
its strongest eps although the unpruned models lose most of theirs, the attack has more likely
failed than the model withstood it. Such a curve must not win a recommendation unremarked.
"""

from __future__ import annotations

import pandas as pd

from orchestrator.report.results import PLACE, SETTING
from orchestrator.report.tables import DENSE

#: Share of the robust accuracy at the weakest eps that is left at the strongest one.
FLAT = 0.8  #: from here on a pruned model's curve is flat
FALLEN = 0.6  #: up to here the unpruned models' curve falls

#: Robust accuracy at the weakest eps below which a curve says nothing: near chance level.
LEAST_ACCURACY = 0.15


def flat_curves(cells: pd.DataFrame) -> pd.DataFrame:
    """Of `cell_table`: PLACE, protocol, attack, `weakest` and `strongest` (mean robust accuracies)
    of every suspiciously flat curve."""
    by = [*PLACE, "protocol", "attack"]
    known = cells.dropna(subset="mean").sort_values("eps")
    ends = known.groupby(by, sort=True)["mean"].agg(weakest="first", strongest="last", eps="count")
    out = ends[ends["eps"] > 1].drop(columns="eps").reset_index()
    of_setting = [*SETTING, "protocol", "attack"]
    dense = out[out["rate"] == DENSE].groupby(of_setting)[["weakest", "strongest"]].mean()
    dense["dense_left"] = dense["strongest"] / dense["weakest"]
    out = out.merge(dense[["dense_left"]].reset_index(), on=of_setting)
    flat = (out["strongest"] >= FLAT * out["weakest"]) & (out["weakest"] >= LEAST_ACCURACY)
    suspicious = flat & (out["dense_left"] <= FALLEN) & (out["rate"] != DENSE)
    return out.loc[suspicious, [*by, "weakest", "strongest"]].reset_index(drop=True)
