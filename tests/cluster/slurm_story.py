"""What a lab does with Slurm, command by command: a grid that meets its time limit, a preemption
and a lost machine, and still ends with the cells of an undisturbed one."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.laptop import Laptop
from tests.cluster.machines import SHARED
from tests.cluster.story import LIMIT_S, compare

CHECKOUT = SHARED / "prunegrid"
#: Of a job, in a line: what a person would look at.
QUEUE = "squeue -h -o '%A %P %T %N'"


def tell_slurm(laptop: Laptop, *, grid: str, select: str) -> None:
    """Raises AssertionError where anything is not as it should be."""
    laptop.say(
        "A login node and two machines, with munge, slurmctld and a slurmd on each. All see\n"
        f"{SHARED}, where the checkout is. Once: the program."
    )
    python = laptop.environment["PRUNEGRID_PYTHON"]
    laptop.run(f"uv venv --quiet --python {python}")
    laptop.run("uv pip install --quiet --constraint requirements.lock -e '.[mnist5k]'")
    laptop.run("sinfo")
    options = "--cpus-per-task=1"
    work = f"{grid} --select {select}"
    plain, cut = SHARED / "undisturbed", SHARED / "disturbed"

    laptop.say("A grid, undisturbed.")
    job = _submit(laptop, f"sbatch {options} cluster/slurm.sh {work} --store {plain}")
    _wait(lambda: _state(laptop, job) == "", "the job's end")
    laptop.run(f"cat prunegrid-{job}.log")
    laptop.run(f".venv/bin/prunegrid verify --store {plain}")

    laptop.say(
        "The same into another store, with a time limit of 3 minutes: Slurm sends SIGUSR1 a\n"
        "minute before it, the job goes back into the queue and resumes."
    )
    options += " --time=3 --signal=B:USR1@60"
    job = _submit(laptop, f"sbatch {options} cluster/slurm.sh {work} --store {cut}")
    _wait(lambda: _goes_on(laptop, job) and _starts(job) >= 2, "its second start")
    laptop.run(QUEUE)
    laptop.say("An urgent job takes the machines: the grid's job is preempted, with 45 s of grace.")
    before = _starts(job)
    _wait(lambda: _goes_on(laptop, job) and _running_driver(job, before), "its driver")
    urgent = _submit(
        laptop, "sbatch --partition=urgent --nodes=2 --exclusive --wrap 'srun hostname; sleep 15'"
    )
    _wait(lambda: _state(laptop, urgent) == "RUNNING", "the urgent job")
    laptop.run(QUEUE)
    assert _state(laptop, job) == "PENDING", "it was not preempted"
    _wait(lambda: _goes_on(laptop, job) and _starts(job) > before, "the start after it")
    laptop.say("Without a word: the job is sent back into the queue by the administrator.")
    again = _starts(job)
    _wait(lambda: _goes_on(laptop, job) and _running_driver(job, again), "its driver")
    laptop.run(f"scontrol requeue {job}")
    _wait(lambda: _state(laptop, job) == "", "the job's end", limit_s=LIMIT_S)
    laptop.run(f"cat prunegrid-{job}.log")
    said = _log(job)
    assert said.count("the job goes back into the queue") >= 2, "time limit and preemption"
    assert _starts(job) >= 4
    laptop.run(f".venv/bin/prunegrid verify --store {cut}")
    compare(laptop, plain, cut)


def _submit(laptop: Laptop, command: str) -> int:
    found = re.search(r"Submitted batch job (\d+)", laptop.run(command))
    assert found
    return int(found[1])


def _state(laptop: Laptop, job: int) -> str:
    """RUNNING, PENDING, ...; "" where the queue has it no more."""
    said = laptop.run(f"{QUEUE} -j {job} 2>/dev/null || true", quiet=True).split()
    return said[2] if len(said) > 2 else ""


def _goes_on(laptop: Laptop, job: int) -> bool:
    assert _state(laptop, job), f"job {job} has ended too early:\n{_log(job)}"
    return True


def _log(job: int) -> str:
    path = CHECKOUT / f"prunegrid-{job}.log"
    return path.read_text() if path.exists() else ""


def _starts(job: int) -> int:
    return len(re.findall(rf"job {job}, start \d+", _log(job)))


def _running_driver(job: int, start: int) -> bool:
    """Whether the driver of that start has workers."""
    return "running on Ray" in _log(job).rpartition(f"job {job}, start {start}")[2]


def _wait(condition: Callable[[], bool], what: str, limit_s: float = 600.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come within {limit_s:.0f} s"
        time.sleep(1)


def show_logs(root: Path) -> None:
    """Of Slurm's daemons, where something went wrong."""
    for path in sorted(root.glob("*.log")) + sorted(root.glob("*.out")):
        text = subprocess.run(
            ["tail", "-n", "15", path], capture_output=True, text=True, check=False
        )
        print(f"--- {path.name}\n{text.stdout}")
