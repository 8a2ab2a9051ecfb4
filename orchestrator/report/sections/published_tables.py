from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.paper_tables import PAPER
from prunegrid.orchestrator.report.results import SETTING
from prunegrid.orchestrator.report.section import ReportSection


class PublishedTables(ReportSection):
    """The paper's Tables 1 and 2, cell by cell."""

    order = 10
    title = "Beside the published tables"
    link = "Side by side"
    anchor = "against"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        if analysis.paper is None:
            return {}
        rows = [
            dict(zip(SETTING, comparison.setting, strict=True))
            | {"protocol": comparison.protocol}
            | dataclasses.asdict(found.cell)
            | {
                "eps_here": found.eps,
                "n": found.ours.n,
                "mean": found.ours.mean,
                "sd": found.ours.sd,
                "half": found.ours.half,
                "difference_points": found.difference,
                "verdict": found.verdict.value,
                "implied": found.implied,
            }
            for comparison in analysis.paper
            for found in comparison.cells
        ]
        return {"against_paper": pd.DataFrame(rows)}

    def values(self, analysis: Analysis) -> Mapping[str, object] | None:
        return None if analysis.paper is None else {"paper": PAPER}


SECTION = PublishedTables()
