"""Follows a store: each `refresh` reads what is new and gives a snapshot of all that is known."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.dashboard.health import problems_of, sound_holder
from prunegrid.orchestrator.dashboard.journal_tail import JournalTail
from prunegrid.orchestrator.dashboard.plan_index import DONE, Bools, Floats, PlanIndex
from prunegrid.orchestrator.dashboard.result_files import ResultFiles
from prunegrid.orchestrator.dashboard.run_log import RunLog
from prunegrid.orchestrator.dashboard.snapshot import Snapshot, empty_snapshot
from prunegrid.orchestrator.dashboard.vitals import rate_of, slots_of, workers_of
from prunegrid.orchestrator.driver.lease import is_alive, read_holder
from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, estimate
from prunegrid.orchestrator.plan.guesses import flops_per_s
from prunegrid.orchestrator.scheduling.trouble import find_trouble
from prunegrid.orchestrator.store.journal_state import JournalState
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import pause_to_come
from prunegrid.orchestrator.store.standing import money
from prunegrid.orchestrator.store.store import MARKER, SELECTION, Store
from prunegrid.workers import layout
from prunegrid.workers.files import StorageError

#: Listings, and estimates of what is left, may each take this share of the time.
SHARE = 0.1


class StoreReader:
    """`refresh` belongs to one thread. Others may use `log`, under `lock`."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.lock = threading.RLock()
        self.log = RunLog()
        self._clock = clock
        self._tail = JournalTail(store.files)
        self._results = ResultFiles(store.files)
        self._texts: tuple[str | None, ...] | None = None
        self._index: PlanIndex | None = None
        self._durations = Durations()
        self._state = JournalState()
        self._learned = 0  #: of log.done, in _durations
        self._done_since: set[str] = set()  #: told by the journal since the last listing
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
        lines = self._tail.poll()
        with self.lock:
            if lines.restarted:
                self.log, self._state = RunLog(), JournalState()
                self._durations, self._learned = self._new_durations(), 0
            self.log.bad += lines.bad
            for entry in lines.entries:
                self.log.take(entry)
                self._state.take(entry)
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
        try:
            raw = json.loads(self.store.files.read(MARKER))
        except FileNotFoundError:
            raise StoreError(f"{address}: the store is gone: no {MARKER} is there") from None
        except ValueError as error:
            raise StoreError(f"{address}/{MARKER} is torn: {error}") from error
        if not isinstance(raw, dict):
            raise StoreError(f"{address}/{MARKER} is torn or not ours")

    def _follow_plan(self) -> bool:
        texts = tuple(map(self.store.read_text, (layout.GRID, SELECTION)))
        if texts == self._texts and self._index is not None:
            return False
        self._index = PlanIndex(load_plan(self.store))
        self._texts = texts
        self._durations, self._learned, self._eta_due_s = self._new_durations(), 0, 0.0
        return True

    def _new_durations(self) -> Durations:
        if self._index is None:
            return Durations()
        return Durations(flops_per_s=flops_per_s(self._index.plan.grid.resources))

    # ------------------------------------------------------------------ a snapshot

    def _snapshot(self, changed: bool) -> Snapshot:
        now_s = self._clock()
        holder = sound_holder(read_holder(self.store))
        alive = holder is not None and is_alive(holder)
        pause = pause_to_come(self.store.files)
        identity = (holder, alive, pause, int(now_s // 60) if alive else 0)
        last, index = self._last, self._index
        assert index is not None  # _follow_plan raises where there is none
        if last is not None and not changed and identity == self._identity and not last.problem:
            return dataclasses.replace(last, at_s=now_s)
        self._identity = identity
        self._generation += 1
        finished = self._results.finished() | self._done_since
        done = index.present(finished)
        with self.lock:
            log = self.log
            running = frozenset(log.open.keys() - finished) if alive else frozenset()
            failed = frozenset(log.given_up - finished)
            needed = index.needed(done)
            left = int(needed.sum())
            eta = self._estimate(index, needed)
            rate = rate_of(log, now_s, eta=eta, left=left, slots=slots_of(log), alive=alive)
            workers = workers_of(log, index.plan, len(running), alive=alive)
            bill = money(index.plan.grid, self._state, eta)
            run_slots = self._state.slots
            newest_s = max(log.last_s, holder.renewed_at_s if holder else 0.0)
            trouble = find_trouble(log.troubles, now_s)
            problems = problems_of(
                log, trouble, self._results.torn, alive=alive, left=left, now_s=now_s
            )
        task_state = index.task_states(done, index.present(running), index.present(failed))
        cell_value, rows = self._values(layout.CELL_ROWS, index.cell_number)
        model_value, _ = self._values(layout.MODEL_ROWS, index.model_number)
        return Snapshot(
            generation=self._generation,
            at_s=now_s,
            index=index,
            problem=None,
            task_state=task_state,
            cell_state=index.cell_states(task_state, rows | self._just_ended(index, task_state)),
            cell_value=cell_value,
            model_value=model_value,
            needed=needed,
            running=running,
            failed=failed,
            holder=holder,
            alive=alive,
            newest_s=newest_s,
            eta=eta,
            rate=rate,
            workers=workers,
            bill=bill,
            slots=run_slots,
            pause=pause,
            trouble=trouble,
            problems=problems,
            unread_files=self._results.unread,
        )

    def _unreadable(self, problem: str) -> Snapshot:
        """What was known last, and why there is no more."""
        self._generation += 1
        now_s = self._clock()
        if self._last is not None:
            if self._last.problem == problem:
                return dataclasses.replace(self._last, at_s=now_s)
            return dataclasses.replace(
                self._last, generation=self._generation, at_s=now_s, problem=problem, alive=False
            )
        return empty_snapshot(generation=self._generation, at_s=now_s, problem=problem)

    def _estimate(self, index: PlanIndex, needed: Bools) -> Eta:
        """As `status --json` has it; on a huge grid not at every refresh."""
        began_s = time.monotonic()
        if self._eta is not None and began_s < self._eta_due_s:
            return self._eta
        tasks = index.plan.tasks
        for key, _, seconds in self.log.done[self._learned :]:
            if key in tasks:
                self._durations.add(tasks[key], seconds)
        self._learned = len(self.log.done)
        left = {key: tasks[key] for i in np.flatnonzero(needed) for key in (index.keys[i],)}
        self._eta = estimate(left, self._durations, slots=max(self._state.slots, 1), elapsed={})
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

    def _just_ended(self, index: PlanIndex, task_state: NDArray[np.int8]) -> Bools:
        """[cells]: whose last task ended since the last listing: the driver writes a cell's row
        before it tells that."""
        if not self._done_since or not len(index.shard_task):
            return np.zeros(len(index.shard_start) - 1, dtype=bool)
        start = index.shard_start[:-1]
        since = index.present(self._done_since)[index.shard_task]
        whole = np.logical_and.reduceat(task_state[index.shard_task] == DONE, start)
        return np.asarray(whole & np.logical_or.reduceat(since, start), dtype=bool)
