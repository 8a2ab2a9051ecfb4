"""`requests/`: what people ask of a driver, perhaps a running one, as small files in the store.

A file is written whole, under a name that sorts by time; the driver takes it up, says so in its
journal, and moves it to `requests/done/`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from workers.files import Files

FOLDER = "requests"
DONE = "requests/done"
_VERSION = 1
_KINDS = ("retry", "pause", "resume")


@dataclass(frozen=True, kw_only=True)
class Request:
    """`select`, `tasks` and `failed` are about a retry: all that any of them names."""

    kind: Literal["retry", "pause", "resume"]
    by: str  #: "cli" or "dashboard"
    select: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: axis -> values
    tasks: tuple[str, ...] = ()  #: first letters of task keys
    failed: bool = False  #: only tasks that were given up


def write_request(files: Files, request: Request) -> str:
    """Returns the file's name. Raises StorageError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    name = f"{stamp}-{secrets.token_hex(4)}.json"
    raw = {
        "version": _VERSION,
        "kind": request.kind,
        "select": {axis: list(values) for axis, values in request.select.items()},
        "tasks": list(request.tasks),
        "failed": request.failed,
        "by": request.by,
    }
    files.write(f"{FOLDER}/{name}", json.dumps(raw).encode())
    return name


def read_requests(files: Files) -> list[tuple[str, Request]]:
    """(name, request) of what waits, oldest first; what is torn or not ours is left out."""
    out = []
    for info in sorted(files.list(FOLDER), key=lambda info: info.path):
        name = info.path.removeprefix(f"{FOLDER}/")
        if "/" in name or not name.endswith(".json"):
            continue
        try:
            out.append((name, _parsed(json.loads(files.read(info.path)))))
        except (ValueError, TypeError, AttributeError, KeyError, FileNotFoundError):
            continue
    return out


def _parsed(raw: Any) -> Request:
    if raw["version"] != _VERSION or raw["kind"] not in _KINDS:
        raise ValueError("not a request of this version")
    return Request(
        kind=raw["kind"],
        by=str(raw.get("by", "")),
        select={str(a): tuple(map(str, v)) for a, v in raw.get("select", {}).items()},
        tasks=tuple(map(str, raw.get("tasks", ()))),
        failed=bool(raw.get("failed", False)),
    )
