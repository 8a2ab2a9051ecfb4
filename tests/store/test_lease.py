"""Who holds a store: one process at a time, judged by its process where that can be seen, else by
its heartbeat on one's own clock."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store import lease as module
from prunegrid.orchestrator.store.lease import (
    LEASE,
    RENEW_S,
    TTL_S,
    Holder,
    Lease,
    LeaseWatch,
    SupersededError,
    find_driver,
)
from prunegrid.orchestrator.store.store import Store, this_host
from prunegrid.workers.files import LocalFiles
from prunegrid.workers.process_id import process_place, process_start
from tests.commands.test_run import wait_for


@pytest.fixture(params=["folder", "s3"])
def any_store(request, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store.open_or_create(str(tmp_path / "store"))
    return Store.open_or_create(f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open_or_create(str(tmp_path / "store"))


class OwnClock:
    """One's own clock: it moves while one waits, and then `meanwhile` happens."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now_s = 0.0
        self.said: list[str] = []
        self._meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self._meanwhile()

    def take(self, store: Store) -> Lease:
        return Lease.take(store, say=self.said.append, clock=lambda: self.now_s, sleep=self.sleep)


def held(store: Store, *, off_s: float = 0.0, number: int = 1, **more) -> Holder:
    """A lease that was not released; its holder's clock is ahead by `off_s`."""
    fields = {"host": "gpu-7", "pid": 4711, "process_start": "1", "place": "there"} | more
    holder = Holder(renewed_at_s=time.time() + off_s, number=number, **fields)
    store.write(f"lease/{number:06d}.json", module._packed(holder))
    store.write(LEASE, module._packed(holder))
    return holder


def beating(store: Store, holder: Holder) -> Callable[[], None]:
    """The holder renews it, by a clock that stands still."""
    beats = iter(range(1, 10**6))

    def beat() -> None:
        raw = {**vars(holder), "beat": next(beats)}
        store.write(LEASE, json.dumps(raw).encode())

    return beat


OFF_S = {"right": 0.0, "40 s ahead": -40.0, "an hour behind": 3600.0, "3 days ahead": -3 * 86400.0}


# --------------------------------------------------------------------------- taking


def test_a_fresh_store_and_a_released_one_are_taken_without_waiting(any_store):
    clock = OwnClock()
    for number in (1, 2, 3):
        with clock.take(any_store) as lease:
            assert lease.number == number
            assert find_driver(any_store)[1]
        assert find_driver(any_store) == (None, False)
    assert (clock.now_s, clock.said) == (0.0, [])
    names = [info.path for info in any_store.files.list("lease")]
    assert names == ["lease/000003.json"], "earlier ones go, the last number stays"


@pytest.mark.parametrize("clock", OFF_S)
def test_a_heartbeat_that_changes_holds_others_off_whatever_the_clocks_say(any_store, clock):
    holder = held(any_store, off_s=OFF_S[clock])
    said = (
        r"held by the driver with pid 4711 on gpu-7, last heard .*suspended one loses it after 30 s"
    )
    with pytest.raises(StoreError, match=said):
        OwnClock(beating(any_store, holder)).take(any_store)
    assert any_store.files.exists(LEASE)


class CachedFiles(LocalFiles):
    """As an NFS client: what it has read it reads again, until the file's folder is listed.
    tests/cluster/on_nfs.py has a real one."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root)
        self._known: dict[Path, bytes] = {}
        listdir = os.listdir
        monkeypatch.setattr(os, "listdir", lambda at: (self._forget(Path(at)), listdir(at))[1])

    def _forget(self, folder: Path) -> None:
        self._known = {path: old for path, old in self._known.items() if path.parent != folder}

    def read(self, path: str) -> bytes:
        if (place := self._path(path)) not in self._known:
            self._known[place] = super().read(path)
        return self._known[place]


def test_a_heartbeat_is_not_taken_from_a_network_mount_s_cache(tmp_path, monkeypatch):
    there = Store.open_or_create(str(tmp_path))
    here = Store(CachedFiles(tmp_path, monkeypatch))
    with pytest.raises(StoreError, match="held by the driver with pid 4711 on gpu-7"):
        OwnClock(beating(there, held(there))).take(here)


@pytest.mark.parametrize("clock", OFF_S)
def test_a_silent_lease_of_another_host_is_taken_after_its_time_on_our_clock(any_store, clock):
    held(any_store, off_s=OFF_S[clock], number=7)
    own = OwnClock()
    with own.take(any_store) as lease:
        assert TTL_S <= own.now_s <= TTL_S + 2
        assert lease.number == 8
        assert find_driver(any_store)[0].host == this_host()
    (line,) = own.said
    assert "waiting up to 30 s for a heartbeat of the driver with pid 4711 on gpu-7" in line


def gone_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_driver_gone_from_this_host_holds_nothing(store):
    here = {"host": this_host(), "place": process_place()}
    clock = OwnClock()
    held(store, pid=gone_pid(), process_start="1", **here)
    with clock.take(store):
        pass
    held(store, pid=1, process_start="1", number=5, **here)  # that process began at another time
    with clock.take(store):
        pass
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    start = process_start(zombie.pid)
    wait_for(lambda: process_start(zombie.pid) == "dead")
    held(store, pid=zombie.pid, process_start=start, number=9, **here)
    with clock.take(store):
        pass
    zombie.wait()
    assert clock.now_s == 0.0


@pytest.mark.parametrize(
    "elsewhere", [{"place": "another namespace"}, {"place": ""}], ids=["namespace", "unknown"]
)
def test_a_pid_of_another_namespace_with_the_same_hostname_proves_nothing(store, elsewhere):
    holder = held(store, host=this_host(), pid=gone_pid(), **elsewhere)
    with pytest.raises(StoreError, match=f"pid {holder.pid} on {this_host()}"):
        OwnClock(beating(store, holder)).take(store)
    own = OwnClock()
    with own.take(store):
        assert own.now_s >= TTL_S


def test_a_process_hidden_from_us_proves_nothing(store, monkeypatch):
    """As under /proc with hidepid: the process of another user."""

    def kill(pid: int, signal: int) -> None:
        raise PermissionError

    holder = held(store, host=this_host(), pid=4711, place=process_place())
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr("prunegrid.workers.process_id.process_start", lambda pid: "")
    with pytest.raises(StoreError, match="pid 4711"):
        OwnClock(beating(store, holder)).take(store)


def test_a_living_process_of_this_host_refuses_at_once_and_a_suspended_one_after_its_time(store):
    here = {"pid": os.getppid(), "process_start": process_start(os.getppid())}
    here |= {"host": this_host(), "place": process_place()}
    held(store, **here)
    own = OwnClock()
    with pytest.raises(StoreError, match=f"pid {os.getppid()}"):
        own.take(store)
    assert own.now_s == 0.0
    held(store, off_s=-60, **here)
    with own.take(store):
        assert own.now_s >= TTL_S


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 3}', b"\xff\xfe"])
def test_a_torn_lease_holds_off_as_long_as_a_silent_one(store, content):
    store.write(LEASE, content)
    own = OwnClock()
    with own.take(store):
        assert own.now_s >= TTL_S
    store.write(LEASE, content)
    with OwnClock().take(store) as lease:
        assert lease.number == 2


def test_a_torn_heartbeat_leaves_its_driver_known(store):
    holder = held(store)
    store.write(LEASE, b"{")
    with pytest.raises(StoreError, match="pid 4711 on gpu-7"):
        OwnClock(beating(store, holder)).take(store)


def test_a_lease_of_an_earlier_version_is_understood(store):
    old = {"host": "gpu-7", "pid": 4711, "process_start": "1", "renewed_at_s": time.time()}

    def write(beat: int = 0) -> None:
        store.write(LEASE, json.dumps(old | {"renewed_at_s": old["renewed_at_s"] + beat}).encode())

    beats = iter(range(1, 1000))
    with Lease.take(store):
        pass  # a driver of this version, in between
    write()
    assert find_driver(store)[1]
    with pytest.raises(StoreError, match="pid 4711 on gpu-7"):
        OwnClock(lambda: write(next(beats))).take(store)
    own = OwnClock()
    with own.take(store):
        assert own.now_s >= TTL_S
    store.write(
        LEASE,
        json.dumps(
            old
            | {
                "host": this_host(),
                "pid": os.getppid(),
                "process_start": process_start(os.getppid()),
            }
        ).encode(),
    )
    with pytest.raises(StoreError, match=f"pid {os.getppid()}"):
        OwnClock().take(store)


def _race(address: str, rounds: int, barrier, results) -> None:
    for number in range(rounds):
        barrier.wait()
        try:
            store = Store.open_or_create(f"{address}/{number}")
            lease = Lease.take(store, sleep=lambda seconds: time.sleep(0.01))
            results.put((number, "held"))
            barrier.wait()
            lease.check()
            lease.renew()
            lease.release()
        except StoreError as error:
            results.put((number, str(error)))
            barrier.wait()
        barrier.wait()


@pytest.mark.parametrize("left", ["nothing", "a dead driver's lease"])
def test_of_many_starts_at_once_exactly_one_holds_the_store(tmp_path, left):
    starts, rounds = 4, 12
    if left != "nothing":
        for number in range(rounds):
            store = Store.open_or_create(str(tmp_path / str(number)))
            held(store, host=this_host(), pid=gone_pid(), place=process_place())
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(starts, timeout=60), context.SimpleQueue()
    processes = [
        context.Process(target=_race, args=(str(tmp_path), rounds, barrier, results))
        for _ in range(starts)
    ]
    for process in processes:
        process.start()
    said = [results.get() for _ in range(starts * rounds)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    for number in range(rounds):
        mine = [text for at, text in said if at == number]
        assert mine.count("held") == 1, mine
        assert all("held by the driver" in text for text in mine if text != "held"), mine


def test_a_number_that_was_swept_is_not_taken_twice(store):
    """A start that looked before others came and went."""
    for _ in range(3):
        with Lease.take(store):
            pass
    store.files.remove("lease/000002.json")
    assert Lease._claim(store, LEASE, 2) is None
    assert [info.path for info in store.files.list("lease")] == ["lease/000003.json"]


# --------------------------------------------------------------------------- holding


def test_a_superseded_driver_stops_and_leaves_its_successor_s_lease(any_store):
    first = Lease.take(any_store)
    first.check()
    second = Lease._claim(any_store, LEASE, 2)
    with pytest.raises(
        SupersededError, match=r"took it over while this one was silent .lease 1, n"
    ):
        first.renew()
    with pytest.raises(SupersededError):
        first.check()
    first.release()
    second.check()
    second.renew()
    holder, lives = find_driver(any_store)
    assert lives
    assert holder.number == 2
    second.release()


def test_who_was_suspended_asks_the_store_before_anything_else(store, monkeypatch):
    first = Lease.take(store)
    second = Lease._claim(store, LEASE, 2)
    first.check()  # its thread will find that out
    awake_s = module._since_boot_s() + 2 * RENEW_S + 1
    monkeypatch.setattr(module, "_since_boot_s", lambda: awake_s)
    with pytest.raises(SupersededError):
        first.check()
    first.release()
    second.release()


def test_a_heartbeat_written_by_a_superseded_driver_is_put_right(store):
    """One that was stopped between its look and its write."""
    with Lease.take(store) as lease:
        held(store, number=0)
        lease.renew()
        assert find_driver(store)[0].number == lease.number


def test_a_thread_renews_it_while_the_driver_is_busy(store, monkeypatch):
    monkeypatch.setattr(module, "RENEW_S", 0.02)
    with Lease.take(store):
        wait_for(lambda: find_driver(store)[0].beat > 3)


def test_a_removed_lease_is_lost_and_not_made_again(store):
    lease = Lease.take(store)
    store.files.remove("lease/000001.json")
    with pytest.raises(SupersededError, match="its lease was removed"):
        lease.renew()
    lease.release()
    assert not store.files.exists("lease/000001.json")


def test_on_a_store_without_exclusive_files_the_first_of_two_stops(store, monkeypatch):
    """As on GCS: both may make the file, and the later one's stays."""
    first = Lease.take(store)
    store.write(
        "lease/000001.json",
        module._packed(
            Holder(host="gpu-7", pid=1, process_start="", renewed_at_s=time.time(), number=1)
        ),
    )
    with pytest.raises(SupersededError, match="pid 1 on gpu-7 took it over"):
        first.renew()
    first.release()
    assert store.files.exists("lease/000001.json")


# --------------------------------------------------------------------------- looking


@pytest.mark.parametrize("clock", OFF_S)
def test_who_asks_once_waits_for_a_heartbeat_where_the_clocks_disagree(store, monkeypatch, clock):
    monkeypatch.setattr(module, "RENEW_S", 0.4)
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    holder, over = held(store, off_s=OFF_S[clock]), threading.Event()
    beat = beating(store, holder)

    def renew() -> None:
        while not over.wait(0.05):
            beat()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        assert find_driver(store)[1]
    finally:
        over.set()
        thread.join()
    assert find_driver(store)[1] == (clock == "right"), "nothing tells but its stamp"


def test_who_looks_again_and_again_believes_the_heartbeat_and_no_clock(store):
    now_s = 0.0
    holder = held(store, off_s=3600)
    beat = beating(store, holder)
    watch = LeaseWatch(store, clock=lambda: now_s)
    watch.look()
    assert watch.alive is None
    for _ in range(20):
        now_s += RENEW_S
        beat()
        watch.look()
        assert (watch.alive, watch.silent_s) == (True, 0.0)
    while now_s < 20 * RENEW_S + TTL_S - 1:
        now_s += 1
        watch.look()
    assert watch.alive
    now_s += 1
    watch.look()
    assert watch.alive is False
