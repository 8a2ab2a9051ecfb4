"""Signals to a driver, to its process group and to all that it started; Ray's own processes dying;
a reader of the output that goes away."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.store.lease import LEASE
from tests.commands.test_run import cells, options, spawn, wait_for
from tests.fakes import SLOW, attempts_of
from tests.grids import with_seeds
from tests.test_loopback import family


def to_driver(driver: subprocess.Popen, number: signal.Signals) -> None:
    driver.send_signal(number)


def to_group(driver: subprocess.Popen, number: signal.Signals) -> None:
    """As `timeout` and a closed terminal do."""
    os.killpg(driver.pid, number)


def to_all(driver: subprocess.Popen, number: signal.Signals) -> None:
    """As systemd and Slurm do: to each process, whatever its session. Ray's come first."""
    for pid in sorted(family(driver.pid), reverse=True):
        os.kill(pid, number)


def named(driver: subprocess.Popen, name: str) -> int:
    """The process of Ray's that runs the program `name`."""
    (pid,) = (
        pid
        for pid in family(driver.pid)
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(name.encode())
    )
    return pid


def assert_stopped_in_order(driver: subprocess.Popen, folder: Path, within_s: float = 60) -> None:
    output, _ = driver.communicate(timeout=within_s)
    assert driver.returncode == 130, output
    assert "the same command resumes" in output
    assert not (folder / "store" / LEASE).exists()
    failures = [path.read_text() for path in (folder / "store").glob("failures/*/*.json")]
    assert failures == [], "an interruption is no failure"


def assert_gone(processes: set[int]) -> None:
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes), 60)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("send", "number"),
    [(to_group, signal.SIGTERM), (to_all, signal.SIGTERM), (to_all, signal.SIGUSR1)],
)
def test_a_signal_to_more_than_the_driver_stops_it_in_order(
    send: Callable[[subprocess.Popen, signal.Signals], None], number: signal.Signals, tmp_path: Path
):
    driver = spawn(tmp_path, with_seeds(SLOW), engine="ray")
    wait_for(lambda: attempts_of(tmp_path / "store"), 90)
    processes = family(driver.pid)
    assert {os.getsid(pid) for pid in processes if pid != driver.pid}.isdisjoint(
        {os.getsid(driver.pid)}
    ), "a process of Ray's is in the driver's session"
    send(driver, number)
    assert_stopped_in_order(driver, tmp_path)
    assert_gone(processes)


@pytest.mark.ray
def test_a_run_outlives_its_raylet_and_its_gcs(tmp_path: Path):
    driver = spawn(tmp_path, with_seeds(SLOW, 0), engine="ray")

    def tries() -> int:
        return sum(attempts_of(tmp_path / "store").values())

    for killed in ("raylet", "gcs_server"):
        wait_for(lambda: tries() > 0, 90)
        processes = family(driver.pid)
        os.kill(named(driver, killed), signal.SIGKILL)
        assert_gone(processes - {driver.pid})
        begun = tries()  # by the old Ray
        wait_for(lambda old=begun: tries() > old, 60)
    os.kill(named(driver, "gcs_server"), signal.SIGKILL)
    time.sleep(0.7)  # the driver has noticed, and is ending the old Ray, which takes 5 s
    driver.send_signal(signal.SIGTERM)
    processes = family(driver.pid)
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 130, output
    assert output.count("starting Ray again") == 2, "not where it was asked to stop"
    for killed in ("raylet", "gcs_server"):
        assert f"Ray's {killed} has ended" in output
    assert_gone(processes)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_that_asks_for_an_end_stops_it_in_order(number, tmp_path):
    driver = spawn(tmp_path, with_seeds(SLOW))
    wait_for(lambda: attempts_of(tmp_path / "store"))
    driver.send_signal(number)
    if number == signal.SIGHUP:  # nothing is written for a terminal that is gone
        assert driver.wait(90) == 130
        assert not (tmp_path / "store" / LEASE).exists()
    else:
        assert_stopped_in_order(driver, tmp_path)


def test_a_driver_under_nohup_goes_on_after_a_sighup(tmp_path):
    driver = spawn(tmp_path, with_seeds(SLOW), ignored=(signal.SIGHUP,))
    wait_for(lambda: attempts_of(tmp_path / "store"))
    driver.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    assert_stopped_in_order(driver, tmp_path)


def test_a_reader_that_goes_away_stops_the_driver_in_order(tmp_path):
    """As `prunegrid run .. | head -2`: the driver's next line meets a closed pipe."""
    driver = spawn(tmp_path, with_seeds(0, SLOW))
    assert driver.stdout is not None
    driver.stdout.readline()
    driver.stdout.close()
    assert driver.wait(90) == 130
    assert not (tmp_path / "store" / LEASE).exists()
    assert not (tmp_path / "store/failures").exists()


def test_ctrl_c_that_ends_the_reader_too_stops_the_driver_in_order(tmp_path):
    """As Ctrl-C with `| tee log`: the closed pipe is no second Ctrl-C."""
    driver = spawn(tmp_path, with_seeds(SLOW))
    wait_for(lambda: attempts_of(tmp_path / "store"))
    assert driver.stdout is not None
    driver.stdout.close()
    driver.send_signal(signal.SIGINT)
    assert driver.wait(90) == 130
    assert not (tmp_path / "store" / LEASE).exists()
    assert not (tmp_path / "store/failures").exists()


class Closed(io.StringIO):
    """Its reader goes away before the line that has `word`."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def write(self, text: str) -> int:
        if self._word in text + self.getvalue():
            self._word = ""
            raise BrokenPipeError(errno.EPIPE, "planted")
        return super().write(text)


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize(("word", "code"), [("running on", 130), ("tasks run", 0)])
def test_a_reader_that_goes_away_stops_what_is_left_to_run(word, code, tmp_path):
    console = Console(file=Closed(word), width=200)
    assert run_grid(options(tmp_path), console) == code
    assert not (tmp_path / "store" / LEASE).exists()
    assert run_grid(options(tmp_path), Console(quiet=True)) == 0
    assert len(cells(tmp_path)) == 48
