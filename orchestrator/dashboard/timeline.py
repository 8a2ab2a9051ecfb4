"""`api/timeline.json`: who ran what when, and how long workers were idle. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from orchestrator.dashboard.run_log import Try
from orchestrator.plan.dag import Plan
from orchestrator.plan.descriptions import short

#: A browser needs a second to draw 5 000 bars.
BARS = 500
NOT_PLACED = "(not known yet)"


def timeline_payload(
    bars: Sequence[Try],
    plan: Plan | None,
    *,
    now_s: float,
    since_s: float | None = None,
    until_s: float | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Bars that overlap the window, newest first. Without a window: from the first
    bar until `now_s`. `only`: tasks that the filter lets through; None: all."""
    until_s = now_s if until_s is None else until_s
    if since_s is None:
        since_s = min((bar.start_s for bar in bars), default=until_s)
    inside = [
        bar
        for bar in bars
        if bar.start_s <= until_s and (bar.end_s is None or bar.end_s >= since_s)
    ]
    shown = inside if only is None else [bar for bar in inside if bar.key in only]
    shown = sorted(shown, key=lambda bar: bar.start_s, reverse=True)
    drawn = [_bar(bar, plan) for bar in shown[:BARS]]
    return {
        "workers": sorted({bar["worker"] for bar in drawn}),
        "bars": drawn,
        "idle_frac": _idle(inside, since_s, min(until_s, now_s)),
        "cut": max(0, len(shown) - BARS),
        "since_s": round(since_s, 3),
        "until_s": round(until_s, 3),
    }


def _bar(one: Try, plan: Plan | None) -> dict[str, Any]:
    task = plan.tasks.get(one.key) if plan else None
    return {
        "worker": one.worker or NOT_PLACED,
        "key": one.key,
        "kind": one.key.partition("-")[0],
        "name": one.key if task is None else short(task),
        "start_s": round(one.start_s, 3),
        "end_s": None if one.end_s is None else round(one.end_s, 3),
        "outcome": one.outcome,
        "class": one.kind,
    }


def _idle(bars: list[Try], since_s: float, until_s: float) -> dict[str, float]:
    """Share of the window in which each worker that ran anything ran nothing."""
    busy: dict[str, float] = defaultdict(float)
    for bar in bars:
        if bar.worker:
            end_s = until_s if bar.end_s is None else bar.end_s
            busy[bar.worker] += max(0.0, min(end_s, until_s) - max(bar.start_s, since_s))
    span_s = until_s - since_s
    if span_s <= 0:
        return {}
    return {name: round(max(0.0, 1 - s / span_s), 4) for name, s in sorted(busy.items())}
