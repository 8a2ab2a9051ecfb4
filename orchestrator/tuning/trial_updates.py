"""What passes between a search and its trials on Ray Tune's actors."""

from __future__ import annotations

from dataclasses import dataclass

from prunegrid.orchestrator.tuning.rows import Score
from prunegrid.orchestrator.tuning.study import Study
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.runner import Runner


@dataclass(frozen=True, kw_only=True)
class TrialWork:
    """All that a trial needs to know."""

    study: Study
    settings: WorkerSettings
    runner: Runner


@dataclass(frozen=True, kw_only=True)
class TrialUpdate:
    """A trial's standing at the end of a rung, or its end."""

    trial: int
    score: Score | None  #: None where it failed
    over_budget: bool
    ended: bool
    error: str = ""
