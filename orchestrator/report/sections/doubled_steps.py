from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.convergence import TOLERANCE_FRAC
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.section import ProtocolSection


class ConvergenceTable(ProtocolSection):
    """Attacks beside themselves with twice their steps."""

    order = 360
    title = "Convergence"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"convergence": analysis.convergence}

    def values(self, part: Part) -> Mapping[str, object] | None:
        rows = list(records(part.rows(part.analysis.convergence)))
        return {"rows": rows, "tolerance": TOLERANCE_FRAC} if rows else None


SECTION = ConvergenceTable()
