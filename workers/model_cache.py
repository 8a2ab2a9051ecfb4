"""The model cache of a worker process: compiled networks, and the weights of the last few models.

Training steps and attacks are compiled for a network object. So each architecture has one network,
which takes the weights of the task's model, and everything compiles once per process.
A process runs one task at a time (the engines' contract), so nothing here is locked.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path

import keras

from prunegrid.workers.artifacts import StoredWeights, load_weights
from prunegrid.workers.catalog import attack_of, dataset_of
from prunegrid.workers.context import TaskContext, TornInput
from prunegrid.workers.contract import AttackSettings, OwnNetwork, Task
from prunegrid.workers.dataset_entry import DatasetEntry
from prunegrid.workers.export.shrink import (
    ShrinkError,
    check_logits,
    is_worth,
    like,
    shrunk_weights,
    work_left,
)
from prunegrid.workers.models.base import build, set_weights
from prunegrid.workers.models.network_files import local_file

_MOST_NETWORKS = 2
_MOST_MODELS = 3
_MOST_SHRUNK = 6
_stored: OrderedDict[tuple[str, str], StoredWeights] = OrderedDict()  #: by store and task key


def network(task: Task, context: TaskContext) -> keras.Model:
    """The process's network for the task's architecture and data. Its weights are undefined; the
    caller sets them. Raises StorageError, TornInput where a file's can't be had."""
    entry, own = dataset_of(task.data), task.network
    return _network(task.architecture, own, network_file(own, context), entry.shape, entry.classes)


def network_on(
    architecture: str, entry: DatasetEntry, own: OwnNetwork | None = None
) -> keras.Model:
    """As `network`, on a machine that has the network's file."""
    file = Path(own.file_path) if own is not None and own.file_path else None
    return _network(architecture, own, file, entry.shape, entry.classes)


@functools.lru_cache(maxsize=_MOST_NETWORKS)
def _network(
    architecture: str,
    own: OwnNetwork | None,
    file: Path | None,
    shape: tuple[int, int, int],
    classes: int,
) -> keras.Model:
    return build(architecture, shape, classes, seed=0, own=own, file=file)


def shrunk(model: keras.Model, attack: AttackSettings) -> keras.Model | None:
    """The process's network for models of this one's shape without its dead channels, with this
    one's weights. None where the attack is to stay on `model`: it says so, the smaller one is not
    worth it (`shrink.is_worth`), or it can't be made."""
    if attack.network == "stored":
        return None
    entry = attack_of(attack)
    steps = None if entry is None else entry.most_steps(dict(attack.options))
    try:
        weights = shrunk_weights(model)
        if not is_worth(*work_left(model, weights), steps):
            return None
        shapes = tuple(sorted((name, array.shape) for name, array in weights.items()))
        small = _shrunk_network(model, shapes)
        set_weights(small, weights)
        check_logits(model, small)
    except (ValueError, ShrinkError):
        return None
    return small


@functools.lru_cache(maxsize=_MOST_SHRUNK)
def _shrunk_network(
    model: keras.Model, shapes: tuple[tuple[str, tuple[int, ...]], ...]
) -> keras.Model:
    return like(model, dict(shapes))


def network_file(own: OwnNetwork | None, context: TaskContext) -> Path | None:
    """The .keras file of a network, from the store; None where it has none."""
    try:
        return local_file(own, context.parents or context.files)
    except (FileNotFoundError, ValueError) as error:
        raise TornInput(f"the file of {own.label if own else ''}: {error}") from error


def remember(context: TaskContext, stored: StoredWeights) -> None:
    """Cache a model: the chain's next step and the model's attack shards will need it."""
    key = (context.settings.store, stored.record.task.key)
    _stored[key] = stored
    _stored.move_to_end(key)
    while len(_stored) > _MOST_MODELS:
        _stored.popitem(last=False)


def stored(context: TaskContext, key: str) -> StoredWeights:
    """A task's parent model, from memory or from the store. Raises TornInput, StorageError."""
    found = _stored.get((context.settings.store, key))
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
