"""The lines of every figure, as data: what plotly and matplotlib both draw. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.counterparts import attacks_of, match_attacks
from prunegrid.orchestrator.report.eps_levels import add_strength, with_counterparts
from prunegrid.orchestrator.report.results import groups, records, threats
from prunegrid.orchestrator.report.statistics import accuracy_over_seeds
from prunegrid.orchestrator.report.style import legend_order
from prunegrid.orchestrator.report.tables import DENSE, seed_averages
from prunegrid.orchestrator.report.transfers import pooled_transfers

AXES = {
    "rate": "compression rate, nominal",
    "effective_rate": "compression rate, effective",
    "speedup": "theoretical speed-up",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvePanel:
    """One pair of axes. `rows`: method, rate, x, mean, low, high, n, sd, effective_rate, diverged
    (how many seeds); x or mean is NaN where there is no result."""

    title: str
    x: str  #: title of the axis
    y: str
    rows: pd.DataFrame
    reference: float  #: the dense models' mean; NaN: none
    compression: bool = True  #: x is a rate, on a logarithmic scale; else an accuracy in percent

    @property
    def methods(self) -> list[str]:
        return legend_order(list(self.rows["method"]))

    @property
    def lost(self) -> pd.DataFrame:
        """The rows of models that diverged, with a `text` that says how many."""
        mine = self.rows[self.rows["diverged"] > 0]
        some = mine["diverged"].map("{:g} diverged".format)
        return mine.assign(text=some.where(mine["mean"].notna(), "diverged"))

    def y_in_lines(self, newline: str) -> str:
        """A long title of the y axis broken once, near its middle, so that it fits the panel."""
        if len(self.y) <= 24:
            return self.y
        spaces = [k for k, letter in enumerate(self.y) if letter == " "]
        middle = min(spaces, key=lambda k: abs(k - len(self.y) / 2))
        return f"{self.y[:middle]}{newline}{self.y[middle + 1 :]}"

    @property
    def top(self) -> float:
        """Of the y axis, percent: just above the highest mean; bars may leave the panel."""
        highest = 100 * float(self.rows["mean"].max())
        return 100.0 if np.isnan(highest) else min(104.0, max(1.12 * highest, 5.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveGrid:
    """A figure: panels by row and column; None is an empty place."""

    name: str  #: of its files
    panels: tuple[tuple[CurvePanel | None, ...], ...]

    def top(self, row: int) -> float:
        """Panels beside each other share a y axis."""
        return max((panel.top for panel in self.panels[row] if panel), default=100.0)

    def last(self, row: int, column: int) -> bool:
        """Whether no panel stands below."""
        return all(below[column] is None for below in self.panels[row + 1 :])

    @property
    def methods(self) -> list[str]:
        return legend_order([m for row in self.panels for p in row if p for m in p.methods])


def _panel(
    rows: pd.DataFrame, clean: pd.DataFrame, *, title: str, y: str, x: str = "rate"
) -> CurvePanel:
    """`rows`: method, rate, n, mean, sd, low, high; x and effective rate come from `clean`. A model
    of `clean` that `rows` lacks has no mean: a gap in its line."""
    extra = clean[["method", "rate", "effective_rate", "speedup", "diverged"]]
    lean = rows[["method", "rate", "n", "mean", "sd", "low", "high"]]
    known = lean.dropna(subset="mean")["method"].unique()
    places = pd.concat([lean, extra])[["method", "rate"]].drop_duplicates()
    both = places[places["method"].isin(known)].merge(lean, on=["method", "rate"], how="left")
    both = both.merge(extra, on=["method", "rate"], how="left").sort_values(["method", "rate"])
    both = both.assign(x=both[x]).reset_index(drop=True)
    dense = both.loc[both["rate"] == DENSE, "mean"].dropna()
    return CurvePanel(
        title=title,
        x=AXES[x],
        y=y,
        rows=both,
        reference=float(dense.mean()) if len(dense) else np.nan,
    )


def security_grid(part: Part) -> CurveGrid:
    """Figures 1 to 3: attacks by column, eps by row; eps without a counterpart come last."""
    clean = part.rows(part.analysis.clean)
    cells = add_strength(part.rows(part.analysis.cells))
    columns = []
    for attack in dict.fromkeys(t.attack for t in threats(cells)):
        mine = cells[cells["attack"] == attack]
        order = mine[["eps", "norm", "strength"]].drop_duplicates()
        order = order.assign(last=order["strength"] == 0).sort_values(["last", "eps"])
        columns.append(
            [
                _panel(
                    mine[mine["eps"] == eps],
                    clean,
                    title=f"{attack_title(attack)}, ε = {eps_text(str(norm), float(eps))}",
                    y="robust accuracy, %",
                )
                for eps, norm in records(order[["eps", "norm"]])
            ]
        )
    deepest = max(map(len, columns), default=0)
    panels = tuple(
        tuple(column[row] if row < len(column) else None for column in columns)
        for row in range(deepest)
    )
    return CurveGrid(name="security-curves", panels=panels)


def average_robustness(part: Part, attack: str | None = None) -> pd.DataFrame:
    """Per method and rate: n, mean, sd, half, low, high over seeds of the mean robust accuracy over
    the eps levels of one attack or of all. A seed that lacks one of these cells does not count."""
    cells = with_counterparts(part.rows(part.analysis.results.cells))
    if attack is not None:
        cells = cells[cells["attack"] == attack]
    return accuracy_over_seeds(seed_averages(cells), ["method", "rate"], "score")


def compression_grid(part: Part) -> CurveGrid:
    """Clean accuracy (of the attacked images, where known) and average robust accuracy against
    nominal rate, effective rate and speed-up."""
    clean = part.rows(part.analysis.clean)
    robust = average_robustness(part)
    axes = [x for x in AXES if clean[x].notna().any()]
    rows = []
    own, known = part.rows(part.analysis.attacked), "clean accuracy on the attacked images, %"
    if own.empty:
        own, known = clean, "clean accuracy on the whole test split, %"
    for values, y in ((own, known), (robust, "average robust accuracy, %")):
        rows.append(tuple(_panel(values, clean, title="", y=y, x=x) for x in axes))
    return CurveGrid(name="compression", panels=tuple(rows))


def variant_grid(rows: pd.DataFrame) -> CurveGrid:
    """Of `variant_table`: clean against robust accuracy, on average and for each attack; a line per
    variant and method, from its dense to its pruned models."""
    dense = rows[rows["rate"] == DENSE].drop(columns="method")
    pruned = rows[rows["rate"] != DENSE]
    lines = pruned[["attack", "variant", "method"]].drop_duplicates()
    points = pd.concat([lines.merge(dense, on=["attack", "variant"]), pruned])
    if len(set(pruned["method"])) > 1:
        points["variant"] = points["variant"] + ", " + points["method"]
    points = points.assign(
        method=points["variant"],
        x=100 * points["clean_mean"],
        effective_rate=np.nan,
        diverged=0,
    ).sort_values(["attack", "method", "rate"])
    panels = tuple(
        CurvePanel(
            title=attack_title(str(attack)) + ", mean over ε" if attack else "mean over attacks",
            x="clean accuracy, %",
            y="robust accuracy, %",
            rows=mine.reset_index(drop=True),
            reference=np.nan,
            compression=False,
        )
        for (attack,), mine in groups(points, ["attack"])
    )
    return CurveGrid(name="clean-and-robust", panels=(panels,))


def transfer_grid(part: Part) -> CurveGrid:
    """Transfer rates of all attacks and eps together against the pruned model's rate: to it, and
    from it."""
    rows = part.rows(pooled_transfers(part.analysis.results))
    rows = rows[rows["attack"] == ""].assign(rate=rows["pruned_rate"])
    clean = part.rows(part.analysis.clean)
    panels = []
    for name, title in (
        ("to_pruned", "adversarials of the dense model, shown to pruned ones"),
        ("to_dense", "adversarials of pruned models, shown to the dense one"),
    ):
        own = {f"{name}_{column}": column for column in ("n", "mean", "sd", "low", "high")}
        pruned = clean[clean["rate"] != DENSE]
        mine = rows[["method", "rate", *own]].rename(columns=own)
        panels.append(_panel(mine, pruned, title=title, y="transfer rate, %"))
    return CurveGrid(name="transfer", panels=(tuple(panels),))


def worst_grid(part: Part) -> CurveGrid:
    """The worst case over attacks, a panel for each strength; below, where image rows are there,
    the worst attack for every single image."""
    clean = part.rows(part.analysis.clean)
    rows = []
    for frame, y in (
        (part.analysis.worst, "robust accuracy under the worst attack, %"),
        (part.analysis.worst_images, "robust accuracy under the worst attack per image, %"),
    ):
        panels = {
            int(strength): _panel(mine, clean, title=f"strength {strength}", y=y)
            for (strength,), mine in groups(part.rows(frame), ["strength"])
        }
        rows.append(panels)
    strengths = sorted({strength for panels in rows for strength in panels})
    grid = (tuple(panels.get(strength) for strength in strengths) for panels in rows if panels)
    return CurveGrid(name="worst-case", panels=tuple(grid))


def protocol_grid(part: Part) -> CurveGrid:
    """Attacks by row, protocols by column: robust accuracy, averaged over each attack's eps. Where
    protocols have other attacks, those of one norm stand beside each other."""
    clean = part.rows(part.analysis.clean)
    protocols = part.by_protocol()
    order = [t.attack for t in threats(part.rows(part.analysis.cells))]
    cells = part.analysis.results.cells
    attacks = match_attacks({p.protocol: attacks_of(p.rows(cells)) for p in protocols})
    rows = []
    for named in sorted(attacks, key=lambda row: min(map(order.index, row.values()))):
        rows.append(
            tuple(
                _panel(
                    average_robustness(protocol, named[protocol.protocol]),
                    clean,
                    title=f"{attack_title(named[protocol.protocol])}, {protocol.protocol}",
                    y="robust accuracy, mean over ε, %",
                )
                if protocol.protocol in named
                else None
                for protocol in protocols
            )
        )
    return CurveGrid(name="protocols", panels=tuple(rows))
