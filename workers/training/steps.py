"""The compiled inner loops: many training steps per call, and evaluation.

Dispatching operations from Python is what limits small networks, so here Python is entered once
per chunk of steps. The arithmetic does not depend on how steps are chunked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from prunegrid.workers.contract import AdversarialTraining, TrainingSettings
from prunegrid.workers.data.base import ImageSplit
from prunegrid.workers.models.kernels import kernel_paths, variables
from prunegrid.workers.training.augmentations import augment
from prunegrid.workers.training.batches import Source

EVALUATION_BATCH = 250
_DRAWS_PER_STEP = 1024  #: of one layer, at most: a call counts its generator up


def to_unit(images: Any) -> Any:
    """uint8 pixels to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Per image [n], from labels [n] and logits [n, classes]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def attack_batch(model: keras.Model, x: Any, y: Any, seed: Any, how: AdversarialTraining) -> Any:
    """PGD Linf from a random start (Madry et al. 2018), in inference mode. `seed`: int32 [2]."""
    eps = how.eps
    start = tf.random.stateless_uniform(tf.shape(x), seed, -eps, eps)
    adversarial = tf.clip_by_value(x + start, 0.0, 1.0)
    for _ in range(how.steps):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adversarial)
            loss = cross_entropy(y, model(adversarial, training=False))
        step = how.rel_stepsize * eps * tf.sign(tape.gradient(loss, adversarial))
        adversarial = tf.clip_by_value(adversarial + step, x - eps, x + eps)
        adversarial = tf.clip_by_value(adversarial, 0.0, 1.0)
    return tf.stop_gradient(adversarial)


class Epoch(NamedTuple):
    """What is drawn for one epoch of n images, as tensors."""

    order: Any  #: int32 [n]: indices into the training split
    labels: Any  #: int32 [n], in that order
    moves: Any  #: int32 [n, 3], in that order: see `augmentations.draw_moves`
    seed: Any  #: int32, of the adversarial starts


class Stepper:
    """Training steps of one model; `reset` makes it as new for another stage of training."""

    def __init__(
        self,
        model: keras.Model,
        batch_size: int,
        augmentation: str,
        adversarial: AdversarialTraining | None,
    ) -> None:
        self._model = model
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._adversarial = adversarial
        self.optimizer = keras.optimizers.Adam()
        self.optimizer.build(model.trainable_variables)
        names = {id(variable): name for name, variable in variables(model).items()}
        kernels = kernel_paths(model)
        #: Of layers that are not trained: their pruned weights stay 0 by themselves.
        self._frozen = kernels - {names[id(variable)] for variable in model.trainable_variables}
        self._draws = [v for v in model.variables if "seed_generator" in v.path]
        #: None for biases and batch norm, which no method prunes.
        self._masks: dict[str, tf.Variable | None] = {}
        for variable in model.trainable_variables:
            name = names[id(variable)]
            mask = tf.Variable(tf.ones(variable.shape, tf.bool), trainable=False)
            self._masks[name] = mask if name in kernels else None
        self._compiled: dict[type, Any] = {}  # tf.function by kind of source

    def reset(self, masks: Mapping[str, np.ndarray]) -> None:
        """A fresh optimizer; `masks` by kernel, as named in `workers.models.base.variables`.

        Raises ValueError for a mask without a kernel, or of another shape.
        """
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        trained = masks.keys() - self._frozen
        if unknown := sorted(name for name in trained if self._masks.get(name) is None):
            raise ValueError(f"masks: expected names of kernels, got {unknown}")
        for name, variable in self._masks.items():
            if variable is not None:
                everything = np.ones(tuple(variable.shape), dtype=bool)
                variable.assign(masks.get(name, everything))

    def run(
        self,
        source: Source,
        cursor: Any,
        epoch: Epoch,
        first: int,
        last: int,
        learning_rate: float,
    ) -> np.ndarray:
        """Steps first..last (exclusive) of an epoch; returns the mean loss of each, float32.

        `cursor`: what `source.epoch` returned. Stops after a step whose loss is not finite, so
        that the weights then do not depend on how the steps are chunked.
        """
        self.optimizer.learning_rate.assign(learning_rate)
        kind = type(source)
        if kind not in self._compiled:
            self._compiled[kind] = tf.function(functools.partial(self._steps, source.batch))
        losses = self._compiled[kind](cursor, epoch, tf.constant(first), tf.constant(last))
        return np.asarray(losses)

    def _steps(
        self,
        batch: Callable[[Any, Any], Any],
        cursor: Any,
        epoch: Epoch,
        first: Any,
        last: Any,
    ) -> Any:
        losses = tf.TensorArray(tf.float32, size=0, dynamic_size=True, element_shape=())
        shape = (None, *self._model.input_shape[1:])
        for step in tf.range(first, last):
            start = step * self._batch_size
            stop = start + self._batch_size
            x = tf.ensure_shape(batch(cursor, epoch.order[start:stop]), shape)
            x = to_unit(augment(x, epoch.moves[start:stop], self._augmentation))
            loss = self._one(x, epoch.labels[start:stop], tf.stack([epoch.seed, step]))
            losses = losses.write(step - first, loss)
            if not tf.math.is_finite(loss):
                break
        return losses.stack()

    def _one(self, x: Any, y: Any, seed: Any) -> Any:
        how = self._adversarial
        self._set_draws(seed)
        attacked = x if how is None else attack_batch(self._model, x, y, seed, how)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(y, self._model(x, training=True)))
            if how is not None:
                hard = cross_entropy(y, self._model(attacked, training=True))
                loss = (1 - how.mix) * loss + how.mix * tf.reduce_mean(hard)
            if self._model.losses:  # a user's layers may penalise their weights
                loss += tf.add_n(self._model.losses)
        gradients = tape.gradient(loss, self._model.trainable_variables)
        # Adam's moments of a pruned weight stay 0, so its update is exactly 0. Not a product with
        # the mask: NaN times 0 is NaN, and a diverged network's pruned weights must be 0 as well.
        masked = [
            gradient if mask is None or gradient is None else tf.where(mask, gradient, 0.0)
            for gradient, mask in zip(gradients, self._masks.values(), strict=True)
        ]
        self.optimizer.apply(masked, self._model.trainable_variables)
        return loss

    def _set_draws(self, seed: Any) -> None:
        """Dropout and its like draw by the epoch and the step alone, wherever training resumes."""
        for number, state in enumerate(self._draws):
            mixed = tf.stack([seed[0] + 1_000_003 * number, seed[1] * _DRAWS_PER_STEP])
            state.assign(tf.cast(mixed, state.dtype))


@functools.lru_cache(maxsize=4)
def _stepper(
    model: keras.Model, batch_size: int, augmentation: str, how: AdversarialTraining | None
) -> Stepper:
    return Stepper(model, batch_size, augmentation, how)


def stepper_for(model: keras.Model, settings: TrainingSettings) -> Stepper:
    """Compiled once per model object and kind of step; a chain's next stage uses it again."""
    return _stepper(model, settings.batch_size, settings.augmentation, settings.adversarial)


class Evaluator:
    """Loss and accuracy of one model on whole splits."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)
        labels = tf.TensorSpec((None,), tf.int32)
        self._run = tf.function(self._batch, input_signature=(images, labels))

    def _batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        logits = self._model(to_unit(images), training=False)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels)
        loss = tf.reduce_sum(cross_entropy(labels, logits))
        return loss, tf.reduce_sum(tf.cast(right, tf.float32))

    def __call__(
        self, split: ImageSplit, tick: Callable[[], None] = lambda: None
    ) -> tuple[float, float]:
        """(mean loss, accuracy). `tick` is called after each batch. The accuracy is NaN where the
        loss is not finite: argmax takes NaN for class 0."""
        loss = right = 0.0
        for start in range(0, len(split), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            batch = self._run(tf.constant(split.images[part]), tf.constant(split.labels[part]))
            loss += float(batch[0])
            right += float(batch[1])
            tick()
        return loss / len(split), right / len(split) if math.isfinite(loss) else math.nan


@functools.lru_cache(maxsize=4)
def evaluator_for(model: keras.Model) -> Evaluator:
    """Compiled once per model object."""
    return Evaluator(model)
