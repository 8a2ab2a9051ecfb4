"""Projected gradient descent in the L-infinity norm.

Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2:
ascend the cross-entropy by signed steps, project on the eps-ball, clip to the box.
Foolbox 3.3.4: LinfProjectedGradientDescentAttack, with `repeat` for restarts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from workers.attacks.base import Batch, Found, Job, row_norms
from workers.attacks.draws import seeded_foolbox, uniform
from workers.attacks.network import Network, micro_batches
from workers.keys import Scalar

#: Steps between two looks at the clock; strict drops broken images from its batches there.
CHUNK = 10


class PGDLinf:
    def __init__(self, options: Mapping[str, Scalar]) -> None:
        self.steps = int(options["steps"] or 0)
        self.rel_stepsize = float(options["rel_stepsize"] or 0.0)
        self.random_start = bool(options["random_start"])
        self.restarts = int(options["restarts"] or 1)
        self.nested = bool(options["nested"])

    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """One draw per restart and eps, in that order; the last iterate counts."""
        n = len(batch)
        x0 = tf.constant(batch.images)
        labels = tf.constant(batch.labels.astype(np.int32))
        advance = _stepper(network)
        predict = network.compiled(("predict",), _predictor(network), [network.image_spec()])
        best: list[np.ndarray | None] = [None] * len(job.eps)
        broken = np.zeros((len(job.eps), n), bool)
        first = np.zeros((len(job.eps), n), bool)
        rounds = self.restarts * len(job.eps)
        with seeded_foolbox(job.seed, job.stream):
            for restart in range(self.restarts):
                for k, eps in enumerate(job.eps):
                    x = x0
                    if self.random_start:
                        x = x0 + tf.random.uniform(x0.shape, -eps, eps, x0.dtype)
                        x = tf.clip_by_value(x, 0.0, 1.0)
                    step = np.float32(self.rel_stepsize * eps)
                    done = 0
                    while done < self.steps:
                        count = 1 if done == 0 else min(CHUNK, self.steps - done)
                        x = advance(x, x0, labels, np.float32(eps), step, np.int32(count))
                        if done == 0 and restart == 0:
                            first[k] = predict(x).numpy() != batch.labels
                        done += count
                        at = restart * len(job.eps) + k + done / self.steps
                        job.ticker.tick(at / rounds, f"PGD eps {eps:.4g}")
                    # Foolbox clips the perturbation once more before it looks at the class.
                    clipped = x0 + tf.clip_by_value(x - x0, -np.float32(eps), np.float32(eps))
                    adversarial = predict(clipped).numpy() != batch.labels
                    fresh = adversarial & ~broken[k]
                    kept = best[k]
                    if kept is None:
                        best[k] = clipped.numpy()
                    elif fresh.any():
                        best[k] = np.where(fresh[:, None, None, None], clipped.numpy(), kept)
                    broken[k] |= adversarial
        queries = np.full(n, self.restarts * (self.steps + 1) + 1, np.int64)
        found = []
        for k in range(len(job.eps)):
            images = best[k]
            assert images is not None
            norms = row_norms(images - batch.images, "linf")
            distance = np.where(broken[k], norms, np.inf)
            found.append(
                Found(
                    images=images,
                    claimed=broken[k].copy(),
                    distance=distance,
                    queries=queries,
                    first_step=first[k],
                )
            )
        return nest(found) if self.nested else tuple(found)

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """An image leaves as soon as it is broken."""
        n = len(batch)
        advance = _checked_stepper(network)
        found: list[Found] = []
        for k, eps in enumerate(job.eps):
            images = batch.images.copy()
            claimed = np.zeros(n, bool)
            first = np.zeros(n, bool)
            queries = np.zeros(n, np.int64)
            if self.nested and found:
                images = found[-1].images.copy()
                claimed = found[-1].claimed.copy()
            for restart in range(self.restarts):
                active = np.flatnonzero(~claimed)
                if not len(active):
                    break
                x = batch.images.copy()
                if self.random_start:
                    for i in active:
                        noise = uniform(
                            x[i].shape, job.seed, int(batch.indices[i]), float(eps), restart
                        )
                        x[i] = np.clip(x[i] + np.float32(eps) * noise, 0.0, 1.0)
                done = 0
                while len(active) and done <= self.steps:
                    # Every step looks at the image first, so the last pass is a look alone.
                    count = min(CHUNK, self.steps + 1 - done)
                    for rows, padded in micro_batches(active, job.micro_batch):
                        out = advance(
                            x[padded],
                            batch.images[padded],
                            batch.labels[padded].astype(np.int32),
                            np.float32(eps),
                            np.float32(self.rel_stepsize * eps),
                            np.int32(count),
                            np.int32(self.steps - done),
                        )
                        moved, broke, passes = (t.numpy()[: len(rows)] for t in out)
                        x[rows] = moved
                        queries[rows] += passes
                        hit = rows[broke]
                        images[hit] = moved[broke]
                        claimed[hit] = True
                        if restart == 0:
                            first[hit] = done + passes[broke] <= 2
                    done += count
                    active = active[~claimed[active]]
                    total = self.restarts * len(job.eps)
                    at = k * self.restarts + restart + done / (self.steps + 1)
                    job.ticker.tick(at / total, f"PGD eps {eps:.4g}")
            norms = row_norms(images - batch.images, "linf")
            found.append(
                Found(
                    images=images,
                    claimed=claimed,
                    distance=np.where(claimed, norms, np.inf),
                    queries=queries,
                    first_step=first,
                )
            )
        return tuple(found)


def nest(found: list[Found]) -> tuple[Found, ...]:
    """An image broken at a smaller eps stays broken at the larger ones."""
    out = found[:1]
    for item in found[1:]:
        before = out[-1]
        keep = before.claimed
        out.append(
            Found(
                images=np.where(keep[:, None, None, None], before.images, item.images),
                claimed=keep | item.claimed,
                distance=np.where(keep, before.distance, item.distance),
                queries=item.queries,
                first_step=item.first_step,
            )
        )
    return tuple(out)


def _predictor(network: Network):  # type: ignore[no-untyped-def]
    return lambda x: tf.argmax(network.scores(x), axis=-1)


def _gradient(network: Network, x: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = network.scores(x)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
    return scores, tape.gradient(loss, x)


def _stepper(network: Network):  # type: ignore[no-untyped-def]
    def advance(x, x0, labels, eps, step, count):  # type: ignore[no-untyped-def]
        for _ in tf.range(count):
            _, gradient = _gradient(network, x, labels)
            x = x + step * tf.sign(gradient)
            x = x0 + tf.clip_by_value(x - x0, -eps, eps)
            x = tf.clip_by_value(x, 0.0, 1.0)
        return x

    image, scalar = network.image_spec(), tf.TensorSpec((), tf.float32)
    signature = [
        image, image, tf.TensorSpec((None,), tf.int32), scalar, scalar, tf.TensorSpec((), tf.int32)
    ]  # fmt: skip
    return network.compiled(("pgd",), advance, signature)


def _checked_stepper(network: Network):  # type: ignore[no-untyped-def]
    """Like `_stepper`, but a broken image stays as it was when it broke.

    `count` looks, of which the first `moves` are followed by a step.
    """

    def advance(x, x0, labels, eps, step, count, moves):  # type: ignore[no-untyped-def]
        broken = tf.zeros_like(labels, tf.bool)
        passes = tf.zeros_like(labels, tf.int32)
        for i in tf.range(count):
            if tf.reduce_all(broken):
                break
            scores, gradient = _gradient(network, x, labels)
            passes += tf.cast(~broken, tf.int32)
            broken |= tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
            moved = x + step * tf.sign(gradient)
            moved = x0 + tf.clip_by_value(moved - x0, -eps, eps)
            moved = tf.clip_by_value(moved, 0.0, 1.0)
            still = broken | (i >= moves)
            x = tf.where(still[:, None, None, None], x, moved)
        return x, broken, passes

    image, scalar = network.image_spec(), tf.TensorSpec((), tf.float32)
    whole = tf.TensorSpec((), tf.int32)
    signature = [image, image, tf.TensorSpec((None,), tf.int32), scalar, scalar, whole, whole]
    return network.compiled(("pgd-checked",), advance, signature)
