from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import groups, records
from prunegrid.orchestrator.report.section import ProtocolSection

_AXES = {"effective_rate": "equal effective rate", "speedup": "equal theoretical speed-up"}


class NamedContrast(ProtocolSection):
    """One method against another, as `report --contrast A B` asks."""

    order = 347
    title = "Contrast"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {} if analysis.contrasts is None else {"contrasts": analysis.contrasts}

    def values(self, part: Part) -> Mapping[str, object] | None:
        if part.analysis.contrasts is None or part.analysis.contrast is None:
            return None
        mine = part.rows(part.analysis.contrasts)
        tables = []
        for (axis, x), rows in groups(mine, ["axis", "x"]):
            means = [r for r in records(rows) if math.isnan(r.eps)]
            single = [r for r in records(rows) if not math.isnan(r.eps)]
            tables.append((_AXES[axis], x, str(rows["at"].iloc[0]), means, single))
        a, b = part.analysis.contrast
        return {"tables": tables, "a": a, "b": b}


SECTION = NamedContrast()
