"""One driver per store at a time: a lease with a number and a heartbeat.

Who takes the store makes `lease/<number>.json`, one above the highest number there; only one
process can make a file. The highest number holds the store, and whoever finds a higher one than its
own stops. `lease.json` is the holder's heartbeat: a thread rewrites it every RENEW_S.

A lease that was not released is judged by its process, where that process can be seen; else by
whether the heartbeat changes while one looks, for TTL_S on one's own clock. Clocks of two machines
are never compared to decide who holds a store.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath

from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.store.history import finite
from prunegrid.orchestrator.store.store import Store, store_errors, this_host
from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.process_id import process_lives, process_place, process_start

LEASE = "lease.json"
TTL_S = 30.0
RENEW_S = 5.0
LOOK_S = 0.5


class SupersededError(PrunegridError):
    """This driver no longer holds its store and must write nothing more."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    host: str
    pid: int
    process_start: str  #: tells a reused pid from the one that wrote this; "" where unknown
    renewed_at_s: float  #: seconds since the epoch, by the holder's clock
    place: str = ""  #: see `process_place`; "" where unknown, and in files of earlier versions
    number: int = 0  #: the fencing number; 0 in files of earlier versions
    beat: int = 0  #: grows with each renewal, however the clock runs
    released: bool = False

    @property
    def process(self) -> tuple[object, ...]:
        return self.host, self.pid, self.process_start, self.place

    @property
    def lives(self) -> bool | None:
        """Whether its process is there; None where that can't be told from here."""
        if self.host != this_host() or (self.place and self.place != process_place()):
            return None
        found = process_lives(self.pid, self.process_start)
        return found if self.place else found or None

    def age_s(self, now_s: float) -> float:
        """By two clocks, perhaps: for people."""
        return now_s - self.renewed_at_s


class LeaseWatch:
    """Whether a lease's holder lives, as repeated looks at it tell."""

    def __init__(
        self,
        store: Store,
        path: str = LEASE,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.holder: Holder | None = None  #: None: nobody, or the files are torn
        self.number = 0  #: the highest number ever taken
        self._store = store
        self._path = path
        self._clock = clock
        self._wall = wall
        self._free = True
        self._texts: tuple[str | None, ...] | None = None  #: what the last look saw
        self._heard = False  #: the heartbeat has changed while we looked
        self._silent_s = 0.0
        self._looked_s = clock()

    def look(self) -> None:
        """Raises StoreError."""
        heartbeat = _read(self._store, self._path)
        held = _parsed(heartbeat)
        top = max(_numbers(self._store, self._path), default=0)
        self.number = max(top, held.number if held else 0)
        claim = _read(self._store, _claim_path(self._path, top)) if top == self.number else None
        claimed = _parsed(claim)
        now_s = self._clock()
        if (heartbeat, claim) == self._texts:
            # Between two looks both processes may have been stopped: such a pause counts little.
            self._silent_s += min(now_s - self._looked_s, RENEW_S)
        else:
            self._heard |= self._texts is not None
            self._silent_s = 0.0
        self._looked_s, self._texts = now_s, (heartbeat, claim)
        self.holder = claimed
        self._free = heartbeat is None and claim is None
        if held is not None and held.number in (self.number, 0):  # 0: of an earlier version
            self.holder = held
        elif claimed is not None and claimed.released:
            self.holder, self._free = None, True

    @property
    def alive(self) -> bool | None:
        """None: that can't be told yet, look again."""
        lives = None if self.holder is None else self.holder.lives
        if self._free or lives is False:
            return False
        if self._heard or self._silent_s >= TTL_S:
            return self._silent_s < TTL_S
        return True if lives and self.is_fresh else None

    @property
    def is_fresh(self) -> bool:
        """By the holder's clock and ours, which may differ."""
        return self.holder is not None and 0 <= self.holder.age_s(self._wall()) <= TTL_S

    @property
    def silent_s(self) -> float:
        """Since the last heartbeat, as far as is known."""
        if self._heard or self.holder is None:
            return self._silent_s
        return max(self._silent_s, self.holder.age_s(self._wall()))

    @property
    def is_believed(self) -> bool:
        """For those who can't wait: where nothing else tells, by the clocks."""
        return self.is_fresh if self.alive is None else self.alive


def find_driver(store: Store, path: str = LEASE) -> tuple[Holder | None, bool]:
    """Who holds the store, and whether it lives. Where only another heartbeat can tell, this waits
    for one. Raises StoreError."""
    watch = LeaseWatch(store, path)
    limit_s = time.monotonic() + RENEW_S + 4 * LOOK_S
    watch.look()
    while watch.holder and not watch.is_believed and watch.alive is None:
        if time.monotonic() >= limit_s:
            break
        time.sleep(LOOK_S)
        watch.look()
    return watch.holder, watch.is_believed


class Lease:
    """Held from `take` to `release`; a thread renews it. A context manager."""

    def __init__(self, store: Store, path: str, holder: Holder) -> None:
        self._store = store
        self._path = path
        self._me = holder
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        self._confirmed_s = _since_boot_s()
        self._lost = ""  #: why it is no longer ours

    @classmethod
    def take(
        cls,
        store: Store,
        path: str = LEASE,
        *,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Lease:
        """Where the last holder did not release it and may live, this waits for a heartbeat, and
        says so. Raises StoreError where another driver holds the store. `path`: another lease's,
        for work that runs beside the grid's."""
        watch = LeaseWatch(store, path, clock=clock)
        said = False
        while True:
            watch.look()
            holder = watch.holder
            if watch.alive is False or (holder is not None and _is_me(holder)):
                lease = cls._claim(store, path, watch.number + 1)
                if lease is not None:
                    return lease
            elif watch.alive and holder is not None:
                raise StoreError(
                    f"{store.address}: held by {_named(holder)}, last heard of "
                    f"{max(0.0, watch.silent_s):.0f} s ago; stop it, or wait until it ends (a "
                    f"suspended one loses it after {TTL_S:.0f} s of silence)"
                )
            elif not said:
                said = True
                who = "a driver whose lease is torn" if holder is None else _named(holder)
                say(
                    f"waiting up to {TTL_S:.0f} s for a heartbeat of {who}: it did not release "
                    f"{store.address}, and only its silence can tell that it is gone"
                )
                sleep(LOOK_S)
            else:
                sleep(LOOK_S)

    @classmethod
    def _claim(cls, store: Store, path: str, number: int) -> Lease | None:
        """None where another process was faster."""
        me = Holder(
            host=this_host(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()),
            renewed_at_s=time.time(),
            place=process_place(),
            number=number,
        )
        lease = cls(store, path, me)
        with store_errors():
            if not store.files.write_once(_claim_path(path, number), _packed(me)):
                return None
        try:
            lease.renew()  # which reads again
        except SupersededError:
            with store_errors():
                store.files.remove(_claim_path(path, number))
            return None
        with store_errors():
            for older in _numbers(store, path):
                if older < number:
                    store.files.remove(_claim_path(path, older))
        lease._thread.start()
        return lease

    @property
    def number(self) -> int:
        return self._me.number

    def check(self) -> None:
        """Call it before writing what only the store's driver may write. Cheap, except where the
        lease was not renewed for long, as after a suspension. Raises SupersededError, and
        StoreError where the store can't be asked."""
        if not self._lost and _since_boot_s() - self._confirmed_s > 2 * RENEW_S:
            self.renew()
        if self._lost:
            raise SupersededError(self._lost)

    def renew(self) -> None:
        """Raises SupersededError where it is no longer ours, StoreError."""
        with self._lock:
            began_s = _since_boot_s()
            if not self._is_mine():
                raise SupersededError(self._lost)
            beat = self._me.beat + 1
            self._me = replace(self._me, beat=beat, renewed_at_s=time.time())
            self._store.write(self._path, _packed(self._me))
            self._confirmed_s = began_s

    def _keep(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                self.renew()
            except SupersededError:
                return
            except StoreError:
                continue

    def _is_mine(self) -> bool:
        """Raises StoreError."""
        number = max(_numbers(self._store, self._path), default=0)
        holder = _parsed(_read(self._store, _claim_path(self._path, number)))
        if number == self._me.number and (holder is None or holder.process == self._me.process):
            return True
        what = "its lease was removed"
        if number >= self._me.number:
            who = "another driver" if holder is None else _named(holder)
            what = f"{who} took it over while this one was silent"
        self._lost = (
            f"{self._store.address}: this driver no longer holds it: {what} (lease "
            f"{self._me.number}, now {number}); what is finished stays"
        )
        return False

    def release(self) -> None:
        """Ours alone: a successor's stays. Calling it again does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StoreError), store_errors():
            if self._is_mine():
                self._store.files.remove(self._path)
                released = _packed(replace(self._me, released=True))
                self._store.files.write(_claim_path(self._path, self._me.number), released)
        self._lost = self._lost or f"{self._store.address}: the lease was released"

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# --------------------------------------------------------------------------- files


def _claim_path(path: str, number: int) -> str:
    return f"{path.removesuffix('.json')}/{number:06d}.json"


def _numbers(store: Store, path: str) -> list[int]:
    with store_errors():
        found = [PurePosixPath(i.path) for i in store.files.list(path.removesuffix(".json"))]
    return [int(file.stem) for file in found if file.stem.isdecimal() and file.suffix == ".json"]


def _packed(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _read(store: Store, path: str) -> str | None:
    """None where there is no file; rubbish stays rubbish.

    A listing of its folder first: an NFS client remembers for up to a minute that there was no such
    name, and two NFS 4 mounts of one machine may read a file that was replaced for ever."""
    if store.files.folder is not None:
        with contextlib.suppress(OSError):
            os.listdir((store.files.folder / path).parent)
    try:
        with store_errors():
            return store.files.read(path).decode(errors="replace")
    except FileNotFoundError:
        return None


def _parsed(text: str | None) -> Holder | None:
    """None where there is none, or it is torn or not ours."""
    try:
        holder = from_dict(Holder, parse_json(text or ""))
    except ValueError:
        return None
    is_ours = 0 < holder.pid < 2**31 and finite(holder.renewed_at_s) is not None
    return holder if is_ours and 0 <= holder.number < 2**53 else None


def _named(holder: Holder) -> str:
    return f"the driver with pid {holder.pid} on {holder.host}"


def _is_me(holder: Holder) -> bool:
    here = this_host(), os.getpid(), process_start(os.getpid())
    return (holder.host, holder.pid, holder.process_start) == here and holder.place in (
        "",
        process_place(),
    )


def _since_boot_s() -> float:
    """Goes on while the machine is suspended, as other machines' clocks do."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
