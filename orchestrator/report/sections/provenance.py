from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.section import ReportSection

#: Values of one column that are named.
SHOWN = 6


class ProvenanceTable(ReportSection):
    """Where the rows come from."""

    order = 900

    def values(self, analysis: Analysis) -> Mapping[str, object]:
        models, cells = analysis.results.models, analysis.results.cells
        rows = []
        for column in (
            "git_revision",
            "code_digest",
            "versions",
            "device",
            "threads",
            "arithmetic",
            "host",
        ):
            values = pd.concat([models[column], cells[column]]).dropna().astype(str)
            counts = values[values != ""].value_counts()
            listed = ", ".join(f"{value} ({n})" for value, n in counts.head(SHOWN).items())
            more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
            rows.append((column.replace("_", " "), listed + more or "not recorded"))
        how = cells[["attack", "protocol", "engine", "outputs", "split"]].drop_duplicates()
        rows += [
            (
                f"{h.attack}, {h.protocol}",
                f"{h.engine} engine, through {h.outputs}, on {h.split} images",
            )
            for h in records(how)
        ]
        return {"rows": rows}


SECTION = ProvenanceTable()
