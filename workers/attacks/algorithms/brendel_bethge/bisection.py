"""The compiled search for the boundary between a start and the clean image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from prunegrid.workers.attacks.runtime.network import Network


def bisector(network: Network, searches: int) -> Callable[..., Any]:
    """From adversarial starts to the boundary: (clean images x0, starts x1, labels int32) to
    images, whose pixels come from the start where both differ by less than a threshold, and the
    queries made.

    `searches`: halvings of the threshold's interval. One in which every image equals an end of
    its interval takes no query: 256 grey levels take about nine, however many searches there are.
    """

    def bisect(x0, x1, labels):  # type: ignore[no-untyped-def]
        gap = tf.abs(x1 - x0)
        lower = tf.zeros_like(labels, tf.float32)
        upper = tf.ones_like(lower)
        seen = tf.zeros_like(labels, tf.bool)  #: whether the lower end was ever queried
        queries = tf.constant(0)

        def inside(share: tf.Tensor) -> tf.Tensor:
            return gap < share[:, None, None, None]

        def same(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
            return tf.reduce_all(tf.reshape(one == other, (tf.shape(one)[0], -1)), axis=1)

        for _ in tf.range(searches):
            middle = (lower + upper) / 2
            taken = inside(middle)
            # The upper end was seen to be adversarial only once it has come down from 1.
            as_upper = same(taken, inside(upper)) & (upper < 1)
            known = as_upper | (same(taken, inside(lower)) & seen)
            adversarial = as_upper
            if not tf.reduce_all(known):
                scores = network.scores(tf.where(taken, x1, x0))
                adversarial = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
                queries += 1
            seen |= ~adversarial
            lower = tf.where(adversarial, lower, middle)
            upper = tf.where(adversarial, middle, upper)
        return tf.where(inside(upper), x1, x0), queries

    image = network.image_spec()
    signature = [image, image, tf.TensorSpec((None,), tf.int32)]
    return network.compiled(("bb-bisect", searches), bisect, signature)
