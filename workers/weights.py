"""A model's arrays in the store, without TensorFlow: weights, masks, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.checkpoints import pack, unpack
from prunegrid.workers.files import Files

WEIGHTS, MASKS = "weights.npz", "masks.npz"


def weights_sha256(weights: Mapping[str, np.ndarray]) -> str:
    """Of names, shapes and bytes, in name order."""
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
