"""`/metrics`: the status as Prometheus reads it (text format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from prunegrid.orchestrator.dashboard.snapshot import Snapshot

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(snapshot: Snapshot, status: dict[str, Any]) -> bytes:
    """`status`: `status_payload` of the same snapshot."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(snapshot, status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    """One status, as gauges."""

    def __init__(self, snapshot: Snapshot, status: dict[str, Any]) -> None:
        self._snapshot = snapshot
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        snapshot, status = self._snapshot, self._status
        info = {name: status[name] for name in ("grid", "version", "state")}
        gauge = GaugeMetricFamily("prunegrid_info", "What is watched.", labels=tuple(info))
        gauge.add_metric(list(info.values()), 1)
        yield gauge
        yield _gauge("store_readable", "1: the store can be read.", not status["problem"])
        yield _gauge("driver_alive", "1: a driver holds it.", status["driver"]["alive"])
        yield _gauge("models", "Models of the plan.", status["models"])
        yield _gauge("cells", "Cells of the plan.", status["cells"])
        yield _gauge("cells_done", "Cells with a result.", status["cells_done"])
        yield _gauges("tasks", "Tasks of the plan.", "kind", status["tasks"])
        yield _gauge("tasks_done", "Tasks with a result.", status["done"])
        yield _gauge("tasks_remaining", "Tasks that must run yet.", status["remaining"])
        yield _gauge("tasks_running", "Tasks that run.", len(snapshot.running))
        yield _gauge("tasks_failed", "Tasks whose attempts are used up.", len(snapshot.failed))
        for what in ("tasks", "cells"):
            text = f"{what.capitalize()} by state."
            yield _gauges(f"{what}_by_state", text, "state", status[f"{what}_by_state"])
        yield _range("eta_seconds", "Until the last task ends, as a range.", status["eta_s"])
        measured = status["eta_measured_frac"]
        yield _gauge("eta_measured_ratio", "Share of it that rests on measurements.", measured)
        yield _gauge("work_seconds", "Slot-seconds left.", status["work_s"])
        rate = status["rate"]
        yield _gauge("tasks_per_minute", "Over the last minutes.", rate["now_per_min"])
        if (expected := rate["expected_per_min"]) is not None:
            yield _gauge("tasks_per_minute_expected", "By durations.", expected)
        workers = status["workers"]
        yield _gauge("workers_busy", "Slots that run a task.", workers["busy"])
        yield _gauge("workers_slots", "Slots there are.", workers["slots"])
        yield _gauge("gpus_busy", "GPUs that run a task.", workers["gpus_busy"])
        yield _gauge("gpus", "GPUs there are.", workers["gpus"])
        if cost := status["cost"]:
            yield _gauge("cost_spent", "In the currency of price_per_hour.", cost["spent"])
            yield _range("cost_to_come", "As a range.", cost["to_come"])
        yield _gauge("data_age_seconds", "Since the last sign of life.", status["data_age_s"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"prunegrid_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"prunegrid_{name}", text, labels=(label,))
    for one, value in values.items():
        gauge.add_metric([one], value)
    return gauge


def _range(name: str, text: str, bounds: tuple[float, float]) -> GaugeMetricFamily:
    return _gauges(name, text, "bound", dict(zip(("low", "high"), bounds, strict=True)))
