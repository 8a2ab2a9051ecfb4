from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import CELL, records
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.statistics import TINY, accuracy_over_seeds


class PixelDistances(ProtocolSection):
    """L0 by pixel beside L0 by element, where images have several channels."""

    order = 375
    title = "L0 by pixel"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        found = _by_pixel(analysis)
        return {} if found.empty else {"l0_by_pixel": found}

    def values(self, part: Part) -> Mapping[str, object] | None:
        rows = list(records(part.rows(_by_pixel(part.analysis))))
        return {"rows": rows} if rows else None


def _by_pixel(analysis: Analysis) -> pd.DataFrame:
    """Per CELL whose rows know both: n, mean, sd, half, low, high over seeds of robust accuracy by
    pixel, and `by_element`, its mean by element. None of an experiment where both are the same, as
    with one channel."""
    cells = analysis.results.cells.dropna(subset="robust_accuracy_pixels")
    apart = (cells["robust_accuracy_pixels"] - cells["robust_accuracy"]).abs() > TINY
    cells = cells[apart.groupby(cells["architecture"]).transform("any")]
    out = accuracy_over_seeds(cells, CELL, "robust_accuracy_pixels")
    element = cells.groupby(CELL)["robust_accuracy"].mean().rename("by_element").reset_index()
    return out.merge(element, on=CELL, how="left")


SECTION = PixelDistances()
