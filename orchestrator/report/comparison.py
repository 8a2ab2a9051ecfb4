"""Two stores, or two protocols of one, cell by cell.

Cells match by architecture, data set, method, rate, attack and eps; an attack that the other side
lacks, by its norm (`counterparts.py`). Variant and protocol are what is compared. Where both sides
attack the very same trained networks, seeds are paired; else the interval of the difference is
Welch's. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.report.counterparts import (
    BESIDE,
    attacks_of,
    match_attacks,
    title_of,
)
from prunegrid.orchestrator.report.results import THREAT, Results, groups
from prunegrid.orchestrator.report.statistics import (
    TINY,
    accuracy_over_seeds,
    over_seeds,
    welch_half,
)
from prunegrid.orchestrator.report.tables import DENSE, pruned_nothing

_MATCH = ["method", "rate", *THREAT]

_OF_A_SIDE = ("n", "mean", "sd", "half", "low", "high")

#: The attack of a row that compares clean accuracy.
CLEAN = "clean"


@dataclass(frozen=True, kw_only=True, eq=False)
class SideComparison:
    """One experiment, as two sides have it; `table` has a row per cell of either side.

    Columns: method, rate, attack ("clean": the whole test split; two labels of one norm where the
    sides have other attacks), norm, eps; n_a, mean_a, sd_a,
    half_a, low_a, high_a, and the same of b (fractions); `difference` (a - b) and its 95 % `half`;
    `verdict`: "a higher", "b higher", "no difference shown", "one seed", "untestable" (no spread
    over seeds), "missing in a", "missing in b".
    """

    architecture: str
    dataset: str
    a: str  #: what a is: address, variant, protocol
    b: str
    paired: bool  #: the same trained networks on both sides
    table: pd.DataFrame
    idle: frozenset[tuple[str, float]] = frozenset()  #: models that nothing was pruned of
    other_rule: int = 0  #: cells that one side counts by another rule at a distance of exactly eps

    def sentences(self) -> list[str]:
        """The outcome in plain words."""
        attacked = self.table[self.table["attack"] != CLEAN]
        known = attacked.dropna(subset=["difference"])
        lines = [
            f"{len(known)} of {len(attacked)} cells have a result on both sides"
            + (" (the same networks, seeds paired)" if self.paired else "")
        ]
        if self.other_rule:
            lines.append(
                f"{self.other_rule} cells of single seeds count an image at a distance of exactly "
                "eps as broken on one side alone (column broken_at of cells)"
            )
        if known.empty:
            return lines
        gap = 100 * known["difference"]
        low, high = gap.min(), gap.max()
        lines.append(
            f"robust accuracy of a minus b: {gap.mean():+.1f} points on average, from {low:+.1f} "
            f"to {high:+.1f}"
        )
        count = known["verdict"].value_counts()
        lines.append(
            ", ".join(f"{counted(n, 'cell')}: {verdict}" for verdict, n in count.items())
            + "; 95 % intervals are per cell, one in twenty would miss by chance"
        )
        for (attack,), part in groups(known, ["attack"]):
            mean = 100 * part["difference"].mean()
            found = f"{mean:+.1f} points over {counted(len(part), 'cell')}{_order(part)}"
            lines.append(f"{title_of(str(attack))}: {found}")
        models = zip(known["method"], known["rate"], strict=True)
        chosen = known[[model not in self.idle for model in models]]
        if chosen.empty:
            return lines
        best = [_best(chosen, side) for side in ("mean_a", "mean_b")]
        if best[0] == best[1]:
            lines.append(f"best on average over these cells, in a as in b: {best[0]}")
        else:
            lines.append(f"best on average over these cells: in a {best[0]}, in b {best[1]}")
        return lines


def _by_model(known: pd.DataFrame) -> pd.DataFrame:
    """Mean over the cells of each (method, rate) that has all of them."""
    models = known.groupby(["method", "rate"])[["mean_a", "mean_b", "eps"]]
    out = models.agg({"mean_a": "mean", "mean_b": "mean", "eps": "count"})
    whole: pd.DataFrame = out[out["eps"] == out["eps"].max()]
    return whole


def _order(known: pd.DataFrame) -> str:
    """Whether both sides rank the models alike, which is what a choice rests on."""
    models = _by_model(known)
    if len(models) < 4:
        return ""
    rho = models["mean_a"].corr(models["mean_b"], method="spearman")
    return "" if np.isnan(rho) else f"; order of the models: Spearman {rho:.2f}"


def _best(known: pd.DataFrame, side: str) -> str:
    found = _by_model(known).reset_index()
    best = found.sort_values(side, ascending=False, kind="stable").iloc[0]
    return "no pruning" if best["rate"] == DENSE else f"{best['method']} at rate {best['rate']:g}"


def compare_stores(a: Results, b: Results) -> tuple[SideComparison, ...]:
    """Every experiment that both have. Sides of one name (variant and protocol) are compared with
    each other; where there is no such pair, each side of a with each of b. A store compared with
    itself compares its protocols."""
    out = []
    pairs: list[tuple[_Side, _Side]]
    for architecture, dataset in sorted(_experiments(a) & _experiments(b)):
        sides = [_sides(results, architecture, dataset) for results in (a, b)]
        if a is b or a.address == b.address:
            pairs = [(s, t) for s, t in product(sides[0], sides[0]) if s < t]
        else:
            pairs = [(s, s) for s in sides[0] if s in sides[1]] or list(product(sides[0], sides[1]))
        for side_a, side_b in pairs:
            out.append(_compare(a, b, architecture, dataset, side_a, side_b))
    return tuple(out)


_Side = tuple[str, str]  # variant, protocol


def _experiments(results: Results) -> set[tuple[str, str]]:
    return {(s.architecture, s.dataset) for s in results.settings}


def _sides(results: Results, architecture: str, dataset: str) -> list[_Side]:
    mine = _part(results.cells, architecture, dataset)
    pairs = mine[["variant", "protocol"]].drop_duplicates()
    return sorted((str(v), str(p)) for v, p in pairs.itertuples(index=False))


def _part(frame: pd.DataFrame, architecture: str, dataset: str) -> pd.DataFrame:
    return frame[(frame["architecture"] == architecture) & (frame["dataset"] == dataset)]


def _compare(
    a: Results, b: Results, architecture: str, dataset: str, side_a: _Side, side_b: _Side
) -> SideComparison:
    rows = [
        _rows(results, architecture, dataset, side) for results, side in ((a, side_a), (b, side_b))
    ]
    rows = _beside(*rows)
    names = [
        f"{results.address} ({' '.join(side)})" for results, side in ((a, side_a), (b, side_b))
    ]
    keys = [*_MATCH, "seed"]
    both = rows[0].merge(rows[1], on=keys, suffixes=("_a", "_b"))
    paired = bool(len(both)) and bool((both["model_a"] == both["model_b"]).all())
    models = pd.concat([_part(r.models, architecture, dataset) for r in (a, b)])
    idle = models.loc[pruned_nothing(models), ["method", "rate"]]
    return SideComparison(
        idle=frozenset(idle.itertuples(index=False, name=None)),
        architecture=architecture,
        dataset=dataset,
        a=names[0],
        b=names[1],
        paired=paired,
        table=_table(rows[0], rows[1], both, paired=paired),
        other_rule=int((both["broken_at_a"] != both["broken_at_b"]).sum()),
    )


def _beside(*sides: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows, with one label for attacks that stand for each other."""
    attacks = {
        str(k): attacks_of(
            rows[rows["attack"] != CLEAN].rename(columns={"value": "robust_accuracy"})
        )
        for k, rows in enumerate(sides)
    }
    names: dict[str, dict[str, str]] = {side: {} for side in attacks}
    for row in match_attacks(attacks):
        for side, label in row.items():
            names[side][label] = BESIDE.join(dict.fromkeys(row.values()))
    return [
        rows.assign(attack=rows["attack"].replace(names[str(k)])) for k, rows in enumerate(sides)
    ]


def _rows(results: Results, architecture: str, dataset: str, side: _Side) -> pd.DataFrame:
    """method, rate, attack, norm, eps, seed, model, value, broken_at; clean accuracy as an
    attack."""
    variant, protocol = side
    cells = _part(results.cells, architecture, dataset)
    cells = cells[(cells["variant"] == variant) & (cells["protocol"] == protocol)]
    models = _part(results.models, architecture, dataset)
    models = models[models["variant"] == variant]
    columns = [*_MATCH, "seed", "model", "value", "broken_at"]
    attacked = cells.rename(columns={"model_key": "model", "robust_accuracy": "value"})[columns]
    clean = models.rename(columns={"task_key": "model", "accuracy": "value"})
    clean = clean.assign(attack=CLEAN, norm="", eps=0.0, broken_at="")[columns]
    return pd.concat([clean, attacked], ignore_index=True)


def _table(
    rows_a: pd.DataFrame, rows_b: pd.DataFrame, both: pd.DataFrame, *, paired: bool
) -> pd.DataFrame:
    sides = [accuracy_over_seeds(rows, _MATCH, "value") for rows in (rows_a, rows_b)]
    table = sides[0].merge(sides[1], on=_MATCH, how="outer", suffixes=("_a", "_b"))
    table[["n_a", "n_b"]] = table[["n_a", "n_b"]].fillna(0).astype(int)
    if paired:
        differences = both.assign(d=both["value_a"] - both["value_b"])
        found = over_seeds(differences, _MATCH, "d")[[*_MATCH, "mean", "half"]]
        table = table.merge(found.rename(columns={"mean": "difference"}), on=_MATCH, how="left")
    else:
        table["difference"] = table["mean_a"] - table["mean_b"]
        parts = [table[[f"n_{s}", f"sd_{s}"]].set_axis(["n", "sd"], axis=1) for s in ("a", "b")]
        table["half"] = welch_half(parts[0], parts[1])
    table["verdict"] = _verdicts(table)
    order = table["attack"].ne(CLEAN)
    table = table.assign(order=order).sort_values(["order", "attack", "eps", "method", "rate"])
    names = [
        *_MATCH,
        *(f"{value}_{s}" for s in ("a", "b") for value in _OF_A_SIDE),
    ]
    return table[[*names, "difference", "half", "verdict"]].reset_index(drop=True)


def _verdicts(table: pd.DataFrame) -> pd.Series[str]:
    difference, half = (table[c].to_numpy(float) for c in ("difference", "half"))
    choices = [
        (table["n_a"].to_numpy() == 0, "missing in a"),
        (table["n_b"].to_numpy() == 0, "missing in b"),
        (np.abs(difference) < TINY, "no difference shown"),
        (table[["n_a", "n_b"]].min(axis=1).to_numpy() < 2, "one seed"),
        (np.isnan(half), "untestable"),
        (difference - half > 0, "a higher"),
        (difference + half < 0, "b higher"),
    ]
    conditions, names = zip(*choices, strict=True)
    return pd.Series(np.select(conditions, names, "no difference shown"), index=table.index)
