"""The units of pruning. Pure numpy.

unstructured: one weight. kernel: the (h, w) slice of one (in, out) pair. filter: one output
channel's (h, w, in); of a depthwise convolution, whose output channels have one input each, that is
a kernel. Structured methods prune convolutions only (the paper, section 3.3). none: the control.
"""

from __future__ import annotations

import numpy as np

from prunegrid.workers.catalog import Structure

#: The axes of a convolution's kernel [h, w, in, out] that one unit spans.
_SPANS: dict[str, tuple[int, ...]] = {"unstructured": (), "kernel": (0, 1), "filter": (0, 1, 2)}


def unit_of(structure: Structure, kind: str) -> Structure | None:
    """What a method of this structure prunes in a layer of this kind ("conv", "depthwise" or
    "dense"); None: nothing."""
    if structure == "none" or (kind == "dense" and structure != "unstructured"):
        return None
    return "kernel" if (kind, structure) == ("depthwise", "filter") else structure


def units(array: np.ndarray, structure: Structure) -> np.ndarray:
    """`array` (a kernel or its mask) as [units, weights per unit]."""
    span = _SPANS[structure]
    kept = [axis for axis in range(array.ndim) if axis not in span]
    moved = np.transpose(array, (*kept, *span))
    count = int(np.prod([array.shape[axis] for axis in kept], dtype=np.int64))
    return moved.reshape(count, -1)


def alive_units(mask: np.ndarray, structure: Structure) -> np.ndarray:
    """Bool [units], in the order of `units`: whether any weight of a unit is left."""
    parts = units(mask, structure)
    # A reduction over an axis of one is slow, and unstructured layers have millions of units.
    return parts[:, 0] if parts.shape[1] == 1 else np.asarray(parts.any(axis=1))


def spread(alive: np.ndarray, shape: tuple[int, ...], structure: Structure) -> np.ndarray:
    """A mask of `shape` from bool [units], in the order of `units`."""
    span = _SPANS[structure]
    kept = [axis for axis in range(len(shape)) if axis not in span]
    small = alive.reshape([shape[axis] for axis in kept])
    return np.broadcast_to(np.expand_dims(small, span), shape).copy()
