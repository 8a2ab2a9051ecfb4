"""The compiled steps of PGD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from prunegrid.workers.attacks.runtime.network import Network, at, best_other, gradient_else


def predictor(network: Network) -> Callable[..., Any]:
    """Images [n, h, w, c] to classes int32 [n]."""

    def predict(x: tf.Tensor) -> tf.Tensor:
        return tf.argmax(network.scores(x), axis=-1, output_type=tf.int32)

    return network.compiled(("predict",), predict, [network.image_spec()])


def _gradient(
    network: Network, x: tf.Tensor, labels: tf.Tensor, *, movable: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores [n, classes], cross-entropy [n], its gradient or as `gradient_else` has it, and the
    backward passes int32 [n]."""
    with tf.GradientTape(persistent=movable) as tape:
        tape.watch(x)
        scores = network.scores(x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        loss = tf.reduce_sum(losses)
    gradient = tape.gradient(loss, x)
    passes = tf.ones_like(labels)
    if movable:  # the cross-entropy rises where a margin falls
        _, falling, passes = gradient_else(tape, x, scores, labels, -gradient)
        gradient = -falling
    return scores, losses, gradient, passes


def batch_stepper(network: Network) -> Callable[..., Any]:
    """`count` steps of all images. Returns (x, whether the class had changed after one step)."""

    def advance(x, x0, labels, eps, step, count):  # type: ignore[no-untyped-def]
        second = tf.zeros_like(labels, tf.bool)  # class changed, as the second step sees it
        for i in tf.range(count):
            scores, _, gradient, _ = _gradient(network, x, labels, movable=False)
            if i == 1:
                second = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
            x = x + step * tf.sign(gradient)
            x = x0 + tf.clip_by_value(x - x0, -eps, eps)
            x = tf.clip_by_value(x, 0.0, 1.0)
        return x, second

    image, scalar = network.image_spec(), tf.TensorSpec((), tf.float32)
    signature = [
        image, image, tf.TensorSpec((None,), tf.int32), scalar, scalar, tf.TensorSpec((), tf.int32)
    ]  # fmt: skip
    return network.compiled(("pgd",), advance, signature)


def image_stepper(
    network: Network, *, settled: int, growth: float, close: float
) -> Callable[..., Any]:
    """A query before each of `steps`. A broken image stays as it was when it broke, and so does
    one whose loss has not grown (by the part `growth`) for `settled` queries, unless its margin
    has fallen below the part `close` of its first one.

    Returns (x, broken, best loss, queries since it grew, margins, and int32 [n, 3], made now:
    passes forward, backward, and forward where the cross-entropy had no slope).
    """

    # Parameters: a compiled loop takes its state as tensors, one each.
    def advance(x, x0, labels, eps, steps, best, since, margins):  # type: ignore[no-untyped-def]
        broken = tf.zeros_like(labels, tf.bool)
        queries = tf.zeros((tf.shape(labels)[0], 3), tf.int32)
        start, low = margins[:, 0], margins[:, 1]
        live = ~broken
        for i in tf.range(tf.shape(steps)[0]):
            if not tf.reduce_any(live):
                break
            scores, loss, gradient, passes = _gradient(network, x, labels, movable=True)
            spent = tf.stack([tf.ones_like(passes), passes, tf.cast(passes > 1, tf.int32)], axis=1)
            queries += tf.where(live[:, None], spent, 0)
            changed = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
            broken |= live & changed
            margin = at(scores, labels) - at(scores, best_other(scores, labels))
            start = tf.where(tf.math.is_inf(start), margin, start)
            low = tf.where(live, tf.minimum(low, margin), low)
            grown = loss > best + growth * tf.abs(best)
            since = tf.where(live, tf.where(grown, tf.minimum(since + 1, 0), since + 1), since)
            best = tf.where(live & grown, loss, best)
            live &= ~changed & ((since < settled) | (low < close * start))
            moved = x + steps[i] * tf.sign(gradient)
            moved = x0 + tf.clip_by_value(moved - x0, -eps, eps)
            moved = tf.clip_by_value(moved, 0.0, 1.0)
            x = tf.where(live[:, None, None, None], moved, x)
        return x, broken, best, since, tf.stack([start, low], axis=1), queries

    image, row = network.image_spec(), tf.TensorSpec((None,), tf.float32)
    whole = tf.TensorSpec((None,), tf.int32)
    pairs = tf.TensorSpec((None, 2), tf.float32)
    signature = [image, image, whole, tf.TensorSpec((), tf.float32), row, row, whole, pairs]
    return network.compiled(("pgd-checked", settled, growth, close), advance, signature)
