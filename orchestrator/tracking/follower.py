"""Feeds trackers from the store, in a thread beside the driver: neither waits for the other.

What was tracked is noted in the store, `tracked/<tracker>/<model>.json`, so a run that resumes adds
what is new to the same runs, and one that was cut off catches up.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.names import number_text
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, PlannedModel, parent_of
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tracking.trackers import (
    TrackedModel,
    Tracker,
    make_tracker,
    metric_name,
    named,
)
from prunegrid.workers import layout
from prunegrid.workers.artifacts import HISTORY
from prunegrid.workers.files import StorageError
from prunegrid.workers.keys import digest

LOCAL_EVERY_S = 10.0
REMOTE_EVERY_S = 60.0
#: After the run its end is told too, for so long at most, and while libraries load and models are
#: taken; the next run tracks the rest.
END_S = 30.0
QUIET_S = 8.0
#: A tracker that refuses so many models in a row is left alone.
_REFUSALS = 3


class TrackerFollower:
    """A context manager around a run. Nothing that a tracker raises leaves it."""

    def __init__(self, plan: Plan, store: Store, *, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._store = store
        self._say = say
        self._every_s = LOCAL_EVERY_S if store.files.folder else REMOTE_EVERY_S
        self._over = threading.Event()
        self._given_up = threading.Event()
        self._fed_s = math.inf  #: when a model was last taken; infinite while libraries load
        self._thread = threading.Thread(target=self._follow, name="trackers", daemon=True)
        self._cells: dict[str, list[PlannedCell]] = defaultdict(list)
        for cell in plan.cells:
            attacked = parent_of(plan.tasks[cell.task_keys[0]]) or ""
            self._cells[model_id(cell.place.model, attacked)].append(cell)

    def __enter__(self) -> TrackerFollower:
        if self._plan.grid.track is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            ended_s = time.monotonic()
            while self._thread.is_alive():
                now_s = time.monotonic()
                if now_s - ended_s >= END_S or now_s - max(self._fed_s, ended_s) >= QUIET_S:
                    self._given_up.set()
                    self._say("trackers are slow: what is left is tracked by the next run")
                    return
                self._thread.join(0.1)

    def _follow(self) -> None:
        assert self._plan.grid.track is not None
        feeds = []
        for kind, target in named(self._plan.grid.track).items():
            try:
                tracker = make_tracker(kind, target)
            except ImportError:
                self._say(
                    f"track: {kind} is not installed, so nothing goes there: "
                    f"pip install 'prunegrid[{kind}]'; the next run then catches up"
                )
            except Exception as error:  # whatever the library raises
                self._say(f"track: nothing goes to {kind}: {_line(error)}")
            else:
                feeds.append(_Feed(tracker, target, self._store))
        self._fed_s = time.monotonic()
        while feeds:
            is_last = self._over.wait(self._every_s)
            feeds = [feed for feed in feeds if self._feed(feed, is_last=is_last)]
            if is_last:
                return

    def _feed(self, feed: _Feed, *, is_last: bool) -> bool:
        """One pass; False where the tracker is to be left alone."""
        try:
            models = self._store.row_ids(layout.MODEL_ROWS)
            cells = self._store.row_ids(layout.CELL_ROWS)
        except (StoreError, StorageError):
            return True  # the driver says so; there is a next time
        for model in self._plan.models:
            name = model_id(model.place, model.task_key)
            if self._given_up.is_set():
                return False
            if name not in models:
                continue
            planned = self._cells[name]
            done = [cell for cell in planned if cell_id(cell.place, cell.task_keys) in cells]
            if feed.tracker.is_costly and not is_last and len(done) < len(planned):
                continue
            try:
                feed.add(self._plan.grid.name, model, done)
            except Exception as error:  # whatever the library raises
                feed.refusals += 1
                self._say(f"track: {feed.tracker.kind} refused {name}: {_line(error)}")
                if feed.refusals >= _REFUSALS:
                    self._say(f"track: nothing more goes to {feed.tracker.kind} in this run")
                    return False
            else:
                feed.refusals = 0
                self._fed_s = time.monotonic()
        return True


class _Feed:
    """One tracker, and what it has been told."""

    def __init__(self, tracker: Tracker, target: str, store: Store) -> None:
        self.tracker = tracker
        self.refusals = 0  #: in a row
        self._store = store
        self._folder = f"tracked/{tracker.kind}-{digest(target, length=8)}"
        self._known: dict[str, tuple[str, frozenset[str]]] = {}  #: model -> its run, its cells

    def add(self, grid: str, model: PlannedModel, done: list[PlannedCell]) -> None:
        name = model_id(model.place, model.task_key)
        run, old = self._known.get(name) or self._read(name)
        cells = {cell_id(cell.place, cell.task_keys): cell for cell in done}
        new = {key: cell for key, cell in cells.items() if key not in old}
        if run is not None and not new:
            self._known[name] = run, old
            return
        row = self._store.row(layout.MODEL_ROWS, name).to_pylist()[0]
        place = vars(model.place)
        tracked = TrackedModel(
            name=" ".join(f"{text}" for text in _spoken(place)),
            model_id=name,
            grid=grid,
            coordinates=place,
            scores=dict(_finite({score: row[score] for score in _SCORES})) if run is None else {},
            curves=self._curves(model.task_key) if run is None else (),
            cells=dict(_finite(dict(self._values(new)))),
        )
        run = self.tracker.track(tracked, run)
        told = old | new.keys()
        self._known[name] = run, told
        note = {"run": run, "cells": sorted(told)}
        self._store.write(f"{self._folder}/{name}.json", json.dumps(note).encode())

    def _read(self, name: str) -> tuple[str | None, frozenset[str]]:
        note = self._store.read_json(f"{self._folder}/{name}.json")
        if not isinstance(note, dict):
            return None, frozenset()
        return str(note["run"]), frozenset(note["cells"])

    def _values(self, cells: Mapping[str, PlannedCell]) -> Iterator[tuple[str, object]]:
        for name, cell in cells.items():
            row = self._store.row(layout.CELL_ROWS, name).to_pylist()[0]
            place = cell.place
            metric = metric_name(
                "robust_accuracy", place.protocol, place.attack, number_text(place.eps)
            )
            yield metric, row["robust_accuracy"]

    def _curves(self, key: str) -> list[dict[str, float]]:
        """A torn or missing history is none: the scores are elsewhere."""
        raw = self._store.read_json(layout.model_file(key, HISTORY)) or []
        return [dict(_finite(epoch)) for epoch in raw]


#: Of a model's row, by column.
_SCORES = (
    "accuracy",
    "loss",
    "validation_accuracy",
    "validation_loss",
    "epochs",
    "effective_rate",
    "speedup",
)


def _spoken(place: Mapping[str, object]) -> Iterator[str]:
    for axis, value in place.items():
        if axis in ("rate", "seed"):
            yield f"{axis} {value:g}"
        elif (axis, value) != ("variant", "standard") and axis != "dataset":
            yield str(value)


def _finite(values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield name, float(value)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
