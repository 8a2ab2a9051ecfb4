"""The heat map with one square per model or cell: of 100 000, so a letter each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.dashboard.axes import number_text
from prunegrid.orchestrator.dashboard.plan_index import STATES, Axes, Bools, Floats
from prunegrid.orchestrator.dashboard.snapshot import Snapshot

EACH = ("model", "cell")
#: By state: done, waiting, running, blocked, failed.
LETTERS = np.array([name[0] for name in STATES], dtype="U1")
#: Shades of a value from 0 to 1: base64's digits.
SHADES = np.array(
    list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), dtype="U1"
)
NOTHING = "."
_THREAT = ("protocol", "attack", "eps")


def told_apart(
    snapshot: Snapshot,
    squares: Sequence[dict[str, Any]],
    *,
    models: Bools,
    cells: Bools,
    value: str | None,
    each: str,
) -> dict[str, Any]:
    """Adds "each" to the squares, and "shades" with a value: texts of len(threats) rows by
    len(seeds) columns. Returns the seeds and threats, which are the columns and rows.

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
    threats, row = _threats(axes, numbers) if by_cell else ([{}], np.zeros(len(numbers), np.intp))
    place = np.stack([axes.codes[axis][numbers] for axis in ("method", "rate")])
    groups, group = np.unique(place, axis=1, return_inverse=True)
    shape = (groups.shape[1], len(threats), len(seeds))
    where = (group.reshape(-1), row, column.reshape(-1))
    letters = _texts(shape, where, LETTERS[states])
    shades = _texts(shape, where, _shaded(values)) if value else [None] * shape[0]
    found = {
        (axes.names["method"][m], axes.names["rate"][r]): (letters[i], shades[i])
        for i, (m, r) in enumerate(groups.T.tolist())
    }
    empty = NOTHING * (shape[1] * shape[2])
    for square in squares:
        text, shade = found.get((square["method"], square["rate"]), (empty, empty))
        square["each"] = text
        if value:
            square["shades"] = shade
    return {"seeds": [axes.names["seed"][code] for code in seeds], "threats": threats}


def _threats(
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


def _texts(
    shape: tuple[int, int, int],
    where: tuple[NDArray[np.intp], ...],
    letters: NDArray[np.str_],
) -> list[str]:
    out = np.full(shape, NOTHING, dtype="U1")
    out[where] = letters
    return ["".join(one.ravel().tolist()) for one in out]


def _shaded(values: Floats) -> NDArray[np.str_]:
    known = ~np.isnan(values)
    steps = np.clip(np.nan_to_num(values) * (len(SHADES) - 1) + 0.5, 0, len(SHADES) - 1)
    return np.where(known, SHADES[steps.astype(np.intp)], NOTHING)
