"""Statistics over the image rows of single attacks on one model. Pure NumPy.

Carlini et al. 2019, "On Evaluating Adversarial Robustness", sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunegrid.orchestrator.store.rows import SLACK_IMAGES


@dataclass(frozen=True, kw_only=True)
class AttackRows:
    """One attack's rows on one model, images in the same order for every attack."""

    attack: str
    norm: str
    images: np.ndarray  #: int [n], indices in the split
    labels: np.ndarray  #: int [n], true classes; -1: not recorded
    eps: tuple[float, ...]  #: ascending; () for a minimum-norm attack
    broken: np.ndarray  #: bool [len(eps) or 1, n]
    distance: np.ndarray  #: float [len(eps) or 1, n]; 0 if misclassified, inf if not found
    within: bool = False  #: a distance of exactly eps is broken, as the cells' `broken_at` has it

    def robust(self, eps: float) -> np.ndarray:
        """bool [n]: images that stand at `eps`. Raises KeyError where a fixed-eps attack was not
        run there."""
        if not self.eps:
            return np.asarray(self.distance[0] > eps if self.within else self.distance[0] >= eps)
        for k, other in enumerate(self.eps):
            if other == eps:
                return np.asarray(~self.broken[k])
        raise KeyError(f"{self.attack}: expected one of eps {list(self.eps)}, got {eps}")


def more_broken(rows: AttackRows, other: AttackRows, eps: float) -> int:
    """How many of the images in both `other` breaks beyond `rows` at `eps`; 0 up to
    SLACK_IMAGES, and where one of the two was not run at this eps."""
    _, ours, theirs = np.intersect1d(rows.images, other.images, return_indices=True)
    try:
        gap = int(rows.robust(eps)[ours].sum() - other.robust(eps)[theirs].sum())
    except KeyError:
        return 0
    return gap if gap > SLACK_IMAGES else 0


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """An attack beside the same attack with twice the steps, at one eps."""

    eps: float
    robust: float  #: accuracy with the steps as they are
    robust_doubled: float
    converged: bool  #: twice the steps break at most the tolerated share of images anew


def doubling_steps(
    once: AttackRows, doubled: AttackRows, eps: Sequence[float], *, tolerance_frac: float = 0.01
) -> tuple[Convergence, ...]:
    """Raises ValueError where the two saw different images."""
    if not np.array_equal(once.images, doubled.images):
        raise ValueError(f"doubling steps: {once.attack}'s two runs saw different images")
    out = []
    for value in eps:
        a, b = once.robust(value), doubled.robust(value)
        out.append(
            Convergence(
                eps=value,
                robust=float(a.mean()),
                robust_doubled=float(b.mean()),
                converged=bool((a & ~b).mean() <= tolerance_frac),
            )
        )
    return tuple(out)
