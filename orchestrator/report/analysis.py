"""All that a report says, computed once from a store's rows. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from prunegrid.orchestrator.grid.coordinates import CellCoordinates
from prunegrid.orchestrator.report.comparison import SideComparison, compare_stores
from prunegrid.orchestrator.report.convergence import convergence_table, without_checks
from prunegrid.orchestrator.report.evidence import NO_EVIDENCE, Evidence
from prunegrid.orchestrator.report.limits import Limit, limits, margin_rows
from prunegrid.orchestrator.report.masking import flat_curves, with_gradient_free
from prunegrid.orchestrator.report.missing import missing_cells
from prunegrid.orchestrator.report.paper import PaperComparison, compare_with_paper
from prunegrid.orchestrator.report.per_image import worst_per_image
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.strategies import Strategy, strategies
from prunegrid.orchestrator.report.sweet_spots import sweet_cells, sweet_models
from prunegrid.orchestrator.report.tables import cell_table, clean_table, worst_table

#: What results stand beside: the published tables, or another store's results.
Against: TypeAlias = Literal["paper"] | Results


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    results: Results
    clean: pd.DataFrame  #: `clean_table`
    cells: pd.DataFrame  #: `cell_table`
    worst: pd.DataFrame  #: `worst_table`
    worst_images: pd.DataFrame  #: `worst_per_image`
    convergence: pd.DataFrame  #: `convergence_table`
    sweet: pd.DataFrame  #: `sweet_cells`
    sweet_models: pd.DataFrame
    strategies: list[Strategy]
    margins: pd.DataFrame  #: `margin_rows`
    limits: list[Limit]
    flat: pd.DataFrame  #: `flat_curves`
    missing: pd.DataFrame  #: `missing_cells`
    wanted: int  #: cells that should be there
    paper: tuple[PaperComparison, ...] | None  #: None: not asked for
    stores: tuple[SideComparison, ...] | None

    def flat_attacks(self, s: Strategy) -> list[str]:
        """Attacks under which the chosen model's curve is suspiciously flat, of those that the
        choice rests on."""
        mine = s.setting.rows(self.flat)
        mine = mine[(mine["protocol"] == s.protocol) & (mine["method"] == s.method)]
        attacks = mine.loc[mine["rate"] == s.rate, "attack"]
        return sorted(str(a) for a in attacks if s.attack in ("", a))


def analyse(
    results: Results,
    *,
    planned: Collection[CellCoordinates] | None = None,
    against: Against | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Analysis:
    """`planned`: the cells that a grid asks for; without it, all combinations that occur."""
    convergence = convergence_table(results, evidence.images, evidence.doubled)
    results = with_gradient_free(without_checks(results, evidence.doubled), evidence.images)
    checks = {(pair.protocol, pair.doubled) for pair in evidence.doubled}
    if planned is not None:
        planned = [cell for cell in planned if (cell.protocol, cell.attack) not in checks]
    clean, cells = clean_table(results), cell_table(results)
    sweet = sweet_cells(clean, cells)
    missing = missing_cells(results, planned)
    margins = margin_rows(results, clean)
    return Analysis(
        results=results,
        clean=clean,
        cells=cells,
        worst=worst_table(results),
        worst_images=worst_per_image(results, evidence.images),
        convergence=convergence,
        sweet=sweet,
        sweet_models=sweet_models(sweet, margins),
        strategies=strategies(results, clean),
        margins=margins,
        limits=limits(margins),
        flat=flat_curves(cells),
        missing=missing,
        wanted=len(results.cells) + len(missing) if planned is None else len(planned),
        paper=compare_with_paper(results) if isinstance(against, str) else None,
        stores=compare_stores(results, against) if isinstance(against, Results) else None,
    )
