"""Classes of failure that a grid meets over Ray: what is retried, failed and blocked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.explain import explain
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.run_health import RunHealth
from prunegrid.orchestrator.store.store import Store
from tests.fakes import BUG, FAILS_ONCE, RUNNER, attempts_of
from tests.grids import with_seeds

pytestmark = pytest.mark.ray


def test_each_class_by_its_own_policy_and_all_else_goes_on(ray_session: None, tmp_path: Path):
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(
        with_seeds(0, BUG, *FAILS_ONCE)
        .replace("rates: [1, 2, 4]", "rates: [1, 2]")
        .replace("[magnitude-global-unstructured, random-local-filter]", "[random-local-filter]")
    )
    options = RunOptions(grid=grid, store=str(store), runner=RUNNER)
    assert run_grid(options, Console(quiet=True)) == 1
    health = RunHealth.of(read_history(Store.open(str(store))), now_s=0.0)
    assert health.failures == {"bug": 2, "storage": 1, "host-memory": 1, "device-memory": 1}
    (failed,) = health.failed
    assert failed.kind == "bug"
    assert failed.message == "ValueError: planted"
    assert health.blocked == 9, "its pruning, and both networks' attacks, in shards"
    told = json.loads((store / f"failures/{failed.key}/002.json").read_text())
    assert "Traceback" in told["traceback"]
    assert told["log"].splitlines() == ["printed in attempt 2", "said by native code"]
    page = io.StringIO()
    explain(str(store), failed.key, console=Console(file=page, width=200))
    assert "printed in attempt 2" in page.getvalue()
    tries = attempts_of(store)
    assert sorted(tries.values())[-4:] == [2, 2, 2, 2]
    cells = pd.read_parquet(store / "results/cells")
    assert cells.groupby("seed").size().to_dict() == dict.fromkeys([0, *FAILS_ONCE], 8)
