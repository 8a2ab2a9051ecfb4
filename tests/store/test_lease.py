"""Who holds a store: judged by its heartbeat, on another host by that alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.lease import LEASE, TTL_S, Lease, read_holder
from prunegrid.orchestrator.store.store import Store, this_host


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open_or_create(str(tmp_path / "store"))


def held(store: Store, *, host: str, age_s: float, pid: int = 1) -> None:
    holder = {"host": host, "pid": pid, "process_start": "1", "renewed_at_s": time.time() - age_s}
    store.write(LEASE, json.dumps(holder).encode())


def test_another_host_s_driver_is_believed_while_it_is_heard_of(store):
    held(store, host="gpu-7", age_s=TTL_S - 2, pid=4711)
    with pytest.raises(StoreError, match=r"pid 4711 on gpu-7, last heard of 28 s ago"):
        Lease.take(store)
    held(store, host="gpu-7", age_s=TTL_S + 2)
    Lease.take(store)
    assert read_holder(store).host == this_host()


def test_a_driver_gone_from_this_host_holds_nothing(store):
    held(store, host=this_host(), age_s=0.0, pid=1)  # that process began at another time
    Lease.take(store)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 3}'])
def test_a_torn_lease_holds_nobody_off(store, content):
    store.write(LEASE, content)
    Lease.take(store)


def test_a_renewal_comes_when_it_is_due(store, monkeypatch):
    lease = Lease.take(store)
    store.files.remove(LEASE)
    lease.renew()
    assert read_holder(store) is None, "it was renewed a moment ago"
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 6)
    lease.renew()
    assert read_holder(store).renewed_at_s == now_s + 6
