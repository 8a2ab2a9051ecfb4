"""`api/grid.json`: method by rate, a facet per architecture, protocol and variant; and
`api/square.json`: the models and cells behind one square. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.dashboard.filters import View, number_text, values_of, view_of
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.orchestrator.plan.plan_index import (
    SHOWN,
    STATES,
    Axes,
    Bools,
    Floats,
    PlanIndex,
    States,
)

EACH = ("model", "cell")
#: By state: done, waiting, running, blocked, failed.
_LETTERS = np.array([name[0] for name in STATES], dtype="U1")
#: Shades of a value from 0 to 1: base64's digits.
_SHADES = np.array(
    list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), dtype="U1"
)
_NO_LETTER = "."
_THREAT = ("protocol", "attack", "eps")
#: Rows listed of one square; "cut" says how many more there are.
ROWS = 1000


def grid_payload(
    snapshot: Snapshot,
    selection: Mapping[str, tuple[str, ...]],
    value: str | None,
    *,
    each: str | None = None,
) -> dict[str, Any]:
    """`value`: "accuracy", "robust:<attack>:<eps>" or None. `each`: "model" or "cell" shows each of
    them in its square. Raises UsageError."""
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
    for facet, part in _facets(index, view):
        threat = part.cells & _threat(index, value) if value and value != "accuracy" else part.cells
        facet["squares"] = _squares_of(snapshot, index, part, threat, value)
        if each:
            add_each(snapshot, facet, models=part.models, cells=threat, value=value, each=each)
        facets.append(facet)
    return {
        "methods": methods,
        "rates": rates,
        "facets": facets,
        "attacks": list(index.cell_axes.names["attack"]) if index.plan.cells else [],
        "eps": _eps(index),
    }


def _used(axes: Axes, axis: str, name: object, mask: Bools) -> bool:
    return bool((axes.mask(axis, [name]) & mask).any())


def _facets(index: PlanIndex, view: View) -> Iterator[tuple[dict[str, Any], View]]:
    """The names of every combination that passes the filter, None for an axis with one value, and
    its part of the view."""
    models, cells = index.model_axes, index.cell_axes
    protocols = cells.names["protocol"] if len(index.plan.cells) else ()
    for architecture in models.names["architecture"]:
        mine = models.mask("architecture", [architecture])
        variants = [v for v in models.names["variant"] if _used(models, "variant", v, mine)]
        for variant in variants:
            here = mine & models.mask("variant", [variant]) & view.models
            if not here.any():
                continue
            place = cells.mask("architecture", [architecture])
            place &= cells.mask("variant", [variant]) & view.cells
            shown = [p for p in protocols if _used(cells, "protocol", p, place)]
            for protocol in shown if len(protocols) > 1 and shown else [None]:
                names = {
                    "architecture": architecture,
                    "protocol": protocol,
                    "variant": variant if len(variants) > 1 else None,
                }
                under = cells.mask("protocol", [protocol]) if protocol else True
                yield names, View(models=here, cells=place & under)


def _squares_of(
    snapshot: Snapshot, index: PlanIndex, part: View, threat: Bools, value: str | None
) -> list[dict[str, Any]]:
    models, cells = part.models, part.cells
    model_counts = _counts(index.model_axes, models, snapshot.model_state())
    cell_counts = _counts(index.cell_axes, cells, snapshot.cell_state)
    accuracy = _means(index.model_axes, models, snapshot.model_value)
    shown = None
    if value == "accuracy":
        shown = accuracy
    elif value:
        shown = _means(index.cell_axes, threat, snapshot.cell_value)
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
    return squares


def _squares(axes: Axes, mask: Bools) -> tuple[NDArray[np.intp], tuple[int, int]]:
    """The number of each one's (method, rate), and the shape of that table."""
    shape = (len(axes.names["method"]), len(axes.names["rate"]))
    code = axes.codes["method"][mask].astype(np.intp) * shape[1] + axes.codes["rate"][mask]
    return code, shape


def _counts(axes: Axes, mask: Bools, states: States) -> NDArray[np.intp]:
    """[methods, rates, states]"""
    code, shape = _squares(axes, mask)
    flat = np.bincount(
        code * len(STATES) + states[mask], minlength=shape[0] * shape[1] * len(STATES)
    )
    return flat.reshape(*shape, len(STATES))


def _means(axes: Axes, mask: Bools, values: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Mean and number of the known values. [methods, rates]"""
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
    return {name: by_name[name] for name in SHOWN}


def number(value: float) -> float | None:
    """JSON has no NaN: a missing value is null."""
    return round(float(value), 5) if math.isfinite(value) else None


# --------------------------------------------------------------------------- one square


def square_payload(
    snapshot: Snapshot, selection: Mapping[str, tuple[str, ...]]
) -> dict[str, list[dict[str, Any]] | int]:
    """`selection` names the square, and may narrow it. Raises UsageError."""
    index = snapshot.index
    if index is None:
        return {"models": [], "cells": [], "cut": 0}
    view = view_of(index, selection)
    names = list(index.model_number)
    states = snapshot.model_state()
    numbers = np.flatnonzero(view.models)
    models = []
    for i in numbers[:ROWS]:
        place = index.plan.models[i].place
        models.append(
            {
                "id": names[i],
                "seed": place.seed,
                "variant": place.variant,
                "state": STATES[states[i]],
                "value": number(snapshot.model_value[i]),
                "diverged": index.plan.models[i].task_key in snapshot.diverged,
                "diverged_later": index.plan.models[i].task_key in snapshot.diverged_later,
                "tasks": [index.plan.models[i].task_key],
            }
        )
    cell_numbers = np.flatnonzero(view.cells)
    cells = []
    for i in cell_numbers[:ROWS]:
        cell = index.plan.cells[i]
        cells.append(
            {
                "id": index.cell_ids[i],
                "seed": cell.place.model.seed,
                "variant": cell.place.model.variant,
                "protocol": cell.place.protocol,
                "attack": cell.place.attack,
                "eps": cell.place.eps,
                "state": STATES[snapshot.cell_state[i]],
                "value": number(snapshot.cell_value[i]),
                "diverged": index.plan.parent(cell.task_keys[0]) in snapshot.diverged,
                "diverged_later": index.plan.parent(cell.task_keys[0]) in snapshot.diverged_later,
                "tasks": list(cell.task_keys),
            }
        )
    cut = len(numbers) - len(models) + len(cell_numbers) - len(cells)
    return {"models": models, "cells": cells, "cut": cut}


# ------------------------------------------------- each model or cell in its square


def add_each(
    snapshot: Snapshot,
    facet: dict[str, Any],
    *,
    models: Bools,
    cells: Bools,
    value: str | None,
    each: str,
) -> None:
    """Adds "each" to a facet's squares, and "shades" with a value: texts of len(threats) rows by
    len(seeds) columns; and to the facet the seeds and threats, which are the columns and rows.

    A model's robust accuracy is that of its cell; its accuracy is its own, also where cells are
    asked for.
    """
    index = snapshot.index
    assert index is not None
    by_cell = bool(len(cells)) and value != "accuracy" and (each == "cell" or value is not None)
    axes = index.cell_axes if by_cell else index.model_axes
    numbers = np.flatnonzero(cells if by_cell else models)
    states = (snapshot.cell_state if by_cell else snapshot.model_state())[numbers]
    values = (snapshot.cell_value if by_cell else snapshot.model_value)[numbers]
    seeds, column = np.unique(axes.codes["seed"][numbers], return_inverse=True)
    threats, row = [dict[str, str]()], np.zeros(len(numbers), np.intp)
    if by_cell:
        threats, row = _threats_of(axes, numbers)
    place = np.stack([axes.codes[axis][numbers] for axis in ("method", "rate")])
    groups, group = np.unique(place, axis=1, return_inverse=True)
    shape = (groups.shape[1], len(threats), len(seeds))
    where = (group.reshape(-1), row, column.reshape(-1))
    letters = _letters_of(shape, where, _LETTERS[states])
    shades = _letters_of(shape, where, _shaded(values)) if value else [None] * shape[0]
    found = {
        (axes.names["method"][m], axes.names["rate"][r]): (letters[i], shades[i])
        for i, (m, r) in enumerate(groups.T.tolist())
    }
    empty = _NO_LETTER * (shape[1] * shape[2])
    for square in facet["squares"]:
        text, shade = found.get((square["method"], square["rate"]), (empty, empty))
        square["each"] = text
        if value:
            square["shades"] = shade
    facet["seeds"] = [axes.names["seed"][code] for code in seeds]
    facet["threats"] = threats


def _threats_of(
    axes: Axes, numbers: NDArray[np.intp]
) -> tuple[list[dict[str, str]], NDArray[np.intp]]:
    codes = np.stack([axes.codes[axis][numbers] for axis in _THREAT])
    found, row = np.unique(codes, axis=1, return_inverse=True)
    threats = [
        {
            "protocol": str(axes.names["protocol"][protocol]),
            "attack": str(axes.names["attack"][attack]),
            "eps": number_text(float(axes.names["eps"][eps])),
        }
        for protocol, attack, eps in found.T.tolist()
    ]
    return threats, row.reshape(-1)


def _letters_of(
    shape: tuple[int, int, int],
    where: tuple[NDArray[np.intp], ...],
    letters: NDArray[np.str_],
) -> list[str]:
    out = np.full(shape, _NO_LETTER, dtype="U1")
    out[where] = letters
    return ["".join(one.ravel().tolist()) for one in out]


def _shaded(values: Floats) -> NDArray[np.str_]:
    known = ~np.isnan(values)
    steps = np.clip(np.nan_to_num(values) * (len(_SHADES) - 1) + 0.5, 0, len(_SHADES) - 1)
    return np.where(known, _SHADES[steps.astype(np.intp)], _NO_LETTER)
