"""How much driver the paper's grid takes, what a million tasks take, and how near to the best
possible schedule the order of work comes on simulated GPUs.

    make bench, or python -m tests.bench.scheduler [--tasks 1000000]

Prints one JSON object. Durations are made up (`tests/simulation.py`); the scheduler, the plan and
the journal's reading are the driver's own. Processor times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.estimates import Durations
from prunegrid.orchestrator.plan.slices import slice_ranks
from tests.simulation import drawn_durations, jobs_of, lower_bound_s, simulate

ROOT = Path(__file__).resolve().parent.parent.parent
SLOTS = 64
_SEEDS = "seeds: [0, 1, 2, 3, 4]"


def paper_plan(seeds: int = 5) -> Plan:
    """The paper's grid, or the same with more or fewer seeds: 3 276 tasks each."""
    text = (ROOT / "grid.yaml").read_text()
    if _SEEDS not in text:
        raise ValueError(f"grid.yaml: expected {_SEEDS!r} in it")
    return expand(parse_grid(text.replace(_SEEDS, f"seeds: {list(range(seeds))}"), source="bench"))


def learned(plan: Plan, *, draw: int, share: int) -> Durations:
    """What a driver expects once every `share`-th task has been measured, with other luck."""
    durations = Durations()
    for number, (key, seconds) in enumerate(drawn_durations(plan, draw, luck=1).items()):
        if number % share == 0:
            durations.add(plan.tasks[key], seconds)
    return durations


def driver_time(plan_of: Any = paper_plan) -> dict[str, Any]:
    """Seconds of processor from the grid file to the last task's end, the tasks taking none."""
    began_s = time.process_time()
    plan = plan_of()
    planned_s = time.process_time()
    run = simulate(jobs_of(plan), dict.fromkeys(plan.tasks, 1.0), slots=SLOTS)
    ended_s = time.process_time()
    return {
        "tasks": len(run.ended_s),
        "plan_s": round(planned_s - began_s, 3),
        "schedule_s": round(ended_s - planned_s, 3),
        "total_s": round(ended_s - began_s, 3),
    }


def makespans(plan: Plan, slots: tuple[int, ...] = (SLOTS,), draws: int = 3) -> list[dict]:
    """Each schedule's length over its lower bound, max(work / slots, critical path)."""
    out = []
    for name, share in (("nothing measured yet", None), ("one task in 50 measured", 50)):
        for draw in range(draws):
            durations = learned(plan, draw=draw, share=share) if share else None
            durations_s = drawn_durations(plan, draw)
            for count in slots:
                bound_s = lower_bound_s(plan, durations_s, slots=count)
                usual = simulate(jobs_of(plan, durations), durations_s, slots=count)
                ranks = slice_ranks(plan)
                sliced = simulate(jobs_of(plan, durations, ranks=ranks), durations_s, slots=count)
                out.append(
                    {
                        "expectations": name,
                        "slots": count,
                        "draw": draw,
                        "bound_s": round(bound_s),
                        "makespan_over_bound": round(usual.makespan_s / bound_s, 4),
                        "with_slices": round(sliced.makespan_s / bound_s, 4),
                    }
                )
    return out


def million(tasks: int) -> dict[str, Any]:
    """In a process of its own, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scheduler", "--alone", str(tasks)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def alone(tasks: int) -> dict[str, Any]:
    before_mib = _peak_mib()
    out = driver_time(lambda: paper_plan(seeds=-(-tasks // 3276)))
    return out | {"peak_mib": round(_peak_mib()), "of_it_program_mib": round(before_mib)}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone is not None:
        print(json.dumps(alone(given.alone)))
        return
    result = {
        "paper_grid": driver_time(),
        "makespan": makespans(paper_plan(), (SLOTS, 4 * SLOTS)),
        "large_grid": million(given.tasks),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
