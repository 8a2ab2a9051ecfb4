"""What `verify` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunegrid.orchestrator.store.mixed_provenance import MixedValues


@dataclass(frozen=True, kw_only=True)
class StoreFinding:
    name: str  #: the kind of finding
    where: str  #: the file, or the task
    message: str
    count: int = 1  #: how many things it is about


class StoreFindings(list[StoreFinding]):
    """What one look over a store doubts."""

    mixed: tuple[MixedValues, ...] = ()  #: no doubt, but a warning: rows made by other code
    notes: Sequence[str] = ()  #: what could not be checked
