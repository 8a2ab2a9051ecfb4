from __future__ import annotations

from collections.abc import Mapping

from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.curves import CurveGrid, protocol_grid
from prunegrid.orchestrator.report.section import ExperimentSection


class Protocols(ExperimentSection):
    """One experiment under its protocols, where it has several."""

    order = 400
    title = "Protocols side by side"
    template = """\
{% call m.figure(figure) %}
The same trained models under each protocol: only the attacks differ.
{% endcall %}
"""

    def figure(self, part: Part) -> CurveGrid | None:
        return protocol_grid(part) if len(part.by_protocol()) > 1 else None

    def values(self, part: Part) -> Mapping[str, object] | None:
        return {} if len(part.by_protocol()) > 1 else None


SECTION = Protocols()
