"""The status: for the page, as `api/status.json`, and for Prometheus, as `/metrics`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from prunegrid.orchestrator.dashboard.filters import axes_payload
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.plan.plan_index import count_states

#: At most so many names are listed; the counts are complete.
NAMES = 200
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  #: of the metrics


def status_payload(snapshot: Snapshot, *, can_retry: bool) -> dict[str, Any]:
    """The numbers of `prunegrid status --json`, and what the page's head shows. Counts
    are 0 where no plan could be read yet."""
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


def metrics_text(snapshot: Snapshot, status: dict[str, Any]) -> bytes:
    """`status`: `status_payload` of the same snapshot."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"prunegrid_{name}", text, registry=registry).set(value)

    def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> None:
        family = Gauge(f"prunegrid_{name}", text, labelnames=(label,), registry=registry)
        for one, value in values.items():
            family.labels(one).set(value)

    def bounds(name: str, text: str, ends: tuple[float, float]) -> None:
        gauges(name, text, "bound", dict(zip(("low", "high"), ends, strict=True)))

    info = {name: status[name] for name in ("grid", "version", "state")}
    Gauge("prunegrid_info", "What is watched.", labelnames=tuple(info), registry=registry).labels(
        **info
    ).set(1)
    gauge("store_readable", "1: the store can be read.", not status["problem"])
    gauge("driver_alive", "1: a driver holds it.", status["driver"]["alive"])
    gauge("models", "Models of the plan.", status["models"])
    gauge("cells", "Cells of the plan.", status["cells"])
    gauge("cells_done", "Cells with a result.", status["cells_done"])
    gauges("tasks", "Tasks of the plan.", "kind", status["tasks"])
    gauge("tasks_done", "Tasks with a result.", status["done"])
    gauge("tasks_remaining", "Tasks that must run yet.", status["remaining"])
    gauge("tasks_running", "Tasks that run.", len(snapshot.running))
    gauge("tasks_failed", "Tasks whose attempts are used up.", len(snapshot.failed))
    for what in ("tasks", "cells"):
        text = f"{what.capitalize()} by state."
        gauges(f"{what}_by_state", text, "state", status[f"{what}_by_state"])
    bounds("eta_seconds", "Until the last task ends, as a range.", status["eta_s"])
    measured = status["eta_measured_frac"]
    gauge("eta_measured_ratio", "Share of it that rests on measurements.", measured)
    gauge("work_seconds", "Slot-seconds left.", status["work_s"])
    rate = status["rate"]
    gauge("tasks_per_minute", "Over the last minutes.", rate["now_per_min"])
    if (expected := rate["expected_per_min"]) is not None:
        gauge("tasks_per_minute_expected", "By durations.", expected)
    workers = status["workers"]
    gauge("workers_busy", "Slots that run a task.", workers["busy"])
    gauge("workers_slots", "Slots there are.", workers["slots"])
    gauge("gpus_busy", "GPUs that run a task.", workers["gpus_busy"])
    gauge("gpus", "GPUs there are.", workers["gpus"])
    if cost := status["cost"]:
        gauge("cost_spent", "In the currency of price_per_hour.", cost["spent"])
        bounds("cost_to_come", "As a range.", cost["to_come"])
    gauge("data_age_seconds", "Since the last sign of life.", status["data_age_s"])
    return generate_latest(registry)
