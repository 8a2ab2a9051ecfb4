"""Weights and multiply-adds, dense and left. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from prunegrid.workers.results import LayerCount


class Countable(Protocol):
    """What of `prunegrid.workers.models.base.PrunableLayer` is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def positions(self) -> int: ...
    @property
    def prunable(self) -> bool: ...


def layer_counts(
    layers: Sequence[Countable], masks: Mapping[str, np.ndarray]
) -> tuple[LayerCount, ...]:
    """One count per layer; only prunable ones need a mask.

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
                shape=layer.shape,
                total=total,
                left=left,
                flops_total=total * layer.positions,
                flops_left=left * layer.positions,
                prunable=layer.prunable,
            )
        )
    return tuple(out)
