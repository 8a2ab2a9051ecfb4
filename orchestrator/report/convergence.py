"""Would more steps have broken more images? Compares an attack with itself at twice the steps
(Carlini et al., On Evaluating Adversarial Robustness, 2019, section 5 on convergence).

A grid asks for it by a second label: `pgd_linf_x2: {attack: pgd_linf, steps: 80}`. That label
is a check, not another adversary: averages and worst cases leave it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from prunegrid.orchestrator.plan.convergence_checks import DoubledSteps
from prunegrid.orchestrator.report.attack_rows import Convergence, doubling_steps
from prunegrid.orchestrator.report.evidence import TaskImages, rows_of
from prunegrid.orchestrator.report.results import (
    PLACE,
    SETTING,
    Results,
    groups,
    records,
)

#: Share of a model's images that twice the steps may break anew.
TOLERANCE_FRAC = 0.01


def without_checks(results: Results, pairs: Collection[DoubledSteps]) -> Results:
    """The results without the cells of doubled labels."""
    cells = results.cells
    gone = np.zeros(len(cells), bool)
    for pair in pairs:
        gone |= (
            (cells["protocol"] == pair.protocol) & (cells["attack"] == pair.doubled)
        ).to_numpy()
    kept = cells[~gone].reset_index(drop=True)
    checks = [(pair.protocol, pair.doubled) for pair in pairs]
    places = zip(results.transfers["protocol"], results.transfers["attack"], strict=True)
    there = np.array([place not in checks for place in places], dtype=bool)
    shown = results.transfers[there].reset_index(drop=True)
    return replace(results, cells=kept, transfers=shown)


_COLUMNS = [*SETTING, "protocol", "attack", "doubled", "steps", "norm", "eps", "models", "robust"]
_COLUMNS += ["robust_doubled", "largest_drop", "converged"]


def convergence_table(
    results: Results, images: Mapping[str, TaskImages], pairs: Collection[DoubledSteps]
) -> pd.DataFrame:
    """Per setting, pair and eps: `models` that both runs attacked, their mean `robust` and
    `robust_doubled` accuracy, the `largest_drop` of a model, and how many `converged` (twice the
    steps break at most TOLERANCE_FRAC of the images anew)."""
    rows = []
    for pair in pairs:
        mine = results.cells[results.cells["protocol"] == pair.protocol]
        for place, part in groups(mine, SETTING):
            found: dict[tuple[str, float], list[Convergence]] = {}
            for norm, each in _models(part, images, pair):
                found.setdefault((norm, each.eps), []).append(each)
            for (norm, eps), models in sorted(found.items()):
                once = np.array([c.robust for c in models])
                twice = np.array([c.robust_doubled for c in models])
                drop, converged = float((once - twice).max()), sum(c.converged for c in models)
                names = (*place, pair.protocol, pair.once, pair.doubled, pair.steps, norm, eps)
                rows.append((*names, len(models), once.mean(), twice.mean(), drop, converged))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _models(
    cells: pd.DataFrame, images: Mapping[str, TaskImages], pair: DoubledSteps
) -> Iterator[tuple[str, Convergence]]:
    for _, part in groups(cells, [*PLACE, "seed"]):
        sides, shared = [], []
        for label in (pair.once, pair.doubled):
            mine = part[part["attack"] == label]
            if mine.empty:
                break
            first = next(records(mine))
            sides.append(rows_of(images, first))
            shared.append([float(eps) for eps in mine["eps"]])
        if len(sides) < 2 or sides[0] is None or sides[1] is None:
            continue
        both = [eps for eps in shared[0] if eps in shared[1]]
        try:
            done = doubling_steps(sides[0], sides[1], both, tolerance_frac=TOLERANCE_FRAC)
        except (ValueError, KeyError):
            continue
        yield from ((sides[0].norm, each) for each in done)
