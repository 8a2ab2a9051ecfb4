"""At which eps the authors' minimum-norm attacks are scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunegrid.orchestrator.authors.file import Run
from prunegrid.orchestrator.report.eps_levels import PAPER_EPS

_SHARES = (0.2, 0.4, 0.6, 0.8)


def minimum_eps(architecture: str, runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    """Per minimum-norm attack of the runs, ascending: the paper's eps of that architecture, or,
    where it has none, distances at which the unpruned models lose a fifth, two fifths, ... of
    the images that they get right, rounded to two digits."""
    out = {}
    for attack in sorted({name for run in runs for name in run.minimum}):
        known = PAPER_EPS.get(architecture, {}).get(attack)
        out[attack] = known if known is not None else _from_dense(attack, runs)
    return {attack: tuple(map(float, eps)) for attack, eps in out.items()}


def _from_dense(attack: str, runs: Sequence[Run]) -> tuple[float, ...]:
    lowest = min(run.rate for run in runs)
    parts = [
        found.distance
        for run in runs
        if run.rate == lowest and (found := run.minimum.get(attack)) is not None
    ]
    distances = np.concatenate(parts) if parts else np.empty(0)
    distances = distances[np.isfinite(distances) & (distances > 1e-3)]  # 0: misclassified
    if not len(distances):
        return ()
    rounded = {float(f"{value:.2g}") for value in np.quantile(distances, _SHARES)}
    return tuple(sorted(rounded))
