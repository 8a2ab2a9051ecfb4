"""Rows of a store as tables: one line per model of the grid, over its seeds. Pure pandas."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from orchestrator.report.statistics import Estimate, estimate

PLACE = ["architecture", "variant", "method", "rate"]


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A column of robust accuracies."""

    protocol: str
    attack: str
    norm: str
    eps: float

    @property
    def title(self) -> str:
        return f"{self.attack} {eps_text(self.norm, self.eps)}"


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    architecture: str
    variant: str
    method: str
    rate: float
    effective_rate: float  #: mean over seeds
    clean: Estimate  #: on the whole test split
    robust: dict[Attacked, Estimate]


def eps_text(norm: str, eps: float) -> str:
    """`8/255` for Linf, plain numbers else."""
    if norm == "linf":
        return f"{round(eps * 255, 3):g}/255"
    return f"{eps:g}"


def attacked_columns(cells: pd.DataFrame) -> list[Attacked]:
    """Every (protocol, attack, eps), in order."""
    if cells.empty:
        return []
    keys = cells[["protocol", "attack", "norm", "eps"]].drop_duplicates()
    keys = keys.sort_values(["protocol", "attack", "eps"])
    return [
        Attacked(protocol=p, attack=a, norm=n, eps=float(e))
        for p, a, n, e in keys.itertuples(index=False)
    ]


def summary_rows(models: pd.DataFrame, cells: pd.DataFrame) -> list[SummaryRow]:
    """One row per (architecture, variant, method, rate); accuracies as estimates over seeds."""
    if models.empty:
        return []
    columns = attacked_columns(cells)
    robust: dict[tuple[object, ...], list[float]] = {}
    if not cells.empty:
        keys = [*PLACE, "protocol", "attack", "eps"]
        for key, values in cells.groupby(keys, sort=False)["robust_accuracy"]:
            robust[key] = values.tolist()
    out = []
    for place, part in models.groupby(PLACE, sort=True):
        architecture, variant, method = (str(name) for name in place[:3])
        rate = float(part["rate"].iloc[0])
        out.append(
            SummaryRow(
                architecture=architecture,
                variant=variant,
                method=method,
                rate=rate,
                effective_rate=float(part["effective_rate"].mean()),
                clean=estimate(part["accuracy"].tolist()),
                robust={
                    c: estimate(robust.get((*place, c.protocol, c.attack, c.eps), []))
                    for c in columns
                },
            )
        )
    return out
