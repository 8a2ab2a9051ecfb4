"""The outcome of a search: its trials, the best of them, and rivals on the held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunegrid.orchestrator.tuning.objective import Comparison, Floats
from prunegrid.orchestrator.tuning.study import Study
from prunegrid.orchestrator.tuning.trials import TrialRole, TrialRow
from prunegrid.workers.keys import Scalar


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Settings on the held-out images, beside the tuned ones."""

    role: TrialRole
    options: Mapping[str, Scalar]
    queries_mean: float
    distances: Floats  #: [models, images]
    comparison: Comparison | None  #: of the tuned ones against these; None for themselves


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    study: Study
    trials: Mapping[int, TrialRow]
    best: TrialRow
    rivals: tuple[Rival, ...]  #: the tuned ones first; () for training
