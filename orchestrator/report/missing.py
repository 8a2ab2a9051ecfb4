"""Cells that should be there and are not. Pure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection

import pandas as pd

from orchestrator.report.results import CELL, PLACE, THREAT, Results, records
from orchestrator.rows import CellPlace

_KEY = [*[name for name in CELL if name not in ("norm", "eps")], "seed", "eps_text"]


def missing_cells(results: Results, planned: Collection[CellPlace] | None = None) -> pd.DataFrame:
    """PLACE, seed, protocol, attack, eps of every cell without a result.

    What should be there is the plan's cells or, without a plan, within each setting and protocol
    every combination of the methods, rates, seeds and (attack, eps) that occur.
    """
    wanted = _from_axes(results) if planned is None else _from_plan(planned)
    present = set(_text_eps(results.cells)[_KEY].itertuples(index=False, name=None))
    keyed = _text_eps(wanted)
    gone = [key not in present for key in keyed[_KEY].itertuples(index=False, name=None)]
    columns = [*PLACE, "seed", "protocol", "attack", "eps"]
    return keyed.loc[gone, columns].reset_index(drop=True)


def _text_eps(frame: pd.DataFrame) -> pd.DataFrame:
    """8/255 may be another float in the last bit in another file."""
    return frame.assign(eps_text=frame["eps"].map(lambda eps: f"{eps:.6g}"))


def _from_plan(planned: Collection[CellPlace]) -> pd.DataFrame:
    rows = [
        {
            **dataclasses.asdict(cell.model),
            "protocol": cell.protocol,
            "attack": cell.attack,
            "eps": cell.eps,
        }
        for cell in planned
    ]
    return pd.DataFrame(rows, columns=[*PLACE, "seed", "protocol", "attack", "eps"])


def _from_axes(results: Results) -> pd.DataFrame:
    columns = [*PLACE, "seed", "protocol", "attack", "eps"]
    rows = []
    for setting in results.settings:
        models, cells = setting.rows(results.models), setting.rows(results.cells)
        both = pd.concat([f[["method", "rate", "seed"]] for f in (models, cells)])
        axes = [sorted(both[name].unique()) for name in ("method", "rate", "seed")]
        pairs = cells[["protocol", *THREAT]].drop_duplicates().drop(columns="norm")
        for method, rate, seed in itertools.product(*axes):
            for protocol, attack, eps in pairs.itertuples(index=False, name=None):
                rows.append((*setting, method, rate, seed, protocol, attack, eps))
    return pd.DataFrame(rows, columns=columns)


def missing_text(missing: pd.DataFrame, total: int) -> str:
    """`12 of 240 cells have no result: 8 of random-local-filter at rate 64, ...`"""
    if missing.empty:
        return f"all {total} cells have a result"
    counts = missing.groupby(["method", "rate"]).size().rename("cells").reset_index()
    counts = counts.sort_values("cells", ascending=False)
    shown = [f"{c.cells} of {c.method} at rate {c.rate:g}" for c in records(counts.head(4))]
    more = f" and {len(counts) - 4} more models" if len(counts) > 4 else ""
    return f"{len(missing)} of {total} cells have no result: {', '.join(shown)}{more}"
