"""Dense models' security curves from results that are there: a store's rows, whoever made them, or
the files of the paper's authors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from prunegrid.orchestrator.authors.oddities import first_five
from prunegrid.orchestrator.authors.raw_results import AuthorRun, read_authors_file
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.report.eps_levels import PAPER_EPS
from prunegrid.orchestrator.store.frames import read_rows
from prunegrid.orchestrator.store.rows import WITHIN
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import (
    Calibration,
    Rule,
    SecurityCurve,
    calibrate_curve,
    nearest_curve,
    norm_of,
)
from prunegrid.orchestrator.tuning.objective import Floats
from prunegrid.workers import layout

#: Below it a distance is rounding: the authors' C&W leaves misclassified images not quite at 0.
_MISCLASSIFIED = 1e-3


def authors_curves(paths: Sequence[Path], rule: Rule) -> list[Calibration]:
    """Beside the published eps. Raises UsageError where a file has another form, EpsLevelsError."""
    runs = [s.run for path in paths for s in first_five(read_authors_file(path).runs)]
    dense = [run for run in runs if run.rate == min(r.rate for r in runs)]
    out = []
    for architecture in dict.fromkeys(run.architecture for run in dense):
        mine = [run for run in dense if run.architecture == architecture]
        curves = list(_nearest_curves(architecture, mine))
        clean = curves[0].clean if curves else float(np.mean([run.accuracy for run in mine]))
        curves += _fixed_curves(architecture, mine, clean)
        present = PAPER_EPS.get(architecture, {})
        out += [
            calibrate_curve(curve, tuple(map(float, present.get(curve.attack, ()))), rule)
            for curve in curves
        ]
    return out


def _nearest_curves(architecture: str, runs: Sequence[AuthorRun]) -> Iterable[SecurityCurve]:
    for attack in dict.fromkeys(name for run in runs for name in run.minimum):
        found = [m.distance for run in runs if (m := run.minimum.get(attack)) is not None]
        if found:
            together = np.concatenate(found)
            distances = np.where(together > _MISCLASSIFIED, together, 0.0)
            yield nearest_curve(architecture, attack, distances, models=len(found), within=False)


def _fixed_curves(
    architecture: str, runs: Sequence[AuthorRun], clean: float
) -> list[SecurityCurve]:
    """At the eps that every run of the architecture was attacked with."""
    out = []
    for attack in dict.fromkeys(name for run in runs for name in run.fixed):
        mine = [run.fixed[attack] for run in runs if attack in run.fixed]
        rows = [
            {float(f"{e:.9g}"): 1 - s for e, s in zip(found.eps, found.success_rate, strict=True)}
            for found in mine
        ]
        common = sorted(set.intersection(*(set(row) for row in rows)))
        points = {eps: float(np.mean([row[eps] for row in rows])) for eps in common}
        if points:
            out.append(
                SecurityCurve(
                    architecture=architecture,
                    attack=attack,
                    norm=norm_of(attack),
                    clean=clean,
                    models=len(mine),
                    points=points,
                )
            )
    return out


# --------------------------------------------------------------------------- any store


def stored_curves(store: Store, rule: Rule) -> list[Calibration]:
    """Of the lowest rate's models, protocol by protocol where there are several: the first one's.
    Raises StoreError where the store has no such rows, EpsLevelsError."""
    cells = read_rows(store.files, layout.CELL_ROWS)
    if cells.empty:
        raise StoreError(f"{store.address}: no cells yet; expected those of the dense models")
    cells = cells[cells["rate"] == cells["rate"].min()]
    cells = cells[cells["protocol"] == cells["protocol"].iloc[0]]
    cells = cells.sort_values("finds", ascending=False, kind="stable")
    images = read_rows(store.files, layout.IMAGE_ROWS)
    out, clean = [], dict[str, float]()
    # Minimum-norm attacks first: imported rows of fixed-eps ones know no clean accuracy.
    for place, part in cells.groupby(["finds", "architecture", "attack"], sort=False):
        _, architecture, attack = map(str, place)
        present = tuple(sorted({float(eps) for eps in part["eps"]}))
        norm, models = str(part["norm"].iloc[0]), part["model_key"].nunique()
        if part["finds"].iloc[0] == "minimum-norm":
            distances = _distances(images, part)
            # Rows that record no rule counted as the authors did.
            within = part["broken_at"].iloc[0] == WITHIN
            curve = nearest_curve(
                architecture, attack, distances, models=models, norm=norm, within=within
            )
            clean[architecture] = curve.clean
        else:
            mean = part.groupby("eps")["robust_accuracy"].mean()
            points = {float(str(eps)): float(value) for eps, value in mean.items()}
            own = float(part["clean_accuracy"].mean())
            curve = SecurityCurve(
                architecture=architecture,
                attack=attack,
                norm=norm,
                clean=clean.get(architecture, max(points.values())) if math.isnan(own) else own,
                models=models,
                points=points,
            )
        out.append(calibrate_curve(curve, present, rule))
    return sorted(out, key=lambda found: found.curve.architecture)


def _distances(images: pd.DataFrame, cells: pd.DataFrame) -> Floats:
    keys = {key for row in cells["task_keys"] for key in row}
    mine = images[images["task_key"].isin(keys)]
    if mine.empty:
        mine = images[
            images["model_key"].isin(set(cells["model_key"]))
            & images["attack"].isin(set(cells["algorithm"]))
        ]
    found = mine["distance"].to_numpy(float)
    return np.where(found > _MISCLASSIFIED, found, 0.0)
