"""`api/timeline.json`: who ran what when, and how long workers were idle. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.store.history import AttemptRecord
from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import AttackTask, PruneTask, network_label

#: A browser needs a second to draw 5 000 bars.
BARS = 500
#: Where there are more, each worker's share of time in that many steps is told instead, and
#: so many of the bars.
STEPS = 120
LISTED = 60
NOT_PLACED = "(not known yet)"


def timeline_payload(
    bars: Sequence[AttemptRecord],
    plan: Plan | None,
    *,
    now_s: float,
    since_s: float | None = None,
    until_s: float | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Bars that overlap the window, newest first; "coarse" where there are too many. Without a
    window: from the first bar until `now_s`. `only`: tasks that the filter lets through; None:
    all."""
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
    drawn = shown if len(shown) <= BARS else shown[:LISTED]
    workers = sorted({bar.worker or NOT_PLACED for bar in shown}, key=_natural)
    until_now_s = min(until_s, now_s)
    coarse = None if drawn is shown else _coarse(shown, workers, since_s, until_now_s)
    return {
        "workers": workers,
        "bars": [_bar(bar, plan) for bar in drawn],
        "coarse": coarse,
        "idle_frac": _idle(inside, since_s, until_now_s),
        "cut": len(shown) - len(drawn),
        "since_s": round(since_s, 3),
        "until_s": round(until_s, 3),
    }


def _natural(name: str) -> list[tuple[str, int]]:
    """node-2 before node-10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d{0,18})", name)]


def _coarse(
    bars: Sequence[AttemptRecord], workers: Sequence[str], since_s: float, until_s: float
) -> dict[str, Any]:
    """Per worker and step: the percentage of it that attempts filled, and [step, failures] where
    attempts failed."""
    edges = np.linspace(0, until_s - since_s, STEPS + 1)
    step_s = max((until_s - since_s) / STEPS, 1e-9)
    starts: dict[str, list[float]] = defaultdict(list)
    ends: dict[str, list[float]] = defaultdict(list)
    failed: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for bar in bars:
        name = bar.worker or NOT_PLACED
        end_s = until_s if bar.end_s is None else bar.end_s
        starts[name].append(bar.start_s - since_s)
        ends[name].append(end_s - since_s)
        if bar.outcome == "failed" and since_s <= end_s <= until_s:
            failed[name][min(STEPS - 1, int((end_s - since_s) / step_s))] += 1
    busy = []
    for name in workers:
        filled_s = np.diff(_elapsed(starts[name], edges) - _elapsed(ends[name], edges))
        busy.append(np.clip(np.rint(100 * filled_s / step_s), 0, 100).astype(int).tolist())
    return {
        "step_s": step_s,
        "busy": busy,
        "failed": [sorted([*one] for one in failed[name].items()) for name in workers],
    }


def _elapsed(moments: Sequence[float], at: np.ndarray) -> np.ndarray:
    """At each of `at`: the sum over past `moments` of the seconds since."""
    ordered = np.sort(np.asarray(moments))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    past = np.searchsorted(ordered, at)
    return np.asarray(past * at - sums[past])


def _name(key: str, plan: Plan | None) -> str:
    """In a few words; an attack's network too."""
    task = plan.tasks.get(key) if plan else None
    if task is None or plan is None:
        return key
    parent = plan.tasks.get(task.parent_key) if isinstance(task, AttackTask) else None
    if isinstance(task, AttackTask) and isinstance(parent, PruneTask):
        images = f"{task.start}..{task.stop - 1}"
        network = f"{parent.pruning.method} {parent.pruning.rate:g}, seed {task.seed}"
        return f"{attack_name(task.attack)} on {network_label(task)} {network}, images {images}"
    return short(task)


def _bar(one: AttemptRecord, plan: Plan | None) -> dict[str, Any]:
    return {
        "worker": one.worker or NOT_PLACED,
        "key": one.key,
        "kind": one.key.partition("-")[0],
        "name": _name(one.key, plan),
        "start_s": round(one.start_s, 3),
        "end_s": None if one.end_s is None else round(one.end_s, 3),
        "outcome": one.outcome,
        "class": one.kind,
    }


def _idle(bars: list[AttemptRecord], since_s: float, until_s: float) -> dict[str, float]:
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
