"""Follows a store: each `refresh` reads what is new, and returns a snapshot of what is known."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import numpy as np

from prunegrid.orchestrator.dashboard.result_files import ResultFiles
from prunegrid.orchestrator.dashboard.snapshot import (
    STALE_S,
    Snapshot,
    problems_of,
    rate_of,
    workers_of,
)
from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta
from prunegrid.orchestrator.plan.plan_index import Bools, Floats, PlanIndex
from prunegrid.orchestrator.store.forecast_inputs import model_here
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import JournalReader
from prunegrid.orchestrator.store.lease import LeaseWatch
from prunegrid.orchestrator.store.plan import SETTLED, load_plan
from prunegrid.orchestrator.store.plan_progress import StoreReading, estimate_left, progress_of
from prunegrid.orchestrator.store.requests import pause_to_come
from prunegrid.orchestrator.store.store import MARKER, SELECTION, Store
from prunegrid.workers import layout
from prunegrid.workers.files import StorageError

#: Listings, and estimates of what is left, may each take this share of the time.
SHARE = 0.1


class StoreReader:
    """`refresh` belongs to one thread. Others may read `history`, under `lock`."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.lock = threading.RLock()
        self.history = RunHistory()
        self._clock = clock
        self._journal = JournalReader(store.files)
        self._lease = LeaseWatch(store, wall=clock)
        self._results = ResultFiles(store.files)
        self._texts: tuple[str | None, ...] | None = None
        self._index: PlanIndex | None = None
        self._durations = Durations()
        self._learned = 0  #: of history.done, in _durations
        self._done_since: set[str] = set()  #: by the journal, since the last listing
        self._look_due_s = self._eta_due_s = 0.0  #: monotonic
        self._eta: Eta | None = None
        self._generation = 0
        self._identity: object = None
        self._last: Snapshot | None = None

    def refresh(self, *, budget_s: float = 0.5) -> Snapshot:
        """Never raises for what a store may be: the snapshot says what is wrong with it.

        `budget_s`: for reading rows; `unread_files` says how many are left for the next time.
        """
        try:
            changed = self._follow(budget_s)
            self._last = self._snapshot(changed)
        except (PrunegridError, StorageError) as error:
            self._last = self._unreadable(str(error))
        except Exception as error:  # whatever lies in the store must not end the server
            self._last = self._unreadable(f"{type(error).__name__}: {error}")
        return self._last

    # ------------------------------------------------------------------ following

    def _follow(self, budget_s: float) -> bool:
        """Read what is new; True where anything is."""
        self._check_marker()
        lines = self._journal.poll()
        with self.lock:
            if lines.restarted:
                self.history = RunHistory()
                self._durations, self._learned = self._new_durations(), 0
            self.history.bad_lines += lines.bad
            for entry in lines.entries:
                self.history.take(entry)
                if entry.get("event") == "done":
                    self._done_since.add(str(entry.get("key")))
        changed = self._follow_plan() | bool(lines.entries) | lines.restarted | bool(lines.bad)
        began_s = time.monotonic()
        if began_s >= self._look_due_s:
            changed |= self._results.look()
            self._done_since.clear()
            now_s = time.monotonic()
            self._look_due_s = now_s + (now_s - began_s) / SHARE
        return changed | bool(self._results.read(budget_s))

    def _check_marker(self) -> None:
        address = self.store.address
        raw = self.store.read_json(MARKER)
        if raw is None:
            raise StoreError(f"{address}: the store is gone: no {MARKER} is there")
        if not isinstance(raw, dict):
            raise StoreError(f"{address}/{MARKER} is torn or not ours")

    def _follow_plan(self) -> bool:
        texts = tuple(map(self.store.read_text, (layout.GRID, SELECTION, SETTLED)))
        if texts == self._texts and self._index is not None:
            return False
        self._index = PlanIndex(load_plan(self.store))
        self._texts = texts
        self._durations, self._learned, self._eta_due_s = self._new_durations(), 0, 0.0
        return True

    def _new_durations(self) -> Durations:
        if self._index is None:
            return Durations()
        return Durations(model_here(self._index.plan))

    # ------------------------------------------------------------------ a snapshot

    def _snapshot(self, changed: bool) -> Snapshot:
        now_s = self._clock()
        self._lease.look()
        holder, alive = self._lease.holder, self._lease.is_believed
        stale = self._lease.silent_s > STALE_S
        pause = pause_to_come(self.store.files)
        identity = (holder, alive, stale, pause, int(now_s // 60) if alive else 0)
        last, index, history = self._last, self._index, self.history
        assert index is not None  # _follow_plan raises where there is none
        if last is not None and not changed and identity == self._identity and not last.problem:
            return dataclasses.replace(last, at_s=now_s)
        self._identity = identity
        self._generation += 1
        finished = self._results.finished() | self._done_since
        done = index.done(finished)
        cell_value, rows = self._values(layout.CELL_ROWS, index.cell_number)
        model_value, _ = self._values(layout.MODEL_ROWS, index.model_number)
        reading = StoreReading(
            at_s=now_s,
            history=history,
            finished=finished - index.plan.lacking(finished),
            holder=holder,
            alive=alive,
            pause=pause,
        )
        progress = progress_of(
            index,
            reading,
            done=done,
            rows=rows | self._just_ended(index, done),
            eta=self._estimate(index, index.needed(done)),
        )
        return Snapshot(
            **vars(progress),
            generation=self._generation,
            problem=None,
            stale=stale,
            cell_value=cell_value,
            model_value=model_value,
            rate=rate_of(progress, history),
            workers=workers_of(progress, history),
            problems=problems_of(progress, history, self._results.torn),
            unread_files=self._results.unread,
        )

    def _unreadable(self, problem: str) -> Snapshot:
        """The last known numbers, and why there are no newer ones."""
        self._generation += 1
        now_s = self._clock()
        if self._last is not None:
            if self._last.problem == problem:
                return dataclasses.replace(self._last, at_s=now_s)
            return dataclasses.replace(
                self._last, generation=self._generation, at_s=now_s, problem=problem, alive=False
            )
        return Snapshot(generation=self._generation, at_s=now_s, problem=problem)

    def _estimate(self, index: PlanIndex, needed: Bools) -> Eta:
        """Of what is left. On a huge grid, an earlier estimate serves several refreshes."""
        began_s = time.monotonic()
        if self._eta is not None and began_s < self._eta_due_s:
            return self._eta
        history = self.history
        history.learn(self._durations, index.plan.tasks, skip=self._learned)
        self._learned = len(history.done)
        self._eta = estimate_left(index, needed, self._durations, slots=history.slots)
        now_s = time.monotonic()
        self._eta_due_s = now_s + (now_s - began_s) / SHARE
        return self._eta

    def _values(self, folder: str, number: dict[str, int]) -> tuple[Floats, Bools]:
        """The value of each planned row (NaN: none yet), and which rows are there."""
        values, there = np.full(len(number), np.nan), np.zeros(len(number), dtype=bool)
        for name, value in self._results.values(folder):
            if (i := number.get(name)) is not None:
                there[i] = True
                if value is not None:
                    values[i] = value
        return values, there

    def _just_ended(self, index: PlanIndex, done: Bools) -> Bools:
        """[cells]: those whose last task ended since the last listing. The driver writes a cell's
        row before the journal's line."""
        if not self._done_since or not len(index.shard_task):
            return np.zeros(len(index.shard_start) - 1, dtype=bool)
        start = index.shard_start[:-1]
        since = index.present(self._done_since)[index.shard_task]
        whole = np.logical_and.reduceat(done[index.shard_task], start)
        return np.asarray(whole & np.logical_or.reduceat(since, start), dtype=bool)
