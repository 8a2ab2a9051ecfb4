"""Where a model or cell is in a grid, and the names of the rows there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunegrid.workers.keys import digest


@dataclass(frozen=True, kw_only=True)
class ModelCoordinates:
    """Which model of a grid."""

    architecture: str
    dataset: str
    variant: str  #: a named bundle of training and pruning settings; "standard" is the plain one
    method: str
    rate: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class CellCoordinates:
    """Which cell: a model, attacked."""

    model: ModelCoordinates
    protocol: str
    attack: str  #: the grid's label for the attack
    eps: float  #: in the norm's units; L-infinity and L2 with pixels in [0, 1]


def model_id(place: ModelCoordinates, task_key: str) -> str:
    """`model-<place>-<work>`: one row per place; other work at the same place supersedes it."""
    return f"model-{digest(place, length=12)}-{digest(task_key, length=8)}"


def cell_id(place: CellCoordinates, task_keys: Sequence[str]) -> str:
    """`cell-<place>-<work>`, the work being the attack tasks (shards) that it rests on."""
    return f"cell-{digest(place, length=12)}-{digest(sorted(task_keys), length=8)}"


def place_of(row_id: str) -> str:
    """The part of a row's name that two rows of one place share."""
    return row_id.rpartition("-")[0]
