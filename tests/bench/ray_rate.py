"""Our driver's task rate beside bare Ray's: no-op tasks, one run, one local Ray, in turns.

    python -m tests.bench.ray_rate [--tasks 3000] [--slots 8] [--rounds 3] [--out FILE]

`bare` submits as many tasks of an empty remote function, each with a task's settings as its
argument, and gets every result. `ours` is the whole driver: scheduler, journal, lease, display's
view and the Ray engine; the tasks leave no result files, as bare Ray's leave none. Prints JSON:
tasks per second of each round, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prunegrid.orchestrator.driver.driver import Driver
from prunegrid.orchestrator.driver.run_view import RunView
from prunegrid.orchestrator.engines.ray.ray_engine import RayEngine, start_local
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import Attempt, Task, TrainTask, WorkerSettings
from tests.bench.noop import RUNNER
from tests.bench.output import tell
from tests.grids import SMALL, with_seeds


@dataclass(frozen=True, kw_only=True)
class FlatPlan(Plan):
    """Tasks on which nothing rests: no models, no cells, no files."""

    def unfinished(self, done) -> dict[str, Task]:
        return {key: task for key, task in self.tasks.items() if key not in done}


class Quiet:
    def show(self, view: RunView) -> None: ...

    def say(self, line: str) -> None: ...


def tasks(count: int) -> Mapping[str, Task]:
    plan = expand(parse_grid(with_seeds(0), source="bench"))
    first = next(task for task in plan.tasks.values() if isinstance(task, TrainTask))
    made = [
        TrainTask(
            architecture=first.architecture,
            data=first.data,
            training=first.training,
            seed=seed,
            salt="",
        )
        for seed in range(count)
    ]
    return {task.key: task for task in made}


def bare(ray, work: Mapping[str, Task]) -> float:
    """Tasks per second."""

    @ray.remote(num_cpus=1, max_retries=0)
    def noop(attempt: Attempt) -> Attempt:
        return attempt

    attempts = [Attempt(task=task, number=1) for task in work.values()]
    ray.get([noop.remote(attempt) for attempt in attempts[:50]])  # its workers are there
    began_s = time.perf_counter()
    ray.get([noop.remote(attempt) for attempt in attempts])
    return len(attempts) / (time.perf_counter() - began_s)


def ours(work: Mapping[str, Task], profile: cProfile.Profile | None) -> float:
    """Tasks per second of a whole run, its engine's start not counted."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open_or_create(str(Path(folder) / "store"))
        settings = WorkerSettings(
            store=store.address, data_dir=None, threads=1, gpu_memory_mib=None
        )
        resources = Resources(cpus_per_task=1, gpus_per_task=0, threads=1, gpu_memory_mib=None)
        engine = RayEngine(settings, resources, runner=RUNNER)
        limit_s = time.monotonic() + 60
        wanted = int(engine.description.split(", ")[2].split()[0])
        while engine.slots < wanted and time.monotonic() < limit_s:
            engine.poll(0.05)
        grid = parse_grid(SMALL, source="bench")
        plan = FlatPlan(grid=grid, models=(), cells=(), tasks=work)
        lease = Lease.take(store)
        driver = Driver(plan, store, engine, Quiet(), lease=lease)
        began_s = time.perf_counter()
        if profile is not None:
            profile.enable()
        result = driver.run()
        if profile is not None:
            profile.disable()
        took_s = time.perf_counter() - began_s
        engine.close()
        lease.release()
    assert result.ran == len(work), f"{result.ran} of {len(work)} tasks ran"
    return len(work) / took_s


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--slots", type=int, default=8, help="CPUs that the local Ray believes in")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="also write the JSON there")
    parser.add_argument("--profile", action="store_true", help="of the driver, to stderr")
    chosen = parser.parse_args(arguments)
    ray = start_local(cpus=chosen.slots, gpus=0)
    profile = cProfile.Profile() if chosen.profile else None
    work = tasks(chosen.tasks)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(chosen.rounds):
        rates["bare"].append(round(bare(ray, work), 1))
        rates["ours"].append(round(ours(work, profile), 1))
    ray.shutdown()
    ratio = statistics.median(rates["ours"]) / statistics.median(rates["bare"])
    record = {
        "tasks": chosen.tasks,
        "slots": chosen.slots,
        "cores": os.cpu_count(),
        "ray": ray.__version__,
        "tasks_per_s": rates,
        "ratio": round(ratio, 3),
    }
    tell(record, chosen.out)
    if profile is not None:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
