"""Rounds on a Ray that the driver starts itself: its processes are harmed, and signals go to the
driver's group and to all that it started, as terminals, systemd and Slurm send them."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cluster import end
from tests.chaos.rounds import ChaosError, Round
from tests.commands.test_run import wait_for
from tests.test_loopback import family

#: Harm -> how often, against the others.
HARM = {
    "raylet killed": 3,
    "GCS killed": 3,
    "worker killed": 3,
    "group stopped": 1,
    "group hung up": 1,
    "all warned": 1,
}
_PROGRAMS = {"raylet killed": b"raylet", "GCS killed": b"gcs_server", "worker killed": b"ray::W"}
_SIGNALS = {
    "group stopped": signal.SIGTERM,
    "group hung up": signal.SIGHUP,
    "all warned": signal.SIGUSR1,
}


class LocalMonkey:
    """`driver`: the pid of the one that runs now, None between two."""

    def __init__(self, rng: random.Random, driver: Callable[[], int | None]) -> None:
        self._rng = rng
        self._driver = driver
        self.did: Counter[str] = Counter()
        self.seen: set[int] = set()  #: processes of drivers that were harmed

    def act(self) -> str:
        """One harm; returns its name, or "" where there was nothing to harm."""
        name = self._rng.choices(list(HARM), list(HARM.values()))[0]
        driver = self._driver()
        if driver is None:
            return ""
        processes = family(driver)
        self.seen |= processes
        if name in _PROGRAMS:
            victims = [pid for pid in sorted(processes) if _runs(pid, _PROGRAMS[name])][-1:]
            number = signal.SIGKILL
        else:
            victims = sorted(processes) if name == "all warned" else [-driver]
            number = _SIGNALS[name]
        for pid in victims:
            end(pid, number)
        if not victims:
            return ""
        self.did[name] += 1
        return name

    def rest(self) -> None:
        pass


def _runs(pid: int, program: bytes) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return command.startswith(program) or command.rpartition(b"/")[2] == program


class LocalRound(Round):
    """Ends with none of Ray's processes left."""

    address = "local"
    begins_within_s = 60.0  #: Ray starts first

    def _monkey(self, store: Path) -> LocalMonkey:
        self._harmful = LocalMonkey(self._rng, self._pid)
        return self._harmful

    def _finish(self) -> None:
        super()._finish()
        left = self._harmful.seen
        try:
            wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left), 20)
        except AssertionError:
            raise ChaosError("processes of Ray's are left behind") from None
