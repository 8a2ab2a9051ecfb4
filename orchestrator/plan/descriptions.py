"""Tasks in words, for people. Pure."""

from __future__ import annotations

from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import (
    AttackTask,
    PruneTask,
    Task,
    TaskKind,
    TransferTask,
    network_label,
)


def describe(task: Task) -> str:
    """A task in words."""
    head = f"{task.kind.value} {network_label(task)} on {task.data.dataset}, seed {task.seed}"
    if isinstance(task, PruneTask):
        return f"{head}: {task.pruning.method} to rate {task.pruning.rate:g}"
    if isinstance(task, AttackTask):
        attack = task.attack
        return (
            f"{head}: {attack_name(attack)} ({attack.engine}, {attack.outputs}) on {task.split} "
            f"images {task.start}..{task.stop - 1} of {task.parent_key}"
        )
    if isinstance(task, TransferTask):
        return (
            f"{head}: adversarials of {attack_name(task.attack)} ({task.attack.engine}) on "
            f"{task.split} images 0..{task.images - 1} of {task.source_key}, shown to "
            f"{task.parent_key}"
        )
    return head


def short(task: Task) -> str:
    """A few words, for a line of a display."""
    head = f"{task.kind.value} {network_label(task)}"
    if isinstance(task, PruneTask):
        head += f" {task.pruning.method} to {task.pruning.rate:g}"
    elif isinstance(task, AttackTask):
        head += f" {attack_name(task.attack)} on {task.split} {task.start}..{task.stop - 1}"
    elif isinstance(task, TransferTask):
        back = task.parent_key.startswith(TaskKind.TRAIN)
        head += f" {attack_name(task.attack)} {'to' if back else 'from'} dense"
    return f"{head}, seed {task.seed}"
