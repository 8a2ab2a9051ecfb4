"""An attack that is a function of the user's: it proposes images, everything else is ours.

    def noise(network, images, labels, eps, rngs, *, tries: int = 10):
        '''Uniform noise. ...'''

It may take `network` (an AttackedNetwork), `images` (float32 [n, h, w, c] in [0, 1]), `labels`
(int64 [n]), `eps` (float, of an attack at fixed eps), `rngs` (one generator for each image), and
`tick` (to be called with the fraction done, now and then); all its other parameters are options.
It returns images of the same shape, or those and how often the network saw each (a number or one
for each image). It is called with images of one padded shape, and again for each eps.

An image's result should depend on that image alone: draws from its own generator, and no
statistics over the batch. Whether a returned image counts is judged here and, as for all attacks,
verified: another class than the label's, inside [0, 1], within eps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Results,
    measured,
    row_norms,
)
from prunegrid.workers.attacks.runtime.draws import generator
from prunegrid.workers.attacks.runtime.verification import BOX_TOLERANCE
from prunegrid.workers.user_code import UserCode

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network


class AttackedNetwork:
    """The network as a function sees it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.seen = 0  #: batches that went through `logits`
        self.model: Any = network.model  #: a keras.Model that gives logits
        self.classes: int = network.classes

    def scores(self, images: Any) -> Any:
        """TensorFlow images [n, h, w, c] to what the protocol lets attacks differentiate: logits,
        or probabilities; traceable, for gradients."""
        return self._network.scores(images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, classes]."""
        self.seen += 1
        return self._network.logits(np.asarray(images, np.float32))


@dataclass(frozen=True, kw_only=True)
class FunctionAttack(Attack):
    """One function, with its options."""

    code: UserCode
    norm: str

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        levels: tuple[float | None, ...] = context.eps or (None,)
        results = []
        for number, eps in enumerate(levels):
            context.ticker.share_of(number, len(levels))
            results.append(self._at(eps, network, batch, context))
        return tuple(results)

    def _at(
        self, eps: float | None, network: Network, batch: Batch, context: AttackContext
    ) -> AttackResult:
        images = batch.images.copy()
        queries = np.zeros(len(batch), np.int64)
        classes = np.zeros(len(batch), np.int64)
        for rows, padded in context.micro_batches.pieces(np.arange(len(batch))):
            done = int(rows[0])

            def tick(part: float, done: int = done, size: int = len(rows)) -> None:
                note = self.code.target.partition(":")[2]
                context.ticker.tick((done + part * size) / len(batch), note)

            tick(0.0)
            with context.micro_batches.attempt():
                found, spent = self._call(network, batch.take(padded), eps, context.seed, tick)
                logits = network.logits(found)
                images[rows], queries[rows] = found[: len(rows)], spent[: len(rows)]
                classes[rows] = logits[: len(rows)].argmax(axis=1)
        claimed = classes != batch.labels
        if eps is not None:
            claimed &= row_norms(images - batch.images, self.norm) <= eps * (1 + 1e-6)
        return measured(batch, self.norm, images, claimed, queries)

    def _call(
        self,
        network: Network,
        batch: Batch,
        eps: float | None,
        seed: int,
        tick: Callable[[float], None],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and queries, one row for each of the batch. Raises ValueError where the function
        returns something else."""
        target = AttackedNetwork(network)
        at = () if eps is None else (eps,)
        given: dict[str, object] = {
            "network": target,
            "images": batch.images.copy(),
            "labels": batch.labels.copy(),
            "rngs": [generator(seed, int(i), "own", *at) for i in batch.indices],
            "tick": tick,
        }
        if eps is not None:
            given["eps"] = eps
        answer = self.code.call(**given)
        answer, spent = answer if isinstance(answer, tuple) else (answer, target.seen)
        images = np.asarray(answer)
        name = self.code.target
        if images.shape != batch.images.shape or images.dtype.kind != "f":
            raise ValueError(
                f"{name}: expected images, floats {list(batch.images.shape)}, got {images.dtype} "
                f"{list(images.shape)}"
            )
        images = images.astype(np.float32)
        if not (images.min() >= -BOX_TOLERANCE and images.max() <= 1 + BOX_TOLERANCE):
            raise ValueError(
                f"{name}: expected images in [0, 1], got pixels from {images.min():g} to "
                f"{images.max():g}"
            )
        queries = np.asarray(spent)
        if queries.shape not in ((), (len(batch),)):
            raise ValueError(
                f"{name}: expected queries as a number or one for each of {len(batch)} images, "
                f"got {list(queries.shape)}"
            )
        return images, np.broadcast_to(queries, len(batch)).astype(np.int64)
