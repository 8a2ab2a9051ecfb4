"""What a worker keeps between tasks: networks with everything compiled for them, and the
weights of the last few models.

One network per architecture takes the weights of whichever model a task is about, so that
training steps and attacks, which are compiled for a network object, compile once per process.
A process runs one task at a time (the engines' contract), so nothing here is locked.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

import keras

from prunegrid.workers.artifacts import StoredWeights, load_weights
from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.context import TaskContext, TornInput
from prunegrid.workers.contract import Task
from prunegrid.workers.models.base import build

_NETWORKS = 2
_STORED = 3


def network(task: Task) -> keras.Model:
    """The process's network for the task's architecture and data, with whatever weights it had
    last: the caller sets them."""
    return network_on(task.architecture, task.data.dataset)


def network_on(architecture: str, dataset: str) -> keras.Model:
    """As `network`."""
    entry = DATASETS[dataset]
    return _network(architecture, entry.shape, entry.classes)


@functools.lru_cache(maxsize=_NETWORKS)
def _network(architecture: str, shape: tuple[int, int, int], classes: int) -> keras.Model:
    return build(architecture, shape, classes, seed=0)


_kept: OrderedDict[tuple[str, str], StoredWeights] = OrderedDict()


def remember(context: TaskContext, stored: StoredWeights) -> None:
    """The chain's next step and the model's attack shards will ask for it."""
    key = (context.settings.store, stored.record.task.key)
    _kept[key] = stored
    _kept.move_to_end(key)
    while len(_kept) > _STORED:
        _kept.popitem(last=False)


def stored(context: TaskContext, key: str) -> StoredWeights:
    """From memory, else from the store. Raises TornInput, StorageError."""
    found = _kept.get((context.settings.store, key))
    if found is None:
        try:
            found = _load(context, key)
        except (FileNotFoundError, ValueError) as error:
            raise TornInput(f"its parent {key}: {error}") from error
    remember(context, found)
    return found


def _load(context: TaskContext, key: str) -> StoredWeights:
    try:
        return load_weights(context.files, key)
    except FileNotFoundError:
        if context.parents is None:
            raise
        return load_weights(context.parents, key)
