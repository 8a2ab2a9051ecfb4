"""Clean against robust accuracy where a store has variants: dense and pruned models of every way of
training beside each other, and those that no other one beats in both. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.results import Results, groups, threats
from prunegrid.orchestrator.report.statistics import TINY, accuracy_over_seeds, over_seeds
from prunegrid.orchestrator.report.tables import DENSE, UNPRUNED, seed_averages

#: Of the variant that the others are compared with, where one has such a name.
NATURAL = ("standard", "natural")

_MODEL = ["variant", "method", "rate"]
_PLACE = ["architecture", "dataset", "protocol"]
_VALUES = ("n", "mean", "sd", "half", "low", "high")


def variant_table(results: Results) -> pd.DataFrame:
    """A row per architecture, data set and protocol that have two variants, and per variant,
    method, rate and `attack` ("": all, their mean over ε levels). The dense models of one variant
    are one method, `unpruned`.

    Over seeds: n, mean, sd, half, low, high of robust accuracy, and `clean_` with the same of clean
    accuracy on the whole test split; `change` and `clean_change`, with `_half` and `_n`: the
    differences, paired by seed, to the unpruned models of `reference`, the natural variant;
    `front`: no other model of the rows with this attack has both means higher, or one higher and
    the other equal.
    """
    parts = []
    for place, cells in groups(with_counterparts(results.cells), _PLACE):
        variants = sorted(cells["variant"].unique())
        if len(variants) < 2:
            continue
        same = (results.models["architecture"] == place[0]) & (
            results.models["dataset"] == place[1]
        )
        clean = _pooled(results.models[same & results.models["variant"].isin(variants)], "accuracy")
        reference = next((v for v in NATURAL if v in variants), variants[0])
        attacks = list(dict.fromkeys(t.attack for t in threats(cells)))
        for attack in ["", *attacks]:
            mine = cells if not attack else cells[cells["attack"] == attack]
            scores = [
                seed_averages(rows).assign(variant=variant)
                for (variant,), rows in groups(mine, ["variant"])
            ]
            robust = _pooled(pd.concat(scores), "score")
            found = _summary(robust, "score", reference).merge(
                _summary(clean, "accuracy", reference), on=_MODEL, suffixes=("", "_clean")
            )
            found = found.rename(columns=lambda c: _clean_first(str(c)))
            found = found.assign(attack=attack, reference=reference, front=_front(found))
            parts.append(found.assign(**dict(zip(_PLACE, place, strict=True))))
    first = [*_PLACE, "attack", "reference", *_MODEL]
    if not parts:
        return pd.DataFrame(columns=first)
    out = pd.concat(parts, ignore_index=True)
    return out[[*first, *(c for c in out.columns if c not in first)]]


def _clean_first(column: str) -> str:
    name = column.removesuffix("_clean")
    return column if name == column else f"clean_{name}"


def _pooled(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """One `value` per variant, method, rate and seed; dense models are one method."""
    pooled = frame.assign(method=frame["method"].where(frame["rate"] != DENSE, UNPRUNED))
    return pooled.groupby([*_MODEL, "seed"])[value].mean().reset_index()


def _summary(frame: pd.DataFrame, value: str, reference: str) -> pd.DataFrame:
    """Per model: the accuracy over seeds, and its change against the reference's dense model."""
    base = frame[(frame["variant"] == reference) & (frame["rate"] == DENSE)]
    both = frame.merge(base[["seed", value]], on="seed", suffixes=("", "_base"))
    both = both[(both["variant"] != reference) | (both["rate"] != DENSE)]
    both = both.assign(change=both[value] - both[f"{value}_base"])
    change = over_seeds(both, _MODEL, "change").rename(
        columns={"mean": "change", "n": "change_n", "sd": "change_sd", "half": "change_half"}
    )
    return accuracy_over_seeds(frame, _MODEL, value).merge(change, on=_MODEL, how="left")


def _front(found: pd.DataFrame) -> list[bool]:
    points = found[["clean_mean", "mean"]].to_numpy(float)
    return [not any(_beats(other, point) for other in points) for point in points]


def _beats(a: Any, b: Any) -> bool:
    """Both at least as high, and one higher; NaN beats nothing and is beaten by nothing."""
    return bool(np.all(a >= b - TINY) and np.any(a > b + TINY))
