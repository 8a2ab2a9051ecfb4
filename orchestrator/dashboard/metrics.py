"""`/metrics`: the status as Prometheus reads it (text format 0.0.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from prunegrid.orchestrator.dashboard.snapshot import Snapshot

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(snapshot: Snapshot, status: dict[str, Any]) -> str:
    """`status`: of the same snapshot; every number here is one of its numbers."""
    return "".join(f"{line}\n" for line in _lines(snapshot, status))


def _lines(snapshot: Snapshot, status: dict[str, Any]) -> Iterator[str]:
    info = {"grid": status["grid"], "version": status["version"], "state": status["state"]}
    yield from _gauge("info", "What is watched.", [(info, 1)])
    yield from _gauge("store_readable", "1: the store can be read.", int(not status["problem"]))
    yield from _gauge("driver_alive", "1: a driver holds it.", int(status["driver"]["alive"]))
    yield from _gauge("models", "Models of the plan.", status["models"])
    yield from _gauge("cells", "Cells of the plan.", status["cells"])
    yield from _gauge("cells_done", "Cells with a result.", status["cells_done"])
    kinds = [({"kind": kind}, count) for kind, count in status["tasks"].items()]
    yield from _gauge("tasks", "Tasks of the plan.", kinds)
    yield from _gauge("tasks_done", "Tasks with a result.", status["done"])
    yield from _gauge("tasks_remaining", "Tasks that must run yet.", status["remaining"])
    yield from _gauge("tasks_running", "Tasks that run.", len(snapshot.running))
    yield from _gauge("tasks_failed", "Tasks given up.", len(snapshot.failed))
    for what in ("tasks", "cells"):
        states = [({"state": s}, n) for s, n in status[f"{what}_by_state"].items()]
        yield from _gauge(f"{what}_by_state", f"{what.capitalize()} by state.", states)
    bounds = list(zip(("low", "high"), status["eta_s"], strict=True))
    eta = [({"bound": bound}, value) for bound, value in bounds]
    yield from _gauge("eta_seconds", "Until the last task ends, as a range.", eta)
    measured = status["eta_measured_frac"]
    yield from _gauge("eta_measured_ratio", "Share of it that rests on measurements.", measured)
    yield from _gauge("work_seconds", "Slot-seconds left.", status["work_s"])
    rate = status["rate"]
    yield from _gauge("tasks_per_minute", "Over the last minutes.", rate["now_per_min"])
    if rate["expected_per_min"] is not None:
        yield from _gauge("tasks_per_minute_expected", "By durations.", rate["expected_per_min"])
    workers = status["workers"]
    yield from _gauge("workers_busy", "Slots that run a task.", workers["busy"])
    yield from _gauge("workers_slots", "Slots there are.", workers["slots"])
    yield from _gauge("gpus_busy", "GPUs that run a task.", workers["gpus_busy"])
    yield from _gauge("gpus", "GPUs there are.", workers["gpus"])
    if cost := status["cost"]:
        yield from _gauge("cost_spent", "In the currency of price_per_hour.", cost["spent"])
        to_come = zip(("low", "high"), cost["to_come"], strict=True)
        yield from _gauge(
            "cost_to_come", "As a range.", [({"bound": bound}, value) for bound, value in to_come]
        )
    yield from _gauge("data_age_seconds", "Since the last sign of life.", status["data_age_s"])


_Values = list[tuple[dict[str, Any], float]]


def _gauge(name: str, text: str, value: float | _Values) -> Iterator[str]:
    full = f"prunegrid_{name}"
    yield f"# HELP {full} {text}"
    yield f"# TYPE {full} gauge"
    for labels, number in value if isinstance(value, list) else [({}, value)]:
        named = ",".join(f'{label}="{_escaped(str(v))}"' for label, v in labels.items())
        shown = "NaN" if math.isnan(number) else repr(number)
        yield f"{full}{{{named}}} {shown}" if named else f"{full} {shown}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
