"""Brendel & Bethge's attack in the L0 norm: follow the decision boundary to the nearest point.

Brendel et al. 2019, "Accurate, reliable and fast robustness evaluation", sections 2 and 3.
Foolbox 3.3.4: L0BrendelBethgeAttack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import Batch, Found, Job, row_norms
from prunegrid.workers.attacks.boundary_exchange import Memory, exchange_elements, look_at
from prunegrid.workers.attacks.boundary_step import l0_steps
from prunegrid.workers.attacks.draws import FoolboxDraws
from prunegrid.workers.attacks.network import Network
from prunegrid.workers.attacks.starts import dataset_starts, nearest_starts
from prunegrid.workers.keys import Scalar

#: `strict` starts from so many images, each of another class where there are such.
STARTS = 7
#: ... and halves the way to the boundary so many times; 9 would tell all 256 grey levels apart.
BISECTIONS = 4
#: `strict` leaves a start after so many steps without a smaller norm.
PATIENCE = 4
#: `strict` goes on from so many of what its starts led to, the nearest first, and gives each but
#: the last this part of the passes that are left.
LEADS = 4
LEAD_SHARE = 0.35
#: Passes of an image at most: a third of Foolbox's with 30 searches and 500 steps, 533.
MOST_PASSES = 177
#: Of these, made outside: clean prediction, starts, second look.
CHECKS = 3


class BrendelBethgeL0:
    def __init__(self, options: Mapping[str, Scalar]) -> None:
        self.searches = int(options["binary_search_steps"] or 0)
        self.steps = int(options["steps"] or 0)
        self.lr = float(options["lr"] or 0.0)
        self.lr_decay = float(options["lr_decay"] or 0.0)
        self.lr_num_decay = int(options["lr_num_decay"] or 1)
        self.momentum = float(options["momentum"] or 0.0)
        self.overshoot = float(options["overshoot"] or 0.0)
        self.interval = max(1, int(self.steps / self.lr_num_decay))

    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """All images go through the steps together.

        Foolbox gives up a batch in which one image has no start; here that image alone is lost.
        """
        shuffle = FoolboxDraws(job.seed, job.stream).shuffle
        starts, started = dataset_starts(network, batch, job, shuffle)
        keep = np.flatnonzero(started)
        n = len(batch)
        images = batch.images.copy()
        passes = 1
        if len(keep):
            part = batch.take(keep)
            images[keep], passes = self._follow(network, part, starts[keep], job)
        distance = np.full(n, np.inf)
        distance[keep] = row_norms(images[keep] - batch.images[keep], "l0")
        queries = np.full(n, passes, np.int64)
        return (Found(images=images, claimed=started, distance=distance, queries=queries),)

    def _follow(
        self, network: Network, batch: Batch, starts: np.ndarray, job: Job
    ) -> tuple[np.ndarray, int]:
        """Best adversarials [n, h, w, c] and the passes made of each image."""
        n = len(batch)
        x0, labels = batch.images, tf.constant(batch.labels.astype(np.int32))
        flat0 = x0.reshape(n, -1)
        look = network.margin_and_gradient()
        x, looks = (t.numpy() for t in _bisector(network, self.searches)(x0, starts, labels))
        best = starts.copy()
        best_norm = row_norms(x0 - best, "l0_loose")
        boundary = np.zeros_like(x0.reshape(n, -1))
        lr = self.lr
        for step in range(1, self.steps + 1):
            margin, slopes = (t.numpy() for t in look(tf.constant(x), labels))
            norm = row_norms(x0 - x, "l0_loose")
            closer = (norm < best_norm) & (margin < 0)
            best[closer], best_norm[closer] = x[closer], norm[closer]
            now = slopes.reshape(n, -1)
            boundary = now if step == 1 else (1 - self.momentum) * now + self.momentum * boundary
            if (step + 1) % self.interval == 0:
                lr *= self.lr_decay
            here = x.reshape(n, -1)
            # The trust region grows with the batch: its radius is scaled by all its elements.
            radius = np.full(n, lr * float(x0.size))
            deltas = l0_steps(flat0, here, boundary, self._target(margin), radius)
            x = (here + deltas.astype(np.float32)).reshape(x0.shape)
            job.ticker.tick(step / self.steps, f"B&B step {step} of {self.steps}")
        return best, int(looks) + self.steps + 3

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """From several starts to the boundary and along it, each image until it has settled;
        then the nearest of what was found goes on by exchanges of single elements.

        An image's radius is that of one micro-batch. It never takes more passes than Foolbox
        would with the same options, nor more than a third of Foolbox's with the paper's.
        """
        n, every = len(batch), nearest_starts(network, batch, job, count=STARTS)
        most = min(MOST_PASSES, self.searches + self.steps + 3) - CHECKS
        found = np.repeat(batch.images[None], STARTS, axis=0)
        norms = np.full((STARTS, n), np.inf)
        passes = np.zeros(n, np.int64)
        for number, (starts, started) in enumerate(every):
            # Where the first takes long, little is left for others.
            limit = (most - passes) // 2
            keep = np.flatnonzero(started & ((limit > BISECTIONS) | (number == 0)))
            if not len(keep):
                continue
            job.ticker.share_of(number, STARTS + 1)
            part = batch.take(keep)
            ours, more = self._follow_each(network, part, starts[keep], limit[keep], job)
            passes[keep] += more
            found[number, keep] = ours
            norms[number, keep] = row_norms(ours - part.images, "l0")
        job.ticker.share_of(STARTS, STARTS + 1)
        images, distance = batch.images.copy(), np.full(n, np.inf)
        memory = Memory(n, batch.images[0].size, MOST_PASSES)
        ranks, rows = np.argsort(norms, axis=0, kind="stable"), np.arange(n)
        for lead in range(LEADS):
            chosen = ranks[lead]
            keep = np.flatnonzero(np.isfinite(norms[chosen, rows]))
            if not len(keep):
                continue
            left = np.maximum(most - passes[keep], 0)
            limit = left if lead == LEADS - 1 else (left * LEAD_SHARE).astype(np.int64)
            part = batch.take(keep)
            start = found[chosen, rows][keep]
            ours, more = exchange_elements(network, part, start, limit, memory, keep, job)
            passes[keep] += more
            norm = row_norms(ours - part.images, "l0")
            closer = norm < distance[keep]
            images[keep[closer]], distance[keep[closer]] = ours[closer], norm[closer]
        claimed = np.isfinite(distance)
        return (Found(images=images, claimed=claimed, distance=distance, queries=passes + 1),)

    def _follow_each(
        self, network: Network, batch: Batch, starts: np.ndarray, most: np.ndarray, job: Job
    ) -> tuple[np.ndarray, np.ndarray]:
        """`most`: int [n], passes that an image may take.

        Returns the best adversarials [n, h, w, c] and the passes made of each image, [n].
        """
        n, lanes = len(batch), job.lanes
        x0, labels = batch.images, batch.labels.astype(np.int32)
        flat0 = x0.reshape(n, -1)
        searches = min(self.searches, BISECTIONS)
        bisect, look = _bisector(network, searches), network.margin_and_gradient()
        x = np.empty_like(x0)
        for rows, padded in lanes.pieces(np.arange(n)):
            with lanes.attempt():
                out, _ = bisect(x0[padded], starts[padded], labels[padded])
                x[rows] = out.numpy()[: len(rows)]
        passes = np.full(n, searches, np.int64)
        best = starts.copy()
        best_norm = row_norms(x0 - best, "l0_loose")
        since = np.zeros(n, np.int64)
        boundary = np.zeros_like(x0.reshape(n, -1))
        active = np.flatnonzero(passes < most)
        lr = self.lr
        for step in range(1, self.steps + 1):
            if not len(active):
                break
            if (step + 1) % self.interval == 0:
                lr *= self.lr_decay
            margin, slopes = look_at(look, x, labels, active, job)
            gradient = slopes.reshape(len(active), -1)
            norm = row_norms(x0[active] - x[active], "l0_loose")
            closer = (norm < best_norm[active]) & (margin < 0)
            hit = active[closer]
            best[hit], best_norm[hit] = x[hit], norm[closer]
            since[active] = np.where(closer, 0, since[active] + 1)
            if step > 1:
                gradient = (1 - self.momentum) * gradient + self.momentum * boundary[active]
            boundary[active] = gradient
            here = x[active].reshape(len(active), -1)
            radius = np.full(len(active), lr * x0[0].size * lanes.nominal)
            delta = l0_steps(flat0[active], here, gradient, self._target(margin), radius)
            x[active] = (here + delta.astype(np.float32)).reshape(-1, *x0.shape[1:])
            passes[active] += 1
            active = active[(since[active] < PATIENCE) & (passes[active] < most[active])]
            job.ticker.tick(step / self.steps, f"B&B step {step}, {len(active)} images at work")
        return best, passes

    # ------------------------------------------------------------------ for both

    def _target(self, margin: np.ndarray) -> np.ndarray:
        """The change of the margin that a step is to make: slightly over the boundary."""
        return np.where(margin > 0, -self.overshoot * margin, -(2 - self.overshoot) * margin)


def _bisector(network: Network, searches: int) -> Callable[..., Any]:
    """Down to the boundary: pixels that differ by less than a threshold come from the start.

    A search whose images are all such as an end of their interval already is needs no look at
    the network: 256 grey levels take about nine looks, however many searches there are. Returns
    images, and the looks made.
    """

    def bisect(x0, x1, labels):  # type: ignore[no-untyped-def]
        gap = tf.abs(x1 - x0)
        lower = tf.zeros_like(labels, tf.float32)
        upper = tf.ones_like(lower)
        seen = tf.zeros_like(labels, tf.bool)  #: whether the lower end was ever looked at
        looks = tf.constant(0)

        def inside(share):  # type: ignore[no-untyped-def]
            return gap < share[:, None, None, None]

        def same(one, other):  # type: ignore[no-untyped-def]
            return tf.reduce_all(tf.reshape(one == other, (tf.shape(one)[0], -1)), axis=1)

        for _ in tf.range(searches):
            middle = (lower + upper) / 2
            taken = inside(middle)
            # The upper end is adversarial by a look only once it has come down from 1.
            as_upper = same(taken, inside(upper)) & (upper < 1)
            known = as_upper | (same(taken, inside(lower)) & seen)
            adversarial = as_upper
            if not tf.reduce_all(known):
                scores = network.scores(tf.where(taken, x1, x0))
                adversarial = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
                looks += 1
            seen |= ~adversarial
            lower = tf.where(adversarial, lower, middle)
            upper = tf.where(adversarial, middle, upper)
        return tf.where(inside(upper), x1, x0), looks

    image = network.image_spec()
    signature = [image, image, tf.TensorSpec((None,), tf.int32)]
    return network.compiled(("bb-bisect", searches), bisect, signature)
