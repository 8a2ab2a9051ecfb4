"""Harm at random moments. Every choice comes from one seed; the moments are the machine's own."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cluster import NODES, FakeCluster, end
from tests.chaos.damaged_rows import damage, row_files
from tests.chaos.weather import Weather, report

#: Harm -> how often, against the others.
HARM = {
    "worker killed": 6,
    "worker frozen": 2,
    "node killed": 2,
    "node drained": 2,
    "node added": 2,
    "driver killed": 1,
    "driver interrupted": 1,
    "driver suspended": 1,
    "clock set": 1,
    "file torn": 5,
    "row damaged": 3,
    "disk quota": 1,
    "storage refuses": 1,
    "storage slow": 1,
    "fine weather": 3,
}
_TEARABLE = (
    "results/images/*.parquet",
    "results/cells/*.parquet",
    "results/models/*.parquet",
    "models/*/*",
    "checkpoints/*/*",
    "journal/*",
    "lease.json",
    "failures/*/*",
)


class Monkey:
    """`driver`: the pid of the one that runs now, None between two."""

    def __init__(
        self,
        rng: random.Random,
        cluster: FakeCluster,
        store: Path,
        driver: Callable[[], int | None],
    ) -> None:
        self._rng = rng
        self._cluster = cluster
        self._store = store
        self._driver = driver
        self._doomed: list[object] = []
        self._frozen: list[int] = []
        self.did: Counter[str] = Counter()

    def act(self) -> str:
        """One harm; returns its name, or "" where there was nothing to harm."""
        for node in self._doomed:  # notice was given at the last act
            with contextlib.suppress(KeyError):
                self._cluster.kill_node(node)
        self._doomed.clear()
        name = self._rng.choices(list(HARM), list(HARM.values()))[0]
        if not getattr(self, "_" + name.replace(" ", "_"))():
            return ""
        self.did[name] += 1
        return name

    def rest(self) -> None:
        """Fine weather, all nodes there, nothing frozen."""
        report(Weather())
        for node in self._doomed:
            self._cluster.kill_node(node)
        self._doomed.clear()
        for pid in self._frozen:
            end(pid)
        self._frozen.clear()
        self._cluster.fill()

    # ------------------------------------------------------------------ one method per harm

    def _worker_killed(self) -> bool:
        workers = self._cluster.workers()
        if workers:
            end(self._rng.choice(workers))
        return bool(workers)

    def _worker_frozen(self) -> bool:
        """Stopped, as in a deadlock: nothing but the missing heartbeat tells of it."""
        workers = [pid for pid in self._cluster.workers() if pid not in self._frozen]
        if not workers:
            return False
        pid = self._rng.choice(workers)
        self._frozen.append(pid)
        end(pid, signal.SIGSTOP)
        return True

    def _node_killed(self) -> bool:
        nodes = self._cluster.nodes
        if len(nodes) < 2:
            return False
        self._cluster.kill_node(self._rng.choice(nodes))
        return True

    def _node_drained(self) -> bool:
        nodes = self._cluster.nodes
        if len(nodes) < 2:
            return False
        node = self._rng.choice(nodes)
        if self._cluster.drain(node, 5.0):
            self._doomed.append(node)
        return True

    def _node_added(self) -> bool:
        if len(self._cluster.nodes) > NODES:
            return False
        self._cluster.add_node(wait=False)
        return True

    def _driver_killed(self, number: signal.Signals = signal.SIGKILL) -> bool:
        pid = self._driver()
        if pid is not None:
            end(pid, number)
        return pid is not None

    def _driver_interrupted(self) -> bool:
        return self._driver_killed(signal.SIGINT)

    def _driver_suspended(self) -> bool:
        """For a while; see test_suspended.py for one that finds a successor when it wakes."""
        pid = self._driver()
        if pid is not None:
            end(pid, signal.SIGSTOP)
            threading.Timer(self._rng.uniform(0.5, 3.0), end, (pid, signal.SIGCONT)).start()
        return pid is not None

    def _clock_set(self) -> bool:
        """Of the drivers' machine."""
        report(Weather(clock_off_s=self._rng.choice([-3600.0, -40.0, 40.0, 3600.0])))
        return True

    def _row_damaged(self) -> bool:
        files = row_files(self._store, "cells", "models", "images")
        if files:
            with contextlib.suppress(OSError):
                damage(self._rng.choice(files), self._rng)
        return bool(files)

    def _file_torn(self) -> bool:
        files = [p for g in _TEARABLE for p in sorted(self._store.glob(g)) if p.is_file()]
        files = [path for path in files if not path.name.startswith(".")]
        if not files:
            return False
        path = self._rng.choice(files)
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * self._rng.random()))
        return True

    def _disk_quota(self) -> bool:
        report(Weather(quota_bytes=self._rng.choice([0, 100, 2000])))
        return True

    def _storage_refuses(self) -> bool:
        report(Weather(refuse=self._rng.uniform(0.2, 0.8)))
        return True

    def _storage_slow(self) -> bool:
        report(Weather(delay_s=self._rng.uniform(0.05, 0.4)))
        return True

    def _fine_weather(self) -> bool:
        report(Weather())
        return True
