"""`/metrics`: the status as Prometheus reads it (text format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from prunegrid.orchestrator.dashboard.snapshot import Snapshot

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
    gauge("tasks_failed", "Tasks given up.", len(snapshot.failed))
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
