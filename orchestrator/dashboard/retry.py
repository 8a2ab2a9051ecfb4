"""`POST api/retry`: what a viewer asks, checked, becomes a request file for the driver."""

from __future__ import annotations

import json
import re
from typing import Any

from prunegrid.orchestrator.dashboard.filters import view_of
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.errors import PrunegridError, UsageError, expected
from prunegrid.orchestrator.grid.grid import AXES
from prunegrid.orchestrator.grid.selection import names_like
from prunegrid.orchestrator.store.requests import Request, write_request
from prunegrid.workers.files import Files

_TASK = re.compile(r"(train|prune|attack)-[0-9a-f]{4,20}")
_MOST = 1000
_FIELDS = ("select", "tasks", "failed")


class RefusedError(PrunegridError):
    """The server takes no such request from there."""


def take_request(files: Files, snapshot: Snapshot, content: bytes) -> str:
    """Returns the request's name. Raises UsageError for a body that asks for nothing or for what
    the plan has not, StorageError where the store can't be written."""
    request = parse_request(snapshot, content)
    return write_request(files, request)


def parse_request(snapshot: Snapshot, content: bytes) -> Request:
    """Raises UsageError."""
    if snapshot.index is None or snapshot.problem is not None:
        raise UsageError("the store can't be read: nothing to retry")
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError("expected a JSON object") from None
    if not isinstance(raw, dict):
        raise UsageError("expected a JSON object")
    for name in raw:
        if name not in _FIELDS:
            raise UsageError(f"field: {expected(_FIELDS, name)}")
    failed = raw.get("failed", False)
    if not isinstance(failed, bool):
        raise UsageError(f"failed: expected true or false, got {failed!r}")
    select = _selection(raw.get("select", {}))
    view_of(snapshot.index, select)  # refuses what the plan has not
    tasks = _texts("tasks", raw.get("tasks", []))
    for task in tasks:
        if not _TASK.fullmatch(task):
            raise UsageError(f"tasks: expected task keys or their first letters, got {task!r}")
        if not names_like(task, snapshot.index.keys):
            raise UsageError(f"tasks: {task!r} names no task of the store's grid")
    if not (select or tasks or failed):
        raise UsageError("expected a select, tasks, or failed: true")
    return Request(kind="retry", by="dashboard", select=select, tasks=tasks, failed=failed)


def _selection(raw: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise UsageError("select: expected axis -> values")
    for axis in raw:
        if axis not in AXES:
            raise UsageError(f"select: {expected(AXES, axis)}")
    return {axis: values for axis, v in raw.items() if (values := _texts(f"select.{axis}", v))}


def _texts(name: str, raw: Any) -> tuple[str, ...]:
    """Numbers count as texts: a page has the rates as numbers."""
    plain = isinstance(raw, list) and len(raw) <= _MOST
    if not plain or not all(
        isinstance(one, str | int | float) and not isinstance(one, bool) for one in raw
    ):
        raise UsageError(f"{name}: expected a list of at most {_MOST} texts")
    return tuple(str(one) for one in raw)
