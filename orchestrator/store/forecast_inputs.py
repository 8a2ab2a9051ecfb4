"""What a forecast rests on beside its plan: speeds that were measured on this machine or stand in a
file, and what a store's rows say that attacks and trainings took."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.plan.cost_model import CostModel, Habits
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.plan.task_sizes import probes_of
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.cache import load_speed
from prunegrid.workers.contract import AttackTask, TransferTask, network_label
from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.device import device_without_tensorflow
from prunegrid.workers.files import StorageError, write_aside
from prunegrid.workers.speeds import Speed

#: Tasks whose rows are read, of each attack on a network and of each kind of training.
_MOST_READ = 12


@dataclass(frozen=True, kw_only=True)
class SpeedsFile:
    """What `measure --out` writes and `plan --speeds` reads, as JSON."""

    speeds: tuple[Speed, ...]


def write_speeds(path: Path, speeds: tuple[Speed, ...]) -> None:
    """Raises UsageError."""
    content = json.dumps(dataclasses.asdict(SpeedsFile(speeds=speeds)), indent=1)
    try:
        write_aside(path, f"{content}\n".encode())
    except (OSError, StorageError) as error:
        raise UsageError(f"--out {path}: {error}") from error


def read_speeds(path: Path) -> tuple[Speed, ...]:
    """Raises UsageError where the file is none of `write_speeds`."""
    try:
        speeds = from_dict(SpeedsFile, parse_json(path.read_bytes())).speeds
        if missing := [s.architecture for s in speeds if not (s.forward_per_s and s.trained_per_s)]:
            raise ValueError(f"no speed forward or of training for {', '.join(missing)}")
        return speeds
    except OSError as error:
        raise UsageError(f"--speeds {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(
            f"--speeds {path}: {error}; expected a file of 'prunegrid measure GRID --out FILE'"
        ) from error


def speeds_here(plan: Plan) -> tuple[Speed, ...]:
    """Of the plan's networks, what was measured on this machine; none of what was not."""
    resources = plan.grid.resources
    device = device_without_tensorflow(gpu=resources.gpus_per_task > 0)
    if device is None:
        return ()
    found = (load_speed(probe, device, resources.threads) for probe in probes_of(plan))
    return tuple(speed for speed in found if speed is not None)


def model_here(plan: Plan) -> CostModel:
    """Of tasks on this machine; where it was not measured, on a usual one."""
    return CostModel.of(plan.grid.resources, speeds=speeds_here(plan))


def learn_habits(habits: Habits, store: Store, plan: Plan, done: Collection[str]) -> int:
    """Of some of the done tasks, by their rows and records. Returns how many were read."""
    read: Counter[object] = Counter()
    for key in sorted(done):  # keys are hashes: a random sample, and always the same
        task = plan.tasks.get(key)
        if task is None or isinstance(task, TransferTask):  # which takes what it must
            continue
        what = task.attack if isinstance(task, AttackTask) else (task.kind, task.training)
        group = (network_label(task), what)
        if read[group] >= _MOST_READ:
            continue
        try:
            if isinstance(task, AttackTask):
                table = store.image_rows(key).table
                images = task.stop - task.start
                queries = sum(n or 0 for n in table["queries"].to_pylist()) / images
                backward = sum(n or 0 for n in table["backward_passes"].to_pylist()) / images
                habits.add_attack(task.attack, queries - backward, backward)
            else:
                habits.add_training(task, store.model_record(key).result.epochs)
        except (StoreError, StorageError, OSError, ValueError, KeyError):
            continue  # torn, or of before such columns: it says nothing
        read[group] += 1
    return read.total()
