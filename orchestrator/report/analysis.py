"""Everything that a report shows, computed once from a store's rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import pandas as pd

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.orchestrator.grid.grid import CellCoordinates
from prunegrid.orchestrator.report.comparison import SideComparison, compare_stores
from prunegrid.orchestrator.report.convergence import convergence_table, without_checks
from prunegrid.orchestrator.report.equal_compression import best_at_equal, contrast_table
from prunegrid.orchestrator.report.evidence import NO_EVIDENCE, Evidence
from prunegrid.orchestrator.report.image_fates import (
    class_table,
    flip_table,
    image_table,
    unbroken_table,
)
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes, crossed_margins
from prunegrid.orchestrator.report.masking import flat_curves, with_gradient_free
from prunegrid.orchestrator.report.missing import missing_cells
from prunegrid.orchestrator.report.non_inferiority import (
    NonInferiority,
    margin_rows,
    non_inferiority,
)
from prunegrid.orchestrator.report.paper import PaperComparison, compare_with_paper
from prunegrid.orchestrator.report.results import CELL, Results, Setting
from prunegrid.orchestrator.report.strategies import Strategy, strategies
from prunegrid.orchestrator.report.sweet_spots import sweet_cells, sweet_models
from prunegrid.orchestrator.report.tables import attacked_clean_table, cell_table, clean_table
from prunegrid.orchestrator.report.variants import variant_table
from prunegrid.orchestrator.report.worst_case import worst_per_image, worst_table
from prunegrid.orchestrator.store.mixed_provenance import MixedValues, mixed_values, rows_of
from prunegrid.workers.keys import digest

#: What results stand beside: the published tables, or another store's results.
Against: TypeAlias = Literal["paper"] | Results


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    results: Results
    clean: pd.DataFrame  #: `clean_table`
    cells: pd.DataFrame  #: `cell_table` with `crossed_margins`
    attacked: pd.DataFrame  #: `attacked_clean_table`
    worst: pd.DataFrame  #: `worst_table`
    worst_images: pd.DataFrame  #: `worst_per_image`
    classes: pd.DataFrame  #: `class_table`
    flips: pd.DataFrame  #: `flip_table`
    images: pd.DataFrame  #: `image_table`
    unbroken: pd.DataFrame  #: `unbroken_table`
    variants: pd.DataFrame  #: `variant_table`
    convergence: pd.DataFrame  #: `convergence_table`
    sweet: pd.DataFrame  #: `sweet_cells`
    sweet_models: pd.DataFrame
    strategies: list[Strategy]
    equal: pd.DataFrame  #: `best_at_equal`
    contrast: tuple[str, str] | None  #: the methods that were named; None: none
    contrasts: pd.DataFrame | None  #: `contrast_table` of them
    margins: pd.DataFrame  #: `margin_rows`
    non_inferiority: list[NonInferiority]
    flat: pd.DataFrame  #: `flat_curves`
    missing: pd.DataFrame  #: `missing_cells`
    mixed: tuple[MixedValues, ...]  #: `mixed_values`
    wanted: int  #: cells that should be there
    paper: tuple[PaperComparison, ...] | None  #: None: not asked for
    stores: tuple[SideComparison, ...] | None

    def experiments(self) -> list[Part]:
        settings = enumerate(self.results.settings, start=1)
        return [Part(analysis=self, setting=setting, number=n) for n, setting in settings]

    def parts(self) -> list[Part]:
        """Every experiment under each of its protocols."""
        return [part for experiment in self.experiments() for part in experiment.by_protocol()]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one sentence, table or figure is about: an experiment, under one protocol or all."""

    analysis: Analysis
    setting: Setting
    number: int  #: of the experiment, from 1
    protocol: str = ""  #: "" for all of them
    protocol_number: int = 0

    @property
    def title(self) -> str:
        return self.setting.title + (f", protocol {self.protocol}" if self.protocol else "")

    @property
    def slug(self) -> str:
        """For file names: the coordinates, which may hold anything. With a digest where they hold
        what a file name should not: two that differ have two names, also where case is ignored."""
        names = [*self.setting, *([self.protocol] if self.protocol else [])]
        plain = [re.sub(r"[^A-Za-z0-9]+", "_", name)[:40] or "_" for name in names]
        more = [] if plain == [name.lower() for name in names] else [digest(names, length=6)]
        return "-".join([*plain, *more])

    def anchor(self, kind: str = "") -> str:
        """On the page: `s1` of an experiment, `s1f2` of kind `f` under its second protocol."""
        return f"s{self.number}{kind}{self.protocol_number or ''}"

    def by_protocol(self) -> list[Part]:
        protocols = enumerate(self.analysis.results.protocols(self.setting), start=1)
        return [replace(self, protocol=name, protocol_number=n) for n, name in protocols]

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a frame that belong here; clean accuracies belong to every protocol."""
        mine = self.setting.rows(frame)
        whole = not self.protocol or "protocol" not in mine.columns
        return mine if whole else mine[mine["protocol"] == self.protocol]

    @property
    def strategies(self) -> list[Strategy]:
        place = self.setting, self.protocol
        return [s for s in self.analysis.strategies if (s.setting, s.protocol) == place]

    @property
    def non_inferiority(self) -> list[NonInferiority]:
        place = self.setting, self.protocol
        return [f for f in self.analysis.non_inferiority if (f.setting, f.protocol) == place]

    def flat_attacks(self, s: Strategy) -> list[str]:
        """Attacks under which the chosen model's curve is suspiciously flat, of those that the
        choice rests on."""
        flat = self.rows(self.analysis.flat)
        attacks = flat.loc[(flat["method"] == s.method) & (flat["rate"] == s.rate), "attack"]
        return sorted(str(a) for a in attacks if s.attack in ("", a))


def analyse(
    results: Results,
    *,
    planned: Collection[CellCoordinates] | None = None,
    against: Against | None = None,
    contrast: tuple[str, str] | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Analysis:
    """`planned`: the cells that a grid asks for; without it, all combinations that occur.
    `contrast`: two methods. Raises UsageError where the results lack one of them."""
    for method in contrast or ():
        if method not in (there := set(results.models["method"])):
            raise UsageError(f"contrast: {expected(sorted(there), method)}")
    convergence = convergence_table(results, evidence.images, evidence.doubled)
    results = with_gradient_free(
        without_checks(results, evidence.doubled), evidence.images, evidence.without_gradients
    )
    checks = {(pair.protocol, pair.doubled) for pair in evidence.doubled}
    if planned is not None:
        planned = [cell for cell in planned if (cell.protocol, cell.attack) not in checks]
    outcomes = ImageOutcomes(evidence.images)
    clean, cells = clean_table(results), cell_table(results)
    cells = cells.merge(crossed_margins(results.cells, outcomes), on=CELL, how="left")
    sweet = sweet_cells(clean, cells)
    missing = missing_cells(results, planned)
    margins = margin_rows(results, clean)
    return Analysis(
        results=results,
        clean=clean,
        cells=cells,
        attacked=attacked_clean_table(results),
        worst=worst_table(results),
        worst_images=worst_per_image(results, outcomes),
        classes=class_table(results.cells, outcomes),
        flips=flip_table(results.cells, outcomes),
        images=image_table(results.cells, outcomes),
        unbroken=unbroken_table(results.cells, outcomes),
        variants=variant_table(results),
        convergence=convergence,
        sweet=sweet,
        sweet_models=sweet_models(sweet, margins),
        strategies=strategies(results, clean),
        equal=best_at_equal(results, clean),
        contrast=contrast,
        contrasts=contrast_table(results, clean, outcomes, *contrast) if contrast else None,
        margins=margins,
        non_inferiority=non_inferiority(margins),
        flat=flat_curves(cells),
        missing=missing,
        mixed=mixed_values(rows_of(results.models, results.cells)),
        wanted=len(results.cells) + len(missing) if planned is None else len(planned),
        paper=compare_with_paper(results) if isinstance(against, str) else None,
        stores=compare_stores(results, against) if isinstance(against, Results) else None,
    )
