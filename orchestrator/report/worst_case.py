"""The worst case over attacks at their k-th eps (`report/eps_levels.py`): of an adversary who picks
one attack for all images, and of one who picks an attack for each image. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes, Standing
from prunegrid.orchestrator.report.results import PLACE, SETTING, Results, groups, records
from prunegrid.orchestrator.report.statistics import accuracy_over_seeds


def worst_table(results: Results) -> pd.DataFrame:
    """Per PLACE, protocol and strength: robust accuracy under the strongest attack.

    A seed's worst case is the least of its accuracies. A seed that lacks an attack does not count.
    """
    ranked = with_counterparts(results.cells)
    by = [*PLACE, "protocol", "seed", "strength"]
    attacks = ranked.groupby([*SETTING, "protocol", "strength"])["attack"].transform("nunique")
    parts = ranked.assign(attacks=attacks).groupby(by, sort=True)
    worst = parts.agg(
        accuracy=("robust_accuracy", "min"), run=("attack", "nunique"), wanted=("attacks", "max")
    ).reset_index()
    worst.loc[worst["run"] < worst["wanted"], "accuracy"] = np.nan
    return accuracy_over_seeds(worst, [*PLACE, "protocol", "strength"], "accuracy")


_COLUMNS = [*PLACE, "protocol", "strength", "attacks", "n", "mean", "sd", "half", "low", "high"]


def worst_per_image(results: Results, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per PLACE, protocol and strength: `attacks` (joined by "+"), and n, mean, sd, half, low,
    high over seeds of the share of images that stay correct under every one of them.

    An attack takes part if any model of a setting and protocol has its image rows; with fewer
    than two such attacks there is no row. A model counts where all of them have image rows (an
    attack skipped for low clean accuracy breaks every image).
    """
    parts = []
    for place, cells in groups(with_counterparts(results.cells), [*SETTING, "protocol"]):
        rows = list(records(cells))
        stands = [outcomes.of(cell) for cell in rows]
        seen = {cell.attack for cell, s in zip(rows, stands, strict=True) if s is not None}
        if len(seen) < 2:
            continue
        by_model: dict[tuple[object, ...], dict[str, Standing | None]] = {}
        for cell, standing in zip(rows, stands, strict=True):
            if cell.attack in seen:
                key = (cell.method, cell.rate, cell.seed, cell.strength)
                by_model.setdefault(key, {})[cell.attack] = (
                    _NOTHING if standing is None and _skipped(cell) else standing
                )
        found = [(*key, _share(mine, len(seen))) for key, mine in by_model.items()]
        frame = pd.DataFrame(found, columns=["method", "rate", "seed", "strength", "value"])
        over = accuracy_over_seeds(frame, ["method", "rate", "strength"], "value")
        over = over.assign(protocol=place[3], attacks="+".join(sorted(seen)))
        parts.append(over.assign(**dict(zip(SETTING, place[:3], strict=True))))
    out = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_COLUMNS)
    return out[_COLUMNS]


_NOTHING = Standing(np.empty(0, np.int64), np.empty(0))


def _skipped(cell: Any) -> bool:
    return bool(cell.n_skipped > 0 and cell.robust_accuracy == 0)


def _share(mine: Mapping[str, Standing | None], attacks: int) -> float:
    """Of images that stand against all; NaN where an attack, or an image of one, is missing."""
    known = [standing for standing in mine.values() if standing is not None]
    if len(known) < attacks:
        return np.nan
    if any(standing is _NOTHING for standing in known):
        return 0.0
    first = known[0].images
    if any(not np.array_equal(first, standing.images) for standing in known):
        return np.nan
    return float(np.min([standing.robust for standing in known], axis=0).mean())
