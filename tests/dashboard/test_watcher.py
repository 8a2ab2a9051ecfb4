"""Twenty viewers cost what one costs, and none cost nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from prunegrid.orchestrator.dashboard import watcher as module
from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.bodies import BodyCache
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.client import ask
from tests.dashboard.stores import Run


def test_viewers_share_one_reading(mixed):
    watcher = Watcher(StoreReader(Store.open(mixed.address)), every_s=0.2)
    app = make_app(watcher, access_for("127.0.0.1", allow_retry=False))
    watcher.start()
    try:
        began_s = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            replies = list(pool.map(lambda _: ask(app, "/api/grid.json"), range(100)))
        most = (time.monotonic() - began_s) / 0.2 + 2
        assert {reply.status for reply in replies} == {200}
        assert len({reply.headers["etag"] for reply in replies}) <= 2
        assert watcher.refreshes <= most
    finally:
        watcher.close()


def test_one_answer_is_computed_once_however_many_ask():
    cache, made, gate = BodyCache(), [], threading.Event()

    def make() -> dict[str, int]:
        gate.wait(5)
        made.append(1)
        return {"n": len(made)}

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(cache.get, "key", 1, make) for _ in range(20)]
        gate.set()
        bodies = {id(one.result()) for one in waiting}
    assert (len(made), len(bodies)) == (1, 1)
    assert cache.get("key", 2, make).content == b'{"n":2}', "another generation"


def test_a_slow_answer_holds_up_no_other():
    cache, gate = BodyCache(), threading.Event()
    slow = threading.Thread(target=cache.get, args=("slow", 1, lambda: gate.wait(10)))
    slow.start()
    try:
        assert cache.get("quick", 1, lambda: 7).content == b"7"
    finally:
        gate.set()
        slow.join()


def test_without_viewers_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IDLE_S", 0.2)
    run = Run(tmp_path / "s")
    watcher = Watcher(StoreReader(Store.open(run.address)), every_s=0.01)
    watcher._warm = True  # its imports would keep it from reading, too
    watcher.start()
    try:
        watcher.current()
        limit_s, count = time.monotonic() + 60, -1
        while count != watcher.refreshes:  # it still reads
            assert time.monotonic() < limit_s
            count = watcher.refreshes
            time.sleep(0.4)
        run.give_up(run.keys[0])
        assert watcher.current().failed == {run.keys[0]}, "the first to come back sees what is"
    finally:
        watcher.close()


def test_it_ends_at_once(tmp_path):
    run = Run(tmp_path / "s")
    watcher = Watcher(StoreReader(Store.open(run.address)), every_s=30.0)
    watcher.start()
    watcher.current()
    began_s = time.monotonic()
    watcher.close()
    assert time.monotonic() - began_s < 10
    watcher._thread.join(10)
    assert not watcher._thread.is_alive()
