"""On a network mount what a worker wrote shows at the driver some time later: nothing is lost, made
twice or counted twice."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.files import LocalFiles
from tests.commands.test_run import run
from tests.fakes import attempts_of
from tests.grids import with_seeds
from tests.late_files import LateFiles


@pytest.mark.parametrize("late_s", [0.3, 3.0])
def test_a_driver_that_sees_results_late_runs_each_task_once(tmp_path, monkeypatch, late_s):
    monkeypatch.setattr(
        "prunegrid.orchestrator.store.store.open_files",
        lambda address: LateFiles(LocalFiles(address).folder, late_s=late_s),
    )
    assert run(tmp_path, with_seeds(0)) == 0
    monkeypatch.undo()
    store = tmp_path / "store"
    assert set(attempts_of(store).values()) == {1}
    assert list(Verifier(Store.open(str(store))).findings()) == []
    assert len(list((store / "results/cells").iterdir())) == 24
