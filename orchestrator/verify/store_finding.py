"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StoreFinding:
    name: str  #: what kind of doubt
    where: str  #: the file, or the task
    message: str
    count: int = 1  #: of the things that it is about
