"""A Keras model as attacks see it: scores, and compiled functions that are kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.runtime.image_gradient import (
    FirstConvolution,
    first_convolution,
    in_full_vectors,
)
from prunegrid.workers.attacks.runtime.micro_batches import QUANTUM, MicroBatches

#: Scores are at most that far apart where all count: exp(-16) is a weight that float32 keeps.
FURTHEST = 16.0
Loss = Literal["cross-entropy", "margin"]

_KEPT = "_prunegrid_compiled"
_PLACES = "_prunegrid_places"


class Network:
    """`outputs`: what attacks differentiate through. "softmax" passes probabilities as if they
    were logits, as an attack does on a network that ends in a softmax.

    Compiled functions are kept on the model object and read its variables when they run: a
    model that gets new weights is not traced again. Their gradients towards the images are
    computed in full vectors (`image_gradient.py`) for each size of a batch where that has the
    same bits. `xla`: compiled by XLA, which rounds differently.
    """

    def __init__(
        self,
        model: Any,
        outputs: Literal["logits", "softmax"] = "logits",
        *,
        xla: bool = False,
    ) -> None:
        self.model = model
        self.outputs = outputs
        self.xla = xla
        self.shape: tuple[int, ...] = tuple(model.input_shape[1:])
        if not hasattr(model, _KEPT):
            object.__setattr__(model, _KEPT, {})
            object.__setattr__(model, _PLACES, {})
        self._compiled: dict[Any, Callable[..., Any]] = getattr(model, _KEPT)
        self._places: dict[tuple[str, bool, int], bool] = getattr(model, _PLACES)
        self._first = None if xla else first_convolution(model)

    @property
    def classes(self) -> int:
        return int(self.model.output_shape[-1])

    def scores(self, images: tf.Tensor) -> tf.Tensor:
        """[n, h, w, c] to [n, classes]; traceable."""
        logits = self.model(images, training=False)
        return tf.nn.softmax(logits) if self.outputs == "softmax" else logits

    def image_spec(self) -> tf.TensorSpec:
        return tf.TensorSpec((None, *self.shape), tf.float32)

    def compiled(
        self,
        key: tuple[Any, ...],
        function: Callable[..., Any],
        signature: Sequence[tf.TensorSpec],
    ) -> Callable[..., Any]:
        """`function` as a graph, traced once for each key and model object. Its first argument
        is the batch's images."""
        full = (self.outputs, self.xla, *key)
        if full not in self._compiled:
            make = functools.partial(
                tf.function,
                input_signature=list(signature),
                reduce_retracing=True,
                jit_compile=True if self.xla else None,
            )
            usual = make(function)
            if self._first is None:
                self._compiled[full] = usual
            else:
                self._compiled[full] = _either(usual, make(function), *self._first)
        return self._compiled[full]

    def logits(self, images: np.ndarray, micro_batches: MicroBatches | None = None) -> np.ndarray:
        """float32 [n, classes], before any softmax, in the batch shape given or in
        micro-batches."""

        def forward(x: tf.Tensor) -> tf.Tensor:
            return self.model(x, training=False)

        run = self.compiled(("logits",), forward, [self.image_spec()])
        logits: np.ndarray
        if micro_batches is None:
            logits = run(tf.constant(images)).numpy()
            return logits
        (logits,) = micro_batches.map(lambda x: (run(x),), np.arange(len(images)), images)
        return logits

    def predictions(self, images: np.ndarray, micro_batches: MicroBatches) -> np.ndarray:
        """Classes int64 [n] by the largest logit, in micro-batches."""
        classes: np.ndarray = self.logits(images, micro_batches).argmax(axis=1)
        return classes

    def margin_and_gradient(
        self, *, slope: Literal["best", "all", "movable"] = "best"
    ) -> Callable[..., Any]:
        """(images, labels int32) to each image's margin, the score of its label less the best
        other one (float32 [n], negative beyond the boundary), and a gradient.

        `slope`: the gradient of that margin; of that to all other classes, by log-sum-exp; or as
        `gradient_else` has it, with two more results: whether the margin's own is all zero, bool
        [n], and the backward passes, int32 [n].
        """

        def margin_of(x: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape(persistent=slope == "movable") as tape:
                tape.watch(x)
                scores = self.scores(x)
                margin = at(scores, labels) - at(scores, best_other(scores, labels))
                sloped = at(scores, labels) - all_others(scores, labels)
                total = tf.reduce_sum(sloped if slope == "all" else margin)
            gradient = tape.gradient(total, x)
            if slope == "movable":
                ahead, moving, passes = gradient_else(tape, x, scores, labels, gradient)
                return tf.where(margin > 0, ahead, margin), moving, passes > 1, passes
            return margin, gradient

        return self.compiled(
            ("margin", slope), margin_of, [self.image_spec(), tf.TensorSpec((None,), tf.int32)]
        )

    def place_matters(self, size: int) -> bool:
        """Whether an image's bits, gradients included, depend on its place among `size` images.

        Measured with this model on this device, on images of noise; once for each model object.
        """
        key = (self.outputs, self.xla, size)
        if key not in self._places:
            try:
                self._places[key] = self._measure_places(size)
            except (tf.errors.ResourceExhaustedError, MemoryError):
                return False  # the work will not fit either, and goes on in a smaller shape
        return self._places[key]

    def _measure_places(self, size: int) -> bool:
        images = np.random.default_rng(1).random((size, *self.shape), np.float32)
        labels = np.zeros(size, np.int32)
        margins = self.margin_and_gradient()
        whole = [t.numpy() for t in margins(images, labels)]
        for turn in (1, 2, 5, size // 2 + 1):  # each image at four other places
            turned = [t.numpy() for t in margins(np.roll(images, turn, axis=0), labels)]
            for one, other in zip(turned, whole, strict=True):
                if not np.array_equal(one, np.roll(other, turn, axis=0), equal_nan=True):
                    return True
        return False

    def smaller_is_equal(self, size: int) -> bool:
        """Whether `size` images give the same bits, gradients included, in batches of every
        multiple of 16 below it: a last piece may have any of these shapes.

        Measured with this model on this device, on images of noise.
        """
        rng = np.random.default_rng(0)
        images = rng.random((size, *self.shape), np.float32)
        labels = np.zeros(size, np.int32)
        margins = self.margin_and_gradient()
        whole = [t.numpy() for t in margins(images, labels)]
        # From the end of the whole, so that places differ too.
        for shape in range(QUANTUM, size, QUANTUM):
            if self.place_matters(shape):
                return False
            part = slice(size - shape, size)
            for one, other in zip(margins(images[part], labels[part]), whole, strict=True):
                if not np.array_equal(one.numpy(), other[part], equal_nan=True):
                    return False
        return True

    def examiner(self, loss: Loss, *, movable: bool) -> Callable[..., Any]:
        """(images, labels int32) to logits [n, classes], and whether the gradient that an attack
        by this loss follows is all zero at each image (bool [n]), a sign of masked gradients.

        `movable`: the attack turns to `gradient_else` there, as `strict` does.
        """

        def logits_and_zero(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(persistent=movable) as tape:
                tape.watch(x)
                logits = self.model(x, training=False)
                scores = tf.nn.softmax(logits) if self.outputs == "softmax" else logits
                if loss == "margin":
                    losses = at(scores, y) - at(scores, best_other(scores, y))
                else:
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores)
            gradient = tape.gradient(losses, x)
            if movable:
                _, gradient, _ = gradient_else(tape, x, scores, y, gradient)
            return logits, all_zero(gradient)

        spec = [self.image_spec(), tf.TensorSpec((None,), tf.int32)]
        return self.compiled(("examine", loss, movable), logits_and_zero, spec)


def _either(
    usual: Callable[..., Any], quicker: Callable[..., Any], layer: Any, first: FirstConvolution
) -> Callable[..., Any]:
    def run(images: Any, *others: Any) -> Any:
        if not first.same_bits(len(images)):
            return usual(images, *others)
        with in_full_vectors(layer, first):  # the first call traces
            return quicker(images, *others)

    return run


def gradient_else(
    tape: tf.GradientTape, x: tf.Tensor, scores: tf.Tensor, labels: tf.Tensor, gradient: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`gradient` at images x; where it is all zero, that of the margin to the best other class
    whose margin has one. A pruned network may have logits that no input moves, and a label's
    probability of 1 has no slope.

    `tape`: persistent, with the way from x to the scores. Returns the margins [n] to these
    classes, elsewhere to the best one; the gradients; and the backward passes that each took,
    int32 [n]: 1, or more where `gradient` is all zero.
    """
    classes = scores.shape[-1]
    own, best = tf.one_hot(labels, classes), best_other(scores, labels)
    margin = at(scores, labels) - at(scores, best)
    flat = all_zero(gradient)
    passes = 1 + tf.cast(flat, tf.int32)
    if tf.reduce_any(flat):
        # All classes at once: where that is zero too, no class need be asked alone.
        spread = tf.reduce_max(scores, axis=-1) - tf.reduce_min(scores, axis=-1)
        near = scores / tf.maximum(spread / FURTHEST, 1.0)[:, None]
        others = tf.nn.softmax(near - infinite(labels, classes))
        flat &= ~all_zero(tape.gradient(scores, x, own - others))
    skipped = tf.zeros_like(scores)
    for _ in tf.range(classes - 1):
        if not tf.reduce_any(flat):
            break
        slope = tape.gradient(scores, x, own - tf.one_hot(best, classes))
        passes += tf.cast(flat, tf.int32)
        gradient = tf.where(flat[:, None, None, None], slope, gradient)
        margin = tf.where(flat, at(scores, labels) - at(scores, best), margin)
        flat &= all_zero(slope)
        skipped += infinite(best, classes)
        best = best_other(scores, labels, skipped)
    return margin, gradient, passes


def all_zero(gradient: tf.Tensor) -> tf.Tensor:
    """bool [n] of gradients [n, h, w, c]."""
    return tf.reduce_all(tf.reshape(gradient, (tf.shape(gradient)[0], -1)) == 0.0, axis=1)


def infinite(columns: tf.Tensor, depth: int) -> tf.Tensor:
    """float32 [n, depth]: infinite at each row's column, else 0."""
    return tf.one_hot(columns, depth=depth, on_value=np.float32(np.inf))


def best_other(scores: tf.Tensor, labels: tf.Tensor, skipped: tf.Tensor | None = None) -> tf.Tensor:
    """Index of the highest score that is not the label's; int64 [n]. `skipped`: infinite at
    classes that do not count either, else 0."""
    others = scores - infinite(labels, scores.shape[-1])
    return tf.argmax(others if skipped is None else others - skipped, axis=-1)


def all_others(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """log-sum-exp of all scores except the label's; float32 [n]."""
    return tf.reduce_logsumexp(scores - infinite(labels, scores.shape[-1]), axis=-1)


def at(scores: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """scores[i, columns[i]] for each row i."""
    rows = tf.range(tf.shape(scores, out_type=tf.int64)[0], dtype=tf.int64)
    return tf.gather_nd(scores, tf.stack([rows, tf.cast(columns, tf.int64)], axis=1))
