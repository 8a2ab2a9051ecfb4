"""Signs of masked gradients that show only across cells. Pure.

A stronger adversary must win more images (Carlini et al., On Evaluating Adversarial Robustness,
2019, section 3.2 on sanity checks). Where robust accuracy hardly falls from an attack's weakest to
its strongest eps although the unpruned models lose most of theirs, the attack has more likely
failed than the model withstood it. A recommendation that rests on such a curve is marked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.attack_rows import AttackRows, more_broken
from prunegrid.orchestrator.report.evidence import TaskImages, rows_of
from prunegrid.orchestrator.report.results import PLACE, SETTING, Results, groups, records
from prunegrid.orchestrator.report.tables import DENSE
from prunegrid.orchestrator.store.rows import SCORES_ALONE_STRONGER
from prunegrid.workers.catalog import attack_entry

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
    found: pd.DataFrame = out.loc[suspicious, [*by, "weakest", "strongest"]]
    return found.reset_index(drop=True)


def with_gradient_free(
    results: Results,
    images: Mapping[str, TaskImages],
    more_free: frozenset[str] = frozenset(),
) -> Results:
    """The results with the flag `gradient-free-stronger` added to every cell of a gradient attack
    where, on the same model, under the same protocol and in the same norm, an attack without
    gradients breaks more images at that eps. It takes the image rows of both.

    `more_free`: algorithms without gradients that the catalog does not know.
    """
    cells = results.cells
    free = cells["algorithm"].map(lambda a: a in more_free or _without_gradients(a)).to_numpy(bool)
    if not free.any():
        return results
    flags: list[list[str]] = [_listed(f) for f in cells["flags"]]
    cells = cells.assign(_at=np.arange(len(cells)), _free=free)
    for _, mine in groups(cells, [*PLACE, "seed", "protocol", "norm"]):
        if mine["_free"].all() or not mine["_free"].any():
            continue
        rows: dict[str, AttackRows | None] = {}
        for cell in records(mine.drop_duplicates("attack")):
            rows[cell.attack] = rows_of(images, cell)
        rivals = [r for a in mine.loc[mine["_free"], "attack"].unique() if (r := rows[a])]
        white = mine[~mine["_free"]]
        for place, attack, eps in zip(white["_at"], white["attack"], white["eps"], strict=True):
            own = rows[attack]
            if own is not None and any(more_broken(own, r, float(eps)) for r in rivals):
                flags[place] = list(dict.fromkeys([*flags[place], SCORES_ALONE_STRONGER]))
    flagged = results.cells.assign(flags=pd.Series(flags, index=results.cells.index, dtype=object))
    return dataclasses.replace(results, cells=flagged)


def _without_gradients(algorithm: object) -> bool:
    entry = attack_entry(str(algorithm))
    return entry is not None and not entry.gradients


def _listed(flags: object) -> list[str]:
    return [str(flag) for flag in flags] if isinstance(flags, list | np.ndarray) else []
