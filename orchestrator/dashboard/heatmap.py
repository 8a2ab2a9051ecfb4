"""`api/grid.json`: method by rate, a facet per architecture, protocol and variant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.dashboard.each import EACH, told_apart
from prunegrid.orchestrator.dashboard.filters import View, values_of, view_of
from prunegrid.orchestrator.dashboard.plan_index import STATES, Axes, Bools, Floats, PlanIndex
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.dashboard.square import number
from prunegrid.orchestrator.errors import UsageError, expected

_SHOWN = ("done", "running", "waiting", "blocked", "failed")


@dataclass(frozen=True, kw_only=True)
class _Facet:
    """Names, and their codes on the axes; None: all."""

    architecture: str
    protocol: str | None
    variant: str | None


def grid_payload(
    snapshot: Snapshot,
    selection: Mapping[str, tuple[str, ...]],
    value: str | None,
    *,
    each: str | None = None,
) -> dict[str, Any]:
    """`value`: "accuracy", "robust:<attack>:<eps>" or None. `each`: "model" or "cell" tells each of
    them apart in a square. Raises UsageError."""
    index = snapshot.index
    if each and each not in EACH:
        raise UsageError(f"each: {expected(EACH, each)}")
    if index is None:
        return {"methods": [], "rates": [], "facets": [], "attacks": [], "eps": {}}
    view = view_of(index, selection)
    axes = index.model_axes
    methods = [m for m in axes.names["method"] if _used(axes, "method", m, view.models)]
    rates = [r for r in axes.names["rate"] if _used(axes, "rate", r, view.models)]
    facets = []
    for facet in _facets(index, view):
        told = _facet_payload(snapshot, index, view, facet, value)
        if each:
            models = view.models & _part(index.model_axes, facet, protocol=False)
            cells = view.cells & _part(index.cell_axes, facet, protocol=True)
            if value and value != "accuracy":
                cells &= _threat(index, value)
            told |= told_apart(
                snapshot, told["squares"], models=models, cells=cells, value=value, each=each
            )
        facets.append(told)
    return {
        "methods": methods,
        "rates": rates,
        "facets": facets,
        "attacks": list(index.cell_axes.names["attack"]) if index.plan.cells else [],
        "eps": _eps(index),
    }


def _used(axes: Axes, axis: str, name: object, mask: Bools) -> bool:
    return bool((axes.mask(axis, [name]) & mask).any())


def _facets(index: PlanIndex, view: View) -> Iterator[_Facet]:
    """Every combination that the filter leaves; an axis with one value is not named."""
    models, cells = index.model_axes, index.cell_axes
    protocols = cells.names["protocol"] if len(index.plan.cells) else ()
    many = len(protocols) > 1
    for architecture in models.names["architecture"]:
        mine = models.mask("architecture", [architecture])
        variants = [v for v in models.names["variant"] if _used(models, "variant", v, mine)]
        for variant in variants:
            here = mine & models.mask("variant", [variant]) & view.models
            if not here.any():
                continue
            named = str(variant) if len(variants) > 1 else None
            shown: list[str | None] = [None]
            if many:
                place = cells.mask("architecture", [architecture])
                place &= cells.mask("variant", [variant]) & view.cells
                shown = [str(p) for p in protocols if _used(cells, "protocol", p, place)] or [None]
            for protocol in shown:
                yield _Facet(architecture=str(architecture), protocol=protocol, variant=named)


def _facet_payload(
    snapshot: Snapshot, index: PlanIndex, view: View, facet: _Facet, value: str | None
) -> dict[str, Any]:
    models = view.models & _part(index.model_axes, facet, protocol=False)
    cells = view.cells & _part(index.cell_axes, facet, protocol=True)
    model_counts = _counts(index.model_axes, models, snapshot.model_state())
    cell_counts = _counts(index.cell_axes, cells, snapshot.cell_state)
    accuracy = _means(index.model_axes, models, snapshot.model_value)
    shown = None
    if value == "accuracy":
        shown = accuracy
    elif value:
        mask = cells & _threat(index, value)
        shown = _means(index.cell_axes, mask, snapshot.cell_value)
    squares = []
    names = index.model_axes.names
    for m, method in enumerate(names["method"]):
        for r, rate in enumerate(names["rate"]):
            if not model_counts[m, r].any():
                continue
            mean, n = accuracy
            square: dict[str, Any] = {
                "method": method,
                "rate": rate,
                "models": _named(model_counts[m, r]),
                "cells": _named(cell_counts[m, r]),
                "accuracy": number(mean[m, r]),
                "accuracy_n": int(n[m, r]),
            }
            if shown is not None:
                square["value"], square["n"] = number(shown[0][m, r]), int(shown[1][m, r])
            squares.append(square)
    return {
        "architecture": facet.architecture,
        "protocol": facet.protocol,
        "variant": facet.variant,
        "squares": squares,
    }


def _part(axes: Axes, facet: _Facet, *, protocol: bool) -> Bools:
    out = axes.mask("architecture", [facet.architecture])
    if facet.variant is not None:
        out &= axes.mask("variant", [facet.variant])
    if protocol and facet.protocol is not None:
        out &= axes.mask("protocol", [facet.protocol])
    return out


def _squares(axes: Axes, mask: Bools) -> tuple[NDArray[np.intp], tuple[int, int]]:
    """A number of the (method, rate) of each; their shape."""
    shape = (len(axes.names["method"]), len(axes.names["rate"]))
    code = axes.codes["method"][mask].astype(np.intp) * shape[1] + axes.codes["rate"][mask]
    return code, shape


def _counts(axes: Axes, mask: Bools, states: NDArray[np.int8]) -> NDArray[np.intp]:
    """[methods, rates, states]"""
    code, shape = _squares(axes, mask)
    flat = np.bincount(
        code * len(STATES) + states[mask], minlength=shape[0] * shape[1] * len(STATES)
    )
    return flat.reshape(*shape, len(STATES))


def _means(axes: Axes, mask: Bools, values: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Mean and number of the values that are there. [methods, rates]"""
    mask = mask & ~np.isnan(values)
    code, shape = _squares(axes, mask)
    size = shape[0] * shape[1]
    n = np.bincount(code, minlength=size)
    total = np.bincount(code, weights=values[mask], minlength=size)
    mean = np.divide(total, n, out=np.full(size, np.nan), where=n > 0)
    return mean.reshape(shape), n.reshape(shape)


def _threat(index: PlanIndex, value: str) -> Bools:
    """[cells] of `robust:<attack>:<eps>`; an attack's name may hold colons itself."""
    head, _, rest = value.partition(":")
    attack, _, eps = rest.rpartition(":")
    if head != "robust" or not attack:
        raise UsageError(f"value: expected accuracy or robust:<attack>:<eps>, got {value!r}")
    axes = index.cell_axes
    wanted = axes.mask("attack", values_of(axes, "attack", [attack]))
    return wanted & axes.mask("eps", values_of(axes, "eps", [eps]))


def _eps(index: PlanIndex) -> dict[str, dict[str, list[float]]]:
    """What each architecture is attacked with."""
    out: dict[str, dict[str, list[float]]] = {}
    for architecture in index.plan.grid.architectures:
        for attack in architecture.attacks:
            known = out.setdefault(architecture.name, {}).setdefault(attack.label, [])
            known.extend(eps for eps in attack.eps if eps not in known)
    return out


def _named(counts: NDArray[np.intp]) -> dict[str, int]:
    by_name = dict(zip(STATES, counts.tolist(), strict=True))
    return {name: by_name[name] for name in _SHOWN}
