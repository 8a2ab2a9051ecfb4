"""The compiled part of Carlini & Wagner's attack: Adam steps in tanh space.

Every operation and its order is Foolbox 3.3.4's, so that a batch's result equals its bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.runtime.network import (
    Network,
    all_zero,
    at,
    best_other,
    infinite,
)

BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8
#: Progress is a loss below this part of the last one that was checked.
PROGRESS = 0.9999


class CWGraph:
    """`interval`: steps between two checks of progress, None for none."""

    def __init__(
        self,
        network: Network,
        *,
        steps: int,
        stepsize: float,
        confidence: float,
        interval: int | None,
    ) -> None:
        self._network = network
        self._steps = steps
        self._stepsize = stepsize
        self._confidence = confidence
        self._interval = interval
        self._key = (steps, stepsize, confidence, interval)

    def corrections(self) -> tf.Tensor:
        """Adam's bias corrections after each step: float64 powers, cast to float32 [steps, 2]."""
        pairs = [(1 - BETA_1**t, 1 - BETA_2**t) for t in range(1, self._steps + 1)]
        return tf.constant(np.array(pairs, np.float64).astype(np.float32))

    def enter(self, images: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Images in tanh space, and what comes back from there: not quite the images."""

        def enter(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            y = tf.atanh((x - 0.5) / 0.5 * 0.999999)
            return y, tf.tanh(y) * 0.5 + 0.5

        run = self._network.compiled(("cw-enter",), enter, [self._network.image_spec()])
        pair: tuple[tf.Tensor, tf.Tensor] = run(images)
        return pair

    def batch_stepper(self) -> Callable[..., Any]:
        """All images from `step` to `stop` together; aborted by their summed loss."""

        # Parameters: a compiled loop takes its state as tensors, one each.
        def advance(  # type: ignore[no-untyped-def]
            x, x_attack, reconstructed, labels, consts, corrections,
            delta, m, v, hit, best, best_norm, previous, step, stop,
        ):  # fmt: skip
            aborted = tf.constant(False)
            while step < stop and not aborted:
                pair = (corrections[step, 0], corrections[step, 1])
                (delta, m, v), (loss, _, image, changed, norm) = self._step(
                    x, x_attack, reconstructed, labels, consts, delta, m, v, pair
                )[:2]
                if self._interval is not None:
                    check = step % self._interval == 0
                    enough = loss <= tf.cast(PROGRESS * previous, tf.float32)
                    aborted = check & ~enough
                    previous = tf.where(check, tf.cast(loss, tf.float64), previous)
                take = changed & ~aborted
                hit = hit | take
                best, best_norm = _record(best, best_norm, image, norm, take)
                step += 1
            return delta, m, v, hit, best, best_norm, previous, aborted, step

        key = ("cw-batch", *self._key)
        return self._network.compiled(key, advance, self._signature(per_image=False))

    def image_stepper(self) -> Callable[..., Any]:
        """`count` steps of each image from its own `step`; each aborts by its own loss.

        One image's loss is noisier than a batch's sum: its lowest so far is what must fall. And
        it may stand still for long: where pruning left only weights of black or white pixels,
        every gradient first has to leave tanh's flat ends. So a search ends early only once it
        has found something. `skipped` [n, classes]: infinite at classes to which the margin had
        no gradient in this search, which goes on towards the best of the others. Returns the state
        and, last, at how many steps that was found, int32 [n].
        """

        # Parameters: a compiled loop takes its state as tensors, one each.
        def advance(  # type: ignore[no-untyped-def]
            x, x_attack, reconstructed, labels, consts, corrections,
            delta, m, v, hit, best, best_norm, previous, lowest, skipped, step, count,
        ):  # fmt: skip
            over, stuck = tf.zeros_like(hit), tf.zeros_like(labels)
            for _ in tf.range(count):
                if tf.reduce_all(over):
                    break
                pair = tf.gather(corrections, tf.minimum(step, self._steps - 1))
                pair = (pair[:, 0, None, None, None], pair[:, 1, None, None, None])
                (new_delta, new_m, new_v), (_, loss, image, changed, norm), flat = self._step(
                    x, x_attack, reconstructed, labels, consts, delta, m, v, pair, skipped
                )
                live = ~over
                skipped += tf.where(live[:, None], flat, 0.0)
                stuck += tf.cast(live & tf.reduce_any(flat > 0, axis=1), tf.int32)
                lowest = tf.where(live, tf.minimum(lowest, tf.cast(loss, tf.float64)), lowest)
                if self._interval is not None:
                    check = live & (step % self._interval == 0)
                    enough = lowest <= PROGRESS * previous
                    previous = tf.where(check, lowest, previous)
                    over |= check & ~enough & hit
                # A step that gives up is not recorded by Foolbox; its image counts all the same.
                take = changed & live
                hit = hit | take
                best, best_norm = _record(best, best_norm, image, norm, take)
                wide = live[:, None, None, None]
                delta = tf.where(wide, new_delta, delta)
                m, v = tf.where(wide, new_m, m), tf.where(wide, new_v, v)
                step = tf.where(live, step + 1, step)
                over |= step >= self._steps
            return delta, m, v, hit, best, best_norm, previous, lowest, skipped, over, step, stuck

        key = ("cw-image", *self._key)
        return self._network.compiled(key, advance, self._signature(per_image=True))

    # Parameters: the state of the optimiser, a tensor each.
    def _step(
        self,
        x: tf.Tensor,
        x_attack: tf.Tensor,
        reconstructed: tf.Tensor,
        labels: tf.Tensor,
        consts: tf.Tensor,
        delta: tf.Tensor,
        m: tf.Tensor,
        v: tf.Tensor,
        pair: tuple[tf.Tensor, tf.Tensor],
        skipped: tf.Tensor | None = None,
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...], tf.Tensor]:
        """One Adam step. Returns the new (delta, m, v); of the point before it: summed loss, loss
        per image, image, class changed, L2 norm; [n, classes], infinite at the class ahead where
        the margin to it has a gradient that is all zero."""
        rows = tf.shape(x)[0]
        with tf.GradientTape() as tape:
            tape.watch(delta)
            image = tf.tanh(x_attack + delta) * 0.5 + 0.5
            seen = tf.identity(image)
            scores = self._network.scores(seen)
            ahead = best_other(scores, labels)
            margin = at(scores, labels) - at(scores, ahead)
            if skipped is not None:
                ahead = best_other(scores, labels, skipped)
                further = at(scores, labels) - at(scores, ahead)
                margin = tf.where(margin + self._confidence > 0, further, margin)
            margin = tf.maximum(margin + self._confidence, 0.0) * consts
            moved = tf.reshape(image - reconstructed, (rows, -1))
            squared = tf.reduce_sum(tf.square(moved), axis=-1)
            loss = tf.reduce_sum(margin) + tf.reduce_sum(squared)
        gradient, slope = tape.gradient(loss, (delta, seen))
        m = BETA_1 * m + (1 - BETA_1) * gradient
        v = BETA_2 * v + (1 - BETA_2) * _squared(gradient)
        first, second = pair
        delta = delta - self._stepsize * (m / first) / (tf.sqrt(v / second) + ADAM_EPSILON)
        if self._confidence != 0:
            on = np.float32(self._confidence)
            scores += tf.one_hot(labels, depth=scores.shape[-1], on_value=on)
        changed = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
        norm = tf.sqrt(tf.reduce_sum(tf.square(tf.reshape(image - x, (rows, -1))), axis=-1))
        flat = (all_zero(slope) & (margin > 0))[:, None]
        stuck = tf.where(flat, infinite(ahead, scores.shape[-1]), 0.0)
        return (delta, m, v), (loss, margin + squared, image, changed, norm), stuck

    def _signature(self, *, per_image: bool) -> list[tf.TensorSpec]:
        image, row = self._network.image_spec(), tf.TensorSpec((None,), tf.float32)
        own = (None,) if per_image else ()
        history = [tf.TensorSpec(own, tf.float64)]
        if per_image:
            history = [*history, *history, tf.TensorSpec((None, None), tf.float32)]
        return [
            image, image, image, tf.TensorSpec((None,), tf.int32), row,
            tf.TensorSpec((None, 2), tf.float32), image, image, image,
            tf.TensorSpec((None,), tf.bool), image, row, *history,
            tf.TensorSpec(own, tf.int32), tf.TensorSpec((), tf.int32),
        ]  # fmt: skip


def _squared(gradient: tf.Tensor) -> tf.Tensor:
    """gradient ** 2 by TensorFlow's power, as Foolbox has it: its last bit is not a product's.

    It is slow, and one thread computes all of a small batch: two halves run in parallel.
    The cut is a multiple of any vector's length, so that each element stays in its vector.
    """
    flat = tf.reshape(gradient, [-1])
    cut = tf.size(flat) // 2 // 64 * 64
    halves = [tf.pow(flat[:cut], 2.0), tf.pow(flat[cut:], 2.0)]
    return tf.reshape(tf.concat(halves, axis=0), tf.shape(gradient))


def _record(
    best: tf.Tensor, best_norm: tf.Tensor, image: tf.Tensor, norm: tf.Tensor, take: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The nearest adversarial so far; a strict < keeps the first of equals."""
    take = take & (norm < best_norm)
    best = tf.where(take[:, None, None, None], image, best)
    return best, tf.where(take, norm, best_norm)
