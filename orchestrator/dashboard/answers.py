"""Every answer of the API by name and query, for the server and for the static export."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import QueryParams

from prunegrid.orchestrator.dashboard.drill import cell_payload
from prunegrid.orchestrator.dashboard.failure_groups import failures_payload, recorded_failures
from prunegrid.orchestrator.dashboard.filters import tasks_of, view_of
from prunegrid.orchestrator.dashboard.heatmap import grid_payload, square_payload
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.dashboard.status_payload import status_payload
from prunegrid.orchestrator.dashboard.timeline import timeline_payload
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import Selection
from prunegrid.orchestrator.grid.selection import parse_filter
from prunegrid.orchestrator.store.history import AttemptRecord
from prunegrid.orchestrator.store.slot_time import slot_time


class Query(QueryParams):
    """A request's names and values, in order. Where a name comes twice, the last counts."""

    def number(self, name: str) -> float | None:
        """None where the name is absent or empty. Raises UsageError for anything but a number."""
        text = self.get(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{name}: expected a number, got {text!r}")
        return value

    @property
    def selection(self) -> Selection:
        return parse_filter(self.multi_items())


class Answers:
    """JSON-ready values. Safe from any thread."""

    def __init__(self, reader: StoreReader, *, can_retry: bool) -> None:
        self._reader = reader
        self._can_retry = can_retry
        self._tracebacks: dict[tuple[str, int], str] = {}  #: by task and its attempts so far

    def status(self, snapshot: Snapshot) -> dict[str, Any]:
        return status_payload(snapshot, can_retry=self._can_retry)

    def grid(self, snapshot: Snapshot, query: Query) -> dict[str, Any]:
        return grid_payload(snapshot, query.selection, query.get("value"), each=query.get("each"))

    def square(self, snapshot: Snapshot, query: Query) -> Mapping[str, Any]:
        return square_payload(snapshot, query.selection)

    def cell(self, snapshot: Snapshot, query: Query) -> dict[str, Any]:
        return cell_payload(
            snapshot,
            self._attempts,
            self._reader.store.files,
            name=query.get("id") or "",
            retry=self._retry_command(),
        )

    def curves(self, snapshot: Snapshot, query: Query) -> Mapping[str, Any]:
        from prunegrid.orchestrator.dashboard.curve_panels import (
            curves_payload,  # scipy and pandas take a second
        )

        return curves_payload(snapshot, query.selection)

    def timeline(self, snapshot: Snapshot, query: Query) -> dict[str, Any]:
        now_s = snapshot.at_s if snapshot.alive else snapshot.newest_s
        attempts, began_s = self._all_attempts()
        plan = snapshot.index.plan if snapshot.index else None
        payload = timeline_payload(
            attempts,
            plan,
            now_s=now_s,
            since_s=began_s if (since_s := query.number("since_s")) is None else since_s,
            until_s=query.number("until_s"),
            only=self._only(snapshot, query),
        )
        with self._reader.lock:
            spent = slot_time(self._reader.history, plan.tasks if plan else {})
        return {**payload, "time": spent.to_json()}

    def failures(self, snapshot: Snapshot, query: Query) -> dict[str, Any]:
        page = query.number("page") or 0.0
        if not 0 <= page < 1e6:
            raise UsageError(f"page: expected 0 or more, got {page:g}")
        only = self._only(snapshot, query)
        attempts, _ = self._all_attempts()
        return failures_payload(
            [one for one in attempts if only is None or one.key in only],
            snapshot,
            page=int(page),
            kind=query.get("class"),
            host=query.get("host"),
            traceback_of=self._traceback,
            retry=self._retry_command(),
        )

    # ------------------------------------------------------------------ parts

    def _attempts(self, key: str) -> list[AttemptRecord]:
        with self._reader.lock:
            return list(self._reader.history.attempts.get(key, ()))

    def _all_attempts(self) -> tuple[list[AttemptRecord], float | None]:
        """Every attempt, and when the last run began."""
        with self._reader.lock:
            history = self._reader.history
            return list(history.by_start), history.began_s

    def _only(self, snapshot: Snapshot, query: Query) -> set[str] | None:
        selection = query.selection
        if not selection or snapshot.index is None:
            return None
        return tasks_of(snapshot.index, view_of(snapshot.index, selection))

    def _traceback(self, key: str) -> str:
        """Of a task's last recorded failure; read once per attempt."""
        stamp = (key, len(self._attempts(key)))
        if stamp not in self._tracebacks:
            found = recorded_failures(self._reader.store.files, key)
            last = next(reversed(found.values()), None)
            self._tracebacks[stamp] = last.traceback if last is not None else ""
        return self._tracebacks[stamp]

    def _retry_command(self) -> str:
        return f"prunegrid retry --store {shlex.quote(self._reader.store.address)}"
