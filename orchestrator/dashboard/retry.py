"""`POST api/retry`: what a viewer asks, as a request for the driver."""

from __future__ import annotations

import re

from prunegrid.orchestrator.dashboard.filters import view_of
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.errors import PrunegridError, UsageError, expected
from prunegrid.orchestrator.grid.selection import names_like
from prunegrid.orchestrator.store.requests import VERSION, Request, parse_request
from prunegrid.workers.decode import parse_json

_TASK = re.compile(r"(train|prune|attack)-[0-9a-f]{4,20}")
_MOST = 1000
_FIELDS = ("select", "tasks", "failed")


class RefusedError(PrunegridError):
    """This server, or this viewer, may not write."""


def parse_retry(snapshot: Snapshot, content: bytes) -> Request:
    """Raises UsageError for a body that asks for nothing, or for what the plan lacks."""
    if snapshot.index is None or snapshot.problem is not None:
        raise UsageError("the store can't be read: nothing to retry")
    try:
        raw = parse_json(content)
    except ValueError:
        raise UsageError("expected a JSON object") from None
    if not isinstance(raw, dict):
        raise UsageError("expected a JSON object")
    for name in raw:
        if name not in _FIELDS:
            raise UsageError(f"field: {expected(_FIELDS, name)}")
    fields = {name: _as_texts(name, value) for name, value in raw.items()}
    try:
        request = parse_request({"version": VERSION, "kind": "retry", "by": "dashboard", **fields})
    except ValueError as error:
        raise UsageError(str(error)) from error
    view_of(snapshot.index, request.select)  # refuses what the plan has not
    for task in request.tasks:
        if not _TASK.fullmatch(task):
            raise UsageError(f"tasks: expected task keys or their first letters, got {task!r}")
        if not names_like(task, snapshot.index.keys):
            raise UsageError(f"tasks: {task!r} names no task of the store's grid")
    if not (request.select or request.tasks or request.failed):
        raise UsageError("expected a select, tasks, or failed: true")
    return request


def _as_texts(name: str, value: object) -> object:
    """`value` with numbers in its lists as texts, as a page has the rates; without empty lists of
    a selection. Raises UsageError for a list that is too long."""
    if isinstance(value, dict):
        parts = {axis: _as_texts(f"{name}.{axis}", part) for axis, part in value.items()}
        return {axis: part for axis, part in parts.items() if part != []}
    if not isinstance(value, list):
        return value
    if len(value) > _MOST:
        raise UsageError(f"{name}: expected a list of at most {_MOST} texts")
    return [
        str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one
        for one in value
    ]
