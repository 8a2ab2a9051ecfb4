"""The units of pruning. Pure numpy.

unstructured: one weight. kernel: the (h, w) slice of one (in, out) pair. filter: one output
channel's (h, w, in); of a depthwise convolution, whose output channels have one input each, that is
a kernel. Structured methods prune convolutions only (the paper, section 3.3). none: the control.
N:M, such as 2:4: single weights, but of each M in a row along the inputs of a convolution or dense
layer N are kept, as sparse matrix units read them (Mishra et al. 2021, "Accelerating Sparse Deep
Neural Networks"); a layer whose inputs are no multiple of M is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from prunegrid.workers.method_entry import Structure, pattern_of

#: What a unit spans; a transposed convolution's kernel [h, w, out, in] has its filters elsewhere.
Unit: TypeAlias = Structure | Literal["transposed filter"]


def unit_of(structure: Structure, kind: str) -> Unit | None:
    """What a method of this structure prunes in a kernel of this kind (see `KernelKind`); None:
    nothing."""
    if structure == "none" or (kind == "dense" and structure in ("kernel", "filter")):
        return None
    if pattern_of(structure) is not None:
        return "unstructured" if kind in ("conv", "dense") else None
    if structure == "filter":
        other: dict[str, Unit] = {"depthwise": "kernel", "transposed": "transposed filter"}
        return other.get(kind, structure)
    return structure


def pruned_layers(
    structure: Structure, kinds: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Unit]:
    """The unit of each layer that a method of this structure prunes; `kinds` and `shapes` of all
    kernels, by layer."""
    pattern = pattern_of(structure)
    return {
        name: unit
        for name, shape in shapes.items()
        if (unit := unit_of(structure, kinds[name])) is not None
        and (pattern is None or _in_groups(kinds[name], shape, pattern[1]))
    }


def _in_groups(kind: str, shape: tuple[int, ...], size: int) -> bool:
    plain = kind == "conv" or len(shape) == 2  # another dense kernel has its inputs elsewhere
    return plain and shape[-2] % size == 0


def grouped(array: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Of a kernel [..., in, out] as an array [weights]: [groups, size], each `size` neighbours
    along the inputs."""
    inputs_last = np.moveaxis(array.reshape(shape), -2, -1)
    return inputs_last.reshape(-1, size)


def ungrouped(groups: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `grouped`: [weights]."""
    *before, inputs, outputs = shape
    return np.moveaxis(groups.reshape(*before, outputs, inputs), -1, -2).reshape(-1)


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
