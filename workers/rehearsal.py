"""A rehearsal of a grid, as the driver and its child process speak of it: see `rehearse.py`."""

from __future__ import annotations

from dataclasses import dataclass

from prunegrid.workers.contract import AttackTask, PruneTask, TrainTask

IMAGES = 2  #: that an attack gets


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """One network of a grid, on its data set."""

    label: str
    dense: TrainTask
    pruned: tuple[PruneTask, ...]
    attacked: tuple[tuple[str, AttackTask], ...]  #: with the grid's label of each
    data_dir: str | None = None


@dataclass(frozen=True, kw_only=True)
class RehearsedPart:
    """What was tried, and how it went."""

    where: tuple[str, ...]  #: the keys of its place in the grid file
    what: str
    took_s: float
    error: str = ""  #: one line; "" where it went well
    parameters: int = 0  #: of a network that was built
    note: str = ""  #: what else there is to say of it
