"""Attacks on the network without its dead channels, verified on the stored one.

Both give the same logits up to the rounding of sums in another order. Where they do not agree on an
image, or what was found there is not adversarial on the stored network, the image is attacked again
there: no row rests on the smaller network alone. All of this is decided for each image by itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunegrid.workers.attacks.base import (
    AttackContext,
    AttackResult,
    Batch,
    EngineMethod,
    Results,
)
from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches
from prunegrid.workers.attacks.runtime.network import Loss, Network
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.export.shrink import tolerance


@dataclass(frozen=True, kw_only=True)
class Way:
    """A network, and the pieces in which it computes."""

    network: Network
    micro_batches: MicroBatches

    def examine(self, batch: Batch, loss: Loss, *, movable: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of clean images: logits [n, classes], and whether the gradient is all zero, bool [n]."""
        examine = self.network.examiner(loss, movable=movable)
        labels = batch.labels.astype(np.int32)
        logits, zero = self.micro_batches.map(examine, np.arange(len(batch)), batch.images, labels)
        return logits, zero

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self.network.logits(images, self.micro_batches)


def fixed_shape(network: Network, batch_size: int) -> Way:
    """As `strict` computes: an image's bits do not depend on the others of its piece."""
    pieces = MicroBatches(batch_size, place_matters=network.place_matters)
    # XLA would compile each smaller shape anew.
    pieces.smaller_is_equal = not network.xla and network.smaller_is_equal(pieces.size)
    return Way(network=network, micro_batches=pieces)


class ShrunkNetwork:
    """A smaller model in the place of the stored one, for the images of a shard.

    `logits`: of the clean `batch` on the stored one.
    """

    def __init__(
        self,
        model: Any,
        stored: Way,
        settings: AttackSettings,
        batch: Batch,
        logits: np.ndarray,
    ) -> None:
        network = Network(model, settings.outputs, xla=stored.network.xla)
        self._stored, self._small = stored, fixed_shape(network, settings.batch_size)
        small = self._small.logits(batch.images)
        self._same = agree(logits, small) & (logits.argmax(axis=1) == small.argmax(axis=1))

    @property
    def micro_batches(self) -> MicroBatches:
        return self._small.micro_batches

    def attack(
        self, run: EngineMethod, rows: np.ndarray, part: Batch, context: AttackContext
    ) -> tuple[Results, np.ndarray]:
        """Attack the images `part`, which are `rows` of the batch.

        Returns results that hold on the stored network, and of which network each image's are,
        str [len(rows)]: "shrunk" or "redone".
        """
        n = len(rows)
        trusted = self._same[rows].copy()
        found: Results | None = None
        if len(mine := np.flatnonzero(trusted)):
            own = dataclasses.replace(context, micro_batches=self._small.micro_batches)
            results = run(self._small.network, part.take(mine), own)
            holds = np.ones(len(mine), bool)
            for result in results:
                holds &= self._holds(part.take(mine), result)
            checked = (dataclasses.replace(r, queries=r.queries + 1) for r in results)
            found = tuple(_placed(r, mine, n) for r in checked)
            trusted[mine] = holds
        if len(again := np.flatnonzero(~trusted)):
            context.ticker.rest()
            redone = run(self._stored.network, part.take(again), context)
            found = tuple(
                _placed(r, again, n, over=before)
                for r, before in zip(redone, found or (None,) * len(redone), strict=True)
            )
        assert found is not None
        return found, np.where(trusted, "shrunk", "redone")

    def _holds(self, part: Batch, result: AttackResult) -> np.ndarray:
        """bool [n]: both networks say the same of the image that was found, and the stored one
        that it is adversarial where it is claimed."""
        stored, small = self._stored.logits(result.images), self._small.logits(result.images)
        adversarial = stored.argmax(axis=1) != part.labels
        holds: np.ndarray = agree(stored, small) & (adversarial | ~result.claimed)
        return holds


def agree(stored: np.ndarray, small: np.ndarray) -> np.ndarray:
    """bool [n]: whether logits [n, classes] are those of one network but for rounding."""
    far = np.abs(stored - small).max(axis=1)
    close: np.ndarray = far <= tolerance() * np.maximum(1.0, np.abs(stored).max(axis=1))
    return close


def _placed(
    result: AttackResult, rows: np.ndarray, n: int, *, over: AttackResult | None = None
) -> AttackResult:
    """`result` of the images `rows` of `n`, in the place of those in `over`; passes of both
    count."""
    values: dict[str, np.ndarray | None] = {}
    for field in dataclasses.fields(AttackResult):
        mine: np.ndarray | None = getattr(result, field.name)
        before = None if over is None else getattr(over, field.name)
        values[field.name] = None
        if mine is None:
            continue
        if before is None:
            before = np.zeros((n, *mine.shape[1:]), mine.dtype)
        elif before.dtype.kind == "U":
            before = before.astype(np.promote_types(before.dtype, mine.dtype))
        else:
            before = before.copy()
        before[rows] = before[rows] + mine if field.name in _PASSES else mine
        values[field.name] = before
    return AttackResult(**values)  # type: ignore[arg-type]


_PASSES = ("queries", "backward", "flat")
