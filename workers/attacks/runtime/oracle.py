"""What an attack asks of the network for single images, in micro-batches, and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import AttackContext, AttackResult, Batch, measured
from prunegrid.workers.attacks.declaration import Norm
from prunegrid.workers.attacks.runtime.network import Network, at, best_other, gradient_else

#: What an attack ascends. The margin is the best other score less the label's; the ratio is the
#: margin over the spread of the highest scores (Croce, Hein 2020, "Reliable evaluation of
#: adversarial robustness with an ensemble of diverse parameter-free attacks", equations 6 and 7).
#: With "target-" one class takes the place of the best other one.
Ascended = Literal[
    "cross-entropy", "target-cross-entropy", "margin", "target-margin", "ratio", "target-ratio"
]
#: The ratio is defined from that many classes on.
RATIO_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """Of m images."""

    loss: np.ndarray  #: float32 [m]
    margin: np.ndarray  #: float32 [m]: the label's score less the best other one
    gradient: np.ndarray  #: float32 [m, h, w, c]: of the loss; where `flat`, of minus `ahead`
    flat: np.ndarray  #: bool [m]: not adversarial, and the loss's own gradient is all zero
    #: float32 [m]: where flat, the label's score less that of the best class that has a slope.
    ahead: np.ndarray

    @property
    def adversarial(self) -> np.ndarray:
        """bool [m]"""
        return self.margin < 0


class Oracle:
    """Answers of one network on one batch, and how many passes each image took.

    `rows`: which images are meant; `images`: of all of the batch, [n, h, w, c].
    """

    def __init__(self, network: Network, batch: Batch, context: AttackContext) -> None:
        n = len(batch)
        self._network = network
        self._batch = batch
        self._labels = batch.labels.astype(np.int32)
        self._micro_batches = context.micro_batches
        self._forward, self._backward, self._flat = (np.zeros(n, np.int64) for _ in range(3))

    def defined(self, loss: Ascended) -> Ascended:
        """`loss`, or with too few classes for a ratio the cross-entropy in its place."""
        if self._network.classes >= RATIO_CLASSES:
            return loss
        few: dict[Ascended, Ascended] = {
            "ratio": "cross-entropy", "target-ratio": "target-cross-entropy"
        }  # fmt: skip
        return few.get(loss, loss)

    def margins(self, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """float32 [len(rows)]: the label's score less the best other one; a forward pass."""

        def margin_of(x: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor]:
            scores = self._network.scores(x)
            return (at(scores, labels) - at(scores, best_other(scores, labels)),)

        spec = [self._network.image_spec(), tf.TensorSpec((None,), tf.int32)]
        run = self._network.compiled(("margin-alone",), margin_of, spec)
        (margins,) = self._micro_batches.map(run, rows, images, self._labels)
        self._forward[rows] += 1
        return margins

    def highest_others(self, count: int) -> np.ndarray:
        """int32 [n, count]: of each clean image, the classes with the highest scores but for the
        label's, in falling order; as many as there are. A forward pass."""
        logits = self._network.logits(self._batch.images, self._micro_batches)
        self._forward += 1
        logits[np.arange(len(logits)), self._labels] = -np.inf
        ranked = np.argsort(-logits, axis=1, kind="stable")
        return ranked[:, : min(count, self._network.classes - 1)].astype(np.int32)

    def classes(self, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
        """int32 [len(rows)]: of the highest logits; a forward pass."""
        logits = self._network.logits(images[rows], self._micro_batches)
        self._forward[rows] += 1
        classes: np.ndarray = logits.argmax(axis=1).astype(np.int32)
        return classes

    def count(self, other: Oracle, owners: np.ndarray) -> None:
        """The passes of another oracle too, each row of which is of the image in `owners`."""
        for total, more in (
            (self._forward, other._forward),
            (self._backward, other._backward),
            (self._flat, other._flat),
        ):
            np.add.at(total, owners, more)

    def slopes(
        self,
        rows: np.ndarray,
        images: np.ndarray,
        loss: Ascended,
        targets: np.ndarray | None = None,
    ) -> Slopes:
        """A pass forward and one back, or more of these where `flat`.

        `targets`: int32 [n], of a loss towards a class.
        """
        run = _ascent(self._network, loss)
        aims = self._labels if targets is None else targets
        values = self._micro_batches.map(run, rows, images, self._labels, aims)
        losses, margin, gradient, ahead, backward = values
        self._forward[rows] += 1
        self._backward[rows] += backward
        self._flat[rows] += backward > 1
        return Slopes(loss=losses, margin=margin, gradient=gradient, flat=backward > 1, ahead=ahead)

    def passes(self) -> np.ndarray:
        """int64 [3, n]: of each image, forward, backward, and forward where the loss had no
        slope."""
        return np.stack([self._forward, self._backward, self._flat])

    def result(self, images: np.ndarray, claimed: np.ndarray, norm: Norm) -> AttackResult:
        """Of images [n, h, w, c], adversarial where claimed."""
        return measured(
            self._batch, norm, images, claimed, self._forward,
            backward=self._backward, flat=self._flat,
        )  # fmt: skip


def _ascent(network: Network, loss: Ascended) -> Callable[..., Any]:
    def ascend(x: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            scores = network.scores(x)
            losses = _losses(loss, scores, labels, targets)
            total = tf.reduce_sum(losses)
        rising = tape.gradient(total, x)
        margin = at(scores, labels) - at(scores, best_other(scores, labels))
        over = (margin < 0)[:, None, None, None]
        # Beyond the boundary a loss may end, as the ratio does where the label is third.
        ahead, falling, backward = gradient_else(
            tape, x, scores, labels, tf.where(over, 1.0, -rising)
        )
        return losses, margin, tf.where(over, rising, -falling), ahead, backward

    classes = tf.TensorSpec((None,), tf.int32)
    spec = [network.image_spec(), classes, classes]
    return network.compiled(("ascent", loss), ascend, spec)


def _losses(loss: Ascended, scores: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    if loss == "cross-entropy":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
    if loss == "target-cross-entropy":
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, scores)
    aimed = loss.startswith("target-")
    rival = targets if aimed else best_other(scores, labels)
    margin = at(scores, rival) - at(scores, labels)
    if loss.endswith("margin"):
        return margin
    highest = tf.math.top_k(scores, 4 if aimed else 3).values
    return margin / (highest[:, 0] - tf.reduce_mean(highest[:, 2:], axis=1) + 1e-12)
