"""A cluster that is not there: drives a scheduler through made-up durations, in no time."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.dag import Plan, parent_of
from orchestrator.estimates import Durations
from orchestrator.events import EndCommand, RunCommand, SlotsEvent, SucceededEvent
from orchestrator.scheduler import Job, Scheduler
from workers.contract import AttackTask, PruneTask


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
            parent=parent_of(task),
            cost_s=expected.expect(task)[0],
            rank=(ranks or {}).get(key, 0),
        )
        for key, task in plan.tasks.items()
    ]


#: Seconds on one GPU, as measured runs of such networks look: relative sizes matter.
_TRAIN_S = {"cnn5": 60.0, "resnet8": 400.0, "vgg11": 700.0, "resnet18": 2500.0}
_ATTACK_S = {"pgd_linf": 0.2, "cw_l2": 3.0, "bb_l0": 8.0}


def drawn_durations(plan: Plan, seed: int) -> dict[str, float]:
    """Lognormal around a mean by architecture and kind or attack: early stopping makes trainings
    vary more (sigma 0.35) than attacks of a fixed number of steps (0.15)."""
    draw = random.Random(seed)
    out = {}
    for key, task in plan.tasks.items():
        train_s = _TRAIN_S[task.architecture]
        if isinstance(task, AttackTask):
            mean_s = train_s * _ATTACK_S.get(task.attack.attack, 1.0) * (task.stop - task.start)
            out[key] = mean_s / 1000 * draw.lognormvariate(0.0, 0.15)
        else:
            share = 0.5 if isinstance(task, PruneTask) else 1.0
            out[key] = train_s * share * draw.lognormvariate(0.0, 0.35)
    return out


def lower_bound_s(plan: Plan, durations_s: Mapping[str, float], *, slots: int) -> float:
    """No schedule ends earlier: max(work / slots, critical path)."""
    path: dict[str, float] = {}
    for key, task in plan.tasks.items():
        path[key] = durations_s[key] + path.get(parent_of(task) or "", 0.0)
    return max(sum(durations_s.values()) / slots, *path.values())
