"""HYDRA's learned scores (Sehwag et al. 2020, "HYDRA: Pruning Adversarially Robust Neural
Networks"), written from the paper: weights stay as they are, and how much each matters is learned
by training on the network that the best scores leave."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from prunegrid.workers.pruning.scores import Scoring
from prunegrid.workers.user_options import Limits


def hydra(
    scoring: Scoring,
    *,
    batches: Annotated[int, Limits(minimum=1)] = 200,
    batch_size: Annotated[int, Limits(minimum=1)] = 64,
    learning_rate: Annotated[float, Limits(minimum=0)] = 0.05,
    eps: Annotated[float, Limits(minimum=0)] = 0.0,
) -> dict[str, np.ndarray]:
    """|score| of each weight after training. Scores start in proportion to their weights.

    batches: of training images that the scores learn from
    batch_size: images of each
    learning_rate: Adam's
    eps: of one step of FGSM on these images, so that what is kept is robust; 0: clean images
    """
    import keras
    import tensorflow as tf

    network = scoring.trained
    model = network.model
    masks = {name: tf.constant(mask, tf.float32) for name, mask in scoring.masks.items()}
    scores = {}
    for name, weights in scoring.weights.items():
        reach = np.sqrt(6 / np.prod(weights.shape[:-1])) / max(np.abs(weights).max(), 1e-12)
        scores[name] = tf.Variable(weights * reach, dtype=tf.float32)
    kept = {name: max(1, round(mask.size / scoring.rate)) for name, mask in scoring.masks.items()}
    place = {id(network.kernel(name)): name for name in scores}
    fixed = [variable.value for variable in model.non_trainable_variables]

    def logits(images: Any) -> Any:
        """Of the network that the best scores leave; the gradient passes as if all were left."""
        variables = []
        for variable in model.trainable_variables:
            name = place.get(id(variable))
            if name is None:
                variables.append(variable.value)
                continue
            size = tf.abs(scores[name]) * masks[name]
            best = tf.math.top_k(tf.reshape(size, [-1]), kept[name]).values[-1]
            hard = tf.cast(size >= best, tf.float32) * masks[name]
            through = hard + scores[name] - tf.stop_gradient(scores[name])
            variables.append(variable.value * through)
        return model.stateless_call(variables, fixed, images, training=False)[0]

    def loss_of(images: Any, labels: Any) -> Any:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits(images))
        return tf.reduce_mean(losses)

    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(list(scores.values()))

    @tf.function(reduce_retracing=True)
    def step(images: Any, labels: Any) -> None:
        if eps:
            with tf.GradientTape() as tape:
                tape.watch(images)
                loss = loss_of(images, labels)
            images = tf.clip_by_value(images + eps * tf.sign(tape.gradient(loss, images)), 0.0, 1.0)
        with tf.GradientTape() as tape:
            loss = loss_of(images, labels)
        optimizer.apply(tape.gradient(loss, list(scores.values())), list(scores.values()))

    for images, labels in network.batches(batches, batch_size):
        step(tf.constant(images), tf.constant(labels))
    return {name: np.abs(score.numpy()) for name, score in scores.items()}
