"""A cluster that is not there: drives a scheduler through made-up durations, in no time."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.cost_model import DEVICES, USUAL_GPU, CostModel
from prunegrid.orchestrator.plan.dag import Plan, expand, parents_of
from prunegrid.orchestrator.plan.estimates import Durations
from prunegrid.orchestrator.scheduling.events import (
    EndCommand,
    RunCommand,
    SlotsEvent,
    SucceededEvent,
)
from prunegrid.orchestrator.scheduling.scheduler import Job, Scheduler
from prunegrid.workers.contract import AttackTask
from tests.grids import SMALL


@dataclass(frozen=True, kw_only=True)
class Simulation:
    makespan_s: float
    order: tuple[str, ...]  #: tasks as they were started
    ended_s: Mapping[str, float]
    processor_s: float  #: of the scheduler alone

    def slices_done_s(self, slices: Mapping[object, Sequence[str]]) -> list[float]:
        """When each was whole, earliest first."""
        return sorted(max(self.ended_s[key] for key in keys) for keys in slices.values())


def simulate(jobs: Sequence[Job], durations_s: Mapping[str, float], *, slots: int) -> Simulation:
    """Every task succeeds after its duration; a free slot takes what the scheduler says."""
    processor_s = -time.process_time()
    scheduler = Scheduler(jobs)
    commands = scheduler.handle(SlotsEvent(slots=slots, at_s=0.0))
    processor_s += time.process_time()
    now_s, flying, order = 0.0, [], []
    ended: dict[str, float] = {}
    while True:
        for command in commands:
            match command:
                case RunCommand():
                    order.append(command.key)
                    heapq.heappush(flying, (now_s + durations_s[command.key], command.key))
                case EndCommand():
                    return Simulation(
                        makespan_s=now_s,
                        order=tuple(order),
                        ended_s=ended,
                        processor_s=processor_s,
                    )
        now_s, key = heapq.heappop(flying)
        ended[key] = now_s
        processor_s -= time.process_time()
        commands = scheduler.handle(SucceededEvent(key=key, attempt=1, at_s=now_s))
        processor_s += time.process_time()


def jobs_of(
    plan: Plan, durations: Durations | None = None, *, ranks: Mapping[str, int] | None = None
) -> list[Job]:
    """As the driver makes them, from what it expects."""
    expected = durations or Durations()
    return [
        Job(
            key=key,
            parents=parents_of(task),
            cost_s=expected.expect(task)[0],
            rank=(ranks or {}).get(key, 0),
        )
        for key, task in plan.tasks.items()
    ]


#: What real runs showed beside the guesses (CNN5, attacks that were not in the cost model's table
#: then: groups' means were 0.7 to 2.1 times the guess; tasks of a group varied by 0.3 to 1.3 of
#: their mean), as lognormal sigmas.
_BETWEEN_GROUPS, _TRAININGS, _ATTACKS = 0.4, 0.4, 0.3


def drawn_durations(plan: Plan, seed: int, *, luck: int = 0) -> dict[str, float]:
    """Guessed from multiply-adds on a GPU, times what no guess knows: a factor per architecture
    and kind of work, and each task's own luck: another one, where `luck` is another."""
    factors, draw = random.Random(seed), random.Random(f"{seed}/{luck}")
    hidden: dict[tuple[str, ...], float] = {}
    model = CostModel(DEVICES[USUAL_GPU])
    out = {}
    for key, task in plan.tasks.items():
        attack = isinstance(task, AttackTask)
        group = (task.architecture, task.attack.attack if attack else task.kind.value)
        if group not in hidden:
            hidden[group] = factors.lognormvariate(0.0, _BETWEEN_GROUPS)
        own = draw.lognormvariate(0.0, _ATTACKS if attack else _TRAININGS)
        out[key] = model.seconds(task) * hidden[group] * own
    return out


def lower_bound_s(plan: Plan, durations_s: Mapping[str, float], *, slots: int) -> float:
    """No schedule ends earlier: max(work / slots, critical path)."""
    path: dict[str, float] = {}
    for key, task in plan.tasks.items():
        path[key] = durations_s[key] + max(
            (path.get(p, 0.0) for p in parents_of(task)), default=0.0
        )
    return max(sum(durations_s.values()) / slots, *path.values())


def corner() -> Plan:
    """2 methods, 7 rates, 5 seeds, shards of 16 images: 910 tasks in 10 chains."""
    text = SMALL.replace("rates: [1, 2, 4]", "rates: [1, 2, 4, 8, 16, 32, 64]")
    text = text.replace("seeds: [0, 1]", "seeds: [0, 1, 2, 3, 4]")
    return expand(parse_grid(text.replace("attack_images: 24", "attack_images: 96"), source="t"))
