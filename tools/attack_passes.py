"""What attacks and trainings took in stores, for the tables of orchestrator/plan/cost_model.py.

    prunegrid measure grids/passes.yaml --out speeds.json
    prunegrid run grids/passes.yaml --store passes --slots 1
    python -m tools.attack_passes speeds.json passes [MORE STORES]

Times are of the processor, which other programs on the machine hardly change. Prints a line of
TYPICAL for each attack and engine, and the epochs of trainings over their patience.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from prunegrid.orchestrator.plan.cost_model import TASK_S, attack_steps
from prunegrid.orchestrator.plan.durations import compiled
from prunegrid.orchestrator.store.forecast_inputs import read_speeds
from prunegrid.orchestrator.store.history import AttemptRecord
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import AttackTask, Task, network_label
from prunegrid.workers.speeds import Speed


class Taken:
    """Of one attack, summed over tasks."""

    def __init__(self) -> None:
        self.steps = self.forward = self.backward = 0.0
        self.warm_s = self.warm_calls = 0.0  #: beyond the bare passes
        self.first: list[tuple[float, float, float]] = []  #: likewise, and the network's compile_s

    def line(self) -> str:
        step_s = self.warm_s / self.warm_calls if self.warm_calls else 0.0
        compiles = [(took - step_s * calls) / unit for took, calls, unit in self.first]
        return (
            f"Habit(forward={self.forward / self.steps:.2g}, "
            f"backward={self.backward / self.steps:.2g}, step_s={max(0.0, step_s):.1g}, "
            f"compiles={max(0.0, mean(compiles)) if compiles else 0.0:.1f}),"
        )


def main(arguments: list[str]) -> None:
    speeds = {(s.architecture, s.dataset): s for s in read_speeds(Path(arguments[0]))}
    taken: dict[tuple[str, str], Taken] = defaultdict(Taken)
    epochs: dict[str, list[str]] = defaultdict(list)
    for address in arguments[1:]:
        store = Store.open(address)
        tasks, seen = load_plan(store, whole=True).tasks, set()
        ended = [a for a in read_history(store).by_start if a.outcome == "done"]
        for attempt in sorted(ended, key=lambda one: one.end_s or 0.0):
            task = tasks[attempt.key]
            first = (attempt.worker, compiled(task)) not in seen
            seen.add((attempt.worker, compiled(task)))
            speed = speeds.get((network_label(task), task.data.dataset))
            if isinstance(task, AttackTask):
                _add(taken, store, task, attempt, speed, first=first)
            else:
                took = store.model_record(attempt.key).result.epochs
                training = task.training
                what = f"{task.kind}: patience {training.early_stopping_patience}"
                epochs[f"{what}, at most {training.max_epochs}"].append(str(took))
    for name, sums in sorted(taken.items()):
        print(f"    {name!r}: {sums.line()}".replace("'", '"'))
    for what, numbers in epochs.items():
        print(f"{what}: {' '.join(numbers)}")


def _add(
    taken: dict[tuple[str, str], Taken],
    store: Store,
    task: Task,
    attempt: AttemptRecord,
    speed: Speed | None,
    *,
    first: bool,
) -> None:
    assert isinstance(task, AttackTask)
    table, images = store.image_rows(task.key).table, task.stop - task.start
    backward = float(sum(n or 0 for n in table["backward_passes"].to_pylist()))
    forward = float(sum(n or 0 for n in table["queries"].to_pylist())) - backward
    sums = taken[attack_name(task.attack), task.attack.engine]
    sums.steps += images * attack_steps(task.attack)
    sums.forward += forward
    sums.backward += backward
    if speed is None or attempt.processor_s is None:
        return
    batch = task.attack.batch_size
    bare_s = forward / speed.forward_at(batch) + backward / speed.at(batch)
    beyond_s, calls = attempt.processor_s - TASK_S - bare_s, (forward + backward) / batch
    if first:
        sums.first.append((beyond_s, calls, speed.compile_s))
    else:
        sums.warm_s += beyond_s
        sums.warm_calls += calls


if __name__ == "__main__":
    main(sys.argv[1:])
