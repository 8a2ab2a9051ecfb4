from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from prunegrid.orchestrator.report import latex
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import PLACE, by_rate, sampling_text, seeds_text, threats
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.style import method_order


class AccuracyMargins(ProtocolSection):
    """The paper's Table 2 for every method: clean accuracy and each threat by rates."""

    order = 330
    title = "Accuracy and margin to the unpruned model"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        compression = analysis.clean[[*PLACE, "effective_rate", "speedup"]]
        return {"cells": analysis.cells.merge(compression, on=PLACE, how="left")}

    def values(self, part: Part) -> Mapping[str, object]:
        clean, cells = part.rows(part.analysis.clean), part.rows(part.analysis.cells)
        rates = sorted({*clean["rate"], *cells["rate"]})
        methods = method_order(cells["method"])
        return {
            "rates": rates,
            "methods": [(m, _rows(part, m, rates)) for m in methods],
            "sampling": sampling_text(part.rows(part.analysis.results.cells)["n_images"]),
        }

    def latex(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        """Margins in brackets; increases are bold, as in the paper."""
        for part in analysis.parts():
            cells = part.rows(analysis.cells)
            rates = sorted(cells["rate"].unique())
            tables = []
            for method in method_order(cells["method"]):
                rows: list[Any] = _rows(part, method, rates)
                lines = [[latex.escape(r["title"]), *map(_with_margin, r["cells"])] for r in rows]
                seeds = seeds_text(cells.loc[cells["method"] == method, "n"])
                caption = f"{part.setting.title}, {method}, protocol {part.protocol}: accuracy in "
                caption += (
                    f"percent and margin to the unpruned model in points; means over {seeds}. "
                    "Bold: the mean is above the unpruned model's, whatever its interval."
                )
                head = ["", *(f"{rate:g}" for rate in rates)]
                tables.append(latex.table(head, lines, caption=caption, left=1))
            yield f"table2-{part.slug}", latex.document(tables)


def _rows(part: Part, method: str, rates: list[float]) -> list[dict[str, object]]:
    analysis = part.analysis
    clean, attacked, cells = (
        mine[mine["method"] == method]
        for mine in map(part.rows, (analysis.clean, analysis.attacked, analysis.cells))
    )
    rows: list[dict[str, object]] = [
        {"title": "clean, whole test split", "cells": by_rate(clean, rates)}
    ]
    if len(attacked):
        rows.append({"title": "clean, attacked images", "cells": by_rate(attacked, rates)})
    previous = ""
    for t in threats(cells):
        mine = cells[(cells["attack"] == t.attack) & (cells["eps"] == t.eps)]
        first = t.attack != previous
        rows.append({"title": t.title, "first": first, "cells": by_rate(mine, rates)})
        previous = t.attack
    return rows


def _with_margin(found: Any) -> str:
    if found is None or not found.n:
        return "--"
    mean = f"{100 * found.mean:.2f}"
    if math.isnan(found.margin):
        return mean
    text = f"{mean} (${100 * found.margin:+.2f}$)"
    return f"\\textbf{{{text}}}" if found.margin > 0 else text


SECTION = AccuracyMargins()
