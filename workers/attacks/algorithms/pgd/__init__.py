"""Projected gradient descent in the L-infinity norm.

Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2:
ascend the cross-entropy by signed steps, project on the eps-ball, clip to the box.
Foolbox 3.3.4: LinfProjectedGradientDescentAttack, with `repeat` for restarts.

`pgd_linf` is that, and stops an image that is broken. `pgd_coarse_linf` also begins with large
steps, and stops an image whose loss no longer grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Results,
    measured,
    nest,
)
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real, switch
from prunegrid.workers.attacks.runtime.draws import FoolboxDraws, uniform
from prunegrid.workers.attacks.runtime.heartbeats import AdaptiveSteps

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Steps of `strict` in one compiled call; broken images leave its batches after each.
CHUNK = 10
#: First steps of `pgd_coarse_linf`, in eps; where the grid asks for larger ones it gets them.
FIRST_SIZES = (0.5, 0.5, 0.25, 0.25, 0.125, 0.125)
#: It stops an image after this many queries without a loss that is larger by GROWTH...
SETTLED = 5
GROWTH = 1e-3
#: ... but never one whose margin has fallen below this part of where it started.
CLOSE = 0.3


@dataclass(frozen=True, kw_only=True)
class ImagePGD(Attack):
    """PGD of each image for itself, with the sizes of its steps and the rule by which it settles
    left open. The defaults are the paper's settings."""

    steps: int = count(40, "steps of each start", search=(5, 10_000), spends="steps")
    rel_stepsize: float = real(0.01 / 0.3, "step size, in eps", search=(3e-3, 1.0))
    random_start: bool = switch(True, "start at a random point of the eps-ball")
    restarts: int = count(1, "random starts", search=(1, 20), spends="rounds")
    nested: bool = switch(False, "what breaks at one eps counts as broken at larger ones")

    #: First steps, in eps; those after them are of the size asked for.
    first_sizes: ClassVar[tuple[float, ...]] = ()
    #: Queries without a larger loss after which an image leaves; None: it stays.
    settled: ClassVar[int | None] = None

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """An image leaves as soon as it is broken."""
        found: list[AttackResult] = []
        for k, eps in enumerate(context.eps):
            n = len(batch)
            images, claimed = batch.images.copy(), np.zeros(n, bool)
            first, passes = np.zeros(n, bool), np.zeros((3, n), np.int64)
            if self.nested and found:
                images, claimed = found[-1].images.copy(), found[-1].claimed.copy()
            for restart in range(self.restarts):
                context.ticker.share_of(
                    k * self.restarts + restart, len(context.eps) * self.restarts
                )
                rows = np.flatnonzero(~claimed)
                if not len(rows):
                    break
                out = self._climb(network, batch.take(rows), context, eps, restart)
                for total, more in zip(passes, (out.queries, out.backward, out.flat), strict=True):
                    total[rows] += 0 if more is None else more
                hit = rows[out.claimed]
                images[hit], claimed[hit] = out.images[out.claimed], True
                if restart == 0 and out.first_step is not None:
                    first[rows] = out.first_step
            found.append(measured(batch, "linf", images, claimed, passes[0], first, *passes[1:]))
        return tuple(found)

    def _climb(
        self, network: Network, batch: Batch, context: AttackContext, eps: float, restart: int
    ) -> AttackResult:
        """One start at one eps."""
        from prunegrid.workers.attacks.algorithms.pgd.graph import image_stepper

        n = len(batch)
        settled = self.steps + 1 if self.settled is None else self.settled
        advance = image_stepper(network, settled=settled, growth=GROWTH, close=CLOSE)
        x = batch.images.copy()
        if self.random_start:
            for i in range(n):
                noise = uniform(
                    x[i].shape, context.seed, int(batch.indices[i]), float(eps), restart
                )
                x[i] = np.clip(x[i] + np.float32(eps) * noise, 0.0, 1.0)
        labels = batch.labels.astype(np.int32)
        sizes = [max(self.rel_stepsize, big) for big in self.first_sizes][: self.steps]
        sizes += [self.rel_stepsize] * (self.steps - len(sizes))
        steps = (np.array([*sizes, 0.0]) * eps).astype(np.float32)  # the last query makes no step
        broken, first = np.zeros(n, bool), np.zeros(n, bool)
        best = np.full(n, -np.inf, np.float32)
        margins = np.full((n, 2), np.inf, np.float32)  # at the start, and the lowest since
        # Large steps overshoot: only the small ones that follow may settle an image.
        since = np.full(n, -len(self.first_sizes), np.int32)
        passes = np.zeros((n, 3), np.int64)
        done = 0
        active = np.arange(n)
        while len(active) and done < len(steps):
            part = steps[done : done + (2 if done == 0 else CHUNK)]
            for rows, padded in context.micro_batches.pieces(active):
                with context.micro_batches.attempt():
                    out = advance(
                        x[padded], batch.images[padded], labels[padded], np.float32(eps), part,
                        best[padded], since[padded], margins[padded],
                    )  # fmt: skip
                    values = [t.numpy()[: len(rows)] for t in out]
                    x[rows], broken[rows], best[rows], since[rows], margins[rows] = values[:5]
                    passes[rows] += values[5]
                context.ticker.tick(done / len(steps), f"PGD eps {eps:.4g}")
            if done == 0:
                first = broken.copy()
            done += len(part)
            done_with = (since >= settled) & (margins[:, 1] >= CLOSE * margins[:, 0])
            active = active[~broken[active] & ~done_with[active]]
        return measured(batch, "linf", x, broken, passes[:, 0], first, *passes.T[1:])


@attack(
    AttackEntry(
        name="pgd_linf",
        title="PGD Linf",
        norm="linf",
        finds="fixed-eps",
        foolbox_class="LinfPGD",
        round_extra=1,
        edition=2,
    )
)
class PGDLinf(ImagePGD):
    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """One draw per restart and eps, in that order; the last iterate counts."""
        import tensorflow as tf

        from prunegrid.workers.attacks.algorithms.pgd.graph import batch_stepper, predictor

        n = len(batch)
        x0 = tf.constant(batch.images)
        labels = tf.constant(batch.labels.astype(np.int32))
        advance, predict = batch_stepper(network), predictor(network)
        best: list[np.ndarray | None] = [None] * len(context.eps)
        broken = np.zeros((len(context.eps), n), bool)
        first = np.zeros((len(context.eps), n), bool)
        rounds = self.restarts * len(context.eps)
        steps = AdaptiveSteps(first=2 * CHUNK)
        draws = FoolboxDraws(context.seed, context.stream)
        for restart in range(self.restarts):
            for k, eps in enumerate(context.eps):
                x = x0
                if self.random_start:
                    x = x0 + draws.uniform(x0.shape, -eps, eps)
                    x = tf.clip_by_value(x, 0.0, 1.0)
                step = np.float32(self.rel_stepsize * eps)
                done = 0
                while done < self.steps:
                    with steps:
                        now = min(steps.count, self.steps - done)
                        x, changed = advance(x, x0, labels, np.float32(eps), step, np.int32(now))
                        if done == 0 and restart == 0:
                            # The second step's own query shows what the first step did.
                            one = changed if now > 1 else predict(x) != labels
                            first[k] = one.numpy()
                        steps.did(now)
                    done += now
                    at = restart * len(context.eps) + k + done / self.steps
                    context.ticker.tick(at / rounds, f"PGD eps {eps:.4g}")
                # Foolbox clips the perturbation once more before it asks for the class.
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
        backward = np.full(n, self.restarts * self.steps, np.int64)
        for k in range(len(context.eps)):
            images = best[k]
            assert images is not None
            found.append(measured(batch, "linf", images, broken[k], queries, first[k], backward))
        return nest(found) if self.nested else tuple(found)


@attack(
    AttackEntry(
        name="pgd_coarse_linf",
        title="PGD, coarse first, Linf",
        norm="linf",
        finds="fixed-eps",
        round_extra=1,
        first_name="pgd_linf",
    )
)
class CoarsePGDLinf(ImagePGD):
    """PGD whose first six steps are large, and which leaves images that get no further.

    1. Steps of half, half, a quarter, a quarter, an eighth and an eighth of eps, or as large as
       asked for where that is more: a few steps reach the far side of the ball, for which PGD
       takes 1 / `rel_stepsize`. All further ones are of the size asked for.
    2. After them an image leaves once its loss has not grown by a part of .001 for 5 queries, but
       not where its margin has fallen below .3 of where it began.

    At each eps at most `restarts` * (`steps` + 1) passes; with 40 steps about 13 of 43 on CNN5,
    10 on ResNet8, verification included. An image's result is the same in any shard, batch and
    order: its draws are by seed, image, eps and restart.
    """

    first_sizes = FIRST_SIZES
    settled = SETTLED
