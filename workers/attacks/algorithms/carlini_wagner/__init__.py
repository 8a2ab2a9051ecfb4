"""Carlini & Wagner's L2 attack.

Carlini, Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section 6:
minimise ||x' - x||^2 + c * max(Z_label - max Z_other + confidence, 0) over tanh space by Adam,
with a search over the constant c. Foolbox 3.3.4: L2CarliniWagnerAttack.

`cw_l2` is that and no more. `cw_walk_l2` goes on where it ends, along the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunegrid.workers.attacks.algorithms.carlini_wagner.nearest_side import (
    linear_crossing,
    nearest_side,
)
from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Results,
    measured,
    row_norms,
)
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real, switch
from prunegrid.workers.attacks.runtime.heartbeats import AdaptiveSteps
from prunegrid.workers.attacks.runtime.starts import nearest_starts

if TYPE_CHECKING:
    from prunegrid.workers.attacks.algorithms.carlini_wagner.graph import CWGraph
    from prunegrid.workers.attacks.runtime.network import Network

#: With ten searches or more Foolbox spends the last one at the upper bound, this at most.
LAST_CONST = 1e10
#: Images of other classes that `cw_walk_l2` also starts from where Adam finds nothing.
STARTS = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What Adam found for each image of a batch."""

    best: np.ndarray  #: float32 [n, h, w, c]
    norm: np.ndarray  #: float32 [n]: L2 of it; inf where nothing was found
    lost: np.ndarray  #: bool [n]: nothing was found, or a margin without a slope was seen
    passes: np.ndarray  #: int64 [3, n]: forward, backward, and forward without a slope


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    """The options and Adam's part. The defaults are the paper's settings."""

    binary_search_steps: int = count(
        9, "searches for the constant", search=(1, 12), spends="rounds"
    )
    steps: int = count(5000, "Adam's steps of each search", search=(10, 10_000), spends="steps")
    stepsize: float = real(1.0, "Adam's step size", search=(3e-3, 3.0))
    initial_const: float = real(100.0, "constant of the first search", search=(1e-2, 1e3))
    confidence: float = real(0.0, "margin by which the other class must win")
    abort_early: bool = switch(True, "end a search whose loss has stopped falling")

    @property
    def interval(self) -> int:
        """Steps between two checks of progress."""
        return int(np.ceil(self.steps / 10))

    def _graph(self, network: Network) -> CWGraph:
        from prunegrid.workers.attacks.algorithms.carlini_wagner.graph import CWGraph

        return CWGraph(
            network,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=self.confidence,
            interval=self.interval if self.abort_early else None,
        )

    def search(self, network: Network, batch: Batch, context: AttackContext) -> Found:
        """Each image has its own constant, step count and end, and leaves when it is done."""
        n, micro_batches = len(batch), context.micro_batches
        graph = self._graph(network)
        advance = graph.image_stepper()
        corrections = graph.corrections()
        x_attack, reconstructed = micro_batches.map(graph.enter, np.arange(n), batch.images)
        labels = batch.labels.astype(np.int32)
        const = np.full(n, self.initial_const)
        lower, upper = np.zeros(n), np.full(n, np.inf)
        search, step = np.zeros(n, np.int32), np.zeros(n, np.int32)
        delta, m, v, best = (np.zeros_like(batch.images) for _ in range(4))
        best_norm = np.full(n, np.inf, np.float32)
        previous, lowest = np.full(n, np.inf), np.full(n, np.inf)
        hit, lost = np.zeros(n, bool), np.zeros(n, bool)
        skipped = np.zeros((n, network.classes), np.float32)
        passes = np.zeros((3, n), np.int64)  # forward, backward, flat
        adaptive = AdaptiveSteps(most=self.interval)
        while len(active := np.flatnonzero(search < self.binary_search_steps)):
            over = np.zeros(n, bool)
            with adaptive:
                for rows, padded in micro_batches.pieces(active):
                    with micro_batches.attempt():
                        out = advance(
                            batch.images[padded], x_attack[padded], reconstructed[padded],
                            labels[padded], const[padded].astype(np.float32), corrections,
                            delta[padded], m[padded], v[padded], hit[padded], best[padded],
                            best_norm[padded], previous[padded], lowest[padded],
                            skipped[padded], step[padded], np.int32(adaptive.count),
                        )  # fmt: skip
                        *values, stuck = (t.numpy()[: len(rows)] for t in out)
                        passes[:2, rows] += values[-1] - step[rows]
                        passes[2, rows] += stuck
                        for state, value in zip(
                            (
                                delta, m, v, hit, best, best_norm, previous, lowest, skipped, over,
                                step,
                            ),
                            values,
                            strict=True,
                        ):  # fmt: skip
                            state[rows] = value
                    done = (search + step / self.steps).mean() / self.binary_search_steps
                    context.ticker.tick(float(done), f"C&W, {len(active)} images at work")
                adaptive.did(adaptive.count)
            upper = np.where(over & hit, const, upper)
            lower = np.where(over & ~hit, const, lower)
            search[over] += 1
            const = np.where(over, self._next_const(const, lower, upper, search), const)
            lost |= skipped.any(axis=1)
            for state in (delta, m, v, skipped):
                state[over] = 0.0
            hit[over], step[over] = False, 0
            previous[over] = lowest[over] = np.inf
        lost |= ~np.isfinite(best_norm)
        return Found(best=best, norm=best_norm, lost=lost, passes=passes)

    def _next_const(
        self, const: np.ndarray, lower: np.ndarray, upper: np.ndarray, search: np.ndarray
    ) -> np.ndarray:
        """float64 [n]: ten times as much until something is found, then halve the interval;
        the last of ten searches or more repeats the smallest that worked."""
        following = np.where(np.isinf(upper), const * 10, (lower + upper) / 2)
        if self.binary_search_steps < 10:
            return following
        return np.where(
            search == self.binary_search_steps - 1, np.minimum(upper, LAST_CONST), following
        )


@attack(
    AttackEntry(
        name="cw_l2",
        title="C&W L2",
        norm="l2",
        finds="minimum-norm",
        loss="margin",
        foolbox_class="L2CarliniWagnerAttack",
        edition=2,
    )
)
class CarliniWagnerL2(CarliniWagner):
    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """The batch goes through the steps together, and stops on its summed loss."""
        import tensorflow as tf

        n = len(batch)
        graph = self._graph(network)
        x_attack, reconstructed = graph.enter(batch.images)
        advance = graph.batch_stepper()
        corrections = graph.corrections()
        labels = tf.constant(batch.labels.astype(np.int32))
        x = tf.constant(batch.images)
        const = self.initial_const * np.ones(n)
        lower, upper = np.zeros(n), np.full(n, np.inf)
        best, best_norm = tf.zeros_like(x), tf.fill((n,), np.float32(np.inf))
        queries = 0
        adaptive = AdaptiveSteps()
        for search in range(self.binary_search_steps):
            if search == self.binary_search_steps - 1 and self.binary_search_steps >= 10:
                const = np.minimum(upper, LAST_CONST)
            consts = tf.constant(const.astype(np.float32))
            delta, m, v = (tf.zeros_like(x) for _ in range(3))
            hit = tf.zeros_like(labels, tf.bool)
            previous = tf.constant(np.inf, tf.float64)
            step, aborted = 0, False
            while step < self.steps and not aborted:
                with adaptive:
                    stop = min(self.steps, step + adaptive.count)
                    out = advance(
                        x, x_attack, reconstructed, labels, consts, corrections,
                        delta, m, v, hit, best, best_norm, previous,
                        np.int32(step), np.int32(stop),
                    )  # fmt: skip
                    delta, m, v, hit, best, best_norm, previous, aborted_, at_step = out
                    aborted = bool(aborted_.numpy())
                    reached = int(at_step.numpy())
                    queries += reached - step
                    adaptive.did(reached - step)
                    step = reached
                note = f"C&W search {search + 1} of {self.binary_search_steps}"
                context.ticker.tick((search + step / self.steps) / self.binary_search_steps, note)
            found = hit.numpy()
            upper = np.where(found, const, upper)
            lower = np.where(found, lower, const)
            const = np.where(np.isinf(upper), const * 10, (lower + upper) / 2)
        images = best.numpy()
        # Where it finds nothing Foolbox returns a black image, and asks its class like any other.
        claimed = network.logits(images).argmax(axis=1) != batch.labels
        each = np.full(n, queries + 1, np.int64)
        return (measured(batch, "l2", images, claimed, each, backward=each - 1),)

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        """As Foolbox, with a constant and an abort of each image's own: a search ends early once it
        has found something and the lowest loss has stopped falling, where Foolbox looks at the
        batch's summed loss alone."""
        found = self.search(network, batch, context)
        claimed = np.isfinite(found.norm)
        images = np.where(claimed[:, None, None, None], found.best, batch.images)
        forward, backward, flat = found.passes
        return (measured(batch, "l2", images, claimed, forward, backward=backward, flat=flat),)


@attack(
    AttackEntry(
        name="cw_walk_l2",
        title="C&W + walk L2",
        norm="l2",
        finds="minimum-norm",
        loss="margin",
        strict_extra=63,
        first_name="cw_l2",
    )
)
class CarliniWagnerWalkL2(CarliniWagner):
    """Carlini and Wagner's search, and three steps beyond it.

    1. Adam's part, an image's own, with `cw_l2`'s options and passes: at most
       `binary_search_steps` * `steps`.
    2. DeepFool-like steps to the linearised boundary, at most 20, each a projection of the clean
       image (Moosavi-Dezfooli et al. 2016), towards all other classes at once. Neither the scale
       of the logits nor tanh's flat ends stop them.
    3. The nearer of both walks to the side of the boundary that is nearest to the clean image: 8
       halvings back, 20 projections of the clean image on the linearised boundary (Croce and Hein
       2020, FAB), 8 halvings (`nearest_side.py`). Large steps and constants alone do not find it.
    4. Where Adam found nothing, or saw a margin without a slope, 3. also from the nearest images
       of three other classes.

    At most 63 passes beyond `cw_l2`'s, and 108 more at an image of 4. No image is further than
    after 1. An image's result is the same in any shard, batch and order; no random number is
    drawn but where a start of another class is noise. What each part brings: docs/attacks.md.
    """

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        found = self.search(network, batch, context)
        crossing, crossed, ahead = linear_crossing(network, batch, context)
        norm = np.where(crossed, row_norms(crossing - batch.images, "l2"), np.inf)
        claimed = crossed | np.isfinite(found.norm)
        start = np.where((norm < found.norm)[:, None, None, None], crossing, found.best)
        images, more = nearest_side(network, batch, start, claimed, context)
        passes = found.passes + more
        passes[:2] += ahead
        distance = np.where(claimed, row_norms(images - batch.images, "l2"), np.inf)
        rows = np.flatnonzero(found.lost)
        part = batch.take(rows)
        for starts, started in (
            nearest_starts(network, part, context, count=STARTS) if len(rows) else ()
        ):
            others, more = nearest_side(network, part, starts, started, context)
            norm = np.where(started, row_norms(others - part.images, "l2"), np.inf)
            closer = norm < distance[rows]
            images[rows[closer]], distance[rows[closer]] = others[closer], norm[closer]
            claimed[rows] |= started
            passes[:, rows] += more
        images = np.where(claimed[:, None, None, None], images, batch.images)
        result = AttackResult(
            images=images,
            claimed=claimed,
            distance=distance,
            queries=passes[0],
            backward=passes[1],
            flat=passes[2],
        )
        return (result,)
