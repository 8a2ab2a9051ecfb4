"""`api/status.json`: the numbers of `prunegrid status --json`, and what the page's head shows."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from prunegrid.orchestrator.dashboard.axes import axes_payload
from prunegrid.orchestrator.dashboard.plan_index import DONE
from prunegrid.orchestrator.dashboard.snapshot import Snapshot, by_state
from prunegrid.orchestrator.scheduling.trouble import Trouble
from prunegrid.workers.contract import TaskKind

#: More names than this are not listed: counts say how many there are.
NAMES = 200


def status_payload(snapshot: Snapshot, *, can_retry: bool) -> dict[str, Any]:
    """JSON-ready. Where no plan could be read yet the counts are 0."""
    index, eta = snapshot.index, snapshot.eta
    wanted = snapshot.needed | (snapshot.task_state == DONE)
    holder = snapshot.holder
    return {
        "grid": index.plan.grid.name if index else "",
        "models": len(index.plan.models) if index else 0,
        "cells": len(index.plan.cells) if index else 0,
        "tasks": index.kinds if index else dict.fromkeys(map(str, TaskKind), 0),
        "done": int((snapshot.task_state == DONE).sum()),
        "remaining": snapshot.remaining,
        "cells_done": int((snapshot.cell_state == DONE).sum()),
        "running": sorted(snapshot.running)[:NAMES],
        "failed": sorted(snapshot.failed)[:NAMES],
        "trouble": _trouble(snapshot.trouble),
        "driver": {"alive": snapshot.alive, **(asdict(holder) if holder else {})},
        "eta_s": [round(eta.low_s, 1), round(eta.high_s, 1)] if eta else [0.0, 0.0],
        "eta_measured_frac": round(eta.measured_frac, 3) if eta else 0.0,
        "critical_s": round(eta.critical_s, 1) if eta else 0.0,
        "work_s": round(eta.work_s, 1) if eta else 0.0,
        "slots": snapshot.slots,
        "paused": None if snapshot.pause is None else asdict(snapshot.pause),
        "hours": snapshot.bill.get("hours"),
        "cost": snapshot.bill.get("cost"),
        "at_s": round(snapshot.at_s, 3),
        # What follows is the page's own.
        "state": snapshot.state,
        "problem": snapshot.problem,
        "data_age_s": round(snapshot.data_age_s, 1),
        "tasks_by_state": by_state(snapshot.task_state[wanted]),
        "cells_by_state": by_state(snapshot.cell_state),
        "models_by_state": by_state(snapshot.model_state()),
        "rate": {
            "now_per_min": round(snapshot.rate.now_per_min, 2),
            "expected_per_min": _rounded(snapshot.rate.expected_per_min, 2),
            "spark": list(snapshot.rate.spark),
        },
        "workers": asdict(snapshot.workers),
        "problems": [asdict(problem) for problem in snapshot.problems],
        "unread_files": snapshot.unread_files,
        "can_retry": can_retry,
        "axes": axes_payload(index),
        "version": _version(),
    }


def _trouble(trouble: Trouble) -> dict[str, Any]:
    raw = asdict(trouble)
    return {**raw, "quarantined": raw["quarantined"][:NAMES]}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, digits)


def _version() -> str:
    try:
        return version("prunegrid")
    except PackageNotFoundError:
        return "0"
