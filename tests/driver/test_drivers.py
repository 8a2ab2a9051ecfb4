"""Drivers as processes: two at one store, one interrupted, one that lost its workers' words."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from prunegrid.orchestrator.engines.engine import Ended, InlineEngine
from prunegrid.orchestrator.store.lease import LEASE, LeaseWatch
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.contract import Attempt, DataSettings, Failure, FailureKind, Success
from prunegrid.workers.entry import Worker
from prunegrid.workers.files import LocalFiles, StorageError
from tests import fakes
from tests.commands.test_run import cells, run, spawn, wait_for
from tests.engines.test_engines import settings, task
from tests.fakes import BROKEN, BUG, CAUSE, DEAF, RUNNER, SLOW, attempts_of
from tests.grids import SMALL, with_seeds
from tests.test_loopback import family


def test_a_second_driver_is_refused_and_takes_over_once_the_first_is_gone(tmp_path):
    first = spawn(tmp_path, with_seeds(SLOW))
    wait_for(lambda: attempts_of(tmp_path / "store"))
    second = spawn(tmp_path, with_seeds(SLOW))
    output, _ = second.communicate(timeout=90)
    assert second.returncode == 1, output
    assert f"pid {first.pid}" in output
    assert first.poll() is None, "the first one goes on"
    holder = json.loads((tmp_path / "store" / LEASE).read_text())
    assert holder["pid"] == first.pid
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    third = spawn(tmp_path, with_seeds(0))
    output, _ = third.communicate(timeout=90)
    assert third.returncode == 0, output
    assert len(cells(tmp_path)) == 24


#: Each driver holds a lease of its own.
WITHOUT_LEASES = """
import os
import shutil
from prunegrid.orchestrator.store.lease import Lease
Lease.take = lambda store, **_: Lease._claim(store, f"lease-{os.getpid()}.json", 1)
"""


def test_two_drivers_that_both_believe_to_hold_the_store_leave_each_cell_once(tmp_path):
    """What a lease can't exclude: a moment before the first one looks. Here they never look."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole) == 0
    both = tmp_path / "both"
    both.mkdir()
    store = both / "store"
    first = spawn(both, SMALL, before=WITHOUT_LEASES)
    wait_for(lambda: attempts_of(store))
    first.send_signal(signal.SIGSTOP)
    begun = len(attempts_of(store))
    second = spawn(both, SMALL, before=WITHOUT_LEASES)
    wait_for(lambda: len(attempts_of(store)) > begun)
    first.send_signal(signal.SIGCONT)
    drivers = [first, second]
    codes = [driver.wait(timeout=90) for driver in drivers]
    outputs = [driver.communicate()[0] for driver in drivers]
    assert codes == [0, 0], outputs
    tries = attempts_of(store)
    assert max(tries.values()) == 2, "they never met: the test would prove nothing"
    pd.testing.assert_frame_equal(cells(both), cells(whole))
    assert list(Verifier(Store.open(str(store))).findings()) == []


@pytest.mark.ray
def test_ctrl_c_twice_ends_at_once_what_does_not_hear(tmp_path):
    driver = spawn(tmp_path, with_seeds(DEAF), engine="ray")
    wait_for(lambda: attempts_of(tmp_path / "store"), 90)
    processes = family(driver.pid)
    assert len(processes) > 3, "Ray's processes were not found: the test would prove nothing"
    driver.send_signal(signal.SIGINT)
    time.sleep(1)
    assert driver.poll() is None, "what runs may end"
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 130, output
    assert not (tmp_path / "store" / LEASE).exists()

    def gone() -> bool:
        return not any(os.path.exists(f"/proc/{pid}") for pid in processes)

    wait_for(gone, 20)


@pytest.mark.ray
def test_ctrl_c_over_ray_stops_in_order(tmp_path):
    driver = spawn(tmp_path, with_seeds(SLOW), engine="ray")
    wait_for(lambda: attempts_of(tmp_path / "store"), 90)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 130, output
    assert "interrupted" in output
    assert not (tmp_path / "store/failures").exists(), "an interruption is no failure"


def test_a_lost_terminal_stops_it_in_order(tmp_path):
    """As when an SSH session drops: SIGHUP, and nothing that is written can be read."""
    screen, terminal = os.openpty()
    driver = spawn(tmp_path, with_seeds(SLOW), stdout=terminal)
    os.close(terminal)
    wait_for(lambda: attempts_of(tmp_path / "store"), 90)
    driver.send_signal(signal.SIGHUP)
    os.close(screen)
    assert driver.wait(timeout=90) == 130
    assert not (tmp_path / "store" / LEASE).exists()
    assert not (tmp_path / "store/failures").exists()


def test_one_task_run_by_two_workers_at_once_leaves_one_result(tmp_path):
    Store.open_or_create(str(tmp_path / "store"))

    def attempt(number: int) -> bool:
        worker = Worker(settings(tmp_path), RUNNER)
        return isinstance(worker.run(Attempt(task=task(0), number=number)), Success)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(attempt, range(1, 17)))
    assert attempts_of(tmp_path / "store") == {task(0).key: 16}
    assert run(tmp_path, with_seeds(0)) == 0
    assert attempts_of(tmp_path / "store")[task(0).key] == 16, "it was done"
    assert len(cells(tmp_path)) == 24
    assert list(Verifier(Store.open(str(tmp_path / "store"))).findings()) == []


def test_a_driver_that_prepares_data_for_long_keeps_its_lease(tmp_path, monkeypatch):
    monkeypatch.setattr("prunegrid.orchestrator.store.lease.RENEW_S", 0.05)
    monkeypatch.setattr("prunegrid.orchestrator.store.lease.TTL_S", 0.5)
    watch = LeaseWatch(Store.open_or_create(str(tmp_path / "store")))
    seen = []

    class Slow(InlineEngine):
        def prepare(self, data: DataSettings) -> str | None:
            limit_s = time.monotonic() + 1.5
            while time.monotonic() < limit_s:
                watch.look()
                seen.append(watch.alive)
                time.sleep(0.1)
            return None

    monkeypatch.setattr("prunegrid.orchestrator.driver.launch.InlineEngine", Slow)
    assert run(tmp_path, select=("seed=0", "attack=cw_l2")) == 0
    assert all(seen), "another driver could have taken the store"
    assert len(seen) > 3


# --------------------------------------------------------------------------- engines that harm


class Meddler(InlineEngine):
    """Runs tasks as they are, and then does something to the outcome or the store."""

    count = 0

    def poll(self, timeout_s: float) -> list[Ended]:
        ends = list(super().poll(timeout_s))
        type(self).count += len(ends)
        return [self.meddle(ended) for ended in ends]

    def meddle(self, ended: Ended) -> Ended:
        return ended

    @property
    def store(self) -> Path:
        return Path(self._worker._settings.store)


def with_engine(monkeypatch, kind: type[Meddler]) -> None:
    kind.count = 0
    monkeypatch.setattr("prunegrid.orchestrator.driver.launch.InlineEngine", kind)


def failure(ended: Ended, kind: FailureKind) -> Ended:
    lost = Failure(
        key=ended.outcome.key, kind=kind, message="planted", traceback="", host="", duration_s=0
    )
    return dataclasses.replace(ended, outcome=lost)


def test_a_result_whose_worker_died_before_its_word_came_is_taken(tmp_path, monkeypatch):
    class Mute(Meddler):
        def meddle(self, ended: Ended) -> Ended:
            return failure(ended, FailureKind.CRASHED)

    with_engine(monkeypatch, Mute)
    assert run(tmp_path) == 0
    assert set(attempts_of(tmp_path / "store").values()) == {1}, "its result was there"
    assert len(cells(tmp_path)) == 48


def test_results_torn_while_a_run_goes_on_are_made_anew_by_the_same_run(tmp_path, monkeypatch):
    class Tears(Meddler):
        def meddle(self, ended: Ended) -> Ended:
            if self.count in (5, 15, 25):
                for path in sorted(self.store.glob("results/*/*.parquet"))[:: self.count]:
                    os.truncate(path, path.stat().st_size - 7)
            return ended

    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole, select=("seed=0",)) == 0
    with_engine(monkeypatch, Tears)
    torn = tmp_path / "torn"
    torn.mkdir()
    assert run(torn, select=("seed=0",)) == 0
    assert list((torn / "store/torn").iterdir()), "nothing was torn: the test would prove nothing"
    pd.testing.assert_frame_equal(cells(torn), cells(whole))
    assert list(Verifier(Store.open(str(torn / "store"))).findings()) == []


def test_a_parent_that_a_task_finds_torn_is_made_anew_by_the_same_run(tmp_path, monkeypatch):
    """Flipped bits: the file's ends are whole, so that only its reader can tell."""
    victim: list[str] = []

    class Flips(Meddler):
        def meddle(self, ended: Ended) -> Ended:
            key = ended.outcome.key
            weights = self.store / "models" / key / "weights.npz"
            if not victim and key.startswith("prune"):
                victim.append(key)
                content = bytearray(weights.read_bytes())
                content[len(content) // 2] ^= 0xFF
                weights.write_bytes(content)
            elif victim and key.startswith("attack") and attempts_of(self.store)[victim[0]] == 1:
                (self.store / "results/images" / f"{key}.parquet").unlink()
                return failure(ended, FailureKind.INPUT)
            return ended

    with_engine(monkeypatch, Flips)
    assert run(tmp_path, select=("seed=0", "method=random-local-filter")) == 0
    assert attempts_of(tmp_path / "store")[victim[0]] == 2
    assert len(cells(tmp_path)) == 12
    assert list(Verifier(Store.open(str(tmp_path / "store"))).findings()) == []


def test_a_store_that_refuses_for_a_while_does_not_end_the_run(tmp_path, monkeypatch):
    """The driver's own writes and the tasks', all refused for a second and a half."""
    real, refused, asked = LocalFiles.write, [], []

    def write(files: LocalFiles, path: str, content: bytes) -> None:
        now_s = time.monotonic()
        if "results/" in path:
            asked.append(path)
        over = refused and now_s - refused[0] > 1.5
        if "results/" in path and len(asked) > 20 and not over:
            refused.append(now_s)
            raise StorageError(f"can't write {path}: slow down")
        real(files, path, content)

    monkeypatch.setattr(LocalFiles, "write", write)
    monkeypatch.setattr("tests.fakes.RUNNER.run_attempt", _with_storage_failures(fakes.run_attempt))
    assert run(tmp_path) == 0
    assert refused, "it was over before: the test would prove nothing"
    assert len(cells(tmp_path)) == 48


def _with_storage_failures(run_attempt):
    def wrapped(attempt: Attempt, *arguments):
        try:
            return run_attempt(attempt, *arguments)
        except StorageError as error:
            return fakes.failed(attempt, FailureKind.STORAGE, str(error))

    return wrapped


def test_the_number_of_an_attempt_goes_on_over_runs_and_no_record_is_lost(tmp_path):
    assert run(tmp_path, with_seeds(BUG)) == 1
    assert run(tmp_path, with_seeds(BUG)) == 1
    records = sorted(p.name for p in (tmp_path / "store/failures").glob("*/*.json"))
    assert records == sorted(["001.json", "002.json", "003.json", "004.json"] * 2)


@pytest.mark.usefixtures("reported")
def test_tasks_that_fail_are_no_success_though_every_cell_has_its_row(tmp_path):
    """Image rows were removed by hand, and can't be made again."""
    grid = with_seeds(BROKEN)
    assert run(tmp_path, grid) == 0
    shutil.rmtree(tmp_path / "store/results/images")
    (tmp_path / "store" / CAUSE).touch()
    assert run(tmp_path, grid) == 1
