from __future__ import annotations

from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.curves import CurveGrid, compression_grid
from prunegrid.orchestrator.report.section import ProtocolSection


class CompressionCurves(ProtocolSection):
    """Accuracies against the nominal and the effective rate and the speed-up."""

    order = 340
    title = "What compression buys"
    template = """\
{% call m.figure(figure) %}
The same accuracies against the rate that was asked for (nominal), the rate that the remaining
weights give (effective) and, where recorded, the theoretical speed-up.
{% endcall %}
"""

    def figure(self, part: Part) -> CurveGrid:
        return compression_grid(part)


SECTION = CompressionCurves()
