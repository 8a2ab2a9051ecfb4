"""Which attacked images stand, model by model, and tests that pair them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunegrid.orchestrator.report.attack_rows import AttackRows
from prunegrid.orchestrator.report.crossed import crossed_t
from prunegrid.orchestrator.report.evidence import TaskImages, rows_of
from prunegrid.orchestrator.report.moderated import false_discovery
from prunegrid.orchestrator.report.results import CELL, SETTING, groups, records
from prunegrid.orchestrator.report.statistics import Floats, holm
from prunegrid.orchestrator.report.tables import DENSE


class Standing(NamedTuple):
    """One model under one threat, or the mean of several."""

    images: NDArray[np.int64]  #: indices in the split, ascending
    robust: Floats  #: of each image: 1 where it stands, 0 where it is broken


class ImageOutcomes:
    """Standings by cell. An attack's rows are joined once, however many eps they serve."""

    def __init__(self, images: Mapping[str, TaskImages]) -> None:
        self._images = images
        self._rows: dict[tuple[str, ...], AttackRows | None] = {}

    def rows(self, cell: Any) -> AttackRows | None:
        """`cell`: a record of the cells. None where image rows are missing."""
        key = (str(cell.broken_at), *cell.task_keys)
        if key not in self._rows:
            self._rows[key] = rows_of(self._images, cell)
        return self._rows[key]

    def labels(self, cell: Any) -> NDArray[np.int64]:
        """True classes [images], -1 where they are not recorded, of a cell that has image rows.
        Raises KeyError for another."""
        rows = self.rows(cell)
        if rows is None:
            raise KeyError(f"no image rows of {cell.task_keys}")
        return rows.labels

    def of(self, cell: Any) -> Standing | None:
        """None also where a fixed-eps attack was not run at the cell's eps."""
        rows = self.rows(cell)
        try:
            return None if rows is None else Standing(rows.images, 1.0 * rows.robust(cell.eps))
        except KeyError:
            return None


def mean_standing(standings: Iterable[Standing | None]) -> Standing | None:
    """Of one model under several threats; None where one is missing or saw other images."""
    known = list(standings)
    if not known or any(s is None for s in known):
        return None
    first, *others = [s for s in known if s is not None]
    if any(not np.array_equal(first.images, s.images) for s in others):
        return None
    return Standing(first.images, np.mean([first.robust, *(s.robust for s in others)], axis=0))


def paired_differences(
    ours: Mapping[int, Standing | None], theirs: Mapping[int, Standing | None]
) -> Floats | None:
    """[seeds, images], of the seeds that both sides have; by seed. None where a seed lacks image
    rows, or two saw different images."""
    seeds = sorted(set(ours) & set(theirs))
    pairs = [(a, b) for seed in seeds if (a := ours[seed]) and (b := theirs[seed])]
    if not seeds or len(pairs) < len(seeds):
        return None
    images = pairs[0][0].images
    if any(not np.array_equal(images, side.images) for pair in pairs for side in pair):
        return None
    return np.array([a.robust - b.robust for a, b in pairs])


def margin_images(
    cells: pd.DataFrame, outcomes: ImageOutcomes
) -> Iterator[tuple[tuple[Any, ...], Floats | None]]:
    """(CELL, its `paired_differences` to the dense model) of every cell at a rate above 1.
    `cells`: rows of single seeds."""
    found: dict[tuple[Any, ...], dict[int, Standing | None]] = {}
    for cell in records(cells[[*CELL, "seed", "broken_at", "task_keys"]]):
        place = tuple(getattr(cell, name) for name in CELL)
        found.setdefault(place, {})[int(cell.seed)] = outcomes.of(cell)
    rate = CELL.index("rate")
    for place, seeds in found.items():
        if place[rate] != DENSE:
            dense = found.get((*place[:rate], DENSE, *place[rate + 1 :]), {})
            yield place, paired_differences(seeds, dense)


def crossed_margins(cells: pd.DataFrame, outcomes: ImageOutcomes) -> pd.DataFrame:
    """Per CELL at a rate above 1: its margin to the dense model, tested over seeds and images where
    it has image rows. `crossed_half`, `p_crossed`; `p_crossed_holm` and `p_crossed_fdr` of all
    cells of a setting and protocol. `cells`: rows of single seeds."""
    columns = ["crossed_half", "p_crossed", "p_crossed_holm", "p_crossed_fdr"]
    parts = [cells[CELL].head(0).assign(**dict.fromkeys(columns, 0.0))]
    for _, family in groups(cells, [*SETTING, "protocol"]):
        margins = list(margin_images(family, outcomes))
        tested = crossed_t([differences for _, differences in margins])
        values = (tested.half, tested.p, holm(tested.p), false_discovery(tested.p))
        if margins:
            frame = pd.DataFrame([place for place, _ in margins], columns=CELL)
            parts.append(frame.assign(**dict(zip(columns, values, strict=True))))
    return pd.concat(parts[1:]) if len(parts) > 1 else parts[0]
