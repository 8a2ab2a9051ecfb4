from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.equal_compression import AXES, CLEAN
from prunegrid.orchestrator.report.results import groups, records
from prunegrid.orchestrator.report.section import ProtocolSection

_TITLES = dict(zip(AXES, ("effective rate", "theoretical speed-up"), strict=True))


class EqualRates(ProtocolSection):
    """The best method at equal effective compression, and at equal theoretical speed-up."""

    order = 345
    title = "Best method at equal compression"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"equal_compression": analysis.equal}

    def values(self, part: Part) -> Mapping[str, object] | None:
        mine = part.rows(part.analysis.equal)
        tables = [
            (_TITLES[axis], attack, list(records(rows)))
            for (axis, attack), rows in groups(mine, ["axis", "attack"])
        ]
        tables.sort(key=lambda table: (table[1] != "", table[1] == CLEAN))
        return {"tables": tables, "clean": CLEAN} if tables else None


SECTION = EqualRates()
