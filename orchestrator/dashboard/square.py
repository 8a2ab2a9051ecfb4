"""`api/square.json`: the models and cells behind one square of the heat map. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from prunegrid.orchestrator.dashboard.filters import view_of
from prunegrid.orchestrator.dashboard.plan_index import STATES
from prunegrid.orchestrator.dashboard.snapshot import Snapshot

#: A square of a grid with hundreds of seeds is cut here; "cut" says by how many.
ROWS = 1000


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
                "tasks": list(cell.task_keys),
            }
        )
    cut = len(numbers) - len(models) + len(cell_numbers) - len(cells)
    return {"models": models, "cells": cells, "cut": cut}


def number(value: float) -> float | None:
    """JSON has no NaN: a missing value is null."""
    return round(float(value), 5) if math.isfinite(value) else None
