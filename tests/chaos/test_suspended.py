"""A driver that is stopped, as on a laptop that sleeps, while another one takes its store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunegrid.orchestrator.store.lease import LEASE
from tests.chaos.cluster import ROOT
from tests.chaos.rounds import GRID, compare, undisturbed
from tests.commands.test_run import wait_for

TTL_S = 3.0
DRIVER = f"""
import sys
from pathlib import Path
from rich.console import Console
from prunegrid.orchestrator.cli import guarded
from prunegrid.orchestrator.commands import run
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.store import lease
from tests.chaos import runner
lease.TTL_S, lease.RENEW_S = {TTL_S}, 0.2
runner.STEP_S = 0.04
run._report = lambda *_: None
grid, store = sys.argv[1:]
options = RunOptions(grid=Path(grid), store=store, engine="inline", runner=runner.RUNNER)
sys.exit(guarded(lambda: sys.exit(run.run_grid(options, Console(width=300)))))
"""


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder / "grid.yaml"), str(folder / "store")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("woken", ["beside its successor", "after its successor's end"])
def test_a_driver_that_was_suspended_stops_when_another_one_took_over(tmp_path, woken):
    whole, store = undisturbed(tmp_path / "whole"), tmp_path / "store"
    (tmp_path / "grid.yaml").write_text(GRID)

    def count() -> int:
        return len(list((store / "begun").glob("*")))

    first = start(tmp_path)
    second = None
    try:
        wait_for(lambda: count() > 2)
        first.send_signal(signal.SIGSTOP)
        time.sleep(TTL_S + 0.5)
        before = count()
        second = start(tmp_path)
        wait_for(lambda: count() > before + 2)
        if woken == "beside its successor":
            first.send_signal(signal.SIGCONT)
            said, _ = first.communicate(timeout=90)
            assert json.loads((store / LEASE).read_text())["pid"] == second.pid
            assert second.poll() is None, "it goes on"
        told, _ = second.communicate(timeout=120)
        assert second.returncode == 0, told
        if woken != "beside its successor":
            ran = count()
            first.send_signal(signal.SIGCONT)
            said, _ = first.communicate(timeout=90)
            assert count() == ran, "no task is run again"
    finally:
        for driver in filter(None, (first, second)):
            driver.kill()
            driver.wait()
    assert first.returncode == 1, said
    assert f"the driver with pid {second.pid} on " in said
    assert "took it over while this one was silent" in said
    assert "waiting up to" in told
    assert compare(store, whole) == 48
