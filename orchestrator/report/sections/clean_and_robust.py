from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.curves import CurveGrid, variant_grid
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.section import ProtocolSection


class CleanAndRobust(ProtocolSection):
    """Every variant, dense and pruned: the paper's closing question, where a store can answer it.
    It stands once, with the variant that the others are compared with."""

    order = 390
    title = "Clean against robust, all variants"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"variants": analysis.variants}

    def figure(self, part: Part) -> CurveGrid | None:
        rows = _rows(part)
        return None if rows.empty else variant_grid(rows)

    def values(self, part: Part) -> Mapping[str, object] | None:
        rows = _rows(part)
        if rows.empty:
            return None
        average = rows[rows["attack"] == ""].sort_values(["variant", "rate", "method"])
        return {"rows": list(records(average)), "reference": part.setting.variant}


def _rows(part: Part) -> pd.DataFrame:
    frame = part.analysis.variants
    mine = (frame["architecture"] == part.setting.architecture) & (
        frame["protocol"] == part.protocol
    )
    mine &= (frame["dataset"] == part.setting.dataset) & (
        frame["reference"] == part.setting.variant
    )
    return frame[mine]


SECTION = CleanAndRobust()
