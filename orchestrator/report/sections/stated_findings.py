from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.findings import findings, findings_of
from prunegrid.orchestrator.report.results import SETTING
from prunegrid.orchestrator.report.section import ProtocolSection


class StatedFindings(ProtocolSection):
    """What to do, in plain words, and the tables that only these sentences show."""

    order = 100
    title = "Findings"
    link = "findings"
    anchor = "f"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        rows = [(*f.setting, f.protocol, f.topic.value, f.text) for f in findings(analysis)]
        return {
            "findings": pd.DataFrame(rows, columns=[*SETTING, "protocol", "topic", "text"]),
            "how_far": analysis.margins,
            "flat_curves": analysis.flat,
        }

    def values(self, part: Part) -> Mapping[str, object]:
        by_topic = groupby(findings_of(part), key=lambda finding: finding.topic.value)
        return {"topics": [(topic, list(found)) for topic, found in by_topic]}


SECTION = StatedFindings()
