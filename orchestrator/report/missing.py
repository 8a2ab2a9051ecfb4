"""Cells without a result. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import pandas as pd

from prunegrid.orchestrator.grid.grid import CellCoordinates
from prunegrid.orchestrator.report.results import PLACE, SETTING, Results, records

_WANTED = [*PLACE, "seed", "protocol", "attack", "eps"]


def missing_cells(
    results: Results, planned: Collection[CellCoordinates] | None = None
) -> pd.DataFrame:
    """PLACE, seed, protocol, attack, eps of every cell without a result.

    What should be there is the plan's cells or, without a plan, within each setting and protocol
    every combination of the methods, rates, seeds and (attack, eps) that occur.
    """
    wanted = _from_axes(results) if planned is None else _from_plan(planned)
    present = results.cells[_WANTED].drop_duplicates()
    joined = wanted.merge(present, on=_WANTED, how="left", indicator="found")
    gone = (joined["found"] == "left_only").to_numpy()
    return wanted.loc[gone, _WANTED].reset_index(drop=True)


def _from_plan(planned: Collection[CellCoordinates]) -> pd.DataFrame:
    rows = [
        {
            **dataclasses.asdict(cell.model),
            "protocol": cell.protocol,
            "attack": cell.attack,
            "eps": cell.eps,
        }
        for cell in planned
    ]
    return pd.DataFrame(rows, columns=_WANTED)


def _from_axes(results: Results) -> pd.DataFrame:
    parts = []
    for setting in results.settings:
        models, cells = setting.rows(results.models), setting.rows(results.cells)
        both = pd.concat([frame[["method", "rate", "seed"]] for frame in (models, cells)])
        wanted = cells[["protocol", "attack", "eps"]].drop_duplicates()
        for name in ("seed", "rate", "method"):
            axis = pd.DataFrame({name: sorted(both[name].unique())})
            wanted = axis.merge(wanted, how="cross")
        parts.append(wanted.assign(**dict(zip(SETTING, setting, strict=True))))
    return pd.concat(parts)[_WANTED] if parts else pd.DataFrame(columns=_WANTED)


def missing_text(missing: pd.DataFrame, total: int) -> str:
    """`12 of 240 cells have no result: 8 of random-local-filter at rate 64, ...`"""
    if missing.empty:
        return f"all {total} cells have a result"
    counts = missing.groupby(["method", "rate"]).size().rename("cells").reset_index()
    counts = counts.sort_values("cells", ascending=False)
    shown = [f"{c.cells} of {c.method} at rate {c.rate:g}" for c in records(counts.head(4))]
    more = f" and {len(counts) - 4} more models" if len(counts) > 4 else ""
    return f"{len(missing)} of {total} cells have no result: {', '.join(shown)}{more}"
