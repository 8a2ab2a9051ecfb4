"""A network's kernels, and their weights and multiply-adds, dense and left. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from prunegrid.workers.records import LayerCount

KernelKind: TypeAlias = Literal["conv", "depthwise", "transposed", "dense"]


@dataclass(frozen=True, kw_only=True)
class KernelLayer:
    """A kernel of a layer."""

    name: str  #: the layer's; of two kernels in one layer, their paths
    path: str  #: of the kernel variable
    kind: KernelKind
    #: Height, width, in, out (depthwise: out per in; transposed: out, in), or with other than two
    #: axes before the last two. Dense: whatever its equation says, in, out as a rule.
    shape: tuple[int, ...]
    positions: int  #: how often it is applied to one image
    prunable: bool  #: False for residual projections, which the authors do not prune


def layer_counts(
    layers: Sequence[KernelLayer], masks: Mapping[str, np.ndarray]
) -> tuple[LayerCount, ...]:
    """One count per layer. `masks`: prunable layer -> bool array of its kernel's shape.

    A weight costs one multiply-add per output position
    (Blalock et al. 2020: theoretical speed-up = dense / those that touch a non-zero weight).
    """
    out = []
    for layer in layers:
        total = int(np.prod(layer.shape, dtype=np.int64))
        left = int(np.count_nonzero(masks[layer.name])) if layer.prunable else total
        out.append(
            LayerCount(
                name=layer.name,
                kind=layer.kind,
                shape=layer.shape,
                total=total,
                left=left,
                flops_total=total * layer.positions,
                flops_left=left * layer.positions,
                prunable=layer.prunable,
            )
        )
    return tuple(out)
