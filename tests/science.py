"""Small tasks, settings and surroundings for tests of data, training and stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from prunegrid.workers.catalog import DATASETS, METHODS
from prunegrid.workers.context import TaskContext
from prunegrid.workers.contract import (
    DataSettings,
    PruneTask,
    PruningSettings,
    TrainingSettings,
    TrainTask,
    WorkerSettings,
)
from prunegrid.workers.files import LocalFiles

TRAINING = TrainingSettings(
    batch_size=64,
    learning_rate=0.003,
    max_epochs=2,
    early_stopping_patience=None,
    lr_factor=None,
    lr_patience=None,
    lr_min=None,
    augmentation="none",
    restore_best=False,
    adversarial=None,
)


def training(**changes: Any) -> TrainingSettings:
    return dataclasses.replace(TRAINING, **changes)


def data(dataset: str = "synthetic28", train_images: int | None = None) -> DataSettings:
    return DataSettings(
        dataset=dataset,
        fingerprint=DATASETS[dataset].fingerprint,
        validation_frac=0.1,
        train_images=train_images,
    )


def train_task(**changes: Any) -> TrainTask:
    task = TrainTask(architecture="cnn5", data=data(), training=TRAINING, seed=0, salt="")
    return dataclasses.replace(task, **changes)


def prune_task(
    parent: TrainTask | PruneTask,
    *,
    method: str = "magnitude-global-unstructured",
    rate: float = 4.0,
    weights: str = "retain",
    **changes: Any,
) -> PruneTask:
    parent_rate = parent.pruning.rate if isinstance(parent, PruneTask) else 1.0
    task = PruneTask(
        architecture=parent.architecture,
        data=parent.data,
        training=parent.training,
        pruning=PruningSettings(
            method=method,
            rate=rate,
            parent_rate=parent_rate,
            weights=weights,  # type: ignore[arg-type]
        ),
        seed=parent.seed,
        salt=parent.salt,
        parent_key=parent.key,
    )
    return dataclasses.replace(task, **changes)


class Patience:
    """Says stop after being asked `answers` times."""

    def __init__(self, answers: int) -> None:
        self._left = answers

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def context(store: Path, data_dir: Path, stop_requested: Any = lambda: False) -> TaskContext:
    return TaskContext(
        files=LocalFiles(store),
        settings=WorkerSettings(
            store=str(store),
            data_dir=str(data_dir),
            threads=1,
            gpu_memory_mib=None,
        ),
        attempt=1,
        beat=lambda fraction, note: None,
        stop_requested=stop_requested,
    )


#: Methods that need neither gradients nor a rate of their own.
BY_WEIGHTS = tuple(
    name
    for name, entry in METHODS.items()
    if entry.criterion in ("magnitude", "random") and entry.rate is None
)
