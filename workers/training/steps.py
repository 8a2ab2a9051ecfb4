"""The compiled inner loops: many training steps, or a whole evaluation, per call.

Small networks are bound by the dispatch of operations from Python; here Python is entered once
per chunk of steps. The arithmetic does not depend on how steps are chunked.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from workers.catalog import AUGMENTATIONS
from workers.contract import TrainingSettings
from workers.data.base import Split
from workers.models.base import variables

EVALUATION_BATCH = 250


def to_unit(images: Any) -> Any:
    """uint8 pixels to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Per image."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def augment(images: Any, moves: Any, padding: int) -> Any:
    """Flip, zero-pad by `padding`, crop back. `moves` int32 [n, 3]: flip, row, column."""
    height, width = images.shape[1], images.shape[2]
    flip = tf.cast(moves[:, 0], tf.bool)[:, None, None, None]
    images = tf.where(flip, images[:, :, ::-1, :], images)
    pad = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    images = tf.pad(images, pad)
    rows = moves[:, 1:2] + tf.range(height)[None, :]
    columns = moves[:, 2:3] + tf.range(width)[None, :]
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def draw_moves(count: int, augmentation: str, seed: int) -> np.ndarray:
    """One epoch's flips and shifts, int32 [count, 3], by image and not by batch."""
    padding = AUGMENTATIONS[augmentation]
    if padding is None:
        return np.zeros((count, 3), dtype=np.int32)
    rng = np.random.default_rng(seed)
    flips = rng.integers(0, 2, count)
    shifts = rng.integers(0, 2 * padding + 1, (count, 2))
    return np.column_stack([flips, shifts]).astype(np.int32)


class Stepper:
    """Training steps of one model with fresh Adam state."""

    def __init__(
        self,
        model: keras.Model,
        masks: dict[str, np.ndarray],
        split: Split,
        settings: TrainingSettings,
    ) -> None:
        """`masks`: by kernel, as named in `workers.models.base.variables`."""
        self._model = model
        self._settings = settings
        self._images = split.images
        self._labels = split.labels
        self.optimizer = keras.optimizers.Adam(learning_rate=settings.learning_rate)
        self.optimizer.build(model.trainable_variables)
        by_id = {id(variable): name for name, variable in variables(model).items()}
        self._masks = [
            tf.constant(masks[name], tf.float32) if name in masks else None
            for name in (by_id[id(v)] for v in model.trainable_variables)
        ]
        shape = split.images.shape[1:]
        self._run = tf.function(
            self._steps,
            input_signature=[
                tf.TensorSpec((None, *shape), tf.uint8),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((None, 3), tf.int32),
                tf.TensorSpec((2,), tf.int32),
            ],
        )

    def run(self, order: np.ndarray, moves: np.ndarray, *, draw: tuple[int, int]) -> float:
        """Train on images `order` (a whole number of batches but for the epoch's last), one
        batch after another. `draw` seeds the adversarial starts. Returns the summed loss."""
        chosen = np.asarray(order)
        images = tf.constant(self._images[np.sort(chosen)][_ranks(chosen)])
        labels = tf.constant(self._labels[chosen])
        seed = tf.constant(draw, tf.int32)
        return float(self._run(images, labels, tf.constant(moves[chosen]), seed))

    def _steps(self, images: Any, labels: Any, moves: Any, seed: Any) -> Any:
        size = self._settings.batch_size
        count = tf.shape(labels)[0]
        total = tf.constant(0.0)
        shape = self._images.shape[1:]
        for start in tf.range(0, count, size):
            x = tf.ensure_shape(images[start : start + size], (None, *shape))
            y = labels[start : start + size]
            x = to_unit(x)
            padding = AUGMENTATIONS[self._settings.augmentation]
            if padding is not None:
                x = augment(x, moves[start : start + size], padding)
            step_seed = tf.stack([seed[0], seed[1] + start // size])
            total += self._one(x, y, step_seed)
        return total

    def _one(self, x: Any, y: Any, seed: Any) -> Any:
        adversarial = self._settings.adversarial
        attacked = x if adversarial is None else self._attack(x, y, seed)
        with tf.GradientTape() as tape:
            clean = cross_entropy(y, self._model(x, training=True))
            loss = tf.reduce_mean(clean)
            if adversarial is not None:
                hard = cross_entropy(y, self._model(attacked, training=True))
                loss = (1 - adversarial.mix) * loss + adversarial.mix * tf.reduce_mean(hard)
        gradients = tape.gradient(loss, self._model.trainable_variables)
        masked = [
            gradient if mask is None else gradient * mask
            for gradient, mask in zip(gradients, self._masks, strict=True)
        ]
        # Adam's moments of a pruned weight stay 0, so its update is exactly 0.
        self.optimizer.apply(masked, self._model.trainable_variables)
        return loss * tf.cast(tf.shape(y)[0], tf.float32)

    def _attack(self, x: Any, y: Any, seed: Any) -> Any:
        """PGD Linf from a random start (Madry et al. 2018), in inference mode."""
        how = self._settings.adversarial
        assert how is not None
        eps = how.eps
        start = tf.random.stateless_uniform(tf.shape(x), seed, -eps, eps)
        adversarial = tf.clip_by_value(x + start, 0.0, 1.0)
        for _ in range(how.steps):
            with tf.GradientTape() as tape:
                tape.watch(adversarial)
                loss = cross_entropy(y, self._model(adversarial, training=False))
            step = how.rel_stepsize * eps * tf.sign(tape.gradient(loss, adversarial))
            adversarial = tf.clip_by_value(adversarial + step, x - eps, x + eps)
            adversarial = tf.clip_by_value(adversarial, 0.0, 1.0)
        return tf.stop_gradient(adversarial)


def _ranks(order: np.ndarray) -> np.ndarray:
    """Where each of `order` stands in its sorted self: a memory map is read front to back."""
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[np.argsort(order, kind="stable")] = np.arange(len(order))
    return ranks


class Evaluator:
    """Loss and accuracy of one model on whole splits."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._run = tf.function(
            self._batch,
            input_signature=[
                tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def _batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        logits = self._model(to_unit(images), training=False)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels)
        loss = tf.reduce_sum(cross_entropy(labels, logits))
        return loss, tf.reduce_sum(tf.cast(right, tf.float32))

    def __call__(self, split: Split) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        loss = right = 0.0
        for start in range(0, len(split), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            batch = self._run(tf.constant(split.images[part]), tf.constant(split.labels[part]))
            loss += float(batch[0])
            right += float(batch[1])
        return loss / len(split), right / len(split)
