"""cluster/slurm.sh alone, with programs in Slurm's and Ray's place that write down how they were
called. `make test-cluster` runs it under Slurm itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.plan.dag import expand

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "cluster/slurm.sh"
#: A driver that stops in order, one that knows no signals yet, one that ends by itself.
DRIVERS = {
    "orderly": "trap 'exit 130' USR1; touch $CALLS/driver; while :; do sleep 0.05; done",
    "deaf": "touch $CALLS/driver; exec sleep 30",
    "failed": "exit 1",
    "done": "exit 0",
}


@pytest.fixture
def start(tmp_path):
    """Starts a job; whatever it left running is ended."""
    jobs = []

    def started(driver: str) -> subprocess.Popen[str]:
        programs = {
            "ray": "exit 0",
            "srun": "echo $SLURM_JOB_ID $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} >$CALLS/of-srun\nsleep 9",
            "scontrol": 'echo "$@" >$CALLS/of-scontrol\nexit 1',
            "prunegrid": f'echo "$@" >$CALLS/of-prunegrid\n{DRIVERS[driver]}',
        }
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / name).chmod(0o755)
        environment = {**os.environ, "PRUNEGRID_BIN": str(tmp_path), "CALLS": str(tmp_path)}
        environment |= {"SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "node[1-2]"}
        with (tmp_path / "said").open("w") as out:
            job = subprocess.Popen(
                ["bash", SCRIPT, "grid.yaml", "--store", "/s"],
                cwd=tmp_path,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        jobs.append(job)
        return job

    yield started
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("driver", ["orderly", "deaf"])
def test_a_job_that_is_to_end_goes_back_into_the_queue(tmp_path, start, driver, number):
    job = start(driver)
    end_s = time.monotonic() + 60
    while not (tmp_path / "driver").exists():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    os.kill(job.pid, number)
    code = job.wait(60)
    assert "goes back into the queue" in (tmp_path / "said").read_text()
    assert code == (130 if driver == "orderly" else 128 + signal.SIGUSR1)
    assert (tmp_path / "of-scontrol").read_text() == "requeue 20007\n"


@pytest.mark.parametrize(("driver", "code"), [("failed", 1), ("done", 0)])
def test_a_job_that_ends_by_itself_has_its_drivers_exit_code(tmp_path, start, driver, code):
    assert start(driver).wait(60) == code
    assert not (tmp_path / "of-scontrol").exists()
    said = (tmp_path / "of-prunegrid").read_text()
    assert re.fullmatch(r"run grid.yaml --store /s --address [\d.]+:20007\n", said)
    assert (tmp_path / "of-srun").read_text() == "20007 token 64\n"


def test_what_make_test_cluster_selects_is_in_the_demo():
    selected = re.findall(r"--select (\S+)", (ROOT / "Makefile").read_text())
    assert selected
    for text in selected:
        plan = expand(read_grid(ROOT / "grids/demo.yaml"), parse_selection((text,)))
        assert {cell.place.attack for cell in plan.cells} == {"target_race_l2", "target_race_linf"}
