"""How long a task may take where nothing like it was measured: multiply-adds over speed. Pure.

A guess, and a rough one: how fast small networks go on a device, when a training stops early and
when an attack does are not known beforehand. Within a factor of GUESS_FACTOR either way, we hope;
the proportions between tasks are better than that.
"""

from __future__ import annotations

from functools import lru_cache

from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS, attack_of
from prunegrid.workers.contract import (
    AttackSettings,
    AttackTask,
    Task,
    TrainingSettings,
    TransferTask,
)

GUESS_FACTOR = 10.0
#: Multiply-adds a second that small networks reach, not what a data sheet says.
CPU_FLOPS_PER_S = 2e10
GPU_FLOPS_PER_S = 1e12
#: To read weights and images, and to trace the graph.
START_S = 2.0
#: A gradient costs about twice a forward pass, on top of it.
_WITH_GRADIENT = 3
#: Passes per image of an attack that the catalog knows no steps of.
_PASSES = 1000
#: Options that multiply the steps of a stock attack that the catalog does not know.
_ROUNDS = ("restarts", "steps")
_CARLINI_ROUNDS = ("binary_search_steps", "steps")
#: Attacks stop early, on images that they are done with.
_STEPS_TAKEN = 0.5


def flops_per_s(resources: Resources) -> float:
    """Of one task's share of a machine."""
    if resources.gpus_per_task > 0:
        return GPU_FLOPS_PER_S * min(resources.gpus_per_task, 1.0)
    return CPU_FLOPS_PER_S * min(resources.threads, 8)


def guess_s(task: Task, flops_per_s: float = CPU_FLOPS_PER_S) -> float:
    """Seconds."""
    entry = ARCHITECTURES.get(task.architecture)
    known = task.network.forward_flops if task.network else entry.forward_flops if entry else 0
    flops = known or 1e8
    if isinstance(task, AttackTask):
        looks = attack_looks(task.attack)
        passes = (task.stop - task.start) * looks * (_WITH_GRADIENT if _slopes(task) else 1)
    elif isinstance(task, TransferTask):
        passes = float(task.images * (1 + max(len(task.attack.eps), 1)))
    else:
        data = DATASETS.get(task.data.dataset)
        images = task.data.train_images or (data.train_images if data is not None else 50_000)
        passes = images * _training_passes(task.training)
    return START_S + flops * passes / flops_per_s


@lru_cache(maxsize=1024)
def _training_passes(training: TrainingSettings) -> float:
    """Forward passes' worth per image: epochs until it stops early, we guess, thrice the
    patience."""
    epochs = float(training.max_epochs)
    if training.early_stopping_patience is not None:
        epochs = min(epochs, 3.0 * training.early_stopping_patience)
    steps = training.adversarial.steps + 1 if training.adversarial is not None else 0
    return epochs * (1 + steps) * _WITH_GRADIENT


def _slopes(task: AttackTask) -> bool:
    entry = attack_of(task.attack)
    return entry is None or entry.gradients


@lru_cache(maxsize=1024)
def attack_looks(attack: AttackSettings) -> float:
    """How often it looks at the network per image, all eps together: passes forward, and back
    where it takes gradients."""
    entry = attack_of(attack)
    options = {option.name: option.default for option in entry.options} if entry else {}
    options |= dict(attack.options)
    rounds = 1.0
    names = entry.rounds if entry else ()
    if not names:
        names = _CARLINI_ROUNDS if "CarliniWagner" in attack.attack else _ROUNDS
    counts = [options.get(name) for name in names]
    known = [float(count) for count in counts if isinstance(count, int) and count > 0]
    for count in known:
        rounds *= count
    return (rounds * _STEPS_TAKEN if known else _PASSES) * max(len(attack.eps), 1)
