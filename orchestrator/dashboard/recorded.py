"""What a store keeps of failed attempts: tracebacks, and what their processes printed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from orchestrator.dashboard.failures import TAIL_CHARACTERS
from workers import layout
from workers.files import Files, StorageError

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
    try:
        infos = sorted(files.list(f"{layout.FAILURES}/{key}"), key=lambda info: info.mtime_s)
        for info in infos[-_MOST_ATTEMPTS:]:
            try:
                raw = json.loads(files.read(info.path))
                out[int(raw["attempt"])] = Recorded(
                    traceback=str(raw["traceback"])[-_MOST_CHARACTERS:],
                    log=str(raw.get("log", ""))[-_MOST_CHARACTERS:],
                )
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
                continue
    except StorageError:
        pass
    return out
