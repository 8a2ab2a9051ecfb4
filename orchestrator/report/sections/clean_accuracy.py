from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from prunegrid.orchestrator.report import latex
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import by_rate, seeds_text
from prunegrid.orchestrator.report.section import ExperimentSection
from prunegrid.orchestrator.report.statistics import INTERVAL, interval_text
from prunegrid.orchestrator.report.style import method_order


class CleanAccuracy(ExperimentSection):
    """The paper's Table 1: methods by rates."""

    order = 200
    title = "Clean accuracy by nominal compression rate"
    link = "clean accuracy"
    anchor = "c"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"clean": analysis.clean}

    def values(self, part: Part) -> Mapping[str, object]:
        clean = part.rows(part.analysis.clean)
        rates = sorted(clean["rate"].unique())
        rows = []
        for method in method_order(clean["method"]):
            mine = clean[clean["method"] == method]
            best = mine["mean"].max()
            rows.append({"method": method, "best": best, "cells": by_rate(mine, rates)})
        return {"rates": rates, "rows": rows}

    def latex(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        tables = []
        for experiment in analysis.experiments():
            found: Any = self.values(experiment)
            rows = [
                [latex.escape(row["method"]), *(_accuracy(c, row["best"]) for c in row["cells"])]
                for row in found["rows"]
            ]
            seeds = seeds_text(experiment.rows(analysis.clean)["n"])
            caption = f"{experiment.title}: clean accuracy in percent by nominal compression rate, "
            caption += f"mean over {seeds} and its 95 % interval ({INTERVAL}). "
            caption += "Bold: each method's highest mean."
            head = ["method", *(f"{rate:g}" for rate in found["rates"])]
            tables.append(latex.table(head, rows, caption=caption, left=1))
        yield "table1", latex.document(tables)


def _accuracy(found: Any, best: float) -> str:
    if found is None or not found.n:
        return "diverged" if found is not None and found.diverged else "--"
    mean = f"{100 * found.mean:.2f}"
    if found.mean == best:
        mean = f"\\textbf{{{mean}}}"
    interval = interval_text(found.n, found.low, found.high).replace("–", "--")
    return f"{mean} ({interval})" if interval else mean


SECTION = CleanAccuracy()
