from __future__ import annotations

from collections.abc import Mapping

from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.curves import CurveGrid, security_grid
from prunegrid.orchestrator.report.results import sampling_text
from prunegrid.orchestrator.report.section import ProtocolSection


class SecurityCurves(ProtocolSection):
    """The paper's Figures 1 to 3."""

    order = 300
    title = "Security curves"
    link = "curves and tables"
    anchor = "p"

    def values(self, part: Part) -> Mapping[str, object]:
        return {"sampling": sampling_text(part.rows(part.analysis.results.cells)["n_images"])}

    def figure(self, part: Part) -> CurveGrid:
        return security_grid(part)


SECTION = SecurityCurves()
