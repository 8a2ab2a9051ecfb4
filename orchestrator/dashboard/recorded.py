"""What a store keeps of failed attempts: tracebacks, and what their processes printed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from prunegrid.orchestrator.dashboard.failures import TAIL_CHARACTERS
from prunegrid.orchestrator.store.failures import read_failures
from prunegrid.workers.files import Files, StorageError

_MOST_ATTEMPTS = 20
_MOST_CHARACTERS = 4 * TAIL_CHARACTERS


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Ends of both, plain text."""

    traceback: str
    log: str


NOTHING = Recorded(traceback="", log="")


def recorded(files: Files, key: str) -> dict[int, Recorded]:
    """By attempt of a task that failed, as last recorded, oldest first; torn records are left
    out."""
    out = {}
    with contextlib.suppress(StorageError):
        for raw in read_failures(files, key, last=_MOST_ATTEMPTS):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                out[int(raw["attempt"])] = Recorded(
                    traceback=str(raw["traceback"])[-_MOST_CHARACTERS:],
                    log=str(raw.get("log", ""))[-_MOST_CHARACTERS:],
                )
    return out
