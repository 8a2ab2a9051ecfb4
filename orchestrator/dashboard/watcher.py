"""One thread reads the store for all viewers, at most once a second, while there are any."""

from __future__ import annotations

import importlib
import threading
import time

from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.workers.files import LocalFiles

EVERY_S = 1.0
REMOTE_EVERY_S = 5.0  #: a driver writes its journal to an object store that often
#: Refreshes take at most this share of the time, whatever the store's size.
SHARE = 0.25
#: Without viewers for this long nothing is read.
IDLE_S = 30.0
#: A viewer who comes after an idle time waits this long for fresh numbers.
_PATIENCE_S = 20.0
#: The thread has nothing to save, so `close` hardly waits for it.
_END_S = 0.2


class Watcher:
    """`current` may be called from any thread; `close` ends the reading thread."""

    def __init__(self, reader: StoreReader, *, every_s: float | None = None) -> None:
        local = isinstance(reader.store.files, LocalFiles)
        self.reader = reader
        self._every_s = (EVERY_S if local else REMOTE_EVERY_S) if every_s is None else every_s
        self._fresh = threading.Condition()
        self._waiting = 0  #: viewers in `current`
        self._snapshot: Snapshot | None = None
        self._made_s = -1e9  #: monotonic
        self._asked_s = time.monotonic()
        self._closing = threading.Event()
        self.refreshes = 0
        self._warm = False
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with self._fresh:
            self._fresh.notify_all()
        self._thread.join(timeout=_END_S)

    def current(self) -> Snapshot:
        """The newest snapshot; waits only where there is none, or it is from before an idle
        time. Raises TimeoutError where reading takes longer than anyone would wait."""
        with self._fresh:
            self._asked_s = time.monotonic()
            self._waiting += 1
            self._fresh.notify_all()
            try:
                self._fresh.wait_for(self._is_usable, timeout=_PATIENCE_S)
            finally:
                self._waiting -= 1
            if self._snapshot is None:
                raise TimeoutError("the store is still being read")
            return self._snapshot

    def _is_usable(self) -> bool:
        age_s = time.monotonic() - self._made_s
        return self._snapshot is not None and age_s < IDLE_S

    def _is_wanted(self) -> bool:
        recently = time.monotonic() - self._asked_s < IDLE_S
        return recently or self._waiting > 0 or self._closing.is_set()

    def _warm_up(self) -> None:
        """Import what the first request for curves would wait for, once there are numbers."""
        if self._snapshot is not None and not self._warm:
            self._warm = True
            importlib.import_module("prunegrid.orchestrator.dashboard.curve_panels")

    def _run(self) -> None:
        while not self._closing.is_set():
            self._warm_up()
            with self._fresh:
                self._fresh.wait_for(self._is_wanted)
            began_s = time.monotonic()
            first = self._snapshot is None  # counts before values
            snapshot = self.reader.refresh(budget_s=0.0 if first else self._every_s * SHARE)
            took_s = time.monotonic() - began_s
            with self._fresh:
                self._snapshot, self._made_s = snapshot, time.monotonic()
                self.refreshes += 1
                self._fresh.notify_all()
            pause_s = max(self._every_s - took_s, took_s * (1 / SHARE - 1))
            self._closing.wait(min(0.05, pause_s) if snapshot.unread_files else pause_s)
