"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StoreFinding:
    name: str  #: the kind of finding
    where: str  #: the file, or the task
    message: str
    count: int = 1  #: how many things it is about
