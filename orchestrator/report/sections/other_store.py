from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.comparison import CLEAN
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.section import ReportSection

#: Rows of one table on the page.
LIMIT = 400


class OtherStore(ReportSection):
    """Another store, or this one's protocols, cell by cell."""

    order = 11
    title = "Side by side"
    link = "Side by side"
    anchor = "against"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        if analysis.stores is None:
            return {}
        sides = [
            c.table.assign(a=c.a, b=c.b, architecture=c.architecture, dataset=c.dataset)
            for c in analysis.stores
        ]
        return {"against_store": pd.concat(sides) if sides else pd.DataFrame()}

    def values(self, analysis: Analysis) -> Mapping[str, object] | None:
        if analysis.stores is None:
            return None
        sides = [(side, list(records(side.table.head(LIMIT)))) for side in analysis.stores]
        return {"sides": sides, "limit": LIMIT, "clean": CLEAN}


SECTION = OtherStore()
