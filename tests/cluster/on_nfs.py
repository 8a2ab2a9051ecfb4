"""What must hold on NFS, on a real mount: `python -m tests.cluster.nfs` runs these in a kernel that
has one. Two mounts of one export are two machines: each has its own caches."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.lease import LEASE, RENEW_S, TTL_S, Lease, SupersededError
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.files import LocalFiles
from tests.cluster.nfs import VERSIONS
from tests.commands.test_run import run
from tests.fakes import attempts_of
from tests.grids import with_seeds
from tests.store.test_lease import held

pytestmark = pytest.mark.timeout(900)
LATE_S = 120.0  #: as `driver.LATE_S` allows


@pytest.fixture(params=VERSIONS)
def machines(request) -> tuple[Path, Path]:
    """One folder, as two machines see it."""
    name = f"{request.function.__name__}-{request.param}"
    a, b = (Path(f"/mnt/{request.param}/{machine}") / name for machine in "ab")
    assert os.path.ismount(a.parent)
    assert os.path.ismount(b.parent)
    a.mkdir()
    assert eventually(b.is_dir) is not None
    return a, b


def eventually(condition: Callable[[], object], limit_s: float = LATE_S) -> float | None:
    """After how many seconds it held."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > limit_s:
            return None
        time.sleep(0.1)
    return time.monotonic() - began_s


def test_the_caches_disagree_but_not_for_long_and_a_listing_is_always_fresh(machines):
    """Else the tests below would show nothing."""
    a, b = machines
    (a / "first").touch()
    assert eventually((b / "first").exists) is not None
    assert not (b / "by name").exists()
    time.sleep(1)  # the server's clock of changes may be coarse
    (a / "by name").touch()
    assert not (b / "by name").exists(), "the absence of a name is cached"
    (a / "listed").touch()
    assert "listed" in os.listdir(b)
    assert (b / "by name").exists(), "names are fresh after a listing"
    assert not (b / "later").exists()
    time.sleep(1)
    (a / "later").touch()
    assert (eventually((b / "later").exists) or 0) > 1


def test_what_was_closed_on_one_machine_is_whole_on_the_other(machines):
    """What is new, and what was replaced: a mount that opens a name asks the server what it is. The
    writes of one tick of its clock do not show in the folder's attributes."""
    a, b = (LocalFiles(folder) for folder in machines)
    contents = [str(number).encode() * 10_000 for number in range(40)]
    for number, content in enumerate(contents):
        a.write(f"new{number}", content)
        assert b.read(f"new{number}") == content
        a.write("same", content)
        assert b.read("same") == content


def _write_once(folder: Path, names: list[str], me: bytes, barrier, results) -> None:
    files = LocalFiles(folder)
    won = []
    for name in names:
        barrier.wait()
        if files.write_once(name, me * 1000):
            won.append(name)
    results.put((me, won))


def test_of_two_machines_that_write_a_result_one_wins_and_both_read_it(machines):
    names = [f"r{number}" for number in range(60)]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2, timeout=60), context.SimpleQueue()
    pairs = list(zip(machines, (b"a", b"b"), strict=True))
    processes = [
        context.Process(target=_write_once, args=(folder, names, me, barrier, results))
        for folder, me in pairs
    ]
    for process in processes:
        process.start()
    won = dict(results.get() for _ in pairs)
    for process in processes:
        process.join()
    assert sorted(won[b"a"] + won[b"b"]) == sorted(names)
    winner = {name: me for me, mine in won.items() for name in mine}
    for folder in machines:
        for name in names:
            assert LocalFiles(folder).read(name) == winner[name] * 1000
        assert {path.name for path in folder.iterdir()} == set(names), "nothing half written"


@contextmanager
def heartbeats(beat: Callable[[], None], every_s: float) -> Iterator[None]:
    over = threading.Event()

    def go() -> None:
        while not over.wait(every_s):
            beat()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_driver_on_one_machine_keeps_another_machine_s_out_until_it_is_silent(machines):
    a, b = machines
    store, said = Store.open_or_create(str(a)), []
    holder = held(store)
    beats = iter(range(1, 10**6))

    def beat() -> None:
        raw = {**vars(holder), "beat": next(beats)}
        store.write(LEASE, json.dumps(raw).encode())

    assert eventually(lambda: Store.find(str(b)) is not None) is not None
    with heartbeats(beat, RENEW_S), pytest.raises(StoreError, match="pid 4711 on gpu-7"):
        Lease.take(Store.open(str(b)), say=said.append)
    began_s = time.monotonic()
    with Lease.take(Store.open(str(b)), say=said.append) as lease:
        assert time.monotonic() - began_s >= TTL_S
        newer = Store.open(str(a))
        newer.files.write_once(f"lease/{lease.number + 1:06d}.json", b"of another driver")
        with pytest.raises(SupersededError):
            lease.renew()


def test_a_driver_whose_workers_are_on_another_machine_runs_each_task_once(machines, monkeypatch):
    a, b = machines
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *_: None)

    def of_the_driver(address: str) -> LocalFiles:
        files = LocalFiles(Path(address.replace(str(b), str(a))))
        files.address = address  # which is what workers are told
        return files

    monkeypatch.setattr("prunegrid.orchestrator.store.store.open_files", of_the_driver)
    folder = b.parent / f"{b.name}-run"
    folder.mkdir()
    assert run(folder, with_seeds(0), store=str(b / "store")) == 0
    monkeypatch.undo()
    for store in (a / "store", b / "store"):
        assert eventually(lambda at=store: len(list((at / "results/cells").iterdir())) == 24)
        assert set(attempts_of(store).values()) == {1}
        assert list(Verifier(Store.open(str(store))).findings()) == []


def test_a_reader_on_another_machine_meets_nothing_torn_while_a_grid_runs(machines, monkeypatch):
    a, b = machines
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *_: None)
    Store.open_or_create(str(a / "store"))
    assert eventually((b / "store").is_dir) is not None
    seen = []
    reader = Store.open(str(b / "store"))
    with heartbeats(lambda: seen.append(len(read_history(reader).by_start)), 0.2):
        assert run(a, with_seeds(0), store=str(a / "store")) == 0
    assert seen == sorted(seen)
    assert eventually(lambda: reader.whole() == Store.open(str(a / "store")).whole()) is not None


def test_compact_says_that_it_needs_another_file_system(machines, monkeypatch):
    a, _ = machines
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *_: None)
    assert run(a, with_seeds(0), store=str(a / "store")) == 0
    before = sorted(path.name for path in (a / "store/results").rglob("*"))
    with pytest.raises(PrunegridError, match="local disk"):
        compact(str(a / "store"), Console(quiet=True))
    assert sorted(path.name for path in (a / "store/results").rglob("*")) == before
