"""The units of pruning. Pure numpy.

unstructured: one weight. kernel: the (h, w) slice of one (in, out) pair. filter: one output
channel's (h, w, in); of a depthwise convolution, whose output channels have one input each, that is
a kernel. Structured methods prune convolutions only (the paper, section 3.3). none: the control.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from prunegrid.workers.catalog import Structure

#: What a unit spans; a transposed convolution's kernel [h, w, out, in] has its filters elsewhere.
Unit: TypeAlias = Structure | Literal["transposed filter"]


def unit_of(structure: Structure, kind: str) -> Unit | None:
    """What a method of this structure prunes in a kernel of this kind (see `KernelKind`); None:
    nothing."""
    if structure == "none" or (kind == "dense" and structure != "unstructured"):
        return None
    if structure == "filter":
        other: dict[str, Unit] = {"depthwise": "kernel", "transposed": "transposed filter"}
        return other.get(kind, structure)
    return structure


def _span(unit: Unit, axes: int) -> tuple[int, ...]:
    """The axes of a kernel [..., in, out] that one unit spans."""
    before = tuple(range(axes - 2))
    spans: dict[Unit, tuple[int, ...]] = {
        "unstructured": (),
        "kernel": before,
        "filter": (*before, axes - 2),
        "transposed filter": (*before, axes - 1),
    }
    return spans[unit]


def units(array: np.ndarray, unit: Unit) -> np.ndarray:
    """`array` (a kernel or its mask) as [units, weights per unit]."""
    span = _span(unit, array.ndim)
    kept = [axis for axis in range(array.ndim) if axis not in span]
    moved = np.transpose(array, (*kept, *span))
    count = int(np.prod([array.shape[axis] for axis in kept], dtype=np.int64))
    return moved.reshape(count, -1)


def alive_units(mask: np.ndarray, unit: Unit) -> np.ndarray:
    """Bool [units], in the order of `units`: whether any weight of a unit is left."""
    parts = units(mask, unit)
    # A reduction over an axis of one is slow, and unstructured layers have millions of units.
    return parts[:, 0] if parts.shape[1] == 1 else np.asarray(parts.any(axis=1))


def spread(alive: np.ndarray, shape: tuple[int, ...], unit: Unit) -> np.ndarray:
    """A mask of `shape` from bool [units], in the order of `units`."""
    span = _span(unit, len(shape))
    kept = [axis for axis in range(len(shape)) if axis not in span]
    small = alive.reshape([shape[axis] for axis in kept])
    return np.broadcast_to(np.expand_dims(small, span), shape).copy()
