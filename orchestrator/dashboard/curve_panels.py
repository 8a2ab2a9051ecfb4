"""`api/curves.json`: security curves with intervals, of what is finished so far. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prunegrid.orchestrator.dashboard.filters import view_of
from prunegrid.orchestrator.dashboard.heatmap import number
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.names import eps_text
from prunegrid.orchestrator.plan.plan_index import Axes, Bools, Floats, PlanIndex
from prunegrid.orchestrator.report.statistics import accuracy_interval, half_width
from prunegrid.orchestrator.report.style import look_of
from prunegrid.workers.catalog import attack_of

_PANEL = ("architecture", "variant", "protocol", "attack", "eps")
DENSE = 1.0


def curves_payload(snapshot: Snapshot, selection: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Panels in the plan's order; clean accuracy first, as the attack null. Intervals are
    the report's, at 95 % over seeds; null where there is none. Raises UsageError."""
    index = snapshot.index
    if index is None:
        return {"panels": [], "looks": {}}
    view = view_of(index, selection)
    panels = list(_panels(index.model_axes, _PANEL[:2], view.models, snapshot.model_value))
    if index.plan.cells:
        panels += _panels(index.cell_axes, _PANEL, view.cells, snapshot.cell_value)
    norms = _norms(index)
    for panel in panels:
        norm = norms.get((panel["architecture"], panel["protocol"], panel["attack"]))
        panel["norm"] = norm
        panel["eps_text"] = eps_text(norm, panel["eps"]) if norm else None
    looks = {str(m): _look(str(m)) for m in index.model_axes.names["method"]}
    return {"panels": panels, "looks": looks}


def _look(method: str) -> dict[str, str]:
    """As in the report's figures; plotly's names."""
    look = look_of(method)
    return {"colour": look.colour, "dash": look.dash, "symbol": look.symbol}


def _norms(index: PlanIndex) -> dict[tuple[str, str, str], str]:
    out = {}
    for architecture in index.plan.grid.architectures:
        for attack in architecture.attacks:
            if entry := attack_of(attack.settings):
                out[architecture.name, attack.protocol, attack.label] = str(entry.norm)
    return out


def _panels(
    axes: Axes, by: tuple[str, ...], mask: Bools, values: Floats
) -> Iterator[dict[str, Any]]:
    mask = mask & ~np.isnan(values)
    if not mask.any():
        return
    levels = (*by, "method", "rate")
    codes = np.stack([axes.codes[axis][mask] for axis in levels])
    groups, where = np.unique(codes, axis=1, return_inverse=True)
    where = where.reshape(-1)
    n = np.bincount(where)
    mean = np.bincount(where, weights=values[mask]) / n
    squares = np.bincount(where, weights=(values[mask] - mean[where]) ** 2)
    sd = np.sqrt(np.divide(squares, n - 1, out=np.full(len(n), np.nan), where=n > 1))
    low, high = accuracy_interval(mean, half_width(n.astype(float), sd))
    places = groups[: len(by)]
    edges = np.flatnonzero(np.any(np.diff(places, axis=1) != 0, axis=0)) + 1
    for columns in np.split(np.arange(groups.shape[1]), edges):
        place = {axis: axes.names[axis][groups[i, columns[0]]] for i, axis in enumerate(by)}
        lines: dict[str, dict[str, Any]] = {}
        dense = []
        for j in columns:
            method = str(axes.names["method"][groups[-2, j]])
            rate = float(axes.names["rate"][groups[-1, j]])
            empty: dict[str, Any] = {"rate": [], "mean": [], "low": [], "high": [], "n": []}
            line = lines.setdefault(method, {"method": method, **empty})
            line["rate"].append(rate)
            line["mean"].append(number(mean[j]))
            line["low"].append(number(low[j]))
            line["high"].append(number(high[j]))
            line["n"].append(int(n[j]))
            if rate == DENSE:
                dense.append(mean[j])
        nothing = dict.fromkeys(_PANEL)
        yield {
            **nothing,
            **place,
            "lines": list(lines.values()),
            "dense": number(float(np.mean(dense))) if dense else None,
        }
