"""A model's files in the store, without TensorFlow: `models/<key>/` with weights, masks, history
and record.

The record, `result.json`, is written last: where it is, the model is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.checkpoints import pack, unpack
from prunegrid.workers.files import Files
from prunegrid.workers.records import ModelRecord, leave

WEIGHTS, MASKS, HISTORY = "weights.npz", "masks.npz", "history.json"


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """A model's arrays, without a network to hold them."""

    weights: dict[str, np.ndarray]  #: as named in `prunegrid.workers.models.base.variables`
    masks: dict[str, np.ndarray]  #: prunable layer -> bool array of its kernel's shape
    record: ModelRecord


def save_model(
    files: Files,
    record: ModelRecord,
    weights: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
    history: Sequence[Mapping[str, float]],
) -> StoredWeights:
    """Returns what is in the store afterwards: another worker's model, where that worker has
    finished the same task meanwhile. Raises StorageError; a model without its record then does
    not count."""
    key = record.task.key
    with contextlib.suppress(FileNotFoundError, ValueError):
        return load_weights(files, key)
    files.write(layout.model_file(key, WEIGHTS), pack(weights))
    files.write(layout.model_file(key, MASKS), pack_masks(masks))
    files.write(layout.model_file(key, HISTORY), json.dumps(list(history), indent=1).encode())
    content = record.to_json().encode()
    if leave(files, layout.model_record(key), content, check=ModelRecord.from_json) is not None:
        # Two workers within a moment: the same bits, or else these files must match one record.
        with contextlib.suppress(ValueError):
            return load_weights(files, key)
        files.write(layout.model_record(key), content)
    return StoredWeights(weights=dict(weights), masks=dict(masks), record=record)


def load_record(files: Files, key: str) -> ModelRecord:
    """Raises FileNotFoundError, ValueError, StorageError."""
    return ModelRecord.from_json(files.read(layout.model_record(key)))


def load_weights(files: Files, key: str) -> StoredWeights:
    """Raises FileNotFoundError, StorageError, and ValueError where a file is torn or the weights
    are not the recorded ones."""
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


def weights_sha256(weights: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and bytes, in name order."""
    total = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        total.update(f"{name}{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def pack_masks(masks: Mapping[str, np.ndarray]) -> bytes:
    """One bit per weight; the shapes beside them."""
    arrays: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        arrays[f"bits:{name}"] = np.packbits(mask.reshape(-1))
        arrays[f"shape:{name}"] = np.array(mask.shape, dtype=np.int64)
    return pack(arrays)


def unpack_masks(content: bytes) -> dict[str, np.ndarray]:
    """Raises ValueError where the content is torn."""
    arrays = unpack(content)
    out = {}
    for name, bits in arrays.items():
        kind, _, layer = name.partition(":")
        if kind == "bits":
            shape = tuple(int(n) for n in arrays[f"shape:{layer}"])
            count = int(np.prod(shape, dtype=np.int64))
            out[layer] = np.unpackbits(bits, count=count).astype(bool).reshape(shape)
    return out


def read_weights(files: Files, key: str) -> dict[str, np.ndarray]:
    """By `layer/variable`. Raises FileNotFoundError, ValueError, StorageError."""
    return unpack(files.read(layout.model_file(key, WEIGHTS)))


def read_masks(files: Files, key: str) -> dict[str, np.ndarray]:
    """Bool, by prunable layer. Raises FileNotFoundError, ValueError, StorageError."""
    return unpack_masks(files.read(layout.model_file(key, MASKS)))
