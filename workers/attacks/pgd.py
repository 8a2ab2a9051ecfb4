"""Projected gradient descent in the L-infinity norm.

Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2:
ascend the cross-entropy by signed steps, project on the eps-ball, clip to the box.
Foolbox 3.3.4: LinfProjectedGradientDescentAttack, with `repeat` for restarts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import Batch, Found, Job, row_norms
from prunegrid.workers.attacks.draws import FoolboxDraws, uniform
from prunegrid.workers.attacks.network import Network, at, best_other
from prunegrid.workers.attacks.pace import Pace
from prunegrid.workers.keys import Scalar

#: Steps between two looks of `strict`, which drops broken images from its batches there.
CHUNK = 10
#: First steps of `strict`, in eps; where the grid asks for larger ones it gets them.
FIRST_SIZES = (0.5, 0.5, 0.25, 0.25, 0.125, 0.125)
#: `strict` lets an image go after so many looks without a loss that is larger by GROWTH.
SETTLED = 5
GROWTH = 1e-3
#: ... but never one whose margin has fallen below this part of where it started.
CLOSE = 0.3


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
        pace = Pace(first=2 * CHUNK)
        draws = FoolboxDraws(job.seed, job.stream)
        for restart in range(self.restarts):
            for k, eps in enumerate(job.eps):
                x = x0
                if self.random_start:
                    x = x0 + draws.uniform(x0.shape, -eps, eps)
                    x = tf.clip_by_value(x, 0.0, 1.0)
                step = np.float32(self.rel_stepsize * eps)
                done = 0
                while done < self.steps:
                    with pace:
                        count = min(pace.count, self.steps - done)
                        x, changed = advance(x, x0, labels, np.float32(eps), step, np.int32(count))
                        if done == 0 and restart == 0:
                            # The second step's own look tells what the first one did.
                            one = changed if count > 1 else predict(x) != labels
                            first[k] = one.numpy()
                        pace.did(count)
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
        """An image leaves as soon as it is broken, or once its loss has stopped growing.

        The first steps are large, half of eps and less, and end at the step size asked for: the
        far side of the ball is reached in a few steps instead of 1 / rel_stepsize.
        """
        found: list[Found] = []
        for k, eps in enumerate(job.eps):
            n = len(batch)
            images, claimed = batch.images.copy(), np.zeros(n, bool)
            first, queries = np.zeros(n, bool), np.zeros(n, np.int64)
            if self.nested and found:
                images, claimed = found[-1].images.copy(), found[-1].claimed.copy()
            for restart in range(self.restarts):
                job.ticker.share_of(k * self.restarts + restart, len(job.eps) * self.restarts)
                rows = np.flatnonzero(~claimed)
                if not len(rows):
                    break
                out = self._climb(network, batch.take(rows), job, eps, restart)
                queries[rows] += out.queries
                hit = rows[out.claimed]
                images[hit], claimed[hit] = out.images[out.claimed], True
                if restart == 0 and out.first_step is not None:
                    first[rows] = out.first_step
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

    def _climb(self, network: Network, batch: Batch, job: Job, eps: float, restart: int) -> Found:
        """One start at one eps."""
        n = len(batch)
        advance = _checked_stepper(network)
        x = batch.images.copy()
        if self.random_start:
            for i in range(n):
                noise = uniform(x[i].shape, job.seed, int(batch.indices[i]), float(eps), restart)
                x[i] = np.clip(x[i] + np.float32(eps) * noise, 0.0, 1.0)
        labels = batch.labels.astype(np.int32)
        sizes = [max(self.rel_stepsize, big) for big in FIRST_SIZES][: self.steps]
        sizes += [self.rel_stepsize] * (self.steps - len(sizes))
        steps = (np.array([*sizes, 0.0]) * eps).astype(np.float32)  # the last look makes no step
        broken, first = np.zeros(n, bool), np.zeros(n, bool)
        best = np.full(n, -np.inf, np.float32)
        margins = np.full((n, 2), np.inf, np.float32)  # at the start, and the lowest since
        # Large steps overshoot: only the small ones that follow may settle an image.
        since = np.full(n, -len(FIRST_SIZES), np.int32)
        passes = np.zeros(n, np.int32)
        done = 0
        active = np.arange(n)
        while len(active) and done < len(steps):
            part = steps[done : done + (2 if done == 0 else CHUNK)]
            for rows, padded in job.lanes.pieces(active):
                with job.lanes.attempt():
                    out = advance(
                        x[padded], batch.images[padded], labels[padded], np.float32(eps), part,
                        best[padded], since[padded], margins[padded],
                    )  # fmt: skip
                    values = [t.numpy()[: len(rows)] for t in out]
                    x[rows], broken[rows], best[rows], since[rows], margins[rows] = values[:5]
                    passes[rows] += values[5]
                job.ticker.tick(done / len(steps), f"PGD eps {eps:.4g}")
            if done == 0:
                first = broken.copy()
            done += len(part)
            settled = (since >= SETTLED) & (margins[:, 1] >= CLOSE * margins[:, 0])
            active = active[~broken[active] & ~settled[active]]
        return Found(
            images=x,
            claimed=broken,
            distance=np.where(broken, row_norms(x - batch.images, "linf"), np.inf),
            queries=passes.astype(np.int64),
            first_step=first,
        )


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
    return lambda x: tf.argmax(network.scores(x), axis=-1, output_type=tf.int32)


def _gradient(
    network: Network, x: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores [n, classes], cross-entropy [n], and its gradient."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = network.scores(x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        loss = tf.reduce_sum(losses)
    return scores, losses, tape.gradient(loss, x)


def _stepper(network: Network):  # type: ignore[no-untyped-def]
    def advance(x, x0, labels, eps, step, count):  # type: ignore[no-untyped-def]
        second = tf.zeros_like(labels, tf.bool)  # class changed, as the second step sees it
        for i in tf.range(count):
            scores, _, gradient = _gradient(network, x, labels)
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


def _checked_stepper(network: Network):  # type: ignore[no-untyped-def]
    """A look before each of `steps`; a broken image stays as it was when it broke, and one
    whose loss has not grown for SETTLED looks stays as well.

    Returns (x, broken, best loss, looks since it grew, margins, looks made now).
    """

    def advance(x, x0, labels, eps, steps, best, since, margins):  # type: ignore[no-untyped-def]
        broken = tf.zeros_like(labels, tf.bool)
        passes = tf.zeros_like(labels)
        start, low = margins[:, 0], margins[:, 1]
        live = ~broken
        for i in tf.range(tf.shape(steps)[0]):
            if not tf.reduce_any(live):
                break
            scores, loss, gradient = _gradient(network, x, labels)
            passes += tf.cast(live, tf.int32)
            changed = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
            broken |= live & changed
            margin = at(scores, labels) - at(scores, best_other(scores, labels))
            start = tf.where(tf.math.is_inf(start), margin, start)
            low = tf.where(live, tf.minimum(low, margin), low)
            grown = loss > best + GROWTH * tf.abs(best)
            since = tf.where(live, tf.where(grown, tf.minimum(since + 1, 0), since + 1), since)
            best = tf.where(live & grown, loss, best)
            live &= ~changed & ((since < SETTLED) | (low < CLOSE * start))
            moved = x + steps[i] * tf.sign(gradient)
            moved = x0 + tf.clip_by_value(moved - x0, -eps, eps)
            moved = tf.clip_by_value(moved, 0.0, 1.0)
            x = tf.where(live[:, None, None, None], moved, x)
        return x, broken, best, since, tf.stack([start, low], axis=1), passes

    image, row = network.image_spec(), tf.TensorSpec((None,), tf.float32)
    whole = tf.TensorSpec((None,), tf.int32)
    pairs = tf.TensorSpec((None, 2), tf.float32)
    signature = [image, image, whole, tf.TensorSpec((), tf.float32), row, row, whole, pairs]
    return network.compiled(("pgd-checked", SETTLED, GROWTH, CLOSE), advance, signature)
