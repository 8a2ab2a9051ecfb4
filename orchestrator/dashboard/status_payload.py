"""`api/status.json`: the numbers of `prunegrid status --json`, and what the page's head shows."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from prunegrid.orchestrator.dashboard.axes import axes_payload
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.plan.plan_index import count_states

#: At most so many names are listed; the counts are complete.
NAMES = 200


def status_payload(snapshot: Snapshot, *, can_retry: bool) -> dict[str, Any]:
    """JSON-ready. Counts are 0 where no plan could be read yet."""
    numbers = snapshot.to_json()
    trouble = numbers["trouble"]
    return {
        **numbers,
        "running": numbers["running"][:NAMES],
        "failed": numbers["failed"][:NAMES],
        "trouble": {**trouble, "failed": trouble["failed"][:NAMES]},
        # What follows is the page's own.
        "state": snapshot.state,
        "problem": snapshot.problem,
        "models_by_state": count_states(snapshot.model_state()),
        "rate": {
            "now_per_min": round(snapshot.rate.now_per_min, 2),
            "expected_per_min": _rounded(snapshot.rate.expected_per_min, 2),
            "spark": list(snapshot.rate.spark),
        },
        "workers": asdict(snapshot.workers),
        "problems": [asdict(problem) for problem in snapshot.problems],
        "unread_files": snapshot.unread_files,
        "can_retry": can_retry,
        "axes": axes_payload(snapshot.index),
        "version": _version(),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, digits)


def _version() -> str:
    try:
        return version("prunegrid")
    except PackageNotFoundError:
        return "0"
