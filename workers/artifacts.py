"""A model's files in the store: `models/<key>/` with weights, masks, history and result.

`result.json` is written last: where it is, the rest is whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.checkpoints import pack
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.files import Files
from prunegrid.workers.models.base import build, set_weights
from prunegrid.workers.results import ModelRecord, leave
from prunegrid.workers.weights import (
    MASKS,
    WEIGHTS,
    pack_masks,
    read_masks,
    read_weights,
    weights_sha256,
)

HISTORY = "history.json"


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """A model's numbers, without a network to hold them."""

    weights: dict[str, np.ndarray]  #: as named in `prunegrid.workers.models.base.variables`
    masks: dict[str, np.ndarray]  #: prunable layer -> bool array of its kernel's shape
    record: ModelRecord


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    model: keras.Model
    masks: dict[str, np.ndarray]  #: prunable layer -> bool array of its kernel's shape
    record: ModelRecord


def save_model(
    files: Files,
    record: ModelRecord,
    weights: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    history: Sequence[Mapping[str, float]],
) -> StoredWeights:
    """Raises StorageError; without its result.json a model does not count. Returns what is in the
    store then: where another worker has finished the task meanwhile, what that one left."""
    key = record.task.key
    with contextlib.suppress(FileNotFoundError, ValueError):
        return load_weights(files, key)
    files.write(layout.model_file(key, WEIGHTS), pack(weights))
    files.write(layout.model_file(key, MASKS), pack_masks(masks))
    files.write(layout.model_file(key, HISTORY), json.dumps(list(history), indent=1).encode())
    content = record.to_json().encode()
    if leave(files, layout.model_record(key), content, check=ModelRecord.from_json) is not None:
        # both within a moment: the same bits, or else the files are made to be of one again
        with contextlib.suppress(ValueError):
            return load_weights(files, key)
        files.write(layout.model_record(key), content)
    return StoredWeights(weights=dict(weights), masks=dict(masks), record=record)


def load_record(files: Files, key: str) -> ModelRecord:
    """Raises FileNotFoundError, ValueError, StorageError."""
    return ModelRecord.from_json(files.read(layout.model_record(key)))


def load_weights(files: Files, key: str) -> StoredWeights:
    """Raises FileNotFoundError, StorageError, and ValueError where a file is torn or the weights
    are not those that the record names."""
    record = load_record(files, key)
    weights = read_weights(files, key)
    found = weights_sha256(weights)
    if found != record.result.weights_sha256:
        raise ValueError(
            f"{key}: expected weights of SHA-256 {record.result.weights_sha256[:12]}..., "
            f"got {found[:12]}..."
        )
    masks = read_masks(files, key)
    return StoredWeights(weights=weights, masks=masks, record=record)


def load_model(files: Files, key: str) -> StoredModel:
    """Rebuild a stored model. Raises as `load_weights` does."""
    stored = load_weights(files, key)
    task = stored.record.task
    if isinstance(task, AttackTask):
        raise ValueError(f"{key}: expected a train or prune task, got an attack")
    entry = DATASETS[task.data.dataset]
    model = build(task.architecture, entry.shape, entry.classes, seed=0)
    set_weights(model, stored.weights)
    return StoredModel(model=model, masks=stored.masks, record=stored.record)
