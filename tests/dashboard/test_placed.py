"""What runs is shown on its worker while it runs, not only once it has ended."""

from __future__ import annotations

from prunegrid.orchestrator.driver.driver import Driver
from prunegrid.orchestrator.engines.engine import InlineEngine, RunningTask
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import WorkerSettings
from tests.fakes import RUNNER
from tests.grids import SMALL


class Told(InlineEngine):
    """Says of the next attempt that a worker is at it, as engines with workers do."""

    def doing(self):
        return [RunningTask(key=a.task.key, worker="n/7", fraction=0, note="") for a in self._queue]


class Quiet:
    def show(self, view) -> None: ...

    def say(self, line: str) -> None: ...


def test_the_journal_says_who_runs_what(tmp_path, monkeypatch):
    monkeypatch.setattr("prunegrid.orchestrator.driver.driver.SHOW_S", 0.0)
    store = Store.open_or_create(str(tmp_path / "s"))
    store.set_grid(SMALL)
    settings = WorkerSettings(store=store.address, data_dir=None, threads=1, gpu_memory_mib=None)
    plan = expand(parse_grid(SMALL, source="grid.yaml"), {"seed": ("0",), "rate": ("1",)})
    engine = Told(settings, runner=RUNNER)
    with Lease.take(store) as lease:
        Driver(plan, store, engine, Quiet(), lease=lease).run()
    placed = [entry["key"] for entry in read_journal(store) if entry["event"] == "placed"]
    assert len(placed) == len(set(placed)), "once each"
    assert set(placed) <= set(plan.tasks)
    assert placed
    history = RunHistory()
    for entry in read_journal(store):
        history.take(entry)
        if entry["event"] == "placed":
            assert history.running[entry["key"]].worker == "n/7"
