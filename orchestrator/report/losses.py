"""Which methods are shown to lose robustness, from which rate on, and how much. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.results import Threat, groups
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, signed
from prunegrid.orchestrator.report.tables import COMPRESSION_TOLERANCE

#: Corrected p values of the cells' margins, the test that finds most first, and what it is called.
_TESTS = {
    "p_crossed_holm": "crossed t test over seeds and images",
    "p_moderated_holm": "moderated t test over seeds",
    "p_holm": "paired t test over seeds",
}


def shown_losses(part: Part) -> Iterator[str]:
    """One sentence or two: each method, in the order in which they begin to lose."""
    cells = part.rows(part.analysis.sweet)
    test = next((p for p in _TESTS if p in cells and cells[p].notna().any()), None)
    if test is None:
        if len(cells):
            yield "With one seed no loss of robustness can be tested."
        return
    cells = cells.assign(lost=(cells[test] < SIGNIFICANT) & (cells["margin"] < 0))
    found = {str(method): mine for (method,), mine in groups(cells, ["method"])}
    losing = {method: mine for method, mine in found.items() if mine["lost"].any()}
    how = f"({_TESTS[test]}, Holm's correction for {int(cells[test].notna().sum())} cells)"
    if not losing:
        yield f"No pruned model is shown to lose robustness {how}."
        return
    order = sorted(losing, key=lambda method: _first(losing[method]))
    listed = "; ".join(f"{method} {_from(losing[method])}" for method in order)
    text = f"Robustness is shown to fall {how}: {listed}."
    if spared := sorted(found.keys() - losing.keys()):
        text += f" At none of its rates: {', '.join(spared)}."
    yield text


def _first(mine: pd.DataFrame) -> tuple[float, float]:
    """The lowest rate with a loss, and the mean margin there: who begins first, then who loses
    most."""
    rate = mine.loc[mine["lost"], "rate"].min()
    return float(rate), float(mine.loc[mine["rate"] == rate, "margin"].mean())


def _from(mine: pd.DataFrame) -> str:
    """`at rate 4 (effective 1.03; 8 of 12 attacks and ε, most −15.4 points: PGD L∞, ε = 24/255)`,
    and the next lower rate of the grid, at which no loss is shown."""
    rate, _ = _first(mine)
    there = mine[mine["rate"] == rate]
    lost = there[there["lost"]]
    most = lost.sort_values("margin").iloc[0]
    threat = Threat(str(most["attack"]), str(most["norm"]), float(most["eps"])).title
    effective = float(there["effective_rate"].iloc[0])
    far = abs(effective / rate - 1) > COMPRESSION_TOLERANCE
    text = f"at rate {rate:g} (" + (f"effective {effective:.3g}; " if far else "")
    text += f"{len(lost)} of {len(there)} attacks and ε, most {signed(most['margin'])} points: "
    text += f"{threat})"
    below = mine.loc[mine["rate"] < rate, "rate"].max()
    return text if pd.isna(below) else f"{text}, not at {below:g}"
