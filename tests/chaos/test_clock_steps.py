"""A machine's clock is set while a driver runs: nobody is let in, no duration is negative."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.commands.test_run import cells, spawn, wait_for
from tests.fakes import SLOW, attempts_of
from tests.grids import with_seeds

#: The lease of a driver is renewed and looked at ten times as often as a user's.
QUICK = """
from prunegrid.orchestrator.store import lease
lease.RENEW_S, lease.LOOK_S = 0.5, 0.05
"""
#: The clock of that process is off by what a file says.
CLOCK = f"""
import sys, time
from pathlib import Path
def off(real=time.time, path=Path(sys.argv[1]).with_name("off")):
    return real() + (float(path.read_text()) if path.exists() else 0.0)
time.time = off
{QUICK}"""


@pytest.mark.parametrize("step_s", [-3600.0, -40.0, 40.0, 3600.0])
def test_a_clock_that_is_set_lets_nobody_in_and_makes_no_duration_negative(tmp_path, step_s):
    driver = spawn(tmp_path, with_seeds(SLOW), before=CLOCK)
    try:
        wait_for(lambda: attempts_of(tmp_path / "store"))
        (tmp_path / "off").write_text(str(step_s))
        lease = tmp_path / "store/lease.json"
        beat = lease.read_text()
        wait_for(lambda: lease.read_text() != beat)  # from now on by the new clock
        second = spawn(tmp_path, with_seeds(SLOW), before=QUICK)
        told, _ = second.communicate(timeout=90)
        assert second.returncode == 1, told
        assert f"held by the driver with pid {driver.pid}" in told
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=90)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 130, said
    (took,) = re.findall(r"tasks run, \d+ reused, in (.*)", said)
    assert re.fullmatch(r"\d+ s|1 min", took), took


def test_a_clock_set_between_two_runs_changes_no_cell(tmp_path):
    whole, stepped = tmp_path / "whole", tmp_path / "stepped"
    for folder in (whole, stepped):
        folder.mkdir()
    assert spawn(whole, with_seeds(0)).wait(timeout=90) == 0
    driver = spawn(stepped, with_seeds(0), before=CLOCK)
    wait_for(lambda: attempts_of(stepped / "store"))
    driver.kill()
    driver.wait()
    Path(stepped / "off").write_text("-86400")
    assert spawn(stepped, with_seeds(0), before=CLOCK).wait(timeout=90) == 0
    assert cells(stepped).equals(cells(whole))
