from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import SETTING, records
from prunegrid.orchestrator.report.section import ProtocolSection

_BY = [*SETTING, "protocol", "attack", "engine"]


class AttackPasses(ProtocolSection):
    """What each attack asks of the network."""

    order = 370
    title = "Passes of the attacks"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        passes = _passes(analysis)
        return {} if passes.empty else {"attack_passes": passes}

    def values(self, part: Part) -> Mapping[str, object] | None:
        rows = list(records(part.rows(_passes(part.analysis))))
        return {"rows": rows} if rows else None


def _passes(analysis: Analysis) -> pd.DataFrame:
    """Of each attack whose rows count them: mean `forward` and `backward` passes of an image (and
    eps), and `flat`, the share of images at which its own loss had no slope somewhere."""
    cells = analysis.results.cells.dropna(subset="backward_mean")
    found: pd.DataFrame = (
        cells.groupby(_BY, sort=True)
        .agg(
            forward=("queries_mean", "mean"),
            backward=("backward_mean", "mean"),
            flat=("flat_loss_frac", "mean"),
        )
        .reset_index()
    )
    return found


SECTION = AttackPasses()
