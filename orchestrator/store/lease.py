"""One driver per store at a time: a lease file with a heartbeat.

A lease expires TTL_S after its last renewal, or when its process on this host is gone. Two drivers
by mistake would still leave one result per task: the lease only saves double work.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.orchestrator.store.history import finite
from prunegrid.orchestrator.store.store import Store, this_host
from prunegrid.workers.decode import from_dict
from prunegrid.workers.files import StorageError

LEASE = "lease.json"
TTL_S = 30.0
RENEW_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    host: str
    pid: int
    process_start: str  #: tells a reused pid from the one that wrote this; "" where unknown
    renewed_at_s: float  #: seconds since the epoch


class Lease:
    """Held from `take` to `release`; call `renew` from the driver's loop."""

    def __init__(self, store: Store, path: str = LEASE) -> None:
        self._store = store
        self._path = path
        self._renewed_s = 0.0

    @classmethod
    def take(cls, store: Store, path: str = LEASE) -> Lease:
        """Raises StoreError where another driver holds the store. `path`: another lease's, for work
        that runs beside the grid's."""
        holder = read_holder(store, path)
        if holder is not None and is_alive(holder) and not _is_me(holder):
            age_s = max(0.0, time.time() - holder.renewed_at_s)
            raise StoreError(
                f"{store.address}: held by the driver with pid {holder.pid} on {holder.host}, last "
                f"heard of {age_s:.0f} s ago; stop it, or wait until it is silent for {TTL_S:.0f} s"
            )
        lease = cls(store, path)
        lease.renew()
        return lease

    def renew(self) -> None:
        """Cheap: writes at most once per RENEW_S."""
        now_s = time.time()
        if now_s - self._renewed_s < RENEW_S:
            return
        me = Holder(
            host=this_host(),
            pid=os.getpid(),
            process_start=_process_start(os.getpid()),
            renewed_at_s=now_s,
        )
        self._store.write(self._path, json.dumps(asdict(me)).encode())
        self._renewed_s = now_s

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renews from a thread while the caller is busy for long, as with preparing data."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(RENEW_S):
                with contextlib.suppress(StoreError):
                    self.renew()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def release(self) -> None:
        with contextlib.suppress(StorageError):
            self._store.files.remove(self._path)


def read_holder(store: Store, path: str = LEASE) -> Holder | None:
    """Who last held the store; None where nobody does, or the file is torn or not ours."""
    try:
        raw = store.read_json(path)
        if raw is None:
            return None
        holder = from_dict(Holder, raw)
    except (TornError, ValueError, TypeError, AttributeError):
        return None
    is_ours = (
        isinstance(holder.host, str)
        and isinstance(holder.process_start, str)
        and isinstance(holder.pid, int)
        and 0 < holder.pid < 2**31
        and finite(holder.renewed_at_s) is not None
    )
    return holder if is_ours else None


def is_alive(holder: Holder) -> bool:
    if time.time() - holder.renewed_at_s > TTL_S:
        return False
    if holder.host != this_host():
        return True
    return _process_start(holder.pid) == holder.process_start and _exists(holder.pid)


def _is_me(holder: Holder) -> bool:
    return holder.host == this_host() and holder.pid == os.getpid()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process_start(pid: int) -> str:
    """The kernel's start time of a process, in clock ticks since boot; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
