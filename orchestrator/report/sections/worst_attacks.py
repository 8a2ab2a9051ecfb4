from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.curves import CurveGrid, worst_grid
from prunegrid.orchestrator.report.section import ProtocolSection


class WorstAttacks(ProtocolSection):
    """The worst case over attacks, for all images and for each image."""

    order = 350
    title = "Worst case over attacks"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"worst_case": analysis.worst, "worst_case_per_image": analysis.worst_images}

    def figure(self, part: Part) -> CurveGrid:
        return worst_grid(part)

    def values(self, part: Part) -> Mapping[str, object]:
        combined = part.rows(part.analysis.worst_images)["attacks"]
        attacks = str(combined.iloc[0]).split("+") if len(combined) else []
        others = set(part.rows(part.analysis.cells)["attack"]) - set(attacks)
        return {"attacks": attacks, "others": sorted(others)}


SECTION = WorstAttacks()
