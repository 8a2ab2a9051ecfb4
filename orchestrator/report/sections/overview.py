from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.missing import missing_text
from prunegrid.orchestrator.report.non_inferiority import TOLERANCE
from prunegrid.orchestrator.report.results import diverged_texts
from prunegrid.orchestrator.report.section import ReportSection
from prunegrid.orchestrator.report.statistics import INTERVAL
from prunegrid.orchestrator.report.strategies import AVERAGE, NOTHING_KNOWN


class Overview(ReportSection):
    """What is best at a glance: a line for each experiment and protocol."""

    order = 0

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"missing": analysis.missing}

    def values(self, analysis: Analysis) -> Mapping[str, object]:
        return {
            "missing": missing_text(analysis.missing, analysis.wanted),
            "diverged": [
                f"{e.title}: {text}"
                for e in analysis.experiments()
                for text in diverged_texts(e.rows(analysis.results.models))
            ],
            "interval": INTERVAL,
            "most": f"most pruned, losing under {100 * TOLERANCE:g} points",
            "rows": [_row(part) for part in analysis.parts()],
        }


def _row(part: Part) -> dict[str, object]:
    assumed = (1, NOTHING_KNOWN, AVERAGE)
    best = [s for s in part.strategies if (s.least_rate, s.knowledge, s.criterion) == assumed]
    return {
        "part": part,
        "seeds": int(part.rows(part.analysis.cells)["n"].max()),
        "missing": len(part.rows(part.analysis.missing)),
        "best": best[0] if best else None,
        "most_pruned": _most_pruned(part),
    }


def _most_pruned(part: Part) -> str:
    for found in part.non_inferiority:
        if not found.attack:
            if found.shown:
                return found.shown.name
            return f"{found.by_means.name}, by means alone" if found.by_means else "none"
    return "–"


SECTION = Overview()
